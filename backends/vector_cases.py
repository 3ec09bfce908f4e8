"""The schedules of the test vectors: together they use every action, kind of block, guidance and form of row."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from . import schedule as schedules
from .schedule import DROP, REUSE, RUN, Action, Coefficients, Guidance, NetworkSignature, Schedule, Step, forecast
from .solvers import make_schedule, with_coefficients

RESIDUAL = NetworkSignature("little", "block", (("residual", 4),))
LINEAR = schedules.Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
F1, F2 = forecast(1), forecast(2)


def _with(schedule: Schedule, rows: list[tuple[Action, ...]], changes: Mapping[int, Mapping[str, Any]]) -> Schedule:
    """The schedule with an action matrix, other fields for some steps, and its solver's coefficients."""
    steps = (replace(step, blocks=row) for step, row in zip(schedule.steps, rows, strict=True))
    changed = (replace(step, **changes.get(s, {})) for s, step in enumerate(steps))
    return with_coefficients(replace(schedule, steps=tuple(changed)))


def guided() -> Schedule:
    """Every action, and every way to treat the unconditional branch, under DDIM."""
    base = make_schedule(RESIDUAL, LINEAR, "v", solver="ddim", num_steps=10, guidance=Guidance(1.5, 5))
    rows = [(RUN,) * 4, (RUN, RUN, REUSE, REUSE), (RUN,) * 4, (RUN, F1, F1, DROP), (RUN, F2, RUN, RUN), (RUN,) * 4]
    rows += [(RUN, RUN, REUSE, F1), (REUSE, F2, F2, F2), (RUN, F2, F2, F1), (RUN, DROP, RUN, REUSE)]
    changes = {2: {"unconditional": "skip"}, 5: {"unconditional": "reuse"}, 6: {"guidance": 3.0}, 8: {"guidance": None}}
    return _with(base, rows, changes)


def multistep() -> Schedule:
    """Exits with reused tails, and rows that look back one step, under DPM-Solver++ with clipping."""
    base = make_schedule(RESIDUAL, LINEAR, "v", solver="dpmsolver++", num_steps=6, spacing="log-snr", clip=1.5)
    depths = [4, 2, 1, 4, 2, 3]
    return _with(base, [(RUN,) * d + (REUSE,) * (4 - d) for d in depths], {})


def stochastic() -> Schedule:
    """Noise in every step but the last, with two networks, under DDPM."""
    base = make_schedule(RESIDUAL, LINEAR, "v", solver="ddpm", num_steps=6, guidance=2.0)
    second = NetworkSignature("little", "block", (("residual", 2),))
    rows = [(RUN,) * 4, (RUN, RUN), (RUN, REUSE, DROP, REUSE), (F1, RUN), (RUN, RUN, F2, F2), (REUSE, F1)]
    return _with(replace(base, networks=(RESIDUAL, second)), rows, {s: {"network": s % 2} for s in range(6)})


def learned() -> Schedule:
    """A learned variance, whose channels guidance leaves alone, under DDPM."""
    base = make_schedule(RESIDUAL, LINEAR, "v", solver="ddpm", num_steps=5, variance="learned-range", guidance=1.5)
    rows = [(RUN,) * 4, (RUN, RUN, REUSE, REUSE), (RUN,) * 4, (RUN, RUN, F1, F1), (RUN, RUN, RUN, DROP)]
    return _with(base, rows, {1: {"unconditional": "skip"}})


def kinds() -> Schedule:
    """Branches with gates, a merge and a replace block, and embedded guidance, on an EDM-like Euler by hand."""
    network = NetworkSignature("little", "branch", (("branch", 2), ("merge", 1), ("replace", 1), ("residual", 1)))
    sampler = schedules.Sampler("by hand", "edm", "sigma", schedules.Noise("edm"), initial_scale=10.0, sigma_data=0.5)
    rows = [(RUN,) * 5, (REUSE, RUN, REUSE, REUSE, REUSE), (DROP, RUN, DROP, RUN, F1), (RUN,) * 5, (F1, F2, F1, F2, F2)]
    sigmas = [10.0, 3.0, 1.0, 0.3, 0.1, 0.0]
    steps = tuple(_edm_step(now, after, row) for now, after, row in zip(sigmas, sigmas[1:], rows, strict=False))
    return Schedule((network,), sampler, steps, schedules.Embedded(3.5))


def _edm_step(now: float, after: float, blocks: tuple[Action, ...]) -> Step:
    """Euler on Karras et al. 2022, eq. 7 and 3: m is the denoised sample, and x <- x + (after/now - 1)(x - m)."""
    total = now**2 + 0.25
    row = Coefficients(total**-0.5, 0.25 / total, now * 0.5 * total**-0.5, after / now, (1 - after / now,))
    return Step(now, blocks, network_time=float(np.log(now)) / 4, coefficients=row)


def corrected() -> Schedule:
    """A predictor and its corrector in one row, which looks back three steps, under UniPC."""
    base = make_schedule(RESIDUAL, LINEAR, "v", solver="unipc", order=3, num_steps=8, spacing="log-snr")
    depths = [4, 4, 1, 3, 4, 2, 2, 4]
    return _with(base, [(RUN,) * d + (REUSE,) * (4 - d) for d in depths], {})


def twice() -> Schedule:
    """Two evaluations at a time, scaled inputs and other network times, under EDM's sampler."""
    base = make_schedule(RESIDUAL, schedules.Noise("edm"), "edm", solver="edm", num_steps=4)
    rows = [(RUN,) * 4, (RUN, RUN, REUSE, REUSE), (RUN,) * 4, (RUN, F1, F1, F1), (RUN,) * 4, (RUN, F2, F2, F2)]
    return _with(base, [*rows, (RUN, RUN, DROP, DROP)], {})


def warmed_up() -> Schedule:
    """Rows that undo a step, and that look back twelve, under PNDM with its Runge-Kutta steps."""
    base = make_schedule(RESIDUAL, LINEAR, "v", solver="pndm", variant="prk", num_steps=6, spacing="leading")
    return _with(base, [(RUN,) * 4 if s % 3 == 0 else (RUN, RUN, REUSE, REUSE) for s in range(base.num_steps)], {})


def flowing() -> Schedule:
    """Times from 1 to 0, of which the network receives 1000 each, with a shift, under Euler on flow matching."""
    base = make_schedule(
        RESIDUAL, schedules.Noise("flow"), "flow", num_steps=5, spacing_parameters={"shift": 3.0}, guidance=2.0
    )
    rows = [(RUN,) * 4, (RUN, RUN, REUSE, REUSE), (RUN,) * 4, (RUN, F1, F1, DROP), (RUN,) * 4]
    return _with(base, rows, {3: {"unconditional": "skip"}, 4: {"guidance": None}})


CASES = {
    "guided": guided,
    "multistep": multistep,
    "stochastic": stochastic,
    "learned": learned,
    "kinds": kinds,
    "corrected": corrected,
    "twice": twice,
    "warmed-up": warmed_up,
    "flowing": flowing,
}
