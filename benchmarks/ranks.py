"""Whether the metric that a search goes by ranks schedules as a second, independent extractor does on 5,000 images, and
whether guards veto good ones.

    python benchmarks/ranks.py --keep FOLDER --data /usr/share/datasets/fashion-mnist     # half an hour to an hour
    python benchmarks/ranks.py --keep FOLDER --schedules 12 --truth-images 500            # a look, in minutes
    python benchmarks/ranks.py --keep FOLDER --resize                                     # ways of resizing images, too

Schedules are the study's full ones, and in turns its baselines, warm starts and random points of `mixed`, up to so
many block evaluations an image. Each metric at hand scores the first images on the search's noises; the truth is a
Fréchet distance of images of other noises. A metric of one extractor is judged by the others alone: by a small
classifier that is trained on the data (Debian's package dataset-fashion-mnist), and by the house's other extractors.
Kendall's tau is over all schedules but the first full one, which losses are stated against, and over those near the
front: within 10 percentage points of the least loss at their cost or less. It is a mean over two draws of images. Its
standard error and the intervals of differences (95 %) come from resampled schedules.

Guards are those of a study with the default metric, calibrated by the schedules here. Printed is how many they veto of
the schedules on and near the true front, at the search's count and at the final one, up to a true loss of 5 % (points
up to it are recommended), 25 % and 50 %. Of those up to 5 %, at most 5 % may be vetoed, or the exit code is 1.

Images and values stay in the folder, a file a schedule: after Ctrl-C the same command goes on. Delete `*.json` there to
work values out again. The last line is JSON.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from exeunt.backends.networks.bundled.trainer import DATA
from exeunt.backends.quality.names import metric_names
from exeunt.reports.view.standard import LOSS_LIMIT, WORST_LOSS
from exeunt.reports.view.view import Key
from exeunt.searcher.measuring.setup import StudySetup, load_setup
from exeunt.searcher.spaces.candidates import Candidate
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from numpy.typing import NDArray
from ranks_guards import Study, print_vetoes
from ranks_images import Images, collect, list_candidates
from ranks_order import LEVEL, Array, agreements, front_losses
from ranks_resize import print_sizes
from ranks_values import COUNTS, DRAWS, Ground, Ranked, rank, true_losses

NEAR = 0.10
MOST_LOSS = 0.5
MOST_VETOES = 0.05


def near_front(ranked: Sequence[Ranked], losses: Array, by: float) -> NDArray[np.bool_]:
    """(n,) the schedules whose loss is within so much of the least at their cost or less; not the first full one."""
    near = losses - front_losses([each.cost for each in ranked], losses) <= by
    near[0] = False
    return near


def print_ranks(ground: Ground, truth: str, ranked: Sequence[Ranked], losses: Array) -> dict[str, Any]:
    """A table of all metrics that a truth may judge, and its figures."""
    judged, default = ground.judged_by(truth), ground.setup.config.quality.metric
    compared = default if default in judged else judged[0]
    near = near_front(ranked, losses, NEAR)
    lost = f"losses {losses.min():.1%} to {losses.max():.0%}"
    print(
        f"\nby fd-{truth}: {lost}, {near.sum()} of {len(near) - 1} near the front"
        f"\ncount  {'metric':32}{'tau':15}{f'{compared} minus it':32}{'near the front':17}{compared} minus it"
    )
    found: dict[str, Any] = {}
    for count in COUNTS:
        values = {name: np.array([each.values[name][str(count)] for each in ranked]).T for name in judged}
        whole = agreements({name: each[:, 1:] for name, each in values.items()}, losses[1:], compared)
        close = agreements({name: each[:, near] for name, each in values.items()}, losses[near], compared)
        for name in sorted(judged, key=lambda name: -whole[name].tau):
            parts = [each.words for each in (whole[name], close[name])]
            print(f"{count:5}  {name:32}{parts[0]:47}{parts[1]}", flush=True)
            found[f"{name} {count}"] = {"all": whole[name].rounded, "near": close[name].rounded}
    return found


def print_best(ground: Ground, figures: dict[str, Any]) -> dict[str, Any]:
    """Which metric ranks best at the search's count, and whether it is surely better than the default."""
    default, count = ground.setup.config.quality.metric, ground.setup.config.quality.num_images
    rows = {name: each for name, each in figures.items() if name.endswith(f" {count}")}
    found: dict[str, Any] = {}
    for domain in ("all", "near"):
        best = max(rows, key=lambda name: rows[name][domain]["tau"]).removesuffix(f" {count}")
        surely = rows[f"{best} {count}"][domain]["behind"][2] < 0
        words = "the default" if best == default else f"{'surely' if surely else 'not surely'} better than {default}"
        print(f"best at {count} images, {domain}: {best}, {words} (paired, {LEVEL:.0%})")
        found[domain] = {"best": best, "is_default": best == default, "surely": surely}
    return found


