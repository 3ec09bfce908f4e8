"""How good a front each method finds from how many evaluations, where quality is known exactly.

    python benchmarks/search_efficiency.py                         # all methods, both regimes, 20 seeds; an hour
    python benchmarks/search_efficiency.py --methods front,random --seeds 3 --keep found.json

The closed-form network with 12 blocks says each schedule's Fréchet distance without sampling, so methods are compared
without noise. An evaluation is one schedule; block evaluations are counted beside it. Two regimes:

* 20 steps, with a floor of 0.03 under the distance, as the distances of real networks have one;
* 8 steps, no floor, where far better schedules than the full one exist.

The figure is the hypervolume in (log distance, log block evaluations), from 4 × the full schedule's distance at its own
cost. Every method may spend the same evaluations, baselines and anchors included. Methods:

* front: the sampler `front` on the space `free`, from the full schedule and the space's anchors: `optimize`'s default.
* front-direct: the same without vectors: it models the logarithm of the distance.
* mixed-tpe: the former default: the space `mixed`, TPE, eight baselines and the space's warm starts first.
* tpe: plain Optuna TPE on the space `free`; tpe-depths: on the number of steps and the depth of each alone.
* random: random points of the space `mixed`; random-free: of `free`.
* mutation: a member of the front in proportion to its gap, varied at random, on the levers of `free`.
* nsga2-depths: Optuna's NSGA-II, population 24, on the same genes (ECAD's search, Jiang et al. 2025, is one on such).
* evolution: AutoDiffusion's (Li et al. 2023): time steps and depths, the best of a population crossed and mutated, for
  each of five costs in turn.

Results are kept after each run, and a run that was begun goes on from there. Prints a table and one line of JSON.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
import torch
from exeunt.backends.networks.closed_form import ClosedFormNetwork
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import Schedule, block_evaluations
from exeunt.backends.solvers.tables import make_schedule
from exeunt.reports.view.pareto import Score, hypervolume
from exeunt.reports.view.pareto import front as pareto_front
from exeunt.searcher.proposals.improvement import Bounds
from exeunt.searcher.proposals.sampler import FrontSampler
from exeunt.searcher.proposals.variation import Variation, is_even
from exeunt.searcher.spaces.base import Space, make_space
from exeunt.searcher.spaces.candidates import list_baselines
from exeunt.searcher.spaces.frame import FullSchedule, exit_rows, with_rows
from exeunt.searcher.spaces.free import Point, require_free
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from exact_outcome import exact_vector

REGIMES = {"20 steps": (20, 0.03), "8 steps": (8, 0.0)}
MARKS = (10, 15, 20, 25, 50, 75, 100, 150, 200, 288, 400, 800)
FIRST_SEED = 1000  # tuning took seeds below 100


class Enough(Exception):
    """As many evaluations as asked for were made."""


class Bench:
    """One run of one method in one regime: evaluates schedules and counts them."""

    def __init__(self, network: ClosedFormNetwork, regime: str, evaluations: int) -> None:
        num_steps, self.floor = REGIMES[regime]
        self.network, self.left = network, evaluations
        self.full = make_schedule(network.signature, network.noise, network.prediction, num_steps=num_steps)
        self.frame = FullSchedule(self.full, "log-snr")
        self.free = require_free(make_space("free", self.frame), "front")
        self.points: list[tuple[float, float]] = []
        self.vectors: dict[str, np.ndarray] = {}
        self.worst = 4 * self._exact(self.full)
        self.most = block_evaluations(self.full)

    def space(self, name: str) -> Space:
        """What a method of Optuna searches."""
        return make_space(name, self.frame)

    def _exact(self, schedule: Schedule) -> float:
        vector = exact_vector(self.network, schedule)
        self.vectors[schedule.digest] = vector
        return float(vector @ vector) + self.floor

    def __call__(self, schedule: Schedule) -> tuple[float, float]:
        """A schedule's distance and its block evaluations. Raises Enough after the last evaluation."""
        if self.left == 0:
            raise Enough
        self.left -= 1
        distance, cost = self._exact(schedule), block_evaluations(schedule)
        self.points.append((math.log(cost), math.log(distance)))
        return distance, cost

    def curve(self) -> dict[int, float]:
        """The hypervolume after each number of evaluations that is printed."""
        scores = [Score(value, 1 + math.log(self.most) - cost) for cost, value in self.points]
        reference = Score(math.log(self.worst), 1.0)
        return {m: hypervolume(scores[:m], reference) for m in MARKS if m <= len(scores)}


