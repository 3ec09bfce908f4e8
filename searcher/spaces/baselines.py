"""The families of baselines: schedules that people use without a search, each family a function of the full schedule.

A family that a network can't have makes no rows: stages of U-Nets can't be dropped and have caches of their own,
without guidance there is no interval of it, and the published staircase needs train indices.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from ...backends.schedule import (
    EVALUATES_TWICE,
    REUSE,
    RUN,
    SOLVERS,
    Action,
    Guidance,
    Schedule,
    forecast,
    with_exits,
)
from ...backends.solvers.noise_schedules import marginal_at
from ...backends.solvers.spacings import SPACINGS
from ...backends.solvers.tables import SIGMA_DATA, SOLVER_TABLE, make_schedule
from .frame import FullSchedule, exit_row, exit_rows, stitched, with_rows

Row = tuple[str, Schedule]  # a label, what it does

# Moon et al. 2024 (arXiv 2408.05927): blocks of 28 for t in [0, 100), [100, 200), …; the only one that was published.
PUBLISHED_STAIRCASE = (28, 28, 24, 24, 20, 20, 16, 16, 12, 12)
PUBLISHED_BLOCKS = 28


def full_schedule(frame: FullSchedule) -> list[Row]:
    return [("full", frame.full)]


def fewer_steps(frame: FullSchedule) -> list[Row]:
    made = map(frame.steps, halving(range(frame.least_steps, frame.num_steps)))
    return [(f"{schedule.num_steps} steps", schedule) for schedule in made]


def uniform_depths(frame: FullSchedule) -> list[Row]:
    if frame.replaces:
        return []
    order = frame.orders["front"]
    return [
        (f"exit {depth}", with_rows(frame.full, exit_rows(order, [depth] * frame.num_steps)))
        for depth in halving(range(1, frame.num_blocks))
    ]


def published_staircase(frame: FullSchedule) -> list[Row]:
    """The published staircase, rescaled; nothing where times are no train indices of a process of 1,000 steps, or where
    no block can be dropped."""
    sampler = frame.full.sampler
    if (
        frame.replaces
        or sampler.time != "train-index"
        or sampler.noise.num_timesteps != 1000
        or frame.full.networks[0].granularity != "block"
    ):
        return []
    rescaled = [max(1, round(depth * frame.num_blocks / PUBLISHED_BLOCKS)) for depth in PUBLISHED_STAIRCASE]
    depths = [rescaled[int(step.time) // 100] for step in frame.full.steps]
    return [("published staircase", with_exits(frame.full, depths))]


# ---- caches ----------------------------------------------------------------------------------------------------------


def interval_reuse(frame: FullSchedule) -> list[Row]:
    """A part of the network runs at every step, and the rest at every k-th."""
    made: list[Row] = []
    for name, (keep, depth) in _kept(frame).items():
        order = frame.orders[keep]
        row = exit_row(order, depth, REUSE)
        made += [(f"{name}, every {k}", _at_intervals(frame, k, lambda _, row=row: row)) for k in (2, 3, 4)]
    return made


def _kept(frame: FullSchedule) -> dict[str, tuple[str, int]]:
    """What runs between two whole steps: an order and a depth, by the name that a baseline gets from it."""
    blocks = frame.num_blocks
    if frame.replaces:
        return {"DeepCache": ("outside", 2), "stages up alone": ("up", blocks // 2)}
    return {f"reuse from {depth}": ("front", depth) for depth in (blocks // 4, blocks // 2) if depth}


def fora(frame: FullSchedule) -> list[Row]:
    """Everything is computed at every N-th step, and reused between (Selvaraju et al. 2024, arXiv 2407.01425)."""
    row = (REUSE,) * frame.num_blocks
    return [(f"FORA N={n}", _at_intervals(frame, n, lambda _: row)) for n in (2, 3, 4, 5, 6, 7) if n < frame.num_steps]


def delta_dit(frame: FullSchedule) -> list[Row]:
    """Between every N-th steps, the residual of the rear blocks is reused early, and that of the front blocks later.

    Chen et al. 2024 (arXiv 2406.01125): rear blocks draw details, which early steps do not need, and front blocks draw
    outlines, which stand by the later steps. The number of cached blocks N_c sets the cost; the boundary b, at which
    the stages meet, is half of the steps here. The sum of the blocks' own residuals is the residual of the range, so
    branches, whose outputs go under the gates of the step that reads them, have none.
    """
    if set(frame.full.networks[0].block_kinds) != {"residual"}:
        return []
    blocks, boundary = frame.num_blocks, frame.num_steps // 2
    made: list[Row] = []
    for cached in dict.fromkeys(round(share * blocks) for share in (0.75, 0.5)):
        kept = blocks - cached
        rear, front = (RUN,) * kept + (REUSE,) * cached, (REUSE,) * cached + (RUN,) * kept
        for n in (2, 3, 4):
            schedule = _at_intervals(frame, n, lambda s, rear=rear, front=front: rear if s < boundary else front)
            made.append((f"Δ-DiT N={n}, N_c={cached}", schedule))
    return made


def taylorseer(frame: FullSchedule) -> list[Row]:
    """Everything is computed at every N-th step, and forecast between (Liu et al. 2025, arXiv 2503.06923).

    The format holds Taylor's order 1 and 2. The first steps of the published code are computed beyond the interval's,
    so that there is something to extrapolate from: here the first two.
    """
    made: list[Row] = []
    for order in (1, 2):
        row = (forecast(order),) * frame.num_blocks
        for n in (2, 3, 4, 5, 6):
            if n + 1 < frame.num_steps:
                made.append((f"TaylorSeer N={n}, O={order}", _at_intervals(frame, n, lambda _, row=row: row, first=2)))
    return made


def _at_intervals(
    frame: FullSchedule, interval: int, between: Callable[[int], Sequence[Action]], first: int = 1
) -> Schedule:
    """Whole steps first, then one every `interval`; at the others, what `between` says of the step."""
    whole, last = (RUN,) * frame.num_blocks, first - 1
    return with_rows(
        frame.full,
        [whole if s < first or (s - last) % interval == 0 else tuple(between(s)) for s in range(frame.num_steps)],
    )


def stitch(frame: FullSchedule) -> list[Row]:
    """The small network for the first quarter, half, three quarters and all of the steps (T-Stitch, Pan et al. 2024,
    arXiv 2402.14167); nothing where there is none."""
    if frame.small is None:
        return []
    counts = dict.fromkeys(round(share * frame.num_steps) for share in (0.25, 0.5, 0.75, 1.0))
    return [(f"T-Stitch, {n} of {frame.num_steps} steps", stitched(frame.full, frame.small, n)) for n in counts]


# ---- guidance --------------------------------------------------------------------------------------------------------

# σ that are guided, Kynkäänniemi et al. 2024 (arXiv 2404.07724): of EDM2 on ImageNet-512 and of Stable Diffusion XL.
# The halves say which of the two ends matters.
GUIDED = {
    "σ in (0.28, 2.9]": (0.28, 2.9),
    "σ in (0.28, 5.42]": (0.28, 5.42),
    "σ up to 2.9": (0.0, 2.9),
    "σ above 0.28": (0.28, math.inf),
}


def guidance_interval(frame: FullSchedule) -> list[Row]:
    """Guidance within an interval of noise levels alone; nothing where no second pass would be saved."""
    if not isinstance(frame.full.guidance, Guidance):
        return []
    sampler = frame.full.sampler
    made: list[Row] = []
    for name, (low, high) in GUIDED.items():
        sigmas = [math.exp(-marginal_at(sampler.noise, sampler.time, step.time).log_snr) for step in frame.full.steps]
        steps = tuple(
            step if low < sigma <= high else replace(step, guidance=None)
            for step, sigma in zip(frame.full.steps, sigmas, strict=True)
        )
        made.append((f"guidance at {name}", replace(frame.full, steps=steps, name=None)))
    return made


# ---- solvers ---------------------------------------------------------------------------------------------------------


Solvers = Mapping[str, Sequence[int]]  # names with the orders that are tried
# The solver and spacings that were among the best of all at few steps of the bundled checkpoint (docs/baselines.md).
_BEST_SOLVERS: Solvers = {"unipc": (2,)}
_BEST_SPACINGS = ("leading", "quadratic")
_ALL_SOLVERS: Solvers = {
    "dpmsolver++": (2, 3),
    "unipc": (2, 3),
    "ddim": (1,),
    "heun": (2,),
    "edm": (2,),
    "flow-euler": (1,),
}


def solvers(frame: FullSchedule) -> list[Row]:
    """Fewer steps with the solver and the spacings that are best at few steps; see `all_solvers`."""
    spacings = [name for name in _BEST_SPACINGS if name in _spacings(frame)]
    return _solved_steps(frame, _BEST_SOLVERS, [frame.spacing, *spacings])


def all_solvers(frame: FullSchedule) -> list[Row]:
    """Fewer steps with every other solver and spacing, so that the best of them at each count is among the baselines.

    Nothing where a pipeline takes no times of ours.
    """
    return _solved_steps(frame, _ALL_SOLVERS, _spacings(frame))


def _solved_steps(frame: FullSchedule, wanted: Solvers, spacings: Sequence[str]) -> list[Row]:
    counts = halving(range(2, frame.num_steps)) if frame.warps else []
    return [row for count in counts for row in _with_solvers(frame, count, wanted, spacings)]


def _spacings(frame: FullSchedule) -> list[str]:
    """Those for the network's noise; `quadratic` is what `power` is by default."""
    kind = frame.full.sampler.noise.kind
    return [name for name, each in SPACINGS.items() if kind in each.noises and name != "power"]


