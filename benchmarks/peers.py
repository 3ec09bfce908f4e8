"""What the searches of the field cost beside ours, where quality is known exactly.

    pip install 'exeunt[bench]'
    python benchmarks/peers.py --keep peers.json              # both regimes, 5 seeds; half an hour
    python benchmarks/peers.py --methods front,ecad --seeds 1

On the closed-form network and in the two regimes of `search_efficiency.py`, with its figure and its count: every
schedule that is scored is an evaluation. For each peer: how much `front` spends until its hypervolume is the peer's
final one, as a share of all that the peer spent, in evaluations and in block evaluations. The peers:

* ecad: NSGA-II of pymoo as ECAD has it (Aggarwal et al. 2025): a bit for each step and block, 1 = run and 0 = reuse;
  population 72, crossover at 4 points with probability 0.9, bits flipped with probability 0.05; 288 evaluations.
* ecad-levers: the same operators on all levers of the space `free`, each parameter as bits (Gray's code).
* autodiffusion: the evolution of AutoDiffusion (Li et al. 2023): train indices, and any blocks dropped at each;
  population 50, 10 parents, 25 mutations of each gene with probability 0.1, 25 crossovers, 10 epochs, the share of
  dropped blocks growing from 0 to a half over five of them; one search for each of five bounds on cost, 2,500
  evaluations in all.
* evolution: the same for all levers, with the variations that `front` makes; 500 evaluations.
* tpe-depths: plain Optuna TPE on the number of steps and the depth of each; tpe: on all levers; 100 evaluations.
* mutation: a front member in proportion to its gap, varied at random, on all levers; 100 evaluations.

ECAD and AutoDiffusion start from nothing but their own random populations; `front` and `mutation` from a few anchors,
which count. Results are kept after each run, and a run that was begun goes on from there. Prints a table and one line
of JSON.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from exeunt.backends.networks.closed_form import ClosedFormNetwork
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import DROP, REUSE, RUN, Schedule
from exeunt.backends.solvers.tables import respaced
from exeunt.reports.view.pareto import Score, hypervolume
from exeunt.searcher.spaces.base import make_space
from exeunt.searcher.spaces.frame import with_rows
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import ElementwiseProblem
from pymoo.operators.crossover.pntx import PointCrossover
from pymoo.operators.mutation.bitflip import BitflipMutation
from pymoo.operators.sampling.rnd import BinaryRandomSampling
from pymoo.optimize import minimize
from search_efficiency import FIRST_SEED, METHODS, REGIMES, Bench, Enough, evolution

Bits = NDArray[np.bool_]
ECAD_POPULATION, ECAD_CROSSOVER, ECAD_FLIP = 72, 0.9, 0.05
POPULATION, PARENTS, MUTATIONS, CROSSOVERS, EPOCHS, GENE = 50, 10, 25, 25, 10, 0.1
BOUNDS, MOST_DROPPED, GROWTH = 5, 0.5, 5
OURS = "front"


# ---- ECAD ------------------------------------------------------------------------------------------------------------


def nsga2(bench: Bench, seed: int, num_bits: int, decode: Callable[[Bits], Schedule]) -> None:
    """NSGA-II with ECAD's operators on bits, until the evaluations are spent."""

    class Bitwise(ElementwiseProblem):
        def __init__(self) -> None:
            super().__init__(n_var=num_bits, n_obj=2, xl=0, xu=1, vtype=bool)

        def _evaluate(self, x: Bits, out: dict[str, Any], *_: Any, **__: Any) -> None:
            distance, cost = bench(decode(x))
            out["F"] = [distance, cost]

    algorithm = NSGA2(
        pop_size=ECAD_POPULATION,
        sampling=BinaryRandomSampling(),
        crossover=PointCrossover(n_points=4, prob=ECAD_CROSSOVER),
        mutation=BitflipMutation(prob=1.0, prob_var=ECAD_FLIP),
        eliminate_duplicates=True,
    )
    minimize(Bitwise(), algorithm, ("n_gen", 10_000), seed=seed, verbose=False)


def ecad(bench: Bench, seed: int) -> None:
    """ECAD on its own levers: the full schedule's steps, each block run or reused at each."""
    steps, blocks = bench.frame.num_steps, bench.frame.num_blocks

    def decode(bits: Bits) -> Schedule:
        rows = [[RUN if run else REUSE for run in row] for row in bits.reshape(steps, blocks)]
        rows[0] = [RUN] * blocks  # nothing is stored before it
        return with_rows(bench.full, [tuple(row) for row in rows])

    nsga2(bench, seed, steps * blocks, decode)


