"""What searchers find of a space whose every schedule was measured: 20,736 schedules of a real network.

    python benchmarks/truth_table.py build --keep FOLDER       # an hour on one core; goes on where it was stopped
    python benchmarks/truth_table.py search --runs 50          # every searcher on the table; half an hour
    python benchmarks/truth_table.py search --methods front,random-free --runs 5

The space is the depth, 1 to 12 of 12 blocks, of each of four steps of the bundled checkpoint with trained exits; what
stands behind an exit is dropped. Each schedule's distance is that of 32 images of the same noises with the smallest
bundled extractor. One pass of the network gives the outputs at all depths, so the table is a tree of 1,884 steps rather
than of 82,944; `build` samples a few schedules by the ordinary loop as well and ends unless they agree.

The table (`truth_table.npz`) holds each distance, and the vector that the sampler `front` learns from in as many of its
principal directions as keep its differences. A searcher may evaluate 100 schedules. What it leaves of the whole table's
hypervolume (in log excess and log block evaluations, from 4 × the full schedule's excess at its cost) is its gap.
`search` prints the median and quartiles of the gap for each searcher, and one line of JSON.
"""

import argparse
import json
import math
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from exeunt.backends.network import ChainNetwork, NetworkInput
from exeunt.backends.quality.distances import frechet_value, frechet_vector
from exeunt.backends.sampling.conditions import labels, noises
from exeunt.backends.sampling.loop import Samples, Trajectory, sample
from exeunt.backends.schedule import RUN, Schedule, block_evaluations, network_times
from exeunt.reports.view.pareto import Score, hypervolume
from exeunt.searcher.measuring.metric import ReferenceMetric
from exeunt.searcher.measuring.setup import StudySetup, load_setup
from exeunt.searcher.spaces.base import make_space
from exeunt.searcher.spaces.free import Free, Point, require_free
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from numpy.typing import NDArray
from search_efficiency import FIRST_SEED, METHODS, Bench, Enough
from torch import Tensor

TABLE = Path(__file__).with_suffix(".npz")
LEVERS = {"steps": 4, "times": "fixed", "stand-in": "drop", "blocks": "front", "solver-order": "fixed"}
SETTINGS = {
    "checkpoint.path": "fashion-dit-exits",
    "baseline.num_steps": 4,
    "quality.metric": "fd-efficientnet-lite0",
    "search.space": "free",
    "search.levers": tuple(LEVERS.items()),
}
NUM_IMAGES, SEED = 32, 0
COMPONENTS = 48
SEARCHERS = ("front", "front-direct", "tpe", "tpe-depths", "random-free", "mutation", "nsga2-depths", "evolution")
Depths = tuple[int, ...]
Array = NDArray[np.float64]


def load() -> tuple[StudySetup, Free]:
    setup = load_setup(override(StudyConfig(), SETTINGS))
    return setup, require_free(make_space("free", setup.frame, LEVERS), "front")


def schedule_of(space: Free, full: Schedule, depths: Depths) -> Schedule:
    whole = space.point(space.parameters(full) or {})
    return space.schedule(Point(whole.gaps, depths, whole.tails, whole.orders, whole.levers))


# ---- Building --------------------------------------------------------------------------------------------------------