def _with_solvers(frame: FullSchedule, count: int, wanted: Solvers, spacings: Sequence[str]) -> Iterator[Row]:
    for solver, orders in wanted.items():
        if frame.full.sampler.noise.kind not in SOLVER_TABLE[solver].noises:
            continue
        # Evaluated twice at a time: the count is one of evaluations.
        num_times = (count + 1) // 2 if solver in EVALUATES_TWICE else count
        for spacing in spacings if num_times > 1 else []:
            for order in orders:
                schedule = _solved(frame, num_times, solver, order, spacing)
                yield f"{schedule.num_steps} steps, {solver} {order}, {spacing}", schedule


def _solved(frame: FullSchedule, num_times: int, solver: str, order: int, spacing: str) -> Schedule:
    full = frame.full
    sampler = full.sampler
    return make_schedule(
        full.networks[0],
        sampler.noise,
        sampler.prediction,
        solver=solver,
        order=order,
        num_steps=num_times,
        spacing=spacing,
        spacing_parameters=dict(frame.parameters) if spacing == frame.spacing else None,
        include_zero=frame.include_zero if solver == sampler.name else None,
        guidance=full.guidance,
        clip=sampler.clip if SOLVERS[solver] == "x0" else None,
        sigma_data=sampler.sigma_data or SIGMA_DATA,
    )


def halving(values: range) -> list[int]:
    """The values, each next one in the middle, by ratio, of the widest stretch that is left: 2..19 gives 6, 3, 11, 2, …

    By ratio: what a schedule loses goes with the ratio of its cost to the full one's, and cheap ones cost little.
    """
    ordered: list[int] = []
    stretches = deque([values])
    while stretches:
        stretch = stretches.popleft()
        if stretch:
            middle = round(math.sqrt(stretch[0] * stretch[-1]))
            ordered.append(middle)
            stretches.extend((range(stretch[0], middle), range(middle + 1, stretch[-1] + 1)))
    return ordered
