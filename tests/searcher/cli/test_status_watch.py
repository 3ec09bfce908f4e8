"""`exeunt status`, once and with `--watch`: it shows what is there, disturbs nobody, and only Ctrl-C stops it."""

import json
import os
import pty
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import postgres
import processes
import psycopg
import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import Schedule
from exeunt.reports.view.loading import load_view
from exeunt.reports.view.pareto import front
from exeunt.searcher import runner
from exeunt.searcher.measuring.setup import load_frames, resolve_device
from exeunt.searcher.monitoring.watch import StatusReader, StudySnapshot
from exeunt.searcher.monitoring.watch_output import left, snapshot_lines, snapshot_text, snapshot_values, status_json
from exeunt.searcher.spaces.candidates import list_baselines
from exeunt.studies.config.budget import parse_budget
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.tables import WORKERS
from exeunt.studies.database.transactions import writing
from exeunt.studies.store.records import Claim, EvaluationKey, Member
from exeunt.studies.store.store import Store, open_store
from exeunt.studies.workers.shared_state import request
from exeunt.studies.workers.workers import GONE, Worker
from sqlalchemy import make_url

TRIALS = 4


@pytest.fixture(scope="module")
def finished(small: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database with one small study that is finished."""
    url = f"sqlite:///{tmp_path_factory.mktemp('watched') / 'study.db'}"
    runner.optimize(override(small, {"run.budget": f"{TRIALS}-trials", "search.sampler": "random"}), url)
    return url


def look(url: str) -> StudySnapshot:
    snapshot = StatusReader(url, None).look()
    assert snapshot.outage is None
    (study,) = snapshot.studies
    return study


# ---- what it shows ---------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_report(finished: str) -> None:
    found = snapshot_values(look(finished))
    with open_store(finished, read_only=True) as store:
        progress, view = store.studies.progress("small"), load_view(store, "small")
    assert (found["study"], found["state"], found["budget"]) == ("small", view.state, f"{TRIALS}-trials")
    assert found["hypervolume"] == pytest.approx(view.progress[-1].hypervolume)
    assert [found["search_front_size"], found["final_front_size"]] == [
        len(front(view.measured("search"), view.score("search"))),  # vetoed ones too
        len(view.front("final")),
    ]
    best = (view.best.ratio, view.best.lower) if view.best else (None, None)
    assert (found["best_ratio"], found["best_ratio_lower"]) == best
    for name in ("schedules_measured", "images", "chunks", "evaluations_failed"):
        assert found[name] == getattr(progress, name)
    for name in ("sampling_seconds", "timing_seconds", "worker_seconds"):
        assert found[name] == round(getattr(progress, name), 1)
    assert sum(found["trials"].values()) >= TRIALS
    assert found["final_front_size"] > 0
    assert found["device_seconds"] == pytest.approx(found["sampling_seconds"] + found["timing_seconds"], abs=0.11)
    assert found["workers_alive"] == found["workers_lost"] == 0
    assert found["last_errors"] == []
    assert found["left"] == {"seconds": None, "trials": 0, "images": None}


def test_trials_an_hour_are_those_of_the_studys_life(finished: str) -> None:
    snapshot = StatusReader(finished, "small").look()
    (found,) = snapshot.studies
    with open_store(finished, read_only=True) as store:
        trials = [member for member in store.studies.members("small") if member.role == "trial"]
    assert 0 < found.activity.trials_lately <= len(trials)
    assert 0 < found.activity.lately_seconds < 3600
    expected = 3600 * found.activity.trials_lately / found.activity.lately_seconds
    assert found.activity.trials_per_hour == pytest.approx(expected)
    assert f"{expected:,.0f} an hour" in snapshot_text(snapshot)


@pytest.fixture(scope="module")
def schedules(small: StudyConfig) -> list[Schedule]:
    """Some schedules of the closed-form network."""
    config = resolve_device(small)
    return [each.schedule for each in list_baselines(load_frames(config), config.search.baselines)]


class Troubled:
    """A study with two living workers, of whom one measures, one that is gone, and an evaluation that failed."""

    def __init__(self, store: Store, config: StudyConfig, schedules: list[Schedule], workers: ExitStack) -> None:
        self.store = store
        store.studies.put_config(override(config, {"run.budget": "1h"}), {})
        self.one = workers.enter_context(Worker(store, "small", 60.0, {"device": "cpu one"}))
        self.gone = workers.enter_context(Worker(store, "small", 60.0, {"device": "cpu two"}))
        self._lose(self.gone)
        self.two = workers.enter_context(Worker(store, "small", 60.0, {"device": "cpu \x1b[31mthree"}))
        failed, self.claim = (self._claim(*each) for each in zip(schedules, ("trial 7", "trial 8"), strict=False))
        store.evaluations.fail(failed, "samples are not finite")

    def _lose(self, worker: Worker) -> None:
        """Makes it one whose process, of this host, has ended."""
        ended = processes.start("true")
        ended.wait()
        with writing(self.store.engine) as connection:
            gone = WORKERS.update().where(WORKERS.c.owner == worker.owner).values(pid=ended.pid)
            connection.execute(gone)

    def _claim(self, schedule: Schedule, label: str) -> Claim:
        self.store.studies.add_member(
            "small", Member(label, "trial", "mixed", schedule.digest, "w", "weights"), schedule
        )
        key = EvaluationKey(schedule.digest, "w", "uniform", 0, "pixels", "float32", "eager")
        claim = self.store.evaluations.claim(key, self.one.owner, 60.0, "small")
        assert claim is not None
        return claim

    def commit(self, first: int) -> None:
        """Eight images more."""
        self.store.evaluations.commit_chunk(self.claim, first, np.ones((8, 4), np.float32), 0.5)


@pytest.fixture
def troubled(small: StudyConfig, schedules: list[Schedule], tmp_path: Path) -> Iterator[Troubled]:
    with open_store(f"sqlite:///{tmp_path / 'exeunt.db'}") as store, ExitStack() as workers:
        yield Troubled(store, small, schedules, workers)


def test_workers_are_named_with_what_they_measure_and_errors_with_their_reasons(troubled: Troubled) -> None:
    snapshot = StatusReader(troubled.store.url, "small").look()
    (line,) = snapshot_lines(snapshot)
    found = json.loads(line)
    assert (found["workers_alive"], found["workers_lost"]) == (2, 1)
    assert [(each["owner"], each["device"], each["measures"]) for each in found["workers"]] == [
        (troubled.one.owner, "cpu one", ["trial 8"]),
        (troubled.two.owner, "cpu \x1b[31mthree", []),
    ]
    assert {(each["of"], each["reason"]) for each in found["last_errors"]} == {
        (f"worker {troubled.gone.owner}", GONE),
        ("trial 7", "samples are not finite"),
    }
    once = json.loads(status_json(snapshot))
    assert set(once.pop("last_errors")) == {f"worker {troubled.gone.owner}: {GONE}", "trial 7: samples are not finite"}
    assert once == {name: value for name, value in found.items() if name != "last_errors"}
    text = snapshot_text(snapshot)
    assert "\x1b" not in text + line
    assert "2 alive, 1 lost so far" in text
    assert f"{troubled.one.owner} on cpu one" in text
    assert "ago, trial 7: samples are not finite" in text
    assert "all: no worker has started" in text


def test_orders_and_further_studies_are_shown(troubled: Troubled, small: StudyConfig) -> None:
    troubled.store.studies.put_config(override(small, {"name": "other"}), {})
    request(troubled.store, "small", "pause")
    watcher = StatusReader(troubled.store.url, None)
    found = [json.loads(line) for line in snapshot_lines(watcher.look())]
    assert [(each["study"], each["order"]) for each in found] == [("small", "pause"), ("other", None)]
    assert "paused by `exeunt study pause`" in snapshot_text(watcher.look())
    assert [each["study"] for each in json.loads(status_json(watcher.read()))["studies"]] == ["small", "other"]


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("90s", "90 s"),
        ("20-trials", "no time limit, 20 trials"),
        ("1h,3k-images", "60 min, 3,000 images"),
    ],
)
def test_what_is_left_begins_with_time(rest: str, words: str) -> None:
    assert left(parse_budget(rest)) == words


# ---- what it can't see -----------------------------------------------------------------------------------------------


def test_what_is_not_there_is_told_at_once(finished: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no database at"):
        StatusReader(f"sqlite:///{tmp_path / 'none.db'}", None).look()
    with pytest.raises(InputError, match="Did you mean `small`"):
        StatusReader(finished, "smal").look()
    (tmp_path / "other.db").write_bytes(b"no database " * 100)
    with pytest.raises(InputError, match="another kind of file"):
        StatusReader(f"sqlite:///{tmp_path / 'other.db'}", None).look()


@pytest.mark.postgres
@pytest.mark.slow
def test_a_server_that_stops_is_waited_for(small: StudyConfig) -> None:
    for server in postgres.own():
        with server.database() as url:
            with open_store(url) as store:
                store.studies.put_config(small, {})
            watcher = StatusReader(url, "small")
            before = watcher.look()
            server.stop()
            during = watcher.look()
            (line,) = snapshot_lines(during)
            assert during.outage is not None
            assert during.studies == before.studies
            assert "out of reach" in json.loads(line)["storage_error"]
            assert snapshot_text(during).endswith("Waiting for the storage.")
            never = StatusReader(url, "small").look()
            assert (never.studies, never.outage is None) == ((), False)
            server.start()
            assert watcher.look().outage is None


@pytest.mark.postgres
def test_it_takes_one_connection_and_leaves_none(postgres_url: str, small: StudyConfig) -> None:
    with open_store(postgres_url) as store:
        store.studies.put_config(small, {})
    plain = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    mine = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    watcher, seen = StatusReader(postgres_url, "small"), list[int]()
    with psycopg.connect(plain, autocommit=True) as connection, ThreadPoolExecutor(1) as pool:
        looks = pool.submit(lambda: [watcher.look() for _ in range(5)])
        while not looks.done():
            seen += connection.execute(mine).fetchone() or ()
        assert all(snapshot.outage is None for snapshot in looks.result())
        deadline = time.monotonic() + 10
        while connection.execute(mine).fetchone() != (0,):
            assert time.monotonic() < deadline
    assert max(seen) == 1


# ---- the command -----------------------------------------------------------------------------------------------------


def watch(url: str, *words: str, **options: Any) -> Popen[str]:
    return processes.exeunt("status", "--watch", "--interval", "0.1", "--storage", url, *words, **options)


def test_each_look_is_a_line_of_json_until_ctrl_c(troubled: Troubled) -> None:
    process = watch(troubled.store.url, "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["images"] == 0
    for number in (1, 2):
        troubled.commit(8 * (number - 1))
        while (images := json.loads(process.stdout.readline())["images"]) != 8 * number:
            assert images == 8 * (number - 1)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert all(json.loads(line)["images"] == 16 for line in rest.splitlines())


def test_a_terminal_is_drawn_in_place_and_left_as_it_was(finished: str) -> None:
    master, slave = pty.openpty()
    size = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = watch(finished, stdout=slave, stderr=slave, stdin=slave, env=size)
    os.close(slave)
    drawn = b""
    while drawn.count(b"small") < 3:
        drawn += os.read(master, 65536)
    process.send_signal(signal.SIGTERM)
    with suppress(OSError):  # A terminal whose last process ended.
        while chunk := os.read(master, 65536):
            drawn += chunk
    assert process.wait(timeout=30) == 0, drawn.decode()
    os.close(master)
    assert b"Ctrl-C to stop" in drawn
    assert b"\x1b[1A" in drawn  # up to what was drawn before
    assert drawn.rindex(b"\x1b[?25h") > drawn.rindex(b"\x1b[?25l")  # the cursor is there again
    assert b"Traceback" not in drawn


def test_without_a_terminal_blocks_of_plain_lines_come(finished: str) -> None:
    process = watch(finished)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(15)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    heading = lines[0]
    assert heading.startswith("small: finished")
    assert lines.count(heading) == 2
    assert any(line.startswith("  hypervolume     ") for line in lines)