def print_guards(
    study: Study, images: Iterable[Images], ranked: Sequence[Ranked], losses: Mapping[str, Array]
) -> dict[str, Any]:
    """How many of the schedules that are good by each truth of another extractor than the study's are vetoed."""
    own = metric_names()[study.setup.config.quality.metric][0]
    judges = {truth: each for truth, each in losses.items() if truth != own}
    for row, each in enumerate(images):
        study.measure(each, is_final=any(found[row] < MOST_LOSS for found in judges.values()))
    sets: dict[str, list[Key]] = {}
    for truth, found in judges.items():
        for name, by in (("on the front", 0.0), ("near the front", NEAR)):
            for limit in (LOSS_LIMIT, WORST_LOSS, MOST_LOSS):
                chosen = np.flatnonzero((found < limit) & near_front(ranked, found, by))
                sets[f"{name} by fd-{truth}, loss < {limit:.0%}"] = [ranked[row].candidate.key for row in chosen]
    return print_vetoes(study.view(), sets)


def loaded(
    setup: StudySetup, candidates: Sequence[Candidate], counts: tuple[int, int], keep: Path, says: str
) -> Iterator[Images]:
    """The images of each schedule whose images are finite, one at a time."""
    for number, candidate in enumerate(candidates):
        print(f"{says}: {number + 1} of {len(candidates)}", end="\r", file=sys.stderr, flush=True)
        if found := collect(setup, candidate, counts, keep):
            yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="the folder of images and values")
    parser.add_argument("--data", type=Path, default=DATA, help="Fashion-MNIST's IDX files (default %(default)s)")
    parser.add_argument("--checkpoint", default=StudyConfig().checkpoint.path, help="default %(default)s")
    parser.add_argument("--schedules", type=int, default=64, help="how many (default %(default)s)")
    parser.add_argument("--most", type=int, default=72, help="block evaluations an image (default %(default)s)")
    parser.add_argument("--truth-images", type=int, default=5000, help="images of the truth (default %(default)s)")
    parser.add_argument("--resize", action="store_true", help="compare ways of resizing, too")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    others = [name for name in StudyConfig().checkpoint.baseline_weights if name != options.checkpoint]
    changes = {"checkpoint.path": options.checkpoint, "checkpoint.baseline_weights": others}
    setup = load_setup(override(StudyConfig(), changes))
    candidates = list_candidates(setup, options.schedules, options.most)
    given = (setup, candidates, (DRAWS * max(COUNTS), options.truth_images), options.keep)
    for _ in loaded(*given, "images"):
        pass
    ground = Ground.prepare(setup, options.data, options.keep)
    full = next(loaded(*given, "full"))
    baseline = ground.features(full.search)
    ranked = [rank(ground, images, baseline) for images in loaded(*given, "values")]
    losses = {truth: true_losses(ground, truth, ranked, full) for truth in ground.truths}
    ranks = {truth: print_ranks(ground, truth, ranked, each) for truth, each in losses.items()}
    first = next(iter(ranks))
    figures: dict[str, Any] = {"ranks": ranks, "best": print_best(ground, ranks[first])}
    figures["vetoes"] = print_guards(Study(setup, full), loaded(*given, "guards"), ranked, losses)
    if options.resize:
        near = near_front(ranked, losses[first], NEAR)
        figures["resize"] = print_sizes(ground, loaded(*given, "sizes"), losses[first], near)
    conditions = {"schedules": len(ranked), "counts": given[2], "checkpoint": options.checkpoint, "most": options.most}
    recommended = [each for name, each in figures["vetoes"].items() if f"loss < {LOSS_LIMIT:.0%}" in name]
    figures["met"] = all(each["vetoed"] <= MOST_VETOES * each["of"] for each in recommended)
    print(json.dumps({"benchmark": "ranks", "figures": figures, "conditions": conditions}))
    sys.exit(0 if figures["met"] else 1)


if __name__ == "__main__":
    main()
