"""A whole calibration: what is measured, kept in a folder as it comes, and what follows from it."""

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from exeunt import __version__
from numpy.typing import NDArray

from ...backends.errors import InputError
from ...backends.quality.distances import paired_distance, paired_vector
from ...backends.quality.extractors import FeatureArray
from ...backends.quality.intervals import estimate_distance
from ...backends.sampling.loop import NonFiniteSamples, Samples, sample
from ...backends.schedule import SUFFIX, Measurement, Provenance, Schedule, dumps
from ...reports.files.export import write_whole
from ..measuring.metric import Answer
from ..measuring.setup import StudySetup
from ..monitoring.progress import ProgressListener
from .grid import Chain, Grid, make_grids, measured_grids
from .paths import MODES, Found, Mode, Vector, best_paths, lowest, predicted
from .results import Calibration, Cell, Level, Member, Request, as_values, price
from .trajectories import FullTrajectories

PARTS, FRONT, RESULT = "parts", "front", "calibration.json"
WORST_PAIRED = 0.5  # of the distance to another image: what is as far from the full schedule's is no approximation
WORST_METRIC = 4.0  # times the full schedule's own
GROUPS = 8  # of images, one of which is left out at a time


def check_request(setup: StudySetup, request: Request) -> list[Grid]:
    """The grids of a request.

    Raises InputError: as `make_grids` does, or a metric without features.
    """
    if not setup.metric.has_features:
        raise InputError(
            f"metric: `{setup.metric.name}` returns scores, but a calibration compares features of images. Use "
            "--metric fd-efficientnet-lite0, or a function that returns features."
        )
    return make_grids(setup.frame, request.choices)


