"""How good the front is that a calibration makes without a search, where quality is known exactly.

    python benchmarks/sensitivity.py                # both regimes, and 5 searches in each beside them; minutes
    python benchmarks/sensitivity.py --seeds 0      # without the searches; a minute

The closed-form network and both regimes are those of search_efficiency.py, the figure is its hypervolume, and the
members of a front, 24 at most, are re-scored with their exact distance. Fronts differ in three things:

* what they are to be near: `full`, the full schedule's images, or `metric`, the data, of which a vector whose squared
  length is the Fréchet distance says it;
* how losses are predicted: additive, vector or path (searcher/sensitivity/paths.py);
* what errors are measured on: exactly, or on so many sampled images, the mean over calibrations on other noises.

The cost of a calibration is counted in evaluations of a search, of the full schedule on 256 images each; the members
are evaluations too. Prints tables and one line of JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import optuna
import torch
from exeunt.backends.networks.closed_form import ClosedFormNetwork
from exeunt.backends.networks.registry import load_network
from exeunt.backends.quality.distances import ReferenceRoot, frechet_vector, paired_vector
from exeunt.backends.sampling.conditions import uniform
from exeunt.backends.schedule import Schedule, block_evaluations
from exeunt.searcher.search.warm_start import MOST_WARM, spread
from exeunt.searcher.sensitivity.calibration import evenly, noise_in
from exeunt.searcher.sensitivity.grid import Choices, Grid, make_grids
from exeunt.searcher.sensitivity.paths import MODES, ErrorTable, Mode, Vector, best_paths, lowest
from exeunt.searcher.sensitivity.results import price
from exeunt.searcher.sensitivity.trajectories import FullTrajectories
from scipy.stats import kendalltau
from search_efficiency import FIRST_SEED, REGIMES, Bench, Enough, front

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from exact_outcome import exact_images, exact_vector, moments

MEMBERS, SEARCH_IMAGES, SEED = 24, 256, 3
STAND_INS = {"exits": ("drop",), "exits, reuse": ("drop", "reuse")}


def exact_tables(network: ClosedFormNetwork, grids: Sequence[Grid], objective: str) -> list[ErrorTable]:
    """The errors of infinitely many images."""
    base = exact_images(network, grids[0].full)

    def vector(schedule: Schedule) -> Vector:
        return exact_vector(network, schedule) if objective == "metric" else exact_images(network, schedule) - base

    tables: list[ErrorTable] = []
    for grid in grids:
        own = vector(grid.full)
        chains = [(s, chain) for s in range(grid.num_steps) for chain in grid.chains(s)]
        tables.append(ErrorTable(grid, own, {key: vector(grid.schedule(*key)) - own for key in chains}))
    return tables


def sampled_tables(
    network: ClosedFormNetwork, grids: Sequence[Grid], num_images: int, seed: int
) -> dict[str, list[ErrorTable]]:
    """The errors of a few images, as `exeunt calibrate` measures them, by objective."""
    root = ReferenceRoot.of(*moments(network.mixture))
    tables: dict[str, list[ErrorTable]] = {"full": [], "metric": []}
    base: np.ndarray | None = None
    for grid in grids:
        full = FullTrajectories(
            network,
            grid,
            seed=seed,
            images=range(num_images),
            conditions=uniform(network.num_classes),
            batch_size=num_images,
            extract=lambda batches: np.concatenate([batch.latents.flatten(1).numpy() for batch in batches]),
            check=lambda: None,
        )
        own = full.features()
        base = own if base is None else base
        noise = noise_in(lambda features: frechet_vector(features, root), base)
        chains = [(s, chain) for s in range(grid.num_steps) for chain in grid.chains(s)]
        left = {key: full.leave(*key).features for key in chains}

        def near(features: np.ndarray, base: np.ndarray = base) -> Vector:
            return paired_vector(features, base)

        def good(features: np.ndarray, noise: Vector = noise) -> Vector:
            return frechet_vector(features, root) - noise

        for objective, vector in (("full", near), ("metric", good)):
            errors = {key: vector(features) - vector(own) for key, features in left.items()}
            tables[objective].append(ErrorTable(grid, vector(own), errors))
    return tables


def members_of(tables: Sequence[ErrorTable], mode: Mode) -> list[tuple[Schedule, float]]:
    """The schedules of a front, at most `MEMBERS`, with their predicted losses."""
    found = {id(each): (table, each) for table in tables for each in best_paths(table, mode)}
    members = evenly(lowest([each for _, each in found.values()]), MEMBERS)
    return [(found[id(each)][0].grid.path_schedule(each.path), each.loss) for each in members]


def scored(network: ClosedFormNetwork, regime: str, tables: Sequence[ErrorTable], mode: Mode) -> tuple[float, float]:
    """The hypervolume of a front's members, and Kendall's τ of what was predicted of them."""
    bench, members = Bench(network, regime, MEMBERS), members_of(tables, mode)
    exact = [bench(schedule)[0] for schedule, _ in members]
    bench.points.extend([bench.points[-1]] * (MEMBERS + 1 - len(members)))  # to the next count that a curve has
    return bench.curve()[25], float(kendalltau([loss for _, loss in members], exact)[0])


def searched(network: ClosedFormNetwork, regime: str, num_seeds: int, first: Sequence[Schedule]) -> dict[int, float]:
    """The mean hypervolume of searches of 100 evaluations, which may begin with schedules."""
    curves: list[dict[int, float]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + num_seeds):
        bench = Bench(network, regime, 100)
        with suppress(Enough):
            front(bench, seed, first=first)
        curves.append(bench.curve())
    return {count: float(np.mean([curve[count] for curve in curves])) for count in (25, 50, 100) if curves}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="searches to compare with, of 100 evaluations"
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="calibrations of each count of images")
    parser.add_argument("--num-images", default="32,128", help="counts of sampled images, with commas between")
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    network = load_network("closed-form", num_blocks=12)
    assert isinstance(network, ClosedFormNetwork)
    counts = [int(each) for each in options.num_images.split(",")]
    figures: dict[str, dict[str, object]] = {}
    for regime in REGIMES:
        frame = Bench(network, regime, 0).frame
        cold = searched(network, regime, options.seeds, [])
        print(f"\n{regime}; the search `front` has {_told(cold)}")
        rows: dict[str, object] = {"front": cold}
        for label, stand_ins in STAND_INS.items():
            grids = make_grids(frame, Choices(stand_ins=stand_ins))
            cost = price(grids)
            made = [(0, {each: exact_tables(network, grids, each) for each in ("full", "metric")})]
            made += [(n, sampled_tables(network, grids, n, SEED + i)) for n in counts for i in range(options.repeats)]
            for objective, images in product(("full", "metric"), (0, *counts)):
                same = [tables[objective] for count, tables in made if count == images]
                scores = {mode: [scored(network, regime, each, mode) for each in same] for mode in MODES}
                found = {mode: np.mean(pairs, axis=0) for mode, pairs in scores.items()}
                name = f"{label}; near {objective}; {f'{images} images' if images else 'exact'}"
                told = "   ".join(f"{mode} {value:5.2f} (τ {tau:.2f})" for mode, (value, tau) in found.items())
                spent = cost.work * images / cost.full_work / SEARCH_IMAGES
                print(f"{name:40} {told}   cost {spent:.1f} + {MEMBERS}", flush=True)
                rows[name] = {mode: np.round(pair, 4).tolist() for mode, pair in found.items()}
            if label == next(reversed(STAND_INS)):
                members = [each for each, _ in members_of(made[1][1]["full"], "path")]
                first = spread(members, block_evaluations, MOST_WARM)
                warm = searched(network, regime, options.seeds, first)
                print(f"`front` begun with {len(first)} of {label}, near full, {counts[0]} images: {_told(warm)}")
                rows["begun"] = warm
        figures[regime] = rows
    conditions = {"members": MEMBERS, "search_images": SEARCH_IMAGES, "regimes": REGIMES, **vars(options)}
    print(json.dumps({"benchmark": "sensitivity", "figures": figures, "conditions": conditions}))


def _told(curve: dict[int, float]) -> str:
    return ", ".join(f"{value:.2f} after {count}" for count, value in curve.items()) or "not been run"


if __name__ == "__main__":
    main()
