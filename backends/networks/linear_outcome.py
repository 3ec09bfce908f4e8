"""What a schedule makes of noise if the network is linear, worked out exactly instead of sampled.

Every x is then a weighted sum of independent noises and a constant, separately in each of D dimensions. This follows
the format's definitions of actions, guidance and coefficients step by step and shares no code with plans and the
sampling loop, so that the two check each other.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..schedule import Action, Branch, Schedule, branches_at, guidance_at
from ..solvers.tables import solver_rows

Array = NDArray[np.float64]
Blocks = Callable[[float, Array], Array]


def linear_outcome(schedule: Schedule, dim: int, predict_blocks: Blocks) -> tuple[Array, Array]:
    """The mean (D,) of what the schedule samples, and the weight of each noise in it (D, num_draws).

    Args:
        schedule: of one network.
        dim: D.
        predict_blocks: (network time, x (D, num_draws + 1), its last column the constant) -> (num_blocks, D,
            num_draws + 1) what each block adds to the prediction.

    Raises:
        InputError: the schedule clips or learns its variance, which is not linear.
    """
    if schedule.sampler.clip is not None or schedule.sampler.variance == "learned-range":
        raise InputError("sampler: sampling is linear without clip and without learned variance. Take them away.")
    table = solver_rows(schedule)
    column = iter(range(1, 1 + sum(row.c != 0 for row in table)))  # of the next step's noise
    x = np.zeros((dim, 2 + sum(row.c != 0 for row in table)))
    x[:, 0] = schedule.sampler.initial_scale
    caches: dict[Branch, list[list[tuple[int, Array]]]] = {
        branch: [[] for _ in schedule.steps[0].blocks] for branch in ("conditional", "unconditional")
    }
    history: list[Array] = []  # of m, newest first
    unconditional = np.zeros_like(x)
    for s, (step, row) in enumerate(zip(schedule.steps, table, strict=True)):
        time = step.time if step.network_time is None else step.network_time
        parts = predict_blocks(time, row.input_scale * x)
        outputs = {branch: _output(s, step.blocks, parts, caches[branch]) for branch in branches_at(schedule, s)}
        output, scale = outputs["conditional"], guidance_at(schedule, s)
        unconditional = outputs.get("unconditional", unconditional)
        if scale is not None and step.unconditional != "skip":
            output = unconditional + scale * (output - unconditional)
        history.insert(0, row.model_x * x + row.model_f * output)
        x = row.a * x + sum(weight * m for weight, m in zip(row.b, history, strict=False))
        if row.c:
            x[:, next(column)] += row.c
    return x[:, -1], x[:, :-1]


def _output(s: int, blocks: Sequence[Action], parts: Array, cache: list[list[tuple[int, Array]]]) -> Array:
    """The sum of what blocks add at step s, straight from the format's definitions of the actions."""
    total = np.zeros_like(parts[0])
    for part, action, stored in zip(parts, blocks, cache, strict=True):
        if action.kind == "run":
            stored.insert(0, (s, part))
            total += part
        elif action.kind != "drop":
            total += _extrapolate(s, stored[: action.order + 1])
    return total


def _extrapolate(s: int, stored: Sequence[tuple[int, Array]]) -> Array:
    """Taylor forecast from the last one, two or three (step, value), newest first."""
    (r0, y0), k = stored[0], s - stored[0][0]
    if len(stored) == 1:
        return y0
    (r1, y1) = stored[1]
    slope = (y0 - y1) / (r0 - r1)
    if len(stored) == 2:
        return y0 + k * slope
    (r2, y2) = stored[2]
    return y0 + k * slope + 0.5 * k * k * (slope - (y1 - y2) / (r1 - r2)) / (r0 - r1)
