"""What Exeunt itself takes for one proposal: from the schedule that the space gives to the trial that Optuna was told.

    python benchmarks/proposal_overhead.py                     # 28 blocks, 250 steps, 20 proposals; half a minute

A real study runs on the closed-form network. Sampling, scoring and timing are replaced by values that cost nothing, so
what is left is summarizing and compiling the schedule, storing it with its evaluation and its features, and telling
Optuna. The sampler's own time ends before. Every proposal has all steps. Medians are printed as JSON: of all of it, of
what the processor worked, and of what passed in transactions, which depends on the disk.

Target: at most 40 ms a proposal.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from exeunt.backends.errors import Interrupted
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling.loop import num_draws
from exeunt.backends.schedule import Schedule
from exeunt.backends.timing.device_lock import DeviceLock
from exeunt.backends.timing.pieces import DECODE, SOLVER_STEP
from exeunt.backends.timing.samples import Timing
from exeunt.backends.timing.throughput import missing_kinds
from exeunt.searcher.measuring import costs
from exeunt.searcher.measuring.chunks import Chunk, ChunkSampler
from exeunt.searcher.measuring.metric import Answer, ReferenceMetric
from exeunt.searcher.runner import optimize
from exeunt.searcher.search.proposer import OpenProposals
from exeunt.searcher.spaces.candidates import Candidate
from exeunt.searcher.spaces.free import Free
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.transactions import seconds_spent
from exeunt.studies.store.records import QualityRecord

LIMIT_MILLISECONDS = 40.0
NUM_IMAGES, WIDTH = 16, 48


class Enough(Interrupted):
    """As many proposals as asked for were measured."""


def study(folder: Path, num_steps: int, num_blocks: int) -> StudyConfig:
    """A study of the closed-form network with so many blocks, beside real images of its own."""
    network = load_network("closed-form")
    latents = torch.from_numpy(network.mixture.draw(100, seed=1)).float().reshape(-1, *network.sample_shape)
    np.savez(folder / "real.npz", images=network.decode(latents).permute(0, 2, 3, 1).numpy())
    settings = {
        "checkpoint.path": "closed-form",
        "checkpoint.options": {"num_blocks": num_blocks},
        "checkpoint.baseline_weights": (),
        "baseline.num_steps": num_steps,
        "quality.metric": "fd-pixels",
        "quality.reference": str(folder / "real.npz"),
        "quality.num_images": NUM_IMAGES,
        "quality.batch_size": NUM_IMAGES,
        "throughput.device": "cpu",
        "search.sampler": "random",
        "run.report": None,
        "run.budget": "10000-trials",
    }
    return override(StudyConfig(name="overhead"), settings)


def measure(folder: Path, num_steps: int, num_blocks: int, proposals: int) -> list[list[float]]:
    """Seconds of each proposal, those of the processor, and those that passed in transactions."""
    seconds: list[float] = []
    storage: list[float] = []
    processor: list[float] = []
    given = [0.0, 0.0, 0.0]
    build, add = Free.build, OpenProposals.add

    def built(space: Free, parameters: Mapping[str, Any]) -> Schedule:
        schedule = build(space, {**parameters, "num_steps": num_steps})
        given[:] = time.perf_counter(), time.process_time(), seconds_spent()
        return schedule

    def measured(*arguments: Any) -> None:
        add(*arguments)
        seconds.append(time.perf_counter() - given[0])
        processor.append(time.process_time() - given[1])
        storage.append(seconds_spent() - given[2])
        if len(seconds) > proposals:
            raise Enough("enough proposals")

    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        (ChunkSampler, "chunk", sampled), (ReferenceMetric, "score", scored), (costs, "time_calls", timed),
        (DeviceLock, "exclusive", lambda _: nullcontext()),
        (Free, "build", built), (OpenProposals, "add", measured),
    ]  # fmt: skip
    for owner, name, function in replaced:
        patch.object(owner, name, function).start()
    try:
        optimize(study(folder, num_steps, num_blocks), f"sqlite:///{folder / 'exeunt.db'}")
    except Enough:
        return [seconds[1:], processor[1:], storage[1:]]  # the first one loads what is imported lazily
    finally:
        patch.stopall()
    raise RuntimeError("the study ended before it had made so many proposals")


def sampled(_: ChunkSampler, candidate: Candidate, seed: int, images: range) -> Chunk:
    """Features of no images, after what sampling does with a schedule once: its plan and its rows of coefficients."""
    assert num_draws(candidate.schedule) > 0
    features = np.full((len(images), WIDTH), float(seed), np.float32)
    return Chunk(features, None, np.zeros((1, 2, 2, 3), np.uint8), 1.0, 1.0)


def scored(_: ReferenceMetric, answer: Answer, baseline: Answer | None, keep_influence: bool = False) -> QualityRecord:
    """A distance that no features gave."""
    return QualityRecord(answer.question, "fd-pixels", "reference", 0, NUM_IMAGES, 2.0, 1.9, 2.1, 0.1, 0.9, floor=1.0)


def timed(networks: Any, schedules: Any, *, batch_size: int, known: Any, repeats: int, **_: Any) -> list[Any]:
    """Equal seconds for every kind of call that has none yet."""
    kinds = missing_kinds(schedules, known)[0] | {DECODE, SOLVER_STEP}
    return [{kind: Timing((0.001,) * repeats, batch_size) for kind in kinds - known[0].keys()}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-steps", type=int, default=250)
    parser.add_argument("--num-blocks", type=int, default=28)
    parser.add_argument("--proposals", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.num_steps, options.num_blocks, options.proposals)
    whole, processor, storage = ([round(1000 * each, 1) for each in raw] for raw in found)
    print(
        json.dumps(
            {
                "benchmark": "proposal_overhead",
                "figures": {
                    "milliseconds": round(statistics.median(whole), 1),
                    "processor_milliseconds": round(statistics.median(processor), 1),
                    "in_transactions": round(statistics.median(storage), 1),
                },
                "conditions": {
                    **vars(options),
                    "limit_milliseconds": LIMIT_MILLISECONDS,
                    "raw_processor_milliseconds": processor,
                },
            }
        )
    )


if __name__ == "__main__":
    main()
