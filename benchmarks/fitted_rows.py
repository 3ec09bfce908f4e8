"""What fitted rows are worth: the excess distance of few steps before and after the fit, on noises that no fit saw.

For each of the bundled weights and each number of steps, DPM-Solver++ 2M and UniPC take every spacing that there is;
the best of each (on the first images of the judging noises, which favours them) is what fitted rows are held against.
The better of the two is fitted, on noises of its own, in four ways:

gain alone   no fit: the last row times 1.1, the most that `metric` may take, to tell what contrast alone does;
trajectory   to full trajectories of 100 steps alone;
metric       share and gain chosen by the metric of the fitting images too, the default of `exeunt schedule fit`;
times        the times too (`--times`), at 3 to 5 steps.

A schedule with exits and one that reuses blocks are fitted as well. The excess is the study's default metric less its
floor; the difference to the better solver, on the same noises, comes with its 90 % interval.

    python benchmarks/fitted_rows.py                                    both weights, half an hour on two idle cores
    python benchmarks/fitted_rows.py --weights fashion-dit --steps 4    a part of it
    python benchmarks/fitted_rows.py --fast                             few images, for a look

The exit code is 1 unless `metric` is below the better solver at every number of steps, with an interval that excludes 0
at 3, 4 and 5.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from exeunt.backends.quality.intervals import Distance, estimate_distance, paired_difference
from exeunt.backends.sampling.fitting.refinement import GAIN, refine
from exeunt.backends.sampling.fitting.rows import fit, with_rows
from exeunt.backends.sampling.fitting.teacher import TeacherTrajectories, full_schedule, teacher_states
from exeunt.backends.sampling.loop import sample
from exeunt.backends.schedule import Schedule
from exeunt.backends.solvers.spacings import SPACINGS
from exeunt.backends.solvers.tables import make_schedule, solver_rows
from exeunt.searcher.measuring.fitting import metric_loss
from exeunt.searcher.measuring.metric import ReferenceMetric
from exeunt.searcher.measuring.setup import StudySetup, load_setup
from exeunt.searcher.spaces.candidates import list_baselines
from exeunt.studies.config.study import CheckpointConfig, StudyConfig

WEIGHTS = ("fashion-dit", "fashion-dit-exits")
SOLVERS = ("dpmsolver++", "unipc")
STEPS = (3, 4, 5, 6, 8)
FEW = (3, 4, 5)  # where the difference must be sure, and where times are moved too
FIT_SEED, JUDGE_SEED = 2, 1
MOST_GAIN = GAIN[-1]
CACHE = "reuse from 3, every 2"


@dataclass
class Bench:
    """One set of weights with its judging noises and its full trajectories."""

    setup: StudySetup
    teacher: TeacherTrajectories
    images: int
    screened: int
    tries: tuple[int, int]
    started: float

    @property
    def metric(self) -> ReferenceMetric:
        """The study's, which is a distance to real images."""
        assert isinstance(self.setup.metric, ReferenceMetric)
        return self.setup.metric

    def distance(self, schedule: Schedule, count: int) -> Distance:
        """Of the first images of the judging noises."""
        batches = sample(
            [self.setup.network],
            schedule,
            seed=JUDGE_SEED,
            images=range(count),
            conditions=self.setup.conditions,
            batch_size=64,
        )
        features = np.concatenate([self.setup.features([batch], JUDGE_SEED) for batch in batches])
        return self.metric.distance(features)

    def made(self, solver: str, spacing: str, num_steps: int) -> Schedule:
        network = self.setup.network
        return make_schedule(
            network.signature, network.noise, network.prediction, solver=solver, spacing=spacing, num_steps=num_steps
        )

    def best_spacing(self, solver: str, num_steps: int) -> tuple[str, Schedule]:
        """The spacing with the lowest distance, `power` left out as `quadratic` is what it is by default."""
        fitting = [
            name
            for name, kind in SPACINGS.items()
            if self.setup.network.noise.kind in kind.noises and name not in ("power",)
        ]
        made = {name: self.made(solver, name, num_steps) for name in fitting}
        found = {name: self.distance(schedule, self.screened).value for name, schedule in made.items()}
        best = min(found, key=lambda name: found[name])
        return best, made[best]

    def fitted(self, schedule: Schedule, *, times: bool) -> Iterator[tuple[str, Schedule]]:
        networks = [self.setup.network]
        *others, last = solver_rows(schedule)
        scaled = replace(last, a=MOST_GAIN * last.a, b=tuple(MOST_GAIN * weight for weight in last.b))
        yield "gain alone", with_rows(schedule, [*others, scaled])
        yield "trajectory", fit(networks, schedule, self.teacher).schedule
        loss = metric_loss(self.setup, self.teacher, fit(networks, schedule, self.teacher, share=0.0))
        yield "metric", refine(networks, schedule, self.teacher, loss=loss, tries=self.tries[0]).schedule
        if times:
            moved = refine(networks, schedule, self.teacher, loss=loss, times=True, tries=self.tries[1])
            yield "times", moved.schedule

    def row(self, label: str, before: dict[str, Distance], schedule: Schedule, times: bool) -> dict[str, Any]:
        """Print a line for each schedule, and return its figures."""
        floor = self.metric.floor(self.images).value
        base_name = min(before, key=lambda name: before[name].value)
        figures: dict[str, Any] = {}
        for name, distance in before.items():
            figures[name] = {"excess": round(distance.value - floor, 2)}
            self.say(label, name, f"{distance.value - floor:8.2f}")
        for name, each in self.fitted(schedule, times=times):
            distance = self.distance(each, self.images)
            gap = estimate_distance(paired_difference(distance, before[base_name]))
            figures[name] = {
                "excess": round(distance.value - floor, 2),
                "difference": round(gap.value, 2),
                "interval": [round(gap.lower, 2), round(gap.upper, 2)],
            }
            text = f"{distance.value - floor:8.2f}   {gap.value:+8.2f} [{gap.lower:+.2f}, {gap.upper:+.2f}]"
            self.say(label, name, text)
        return figures

    def say(self, label: str, name: str, text: str) -> None:
        print(f"{time.perf_counter() - self.started:6.0f} s  {label:38} {name:28} {text}", flush=True)

    def steps(self, num_steps: int) -> dict[str, Any]:
        """Both solvers at their best spacing, and the better one fitted."""
        best = {solver: self.best_spacing(solver, num_steps) for solver in SOLVERS}
        before = {
            f"{solver}, {spacing}": self.distance(schedule, self.images) for solver, (spacing, schedule) in best.items()
        }
        schedules = dict(zip(before, (schedule for _, schedule in best.values()), strict=True))
        start = schedules[min(before, key=lambda name: before[name].value)]
        return self.row(f"{self.setup.weights}, {num_steps} steps", before, start, times=num_steps in FEW)


