"""Fitted rows: a schedule's solver coefficients, fitted in closed form to full trajectories from the same noises.

As OLSS does (Duan et al. 2023, Optimal Linear Subspace Search), each step's next x is the best one in the span of what
the step has: x and the predictions so far. The fit is closed loop. The schedule's own steps run on the noises with the
rows fitted so far, so that what exits, reuse and long steps did to x is there to be made good.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...errors import InputError
from ...network import Network
from ...schedule import MAX_HISTORY, Coefficients, Schedule, validate
from ...solvers.tables import path, solver_rows
from ..compatibility import check_conditions, check_schedule
from ..conditions import labels, noises
from ..loop import NonFiniteSamples, Trajectory
from .teacher import BATCH_SIZE, TeacherTrajectories

RIDGE = 1e-6
HISTORY = 3


@dataclass(frozen=True, eq=False)
class Fit:
    """What came out of a fit.

    Attributes:
        schedule: the same times, blocks and guidance, with fitted coefficients on all steps.
        errors: (S,) after each step, the root mean square of x less the full trajectory's x, over that of the latter.
        latents: (K, C, H, W) what the fitted schedule ends with on the teacher's noises, on the networks' device.
    """

    schedule: Schedule
    errors: tuple[float, ...]
    latents: Tensor


@torch.inference_mode()
def fit(
    networks: Sequence[Network],
    schedule: Schedule,
    teacher: TeacherTrajectories,
    *,
    ridge: float = RIDGE,
    history: int = HISTORY,
    share: float = 1.0,
    gain: float = 1.0,
    batch_size: int = BATCH_SIZE,
    check: Callable[[], None] = lambda: None,
) -> Fit:
    """Fit a and b of each row to a teacher; the other entries stay the schedule's own.

    Step s minimises |a · x + Σⱼ bⱼ · m₍ₙₑwₑₛₜ ₋ ⱼ₎ − y|² over all images and dimensions, y being the full trajectory's
    x where the step goes, plus `ridge` · Σ_f |f|² (w_f − own w_f)² over the same terms f. Least squares shrink what
    they can't predict, which shows as blur; so the row is then scaled so that |x|² is |y|². `share` and `gain` are for
    what the teacher does not know: where its own images are not the best, a step goes only a part of the way to it.

    Args:
        networks: those that the schedule names, in its order.
        schedule: deterministic; the rows that it carries, or else its solver's, are what the ridge draws to.
        teacher: full trajectories with the same noise schedule.
        ridge: above 0. Much of it leaves the rows as they are.
        history: how many predictions each row may weigh, at least as many as the schedule's own.
        share: 0 … 1, how far each row goes from the schedule's own to the fitted one.
        gain: above 0, the last row is multiplied by it.
        batch_size: images that are sampled at once. All K are on their way together, with their stored values.
        check: raises to stop; called at every step.

    Raises:
        InputError: the schedule adds noise, doesn't fit the networks or the teacher, or a number is out of range.
        NonFiniteSamples: x became NaN or infinite.
    """
    _check(networks, schedule, teacher, ridge, history, share, gain)
    start = [_roomy(s, row, history) for s, row in enumerate(solver_rows(schedule))]
    runs = _begin(networks, with_rows(schedule, start), teacher, batch_size)
    points = path(schedule.sampler, [step.time for step in schedule.steps]).points
    rows: list[Coefficients] = []
    errors: list[float] = []
    for s, own in enumerate(start):
        check()
        problem = _Problem(1 + len(own.b))
        for run, target in zip(runs, teacher.at(points[s + 1]).split(batch_size), strict=True):
            run.predict()
            problem.add(_terms(run, len(own.b)), target)
        if not problem.is_finite:
            raise NonFiniteSamples(f"step {s}: x became NaN or infinite. Use float32, or check the weights.")
        row, error = problem.solve(own, ridge, share, gain if s == len(start) - 1 else 1.0)
        rows.append(row)
        errors.append(error)
        for run in runs:
            run.advance(row)
    return Fit(with_rows(schedule, rows), tuple(errors), torch.cat([run.x for run in runs]))


def with_rows(schedule: Schedule, rows: Sequence[Coefficients]) -> Schedule:
    """The schedule with other coefficients. What was said of the one that it comes from is left behind."""
    steps = tuple(replace(step, coefficients=row) for step, row in zip(schedule.steps, rows, strict=True))
    return replace(schedule, steps=steps, name=None, measured=(), provenance=None)


def _check(
    networks: Sequence[Network],
    schedule: Schedule,
    teacher: TeacherTrajectories,
    ridge: float,
    history: int,
    share: float,
    gain: float,
) -> None:
    validate(schedule)
    check_schedule(networks, schedule)
    check_conditions(networks, teacher.conditions)
    for name, value, usual in (("ridge", ridge, RIDGE), ("gain", gain, 1.0)):
        if not 0 < value < math.inf:
            raise InputError(f"{name}: must be above 0 and finite, but got {value}. Use {usual}.")
    if not 0 <= share <= 1:
        raise InputError(f"share: must be from 0 (the rows as they are) to 1, but got {share}. Use 1.")
    if not 1 <= history <= MAX_HISTORY:
        raise InputError(f"history: must be from 1 to {MAX_HISTORY}, but got {history}. Use {HISTORY}.")
    if schedule.sampler.noise != teacher.noise:
        raise InputError(
            f"noise: schedule and full trajectories must have the same, but got {schedule.sampler.noise} and "
            f"{teacher.noise}. Run the full schedule of the schedule's own network."
        )
    for s, row in enumerate(solver_rows(schedule)):
        if row.c != 0 or row.log_variance is not None:
            got = "a learned variance" if row.log_variance is not None else f"c = {row.c:.4g}"
            raise InputError(
                f"step {s}: rows are fitted to steps that add no noise, but `{schedule.sampler.name}` has {got}. "
                "Use a deterministic solver, such as `dpmsolver++`."
            )


def _roomy(s: int, row: Coefficients, history: int) -> Coefficients:
    """The row with zeros for all the predictions that the fitted one may look back on."""
    return replace(row, b=(*row.b, *[0.0] * (min(s + 1, history) - len(row.b))))


def _begin(
    networks: Sequence[Network], schedule: Schedule, teacher: TeacherTrajectories, batch_size: int
) -> list[Trajectory]:
    """A trajectory for each batch of the teacher's images, before the first step."""
    if batch_size < 1:
        raise InputError(f"batch_size: must be at least 1, but got {batch_size}. Use {BATCH_SIZE}.")
    parts = [teacher.images[first : first + batch_size] for first in range(0, len(teacher.images), batch_size)]
    drawn = [noises(teacher.seed, images, networks[0].sample_shape, 1)[0] for images in parts]
    given = [labels(teacher.conditions, images, teacher.seed) for images in parts]
    return [Trajectory(networks, schedule, noise, [], own) for noise, own in zip(drawn, given, strict=True)]


