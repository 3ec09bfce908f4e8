"""Several processes on one database, some of them killed: nothing committed is lost, and nothing is committed twice."""

import json
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from subprocess import Popen

import numpy as np
import processes
import pytest
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.store.records import EvaluationKey
from exeunt.studies.store.store import Store, open_store
from stored import workers_of

PROGRAM = Path(__file__).with_name("sampling_worker.py")
MakeKey = Callable[..., EvaluationKey]


@pytest.fixture
def url(either_url: str) -> str:
    return either_url


def start(url: str, keys: Iterable[EvaluationKey], num_images: int, chunk: int) -> Popen[str]:
    arguments = [url, json.dumps([vars(key) for key in keys]), str(num_images), str(chunk)]
    return processes.start(sys.executable, PROGRAM, *arguments)


def said(output: str, what: str) -> Counter[tuple[str, int]]:
    """The whole lines that begin with a word, as (evaluation, first image)."""
    lines = [line.split() for line in output.split("\n")[:-1]]
    return Counter((digest, int(first)) for verb, digest, first in lines if verb == what)


def check_whole(url: str, keys: list[EvaluationKey], num_images: int) -> None:
    """Every image of every question is there once, with its own features, and the file is sound."""
    with open_store(url) as store:
        covered = Counter(
            (chunk.evaluation, image)
            for chunk in store.evaluations.chunks()
            for image in range(chunk.first_image, chunk.first_image + chunk.num_images)
        )
        assert covered == Counter({(key.digest, image): 1 for key in keys for image in range(num_images)})
        for key in keys:
            found = store.evaluations.features(key, range(num_images))
            wanted = [np.random.default_rng([key.seed, image]).random(64) for image in range(num_images)]
            assert found is not None
            np.testing.assert_allclose(found, np.array(wanted), rtol=1e-3, atol=1e-6)
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()


def test_two_processes_race_for_every_claim(store: Store, url: str, make_key: MakeKey) -> None:
    store.studies.put_config(StudyConfig())
    store.close()
    keys = [make_key(seed=seed) for seed in range(20)]
    workers = [start(url, keys, 16, 8) for _ in range(3)]
    outputs = [worker.communicate(timeout=60) for worker in workers]
    assert [(worker.returncode, errors) for worker, (_, errors) in zip(workers, outputs, strict=True)] == [(0, "")] * 3
    committed = sum((said(output, "committed") for output, _ in outputs), Counter[tuple[str, int]]())
    sampled = sum((said(output, "sampled") for output, _ in outputs), Counter[tuple[str, int]]())
    assert committed == sampled == Counter({(key.digest, first): 1 for key in keys for first in (0, 8)})
    check_whole(url, keys, 16)


@pytest.mark.parametrize("kills", [6])
def test_a_worker_is_killed_again_and_again(store: Store, url: str, make_key: MakeKey, kills: int) -> None:
    """A lease of 30 s would outlast the test, so a successor that had to wait for it would not finish."""
    store.studies.put_config(StudyConfig())
    store.close()
    keys = [make_key(seed=seed) for seed in range(40)]
    moments = random.Random(0)
    sampled, committed = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for _ in range(kills):
        worker = start(url, keys, 32, 8)
        assert worker.stdout is not None
        first = worker.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.05))
        worker.send_signal(signal.SIGKILL)
        output = first + worker.communicate()[0]
        assert worker.returncode == -signal.SIGKILL, "it finished before it was killed: give it more to do"
        sampled += said(output, "sampled")
        committed += said(output, "committed")
        with open_store(url) as after:
            rows = {(chunk.evaluation, chunk.first_image) for chunk in after.evaluations.chunks()}
            assert set(committed) <= rows, "what was said to be committed is lost"
            assert len(rows) <= sum(sampled.values())
    last = start(url, keys, 32, 8)
    output, errors = last.communicate(timeout=60)
    assert (last.returncode, errors) == (0, "")
    sampled += said(output, "sampled")
    check_whole(url, keys, 32)
    assert sum(sampled.values()) - 40 * 4 <= kills, "a kill may cost one chunk"
    with open_store(url) as after:
        assert [each.reason for each in workers_of(after, "demo")] == ["its process is gone"] * kills + ["finished"]
        assert after.studies.progress("demo").images == 40 * 32
