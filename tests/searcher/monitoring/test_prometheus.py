"""Figures for Prometheus, scraped from real workers while they work; and events of all workers as JSON lines."""

import json
import re
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from subprocess import Popen
from urllib.error import URLError
from urllib.request import urlopen

import processes
import pytest
from click.testing import CliRunner
from exeunt.backends.errors import InputError
from exeunt.searcher.cli.main import cli
from exeunt.searcher.monitoring.endpoint import Endpoint
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.searcher.monitoring.prometheus import metered
from exeunt.studies.workers.status import read_status
from prometheus_client.parser import text_string_to_metric_families

STUDY = "closed-form"
# Slow enough to be looked at while it works.
SLOW = ["--network-arg", "seconds_per_block=0.00003"]
Figures = dict[str, dict[tuple[tuple[str, str], ...], float]]


def scrape(port: int) -> Figures:
    """All samples by name and labels, as Prometheus's own parser reads them."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples]
    found: Figures = {}
    for sample in samples:
        found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def one(figures: Figures, name: str, **labels: str) -> float:
    return figures[name][tuple(sorted(labels.items()))]


def wait_for(port: int, enough: Callable[[Figures], bool], process: Popen[str]) -> Figures:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        with suppress(URLError):  # It has not begun to serve yet.
            if enough(figures := scrape(port)):
                return figures
        time.sleep(0.02)
    raise AssertionError("the worker never came so far")


def free_ports() -> int:
    """A port that is free, and the next one with it."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except OSError:
                continue
        return port


@pytest.mark.slow
def test_a_worker_is_scraped_while_it_works(tmp_path: Path, closed_form: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    prepared = CliRunner().invoke(cli, ["optimize", *closed_form, *SLOW, "--budget", "3-trials", "--workers", "0"])
    assert prepared.exit_code == 0, prepared.output
    port = free_ports()
    worker = processes.exeunt("worker", "--log-format", "json", "--metrics-port", str(port), cwd=tmp_path)
    first = wait_for(port, lambda found: one(found, "exeunt_trials_total", state="complete") >= 1, worker)
    assert one(first, "exeunt_images_total") >= 32
    assert one(first, "exeunt_state", exeunt_state="searching") == 1
    ((labels, value),) = first["exeunt_worker_info"].items()
    assert (dict(labels)["study"], value) == (STUDY, 1)
    assert 0 < one(first, "exeunt_budget_spent_ratio") <= 1
    last = first
    while worker.poll() is None:
        with suppress(OSError, HTTPException):  # It ends in between.
            last = scrape(port)
        time.sleep(0.05)
    out, err = worker.communicate(timeout=60)
    assert worker.returncode == 0, (out, err)
    events = [json.loads(line) for line in err.splitlines()]
    assert any(f"metrics: http://127.0.0.1:{port}/metrics" in event.get("text", "") for event in events)
    check_counts(last, events)
    progress = read_status(f"sqlite:///{tmp_path / 'exeunt.db'}", STUDY).progress
    committed = [event for event in events if event["event"] == "committed"]
    assert sum(event["images"] for event in committed) == progress.images
    seconds = sum(event["seconds"] for event in events if event["event"] in ("committed", "timed"))
    assert seconds == pytest.approx(progress.device_seconds, rel=0.01)


def check_counts(figures: Figures, events: list[dict]) -> None:
    """What was scraped is what the events up to that moment add up to."""
    chunks = [event for event in events if event["event"] == "committed"]
    count = round(one(figures, "exeunt_chunk_seconds_count"))
    assert 0 < count <= len(chunks)
    assert one(figures, "exeunt_images_total") == sum(event["images"] for event in chunks[:count])
    sampling = sum(event["seconds"] for event in chunks[:count])
    assert one(figures, "exeunt_device_seconds_total", work="sampling") == pytest.approx(sampling)
    assert one(figures, "exeunt_chunk_seconds_sum") == pytest.approx(sampling)
    assert one(figures, "exeunt_last_commit_timestamp_seconds") == pytest.approx(chunks[count - 1]["at"], abs=1.0)
    assert one(figures, "exeunt_storage_retries_total") == 0
    assert one(figures, "exeunt_storage_seconds_total") > 0


@pytest.mark.slow
def test_each_of_several_workers_has_the_next_port_and_its_events_a_number(tmp_path: Path, closed_form: list[str]):
    port = free_ports()
    budget = ["--budget", "3-trials", "--sampler", "random", "--report", "none", "--workers", "2"]
    events = ["--metrics-port", str(port), "--log-format", "json"]
    parent = processes.exeunt("optimize", *closed_form, *SLOW, *budget, *events, "--json", cwd=tmp_path)
    owners: set[str] = set()
    for number in (0, 1):
        found = wait_for(port + number, lambda figures: "exeunt_worker_info" in figures, parent)
        (labels,) = found["exeunt_worker_info"]
        owners.add(dict(labels)["worker"])
    out, err = parent.communicate(timeout=120)
    assert parent.returncode == 0, err
    assert json.loads(out)["study"] == STUDY
    events = [json.loads(line) for line in err.splitlines()]
    working = {event["worker"]: event["worker_number"] for event in events if event["event"] == "working"}
    assert working.keys() == owners
    assert sorted(working.values()) == [1, 2]
    assert any(event["event"] == "baseline" for event in events)
    images = sum(event["images"] for event in events if event["event"] == "committed")
    assert images == read_status(f"sqlite:///{tmp_path / 'exeunt.db'}", STUDY).progress.images


@pytest.mark.parametrize("words", [["worker"], ["optimize", "--workers", "2"], ["optimize"]])
def test_a_port_that_is_taken_is_told_before_anything_begins(
    tmp_path: Path, closed_form: list[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
):
    monkeypatch.chdir(tmp_path)
    if words == ["worker"]:
        assert CliRunner().invoke(cli, ["optimize", *closed_form, "--workers", "0"]).exit_code == 0
    before = sorted(tmp_path.iterdir())
    port = free_ports()
    with socket.create_server(("127.0.0.1", port + (len(words) == 3))):
        flags = closed_form if words[0] == "optimize" else []
        done = CliRunner().invoke(cli, [*words, *flags, "--metrics-port", str(port)])
    assert done.exit_code == 2
    assert re.search(r"metrics-port: 127\.0\.0\.1:\d+ is not available .* or 0 for any free one", done.output)
    assert sorted(tmp_path.iterdir()) == before


def test_whoever_leaves_the_work_to_others_serves_no_figures(
    tmp_path: Path, closed_form: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = CliRunner().invoke(cli, ["optimize", *closed_form, "--workers", "0", "--metrics-port", "0"])
    assert done.exit_code == 2
    assert "Give --metrics-port to `exeunt worker`." in done.output
    assert sorted(tmp_path.iterdir()) == before


def test_the_package_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    done = CliRunner().invoke(cli, ["worker", "--metrics-port", "0"])
    assert done.exit_code == 2
    assert "pip install 'exeunt[metrics]'" in done.output


def test_an_address_that_is_not_this_machines_is_refused():
    with (
        pytest.raises(InputError, match=r"192\.0\.2\.1:9100 is not available"),
        metered(Endpoint("192.0.2.1", 9100), ProgressListener()),
    ):
        pass


def test_ports_of_workers_follow_one_another():
    assert [str(Endpoint("127.0.0.1", 9100).of_worker(number)) for number in (1, 2)] == [
        "127.0.0.1:9100",
        "127.0.0.1:9101",
    ]
    assert Endpoint("::1", 0).of_worker(5) == Endpoint("::1", 0)
    assert str(Endpoint("::1", 9100)) == "[::1]:9100"
