"""A worker process for the tests: answers every question of a list, chunk by chunk, and says what it does.

Usage: python sampling_worker.py URL KEYS NUM_IMAGES CHUNK. KEYS is a JSON list of evaluation keys. Each chunk is
announced on standard output as `sampled DIGEST FIRST` before it is committed and as `committed DIGEST FIRST` after.
"""

import json
import random
import sys

import numpy as np
from exeunt.studies.store.leases import StaleClaim
from exeunt.studies.store.records import EvaluationKey
from exeunt.studies.store.store import Store, open_store
from exeunt.studies.workers.workers import Worker

WIDTH = 64


def main(url: str, keys: str, num_images: int, chunk: int) -> None:
    todo = [EvaluationKey(**each) for each in json.loads(keys)]
    with open_store(url) as store, Worker(store, "demo", lease_seconds=30.0) as worker:
        while todo:
            random.shuffle(todo)
            todo = [key for key in todo if not answer(store, worker, key, num_images, chunk)]


def answer(store: Store, worker: Worker, key: EvaluationKey, num_images: int, chunk: int) -> bool:
    """Whether the evaluation is whole afterwards; it is not if another worker has it."""
    claim = store.evaluations.claim(key, worker.owner, worker.lease_seconds, "demo")
    if claim is None:
        return False
    try:
        for part in store.evaluations.missing(key, range(num_images)):
            for first in range(part.start, part.stop, chunk):
                images = range(first, min(first + chunk, part.stop))
                say("sampled", key, first)
                store.evaluations.commit_chunk(claim, first, features(key, images), 0.01)
                say("committed", key, first)
    except StaleClaim:
        return False
    store.evaluations.release(claim)
    return True


def features(key: EvaluationKey, images: range) -> np.ndarray:
    """Features that depend on the question and the image alone, so that any mixture can be checked."""
    return np.array([np.random.default_rng([key.seed, image]).random(WIDTH) for image in images], dtype=np.float32)


def say(what: str, key: EvaluationKey, first: int) -> None:
    print(what, key.digest, first, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