def opened(weights: str, options: argparse.Namespace, started: float) -> Bench:
    setup = load_setup(replace(StudyConfig(), checkpoint=CheckpointConfig(path=weights, baseline_weights=())))
    full = full_schedule(setup.frame.full)
    images = range(options.fit_images)
    print(f"{weights}: full trajectories of {len(images)} images …", flush=True)
    teacher = teacher_states([setup.network], full, seed=FIT_SEED, images=images, conditions=setup.conditions)
    screened, tries = min(options.images, options.screened), (options.tries, options.tries_with_times)
    return Bench(setup, teacher, options.images, screened, tries, started)


def other_rows(bench: Bench) -> Iterator[tuple[str, dict[str, Any]]]:
    """The published staircase of exits and a cache schedule, of the study's full number of steps."""
    for each in list_baselines(bench.setup.frames):
        if each.family == "staircase" or each.label == CACHE:
            before = {
                "as published" if each.family == "staircase" else "as it is": bench.distance(
                    each.schedule, bench.images
                )
            }
            yield each.label, bench.row(f"{bench.setup.weights}, {each.label}", before, each.schedule, times=False)


def met(figures: dict[str, Any]) -> bool:
    """Whether the default fit is lower at each count, and surely so where it must be."""
    rows = {int(key.split()[0]): row["metric"] for key, row in figures.items() if key.endswith(" steps")}
    lower = all(row["difference"] < 0 for row in rows.values())
    return lower and all(row["interval"][1] < 0 for count, row in rows.items() if count in FEW)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=WEIGHTS, help="default: both")
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS, help="numbers of steps (default 3 4 5 6 8)")
    parser.add_argument("--images", type=int, default=1024, help="that schedules are judged on (default 1024)")
    parser.add_argument("--screened", type=int, default=128, help="that spacings are chosen on (default 128)")
    parser.add_argument("--fit-images", type=int, default=128, help="that rows are fitted on (default 128)")
    parser.add_argument("--tries", type=int, default=10, help="fits for share and gain (default 10)")
    parser.add_argument("--tries-with-times", type=int, default=20, help="fits with times too (default 20)")
    parser.add_argument("--no-others", action="store_true", help="leave out the staircase and the cache schedule")
    parser.add_argument("--fast", action="store_true", help="64 images everywhere and few tries")
    options = parser.parse_args()
    if options.fast:
        options.images = options.screened = options.fit_images = 64
        options.tries, options.tries_with_times = 5, 8
    started, found = time.perf_counter(), dict[str, dict[str, Any]]()
    print(f"{'':8}  {'':38} {'':28}   excess   less the better solver")
    for weights in options.weights:
        bench = opened(weights, options, started)
        found[weights] = {f"{count} steps": bench.steps(count) for count in options.steps}
        if not options.no_others:
            found[weights] |= dict(other_rows(bench))
    conditions = {
        **{key: value for key, value in vars(options).items() if key not in ("weights", "steps", "fast")},
        "metric": bench.setup.config.quality.metric,
        "seeds": {"fit": FIT_SEED, "judge": JUDGE_SEED},
        "level": bench.setup.metric.level,
        "torch": torch.__version__,
    }
    reached = all(met(figures) for figures in found.values())
    print(json.dumps({"benchmark": "fitted_rows", "figures": found, "met": reached, "conditions": conditions}))
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