class Tree:
    """All depths of all steps of one batch of noises, by shared beginnings."""

    def __init__(self, setup: StudySetup) -> None:
        assert isinstance(setup.network, ChainNetwork)
        self.setup, self.network, self.full = setup, setup.network, setup.frame.full
        images = range(NUM_IMAGES)
        noise = noises(SEED, images, self.network.sample_shape, 1)[0]
        self._run = Trajectory([self.network], self.full, noise, (), None)
        self._conditions = labels(setup.conditions, images, SEED)
        self._times = network_times(self.full)
        self.start, self._reach = self._run.x, self._run.history.maxlen

    def after(self, s: int, x: Tensor, history: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """x and history after step s at depth 1, 2, … from those before it."""
        row = self._run.rows[s]
        time = torch.full((len(x),), self._times[s], dtype=x.dtype)
        inputs = NetworkInput(x * row.input_scale, time, self._conditions, None)
        h, chain, finish = self.network.begin(inputs.x, inputs.time, inputs.conditions)
        clip = self.full.sampler.clip
        for index in range(len(chain.kinds)):
            h = chain.run(index, h)
            m = finish(h) * row.model_f + x * row.model_x
            m = m if clip is None else m.clamp(-clip, clip)
            self._run.x, self._run.history = x, deque((m, *history)[: self._reach])
            self._run.advance(row)
            yield self._run.x, tuple(self._run.history)

    @torch.inference_mode()
    def leaves(self, first: Depths) -> Iterator[tuple[Depths, Tensor]]:
        """Every schedule that begins with these depths, with the latents that it ends with."""
        at = (self.start, ())
        for s, depth in enumerate(first):
            at = list(self.after(s, *at))[depth - 1]
        yield from self._below(first, *at)

    def _below(self, depths: Depths, x: Tensor, history: tuple[Tensor, ...]) -> Iterator[tuple[Depths, Tensor]]:
        if len(depths) == self.full.num_steps:
            yield depths, x
            return
        for depth, at in enumerate(self.after(len(depths), x, history), 1):
            yield from self._below((*depths, depth), *at)


def measured(setup: StudySetup, images: Tensor) -> tuple[float, Array]:
    assert isinstance(setup.metric, ReferenceMetric)
    features = setup.features([Samples(0, images, images)], SEED)
    return frechet_value(features, setup.metric.source.root), frechet_vector(features, setup.metric.source.root)


def check(setup: StudySetup, space: Free) -> None:
    """Ends the program unless the tree has what the ordinary loop samples."""
    tree = Tree(setup)
    for depths in ((12, 12, 12, 12), (3, 7, 1, 9), (1, 12, 5, 2)):
        found = next(x for each, x in tree.leaves(depths[:3]) if each == depths)
        schedule = schedule_of(space, tree.full, depths)
        options: dict[str, Any] = {"seed": SEED, "images": range(NUM_IMAGES), "conditions": setup.conditions}
        (batch,) = sample([setup.network], schedule, batch_size=NUM_IMAGES, **options)
        away = float((found - batch.latents).abs().max())
        if away > 1e-5:
            raise SystemExit(f"depths {depths}: the tree's latents are {away:.2g} from the loop's.")


def build(keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    setup, space = load()
    check(setup, space)
    tree, parts = Tree(setup), list(product(range(1, 13), repeat=2))
    for number, first in enumerate(parts):
        path = keep / f"{first[0]}-{first[1]}.npz"
        if path.exists():
            continue
        values, vectors = list[float](), list[Array]()
        for _, latents in tree.leaves(first):
            with torch.inference_mode():
                images = setup.network.decode(latents)
            value, vector = measured(setup, images)
            values.append(value)
            vectors.append(vector)
        part = path.with_suffix(".part.npz")
        np.savez(part, values=values, vectors=np.float16(vectors))
        part.replace(path)
        print(f"{number + 1} of {len(parts)}", flush=True)
    found = [np.load(keep / f"{a}-{b}.npz") for a, b in parts]
    vectors = np.concatenate([each["vectors"] for each in found]).astype(np.float64)
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    kept = vectors @ axes[:, -COMPONENTS:]
    assert isinstance(setup.metric, ReferenceMetric)
    floor = setup.metric.floor(NUM_IMAGES).value
    values = np.float32(np.concatenate([each["values"] for each in found]))
    np.savez_compressed(TABLE, values=values, vectors=np.float16(kept), floor=floor)
    share = (kept**2).sum() / (vectors**2).sum()
    print(
        f"{TABLE.name}: {TABLE.stat().st_size / 1e6:.1f} MB, {share:.2%} of the vectors' squared length, floor {floor}"
    )


# ---- Searching -------------------------------------------------------------------------------------------------------


class TableBench(Bench):
    """One run of one method, which looks schedules up."""

    def __init__(self, evaluations: int) -> None:
        setup, self.free = load()
        table = np.load(TABLE)
        self.values, self.table_vectors = table["values"].astype(np.float64) - float(table["floor"]), table["vectors"]
        self.frame, self.full, self.left = setup.frame, setup.frame.full, evaluations
        self.points, self.vectors = [], {}
        self.worst = 4 * self._exact(self.full)
        self.most = block_evaluations(self.full)

    def space(self, name: str) -> Any:
        return make_space(name, self.frame, LEVERS)

    def _exact(self, schedule: Schedule) -> float:
        index = 0
        for step in schedule.steps:
            index = 12 * index + step.blocks.count(RUN) - 1
        self.vectors[schedule.digest] = self.table_vectors[index].astype(np.float64)
        return float(self.values[index])

    def whole(self) -> float:
        """The hypervolume of the whole table."""
        costs = [sum(depths) for depths in product(range(1, 13), repeat=4)]
        least = dict.fromkeys(costs, math.inf)
        for cost, value in zip(costs, self.values, strict=True):
            least[cost] = min(least[cost], value)
        scores = [Score(math.log(value), 1 + math.log(self.most / cost)) for cost, value in least.items()]
        return hypervolume(scores, Score(math.log(self.worst), 1.0))


def run(method: str, evaluations: int, seed: int) -> dict[int, float]:
    """The gap of one run after so many evaluations."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    bench = TableBench(evaluations)
    with suppress(Enough):
        METHODS[method](bench, seed)
    whole = bench.whole()
    return {count: 1 - found / whole for count, found in bench.curve().items()}


def search(methods: list[str], runs: int, evaluations: int, processes: int) -> None:
    figures: dict[str, dict[int, list[float]]] = {}
    print(
        f"gap to the hypervolume of all 20,736 schedules: median (quartiles) of {runs} runs after so many evaluations"
    )
    with Pool(processes) as pool:
        for method in methods:
            gaps = pool.map(partial(run, method, evaluations), range(FIRST_SEED, FIRST_SEED + runs), chunksize=1)
            figures[method] = {count: [each[count] for each in gaps] for count in gaps[0]}
            told = (
                f"{count}: {b:6.1%} ({a:.1%}–{c:.1%})"
                for count, all_gaps in figures[method].items()
                for a, b, c in [np.quantile(all_gaps, (0.25, 0.5, 0.75))]
            )
            print(f"{method:13} {'   '.join(told)}", flush=True)
    rounded = {m: {c: [round(gap, 4) for gap in gaps] for c, gaps in row.items()} for m, row in figures.items()}
    print(json.dumps({"benchmark": "truth_table", "evaluations": evaluations, "runs": runs, "gaps": rounded}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="measure every schedule")
    building.add_argument("--keep", type=Path, required=True, help="folder of parts, which a later run goes on from")
    searching = commands.add_parser("search", help="run searchers on the table")
    searching.add_argument("--methods", default=",".join(SEARCHERS), help="some of them, with commas between")
    searching.add_argument("--runs", type=int, default=50)
    searching.add_argument("--evaluations", type=int, default=100)
    searching.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.command == "build":
        build(options.keep)
        return
    methods = options.methods.split(",")
    if unknown := set(methods) - set(SEARCHERS):
        parser.error(f"--methods: {', '.join(sorted(unknown))} is not known. Known: {', '.join(SEARCHERS)}.")
    search(methods, options.runs, options.evaluations, options.processes)


if __name__ == "__main__":
    main()
