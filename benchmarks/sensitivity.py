"""How good the front is that a calibration makes without a search, where quality is known exactly.

    python benchmarks/sensitivity.py                # both regimes, and 5 searches in each beside them; minutes
    python benchmarks/sensitivity.py --seeds 0      # without the searches; a minute

The closed-form network and both regimes are those of search_efficiency.py, the figure is its hypervolume, and the
members of a front, 24 at most, are re-scored with their exact distance. Fronts differ in three things:

* what they are to be near: `full`, the full schedule's images, or `metric`, the data, of which a vector whose squared
  length is the Fréchet distance says it;
* how losses are predicted: additive, vector or path (searcher/sensitivity/paths.py);
* what errors are measured on: exactly, or on so many sampled images.

The cost of a calibration is counted in evaluations of a search, of the full schedule on 256 images each; the members
are evaluations too. Prints tables and one line of JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
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
from exeunt.searcher.sensitivity.calibration import evenly
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
    network: ClosedFormNetwork, grids: Sequence[Grid], objective: str, num_images: int
) -> list[ErrorTable]:
    """The errors of a few images, as `exeunt calibrate` measures them."""
    root = ReferenceRoot.of(*moments(network.mixture))
    tables: list[ErrorTable] = []
    base: np.ndarray | None = None
    for grid in grids:
        full = FullTrajectories(
            network,
            grid,
            seed=SEED,
            images=range(num_images),
            conditions=uniform(network.num_classes),
            batch_size=num_images,
            extract=lambda batches: np.concatenate([batch.latents.flatten(1).numpy() for batch in batches]),
            check=lambda: None,
        )
        base = full.features() if base is None else base

        def vector(features: np.ndarray, base: np.ndarray = base) -> Vector:
            return frechet_vector(features, root) if objective == "metric" else paired_vector(features, base)

        own = vector(full.features())
        chains = [(s, chain) for s in range(grid.num_steps) for chain in grid.chains(s)]
        errors = {key: vector(full.leave(*key).features) - own for key in chains}
        tables.append(ErrorTable(grid, own, errors))
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
    parser.add_argument("--num-images", default="32,256", help="counts of sampled images, with commas between")
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
            for images in (None, *counts):
                spent = cost.work * (images or 0) / cost.full_work / SEARCH_IMAGES
                for objective in ("full", "metric"):
                    make = exact_tables if images is None else partial(sampled_tables, num_images=images)
                    tables = make(network, grids, objective)
                    name = f"{label}; near {objective}; {f'{images} images' if images else 'exact'}"
                    found = {mode: scored(network, regime, tables, mode) for mode in MODES}
                    told = "   ".join(f"{mode} {value:5.2f} (τ {tau:.2f})" for mode, (value, tau) in found.items())
                    print(f"{name:40} {told}   cost {spent:.1f} + {MEMBERS}", flush=True)
                    rows[name] = {mode: [round(figure, 4) for figure in pair] for mode, pair in found.items()}
                    if (label, images, objective) == ("exits, reuse", counts[0], "full"):
                        first = spread([each for each, _ in members_of(tables, "path")], block_evaluations, MOST_WARM)
                        warm = searched(network, regime, options.seeds, first)
                        print(f"`front` begun with {len(first)} of these has {_told(warm)}", flush=True)
                        rows[f"{name}; begun with"] = warm
        figures[regime] = rows
    conditions = {"members": MEMBERS, "search_images": SEARCH_IMAGES, "seeds": options.seeds, "regimes": REGIMES}
    print(json.dumps({"benchmark": "sensitivity", "figures": figures, "conditions": conditions}))


def _told(curve: dict[int, float]) -> str:
    return ", ".join(f"{value:.2f} after {count}" for count, value in curve.items()) or "not been run"


if __name__ == "__main__":
    main()