def study(bench: Bench, sampler: BaseSampler, space_name: str, first: list[Schedule]) -> None:
    """An Optuna study on a space, with the first schedules told to it where the space holds them."""
    space = bench.space(space_name)
    made = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    distributions = space.distributions()
    for schedule in first:
        distance, cost = bench(schedule)
        point = space.parameters(schedule)
        if point is not None:
            trial = optuna.trial.create_trial(
                params=point,
                distributions=distributions,
                values=[distance, 1 / cost],
                user_attrs={"schedule": schedule.digest},
            )
            made.add_trial(trial)
    for point in space.warm_starts() if not isinstance(sampler, RandomSampler) else []:
        made.enqueue_trial(point)
    while True:
        trial = made.ask(distributions)
        schedule = space.build(trial.params)
        trial.set_user_attr("schedule", schedule.digest)
        try:
            distance, cost = bench(schedule)
        except Enough:
            made.tell(trial, state=TrialState.FAIL)
            raise
        made.tell(trial, [distance, 1 / cost])


def front(bench: Bench, seed: int, *, composite: bool = True, first: Sequence[Schedule] = ()) -> None:
    """The sampler `front`, perhaps with a few schedules of others measured first."""

    def outcome(trial: FrozenTrial) -> np.ndarray | None:
        return bench.vectors.get(trial.user_attrs["schedule"]) if composite else None

    bounds = Bounds(bench.worst, 1 / bench.most)
    sampler = FrontSampler(bench.free, seed=seed, bounds=lambda: bounds, outcome=outcome)
    study(bench, sampler, "free", [bench.full, *first])


def mixed_tpe(bench: Bench, seed: int) -> None:
    baselines = [each.schedule for each in list_baselines({"net": bench.frame})[:8]]
    study(bench, TPESampler(multivariate=True, n_startup_trials=10, seed=seed), "mixed", baselines)


def tpe(bench: Bench, seed: int) -> None:
    study(bench, TPESampler(multivariate=True, n_startup_trials=10, seed=seed), "free", [bench.full])


def at_random(bench: Bench, seed: int, space: str) -> None:
    study(bench, RandomSampler(seed=seed), space, [])


def on_depths(bench: Bench, sampler: BaseSampler) -> None:
    """Optuna's sampler on the number of steps and the depth of each."""
    frame = bench.frame
    genes = {f"depth_{s}": IntDistribution(1, frame.num_blocks) for s in range(frame.num_steps)}
    genes["num_steps"] = IntDistribution(bench.free.fewest_steps, frame.num_steps, log=True)
    made = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    while True:
        trial = made.ask(genes)
        base = frame.steps(trial.params["num_steps"])
        depths = [trial.params[f"depth_{s}"] for s in range(base.num_steps)]
        made.tell(trial, bench(with_rows(base, exit_rows(frame.orders["front"], depths))))


def mutation(bench: Bench, seed: int) -> None:
    """A front member in proportion to the gap that it leaves, varied at random."""
    generator = random.Random(seed)
    variation, space = Variation(bench.free, generator), bench.free
    known = [space.point(space.parameters(bench.full) or {}), *map(space.point, space.warm_starts())]
    for point in known:
        bench(space.schedule(point))
    while True:
        costs, values = np.array(bench.points).T
        scores = [Score(value, math.exp(-cost)) for cost, value in bench.points]
        members = pareto_front(range(len(scores)), scores.__getitem__)[::-1]
        useful = [i for i in members if values[i] < math.log(bench.worst)] or members
        times = costs[useful]
        gaps = np.diff(np.concatenate([[times[0] - 0.3], times])) + np.diff(np.append(times, times[-1] + 0.3)) + 0.05
        parent, other = generator.choices(useful, gaps.tolist(), k=2)
        point = variation.vary(known[parent], known[other])
        if point is not None and is_even(point) and point not in known:
            known.append(point)
            bench(space.schedule(point))