class Calibrator:
    """Measures a request, and keeps every part of it in a folder, from which an interrupted one goes on.

    Args:
        setup: network, conditions and metric.
        request: what to measure.
        folder: for parts, schedules and the result.
        watch: who is told what goes on.
        check: raises to stop; called at every step.
    """

    def __init__(
        self,
        setup: StudySetup,
        request: Request,
        folder: Path,
        watch: ProgressListener,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.grids = check_request(setup, request)
        self._setup, self._request, self._folder, self._watch, self._check = setup, request, folder, watch, check
        self._noise: Vector = np.zeros(1)
        self._key = sha256(json.dumps(self._identity(), sort_keys=True).encode()).hexdigest()

    def _identity(self) -> dict[str, Any]:
        """All that decides a measured value."""
        setup, request = self._setup, self._request
        choices = asdict(request.choices) | {"step_counts": [grid.num_steps for grid in self.grids]}
        wanted = {"objective": request.objective, "num_images": request.num_images, "seed": request.seed}
        return {
            "full": setup.frame.full.digest,
            "weights": setup.weights_digest(setup.weights),
            "conditions": setup.conditions.digest,
            "metric": [setup.metric.name, setup.metric.extractor_digest, setup.metric.reference],
            "dtype": setup.config.checkpoint.dtype,
            "request": {**wanted, "choices": choices},
        }

    def run(self) -> Calibration:
        """Measure what is missing, find the front, sample its members, and write the result.

        Raises:
            InputError: the folder holds parts of another calibration, or the metric has no vector.
            Interrupted: `check` did; what was measured stays.
        """
        request, setup = self._request, self._setup
        base, levels, another = self._measured()
        quality = setup.metric.score(Answer("full", base), Answer("full", base)).value
        found = Calibration(request, another, quality, levels, ())
        front = self._front(levels, found.another)
        found = replace(found, members=tuple(self._members(front, base)))
        self._write(found)
        return found

    def schedules(self) -> list[Schedule]:
        """The front as it is predicted, the cheapest schedule first; none of them is sampled. Raises as `run` does."""
        _, levels, another = self._measured()
        return [level.grid.path_schedule(found.path) for level, found in self._front(levels, another)]

    def _measured(self) -> tuple[FeatureArray, tuple[Level, ...], float]:
        """The features of the full schedule's images, all levels, and the distance to another image."""
        self._watch.phase("full trajectories", 1.0)
        top = self._trajectories(self.grids[0])
        base = top.features()
        if self._request.objective == "metric":
            self._noise = noise_in(lambda features: self._metric_vector(features, base), base)
        return base, tuple(self._levels(base, top)), paired_distance(np.roll(base, 1, axis=0), base).value

    def _extract(self, batches: list[Samples]) -> FeatureArray:
        return self._setup.features(batches, self._request.seed)

    def _trajectories(self, grid: Grid) -> FullTrajectories:
        setup, request = self._setup, self._request
        with setup.lock.shared():
            return FullTrajectories(
                setup.network,
                grid,
                seed=request.seed,
                images=range(request.num_images),
                conditions=setup.conditions,
                batch_size=setup.config.quality.batch_size,
                extract=self._extract,
                check=self._check,
            )

    def _vector(self, features: FeatureArray, base: FeatureArray) -> Vector:
        """What losses are squared lengths of."""
        if self._request.objective == "full":
            return paired_vector(features, base)
        if not np.isfinite(features).all():
            return np.full_like(self._noise, np.nan)
        return self._metric_vector(features, base) - self._noise

    def _metric_vector(self, features: FeatureArray, base: FeatureArray) -> Vector:
        vector = self._setup.metric.vector(Answer("chain", features), Answer("full", base))
        if vector is None:
            raise InputError(
                f"objective: `{self._setup.metric.name}` is no squared length of a vector. Use --objective full, or a "
                "Fréchet distance."
            )
        return vector

    def _levels(self, base: FeatureArray, top: FullTrajectories) -> Iterator[Level]:
        grids = measured_grids(self.grids, self._request.choices)
        self._watch.phase("chains", price(grids).work)
        done = 0
        for grid in grids:
            trajectories = top if grid is self.grids[0] else self._trajectories(grid)
            own = trajectories.features()
            done += grid.full_work
            cells: list[Cell] = []
            for s in range(grid.num_steps):
                name, chains = f"{grid.num_steps}-{s:03}", list(grid.chains(s))
                rows = self._part(name)
                if rows is None:
                    rows = self._keep(name, [self._departed(trajectories, s, chain, own, base) for chain in chains])
                cells += [Cell.of(s, chain, row) for chain, row in zip(chains, rows, strict=True)]
                done += grid.work(s)
                self._watch.advance(done, len(chains) * self._request.num_images)
            yield Level(grid, _distance(own, base), self._vector(own, base), tuple(cells))

    def _departed(
        self, trajectories: FullTrajectories, s: int, chain: Chain, own: FeatureArray, base: FeatureArray
    ) -> Vector:
        """One row of a part, as `Cell.of` takes it."""
        with self._setup.lock.shared():
            found = trajectories.leave(s, chain)
        figures = [_distance(found.features, base), _distance(found.features, own)]
        return np.array([*figures, found.output_error, found.state_error, *self._vector(found.features, base)])

    def _path(self, name: str) -> Path:
        return self._folder / PARTS / f"{name}.npz"

    def _part(self, name: str) -> NDArray[np.float64] | None:
        """The rows of a part that was measured before; None where it wasn't."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as part:
                key, rows = str(part["key"]), part["rows"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise InputError(
                f"output: {path} must be a part of a calibration, but can't be read. Delete it to measure it again."
            ) from None
        if key != self._key:
            raise InputError(
                f"output: {self._folder} holds a calibration with other settings, weights or images. Give another "
                "folder with -o, or delete this one."
            )
        return rows

    def _keep(self, name: str, rows: Sequence[Vector]) -> NDArray[np.float64]:
        """Writes a part; its rows."""
        content, made = BytesIO(), np.array(rows)
        np.savez(content, key=np.array(self._key), rows=made)
        write_whole(self._path(name), content.getbuffer())
        return made

    def _front(self, levels: Sequence[Level], another: float) -> list[tuple[Level, Found]]:
        """The members of the front, the cheapest first, without what is no good by its own prediction."""
        self._watch.phase("front", len(levels))
        own, full = levels[0].own + self._noise, self.grids[0].full_work
        worst = WORST_PAIRED * another if self._request.objective == "full" else WORST_METRIC * float(own @ own)
        paths: list[Found] = []
        homes: dict[int, Level] = {}
        for done, level in enumerate(levels, start=1):
            self._check()
            good = [found for found in best_paths(level.table, "path") if found.loss <= worst and found.cost < full]
            paths += good
            homes |= {id(found): level for found in good}
            self._watch.advance(done)
        return [(homes[id(found)], found) for found in evenly(lowest(paths), self._request.num_members)]

    def _members(self, front: Sequence[tuple[Level, Found]], base: FeatureArray) -> Iterator[Member]:
        self._watch.phase("sampling the front", max(1, sum(found.cost for _, found in front)))
        done = 0
        for level, found in front:
            schedule = level.grid.path_schedule(found.path)
            name = f"member-{schedule.digest[:16]}"
            row = self._part(name)
            if row is None:
                try:
                    row = self._keep(name, [self._sampled(schedule, base)])
                except NonFiniteSamples:
                    self._watch.say(f"{found.cost} block evaluations: left out, since its samples are not finite")
                    continue
            distance, low, high, quality, measured = row[0].tolist()
            losses: dict[Mode, float] = {mode: predicted(level.table, found.path, mode) for mode in MODES}
            yield Member(schedule, found.cost, losses, measured, distance, (low, high), quality)
            done += found.cost
            self._watch.advance(done, self._request.num_images)

    def _sampled(self, schedule: Schedule, base: FeatureArray) -> Vector:
        """Distance with its interval, the metric's value, and the loss, of a schedule that is really sampled."""
        setup, request = self._setup, self._request
        with setup.lock.shared():
            batches = sample(
                setup.networks_of(setup.weights, schedule),
                schedule,
                seed=request.seed,
                images=range(request.num_images),
                conditions=setup.conditions,
                batch_size=setup.config.quality.batch_size,
                observe=lambda _step, _values: self._check(),
            )
            features = np.concatenate([self._extract([batch]) for batch in batches])
        answer, full = Answer(schedule.digest, features), Answer("full", base)
        paired = estimate_distance(paired_distance(features, base), setup.metric.level)
        vector = self._vector(features, base)
        loss = paired.value if request.objective == "full" else float(vector @ vector)
        return np.array([paired.value, paired.lower, paired.upper, setup.metric.score(answer, full).value, loss])

    def _write(self, found: Calibration) -> None:
        for path in (self._folder / FRONT).glob(f"[0-9][0-9][0-9]-*{SUFFIX}"):
            path.unlink()
        files = [self._file(each, number, found) for number, each in enumerate(found.members, start=1)]
        values = self._identity() | {"exeunt": __version__} | as_values(found, files)
        write_whole(self._folder / RESULT, json.dumps(values, indent=1, allow_nan=False).encode())

    def _file(self, member: Member, number: int, found: Calibration) -> str:
        """Writes a member as a schedule file; its name."""
        setup, request = self._setup, self._request
        measured = Measurement(
            setup.metric.name,
            member.quality,
            request.num_images,
            dtype=setup.config.checkpoint.dtype,
            device=setup.environment["device"],
        )
        origin = Provenance(exeunt=__version__, extras=(("x-calibration", json.dumps({"seed": request.seed})),))
        name = f"{FRONT}/{number:03}-{member.cost}{SUFFIX}"
        named = replace(
            member.schedule,
            name=f"calibrated front, {number} of {len(found.members)}",
            measured=(measured,),
            provenance=origin,
        )
        write_whole(self._folder / name, dumps(named).encode())
        return name


def noise_in(vector_of: Callable[[FeatureArray], Vector], features: FeatureArray) -> Vector:
    """What of a vector of features (N, D) is likely to be noise of so few images, in all schedules alike.

    Of each coordinate it is the share that its variance is of its square, at most all of it, as positive-part James and
    Stein shrink; the variance is a jackknife's over `GROUPS` groups. A front would be made of what cancels it.
    """
    whole, count = vector_of(features), len(features)
    parts = np.array([vector_of(np.delete(features, np.arange(g, count, GROUPS), axis=0)) for g in range(GROUPS)])
    variance = (GROUPS - 1) * parts.var(axis=0)
    return whole * np.minimum(1.0, variance / np.maximum(whole**2, np.finfo(np.float64).tiny))


def _distance(features: FeatureArray, others: FeatureArray) -> float:
    """The paired distance; NaN where samples were not finite."""
    return float(((features.astype(np.float64) - others) ** 2).sum(axis=1).mean())


def evenly(front: Sequence[Found], count: int) -> list[Found]:
    """So many of a front, evenly spread in the logarithm of cost, both ends among them."""
    if len(front) <= count:
        return list(front)
    logs = np.log([max(found.cost, 1) for found in front])
    wanted = np.linspace(logs[0], logs[-1], count)
    return [front[index] for index in sorted({int(np.abs(logs - each).argmin()) for each in wanted})]