def _terms(run: Trajectory, history: int) -> Tensor:
    """(1 + history, N) what a row is a sum of: x and the newest predictions, in float64."""
    return torch.stack([run.x, *list(run.history)[:history]]).double().flatten(1)


class _Problem:
    """One step's least squares, gathered batch by batch: fᵀf, fᵀy and yᵀy over terms f (F, N) and targets y (N,)."""

    def __init__(self, num_terms: int) -> None:
        self.gram = torch.zeros(num_terms, num_terms, dtype=torch.float64)
        self.moment = torch.zeros(num_terms, dtype=torch.float64)
        self.energy = 0.0

    def add(self, terms: Tensor, target: Tensor) -> None:
        y = target.to(terms).flatten()
        self.gram += (terms @ terms.T).cpu()
        self.moment += (terms @ y).cpu()
        self.energy += float(y @ y)

    @property
    def is_finite(self) -> bool:
        return bool(self.gram.isfinite().all()) and math.isfinite(self.energy)

    def solve(self, own: Coefficients, ridge: float, share: float, gain: float) -> tuple[Coefficients, float]:
        """The row, and its relative error."""
        before = torch.tensor([own.a, *own.b], dtype=torch.float64)
        weights = gain * torch.lerp(before, self._nearest(before, ridge), share)
        error = (weights @ self.gram @ weights - 2 * weights @ self.moment + self.energy) / self.energy
        a, *b = weights.tolist()
        return replace(own, a=a, b=tuple(b)), math.sqrt(max(float(error), 0.0))

    def _nearest(self, before: Tensor, ridge: float) -> Tensor:
        """(F,) the least squares, drawn to the weights from before and scaled to the targets' size."""
        sizes = self.gram.diag()
        pull = torch.where(sizes > 0, ridge * sizes, 1.0)  # what is 0 everywhere keeps its own weight
        weights = torch.linalg.solve(self.gram + pull.diag(), self.moment + pull * before)
        return weights * (self.energy / (weights @ self.gram @ weights)).sqrt()