def evolution(bench: Bench, seed: int) -> None:
    """AutoDiffusion's evolutionary search, for each of five costs in turn, over times and depths."""
    generator, space = random.Random(seed), bench.free
    variation = Variation(space, generator)
    full = space.point(space.parameters(bench.full) or {})
    budgets = np.geomspace(0.1, 0.8, 5) * bench.most
    share = bench.left // len(budgets)

    def within(budget: float) -> Point:
        """A random point of at most that cost."""
        while True:
            count = generator.randint(bench.free.fewest_steps, bench.frame.num_steps)
            depths = tuple(generator.randint(1, bench.frame.num_blocks) for _ in range(count))
            if 0.5 * budget <= sum(depths) <= budget:
                return Point((1.0,) * count, depths, (0,) * count, (0,) * count, full.levers)

    for budget in budgets:
        population: list[tuple[float, Point]] = []
        for turn in range(share):
            if turn < min(10, share // 2):
                point = within(budget)
            else:
                best = [each for _, each in sorted(population, key=lambda pair: pair[0])[:10]]
                for _ in range(200):
                    varied = variation.vary(generator.choice(best), generator.choice(best))
                    if varied is not None and is_even(varied) and sum(varied.depths) <= budget:
                        point = varied
                        break
                else:
                    point = within(budget)
            population.append((bench(space.schedule(point))[0], point))
    raise Enough


METHODS: dict[str, Callable[[Bench, int], None]] = {
    "front": front,
    "front-direct": lambda bench, seed: front(bench, seed, composite=False),
    "mixed-tpe": mixed_tpe,
    "tpe": tpe,
    "tpe-depths": lambda bench, seed: on_depths(bench, TPESampler(multivariate=True, n_startup_trials=10, seed=seed)),
    "random": lambda bench, seed: at_random(bench, seed, "mixed"),
    "random-free": lambda bench, seed: at_random(bench, seed, "free"),
    "mutation": mutation,
    "nsga2-depths": lambda bench, seed: on_depths(bench, NSGAIISampler(seed=seed, population_size=24)),
    "evolution": evolution,
}


def run(network: ClosedFormNetwork, method: str, regime: str, seed: int, evaluations: int) -> dict[str, float]:
    """The curve of one run, and the seconds that it took."""
    bench, started = Bench(network, regime, evaluations), time.perf_counter()
    with suppress(Enough):
        METHODS[method](bench, seed)
    return {**{str(m): value for m, value in bench.curve().items()}, "seconds": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS), help="some of them, with commas between")
    parser.add_argument("--regimes", default=",".join(REGIMES), help="some of them, with commas between")
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=20, metavar="N")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--keep", type=Path, help="JSON file of results; runs that it holds are not repeated")
    options = parser.parse_args()
    unknown = set(options.methods.split(",")) - METHODS.keys()
    if unknown:
        parser.error(f"--methods: {', '.join(sorted(unknown))} is not known. Known: {', '.join(METHODS)}.")
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    network = load_network("closed-form", num_blocks=12)
    assert isinstance(network, ClosedFormNetwork)
    found: dict[str, dict[str, float]] = {}
    if options.keep and options.keep.exists():
        found = json.loads(options.keep.read_text())
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    for regime in options.regimes.split(","):
        print(f"\n{regime}: hypervolume ± standard error after so many evaluations")
        for method in options.methods.split(","):
            curves: list[dict[str, float]] = []
            for seed in seeds:
                key = f"{regime}|{method}|{seed}|{options.evaluations}"
                if key not in found:
                    found[key] = run(network, method, regime, seed, options.evaluations)
                    if options.keep:
                        options.keep.write_text(json.dumps(found))
                curves.append(found[key])
            row = {m: [each[m] for each in curves] for m in curves[0] if m != "seconds"}
            seconds = np.mean([each["seconds"] for each in curves])
            told = "  ".join(
                f"{m}: {np.mean(values):5.2f} ± {np.std(values) / math.sqrt(len(values)):.2f}"
                for m, values in row.items()
            )
            print(f"{method:13} {told}   {seconds:.0f} s", flush=True)
            figures.setdefault(regime, {})[method] = {m: [round(v, 4) for v in values] for m, values in row.items()}
    conditions = {"evaluations": options.evaluations, "seeds": [seeds.start, seeds.stop], "regimes": REGIMES}
    print(json.dumps({"benchmark": "search_efficiency", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