def ecad_levers(bench: Bench, seed: int) -> None:
    """ECAD's search on all levers of the space `free`."""
    space = make_space("free", bench.frame)
    genes = {name: choices(each) for name, each in space.distributions().items()}
    widths = {name: max(1, math.ceil(math.log2(len(values)))) for name, values in genes.items()}

    def decode(bits: Bits) -> Schedule:
        parameters: dict[str, Any] = {}
        start = 0
        for name, values in genes.items():
            place = from_gray(bits[start : start + widths[name]])
            parameters[name] = values[place * len(values) // 2 ** widths[name]]
            start += widths[name]
        return space.build(parameters)

    nsga2(bench, seed, sum(widths.values()), decode)


def choices(distribution: BaseDistribution) -> list[Any]:
    """What a parameter may be, as a list; 16 values of a real number."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    assert isinstance(distribution, FloatDistribution), distribution
    spaced = np.geomspace if distribution.log else np.linspace
    return [
        min(max(float(v), distribution.low), distribution.high) for v in spaced(distribution.low, distribution.high, 16)
    ]


def from_gray(bits: Bits) -> int:
    value = 0
    for bit in np.logical_xor.accumulate(bits):
        value = 2 * value + int(bit)
    return value


# ---- AutoDiffusion ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """Train indices, falling, and the blocks that are dropped at each."""

    times: tuple[int, ...]
    dropped: tuple[frozenset[int], ...]


class Evolution:
    """AutoDiffusion's search within one bound on block evaluations."""

    def __init__(self, bench: Bench, bound: float, generator: random.Random) -> None:
        self._bench, self._bound, self._random = bench, bound, generator
        self._blocks, self._last = bench.frame.num_blocks, (bench.network.noise.num_timesteps or 1) - 1
        self._most = 0.0  # share of the blocks that may be dropped

    def run(self) -> None:
        scored: dict[Candidate, float] = {}
        best: list[Candidate] = []
        for epoch in range(EPOCHS):
            varied = [partial(self._mutated, best)] * MUTATIONS + [partial(self._crossed, best)] * CROSSOVERS
            for make in varied if best else [self._random_candidate] * POPULATION:
                candidate = self._new(make, scored)
                scored[candidate] = self._bench(self._schedule(candidate))[0]
            best = sorted(scored, key=scored.__getitem__)[:PARENTS]
            self._most = min(MOST_DROPPED, MOST_DROPPED * (epoch + 1) / GROWTH)

    def _new(self, make: Callable[[], Candidate], scored: dict[Candidate, float]) -> Candidate:
        """One that is within the bound and was not scored; a random one where ten tries give none."""
        for _ in range(10):
            candidate = make()
            if candidate not in scored and self._cost(candidate) <= self._bound:
                return candidate
        return self._random_candidate()

    def _cost(self, candidate: Candidate) -> int:
        return sum(self._blocks - len(each) for each in candidate.dropped)

    def _random_candidate(self) -> Candidate:
        """Steps are added until the bound allows no more."""
        dropped: list[frozenset[int]] = []
        left = self._bound
        while len(dropped) < self._bench.frame.num_steps:
            row = self._random_row()
            if left < self._blocks - len(row):
                break
            left -= self._blocks - len(row)
            dropped.append(row)
        dropped = dropped or [frozenset(range(int(self._bound), self._blocks))]
        return Candidate(self._falling(self._random.sample(range(self._last + 1), len(dropped))), tuple(dropped))

    def _random_row(self) -> frozenset[int]:
        count = int(self._random.random() * self._most * self._blocks)
        return frozenset(self._random.sample(range(self._blocks), count))

    def _mutated(self, best: list[Candidate]) -> Candidate:
        parent = self._random.choice(best)
        free = [time for time in range(self._last + 1) if time not in parent.times]
        return self._joined(
            (
                self._random.choice(free) if self._random.random() < GENE else time,
                self._random_row() if self._random.random() < GENE else row,
            )
            for time, row in zip(parent.times, parent.dropped, strict=True)
        )

    def _crossed(self, best: list[Candidate]) -> Candidate:
        """Each step from either parent, and the longer one's last ones."""
        one, other = sorted(self._random.choices(best, k=2), key=lambda each: len(each.times))
        pairs = [
            self._random.choice(both)
            for both in zip(
                zip(one.times, one.dropped, strict=True), zip(other.times, other.dropped, strict=True), strict=False
            )
        ]
        pairs += list(zip(other.times, other.dropped, strict=True))[len(pairs) :]
        return self._joined(pairs)

    def _joined(self, pairs: Iterable[tuple[int, frozenset[int]]]) -> Candidate:
        """Each time once, with its blocks."""
        kept = dict(pairs)
        times = self._falling(kept)
        return Candidate(times, tuple(kept[time] for time in times))

    @staticmethod
    def _falling(times: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(set(times), reverse=True))

    def _schedule(self, candidate: Candidate) -> Schedule:
        rows = [tuple(DROP if b in row else RUN for b in range(self._blocks)) for row in candidate.dropped]
        return with_rows(respaced(self._bench.full, [float(t) for t in candidate.times]), rows)


def autodiffusion(bench: Bench, seed: int) -> None:
    generator = random.Random(seed)
    for bound in np.geomspace(0.1, 0.8, BOUNDS) * bench.most:
        Evolution(bench, float(bound), generator).run()
    raise Enough


# ---- all -------------------------------------------------------------------------------------------------------------

# Each with the evaluations that it may spend.
PEERS: dict[str, tuple[Callable[[Bench, int], None], int]] = {
    OURS: (METHODS[OURS], 150),
    "ecad": (ecad, 288),
    "ecad-levers": (ecad_levers, 288),
    "autodiffusion": (autodiffusion, BOUNDS * EPOCHS * POPULATION),
    "evolution": (evolution, 500),
    "tpe-depths": (METHODS["tpe-depths"], 100),
    "tpe": (METHODS["tpe"], 100),
    "mutation": (METHODS["mutation"], 100),
}


def run(network: ClosedFormNetwork, method: str, regime: str, seed: int) -> dict[str, Any]:
    """The hypervolume after each evaluation, the block evaluations up to it, and the seconds of the run."""
    search, evaluations = PEERS[method]
    bench, started = Bench(network, regime, evaluations), time.perf_counter()
    with suppress(Enough):
        search(bench, seed)
    reference = Score(math.log(bench.worst), 1.0)
    scores = [Score(value, 1 + math.log(bench.most) - cost) for cost, value in bench.points]
    kept: list[Score] = []
    curve: list[float] = []
    for score in scores:  # only what is not dominated counts
        if not any(each.quality <= score.quality and each.speed >= score.speed for each in kept):
            kept = [e for e in kept if not (score.quality <= e.quality and score.speed >= e.speed)] + [score]
            curve.append(round(hypervolume(kept, reference), 5))
        else:
            curve.append(curve[-1])
    work = np.cumsum([math.exp(cost) for cost, _ in bench.points])
    return {
        "curve": curve,
        "work": [round(float(each)) for each in work],
        "seconds": round(time.perf_counter() - started, 1),
    }


def reached(found: dict[str, Any], level: float) -> tuple[float, float]:
    """The evaluations and the block evaluations until the hypervolume is at a level; infinite if it never is."""
    for count, (value, work) in enumerate(zip(found["curve"], found["work"], strict=True), start=1):
        if value >= level:
            return float(count), float(work)
    return math.inf, math.inf


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """What `front` spends to reach a peer's mean final hypervolume, over its seeds, and what the peer spent."""
    finals = [each["curve"][-1] for each in theirs]
    level = float(np.mean(finals))
    spent = [reached(each, level) for each in ours]
    evaluations, work = (float(np.median([pair[k] for pair in spent])) for k in (0, 1))
    their_work = float(np.mean([each["work"][-1] for each in theirs]))
    return {
        "hypervolume": round(level, 3),
        "error": round(float(np.std(finals)) / math.sqrt(len(finals)), 3),
        "evaluations": len(theirs[0]["curve"]),
        "ours": evaluations if math.isfinite(evaluations) else None,
        "share": round(evaluations / len(theirs[0]["curve"]), 4) if math.isfinite(evaluations) else None,
        "share_of_blocks": round(work / their_work, 4) if math.isfinite(work) else None,
        "seeds_reached": sum(math.isfinite(pair[0]) for pair in spent),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(PEERS), help="some of them, with commas between")
    parser.add_argument("--regimes", default=",".join(REGIMES), help="some of them, with commas between")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--keep", type=Path, help="JSON file of results; runs that it holds are not repeated")
    options = parser.parse_args()
    methods = list(dict.fromkeys([OURS, *options.methods.split(",")]))
    if unknown := set(methods) - PEERS.keys():
        parser.error(f"--methods: {', '.join(sorted(unknown))} is not known. Known: {', '.join(PEERS)}.")
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    network = load_network("closed-form", num_blocks=12)
    assert isinstance(network, ClosedFormNetwork)
    found = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    figures: dict[str, dict[str, Any]] = {}
    for regime in options.regimes.split(","):
        print(f"\n{regime}: what `{OURS}` spends to reach the final hypervolume of each", flush=True)
        runs: dict[str, list[dict[str, Any]]] = {}
        for method in methods:
            for seed in seeds:
                key = f"{regime}|{method}|{seed}"
                if key not in found:
                    found[key] = run(network, method, regime, seed)
                    if options.keep:
                        options.keep.write_text(json.dumps(found))
                runs.setdefault(method, []).append(found[key])
            row = compare(runs[OURS], runs[method])
            figures.setdefault(regime, {})[method] = row
            text = f"{method:14} {row['hypervolume']:5.2f} ± {row['error']:.2f} after {row['evaluations']:5}"
            if method != OURS:
                spent = "never" if row["ours"] is None else f"after {row['ours']:.0f} = 1/{1 / row['share']:.1f}"
                text += f"; {OURS} {spent}, {row['share_of_blocks']} of the blocks, {row['seeds_reached']} seeds"
            print(text, flush=True)
    conditions = {"seeds": [seeds.start, seeds.stop], "regimes": REGIMES}
    print(json.dumps({"benchmark": "peers", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
