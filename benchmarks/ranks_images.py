"""The schedules that `ranks.py` ranks, and their images, each schedule's in a file of its own."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import optuna
import torch
from exeunt.backends.sampling.loop import NonFiniteSamples, sample
from exeunt.searcher.measuring.setup import StudySetup
from exeunt.searcher.spaces.base import make_space
from exeunt.searcher.spaces.candidates import Candidate, list_baselines
from torch import Tensor

AT_ONCE = 64
# Of warm starts and random points: always the same, whatever the default of studies is.
SPACE = "mixed"


@dataclass(frozen=True, eq=False)
class Images:
    """A schedule's images, (N, 3, H, W) uint8 each: on the search's noises and on noises that no selection saw.

    They are kept at `path`.
    """

    path: Path
    candidate: Candidate
    search: Tensor
    final: Tensor


def list_candidates(setup: StudySetup, count: int, most: int, seed: int = 0) -> list[Candidate]:
    """Full schedules, then baselines, warm starts and random points of the space `mixed` in turns, each once.

    Args:
        setup: the study's.
        count: how many.
        most: block evaluations of an image, full schedules aside.
        seed: of the random points.
    """
    baselines = list_baselines(setup.frames)
    full = [each for each in baselines if each.family == "full"]
    rest = [each for each in baselines if each.family != "full"]
    turns = zip_longest(rest, _proposals(setup, count, seed))
    wanted = [*full, *(each for each in chain.from_iterable(turns) if each)]
    unique = {each.key: each for each in wanted if each in full or each.stored.block_evaluations <= most}
    return list(unique.values())[:count]


def _proposals(setup: StudySetup, count: int, seed: int) -> Iterator[Candidate]:
    """Warm starts, then random points."""
    space = make_space(SPACE, setup.frame)
    for number, point in enumerate(space.warm_starts()):
        yield Candidate.proposed(f"warm start {number}", setup.weights, space.build(point))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for number in range(4 * count):
        point = study.ask(space.distributions()).params
        yield Candidate.proposed(f"random {number}", setup.weights, space.build(point))


def collect(setup: StudySetup, candidate: Candidate, counts: tuple[int, int], keep: Path) -> Images | None:
    """A schedule's images: those that are kept, or sampled and kept whole. None where they are not finite."""
    quality = setup.config.quality
    seeds = quality.search_seed, quality.final_seed
    about = (candidate.stored.digest, setup.weights_digest(candidate.weights), quality.conditions, seeds, counts)
    path = keep / f"{sha256(repr(about).encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        start, network = time.perf_counter(), setup.networks[candidate.weights]
        found = dict[str, np.ndarray]()
        for name, seed, number in zip(("search", "final"), seeds, counts, strict=True):
            batches = sample(
                [network],
                candidate.schedule,
                seed=seed,
                images=range(number),
                conditions=setup.conditions,
                batch_size=AT_ONCE,
            )
            try:
                found[name] = torch.cat([batch.images.cpu() for batch in batches]).numpy()
            except NonFiniteSamples:
                return None
        part = path.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(part, **found)
        os.replace(part, path)
        speed = sum(counts) / (time.perf_counter() - start)
        print(f"{candidate.label}: {candidate.stored.block_evaluations} evaluations, {speed:.0f} images/s", flush=True)
    with np.load(path) as kept:
        return Images(path, candidate, torch.from_numpy(kept["search"]), torch.from_numpy(kept["final"]))
