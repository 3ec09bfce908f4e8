"""Solvers that evaluate twice at a time: Heun's method, EDM's sampler and PNDM.

The second evaluation is a row like any. With Heun's method the steps are t₀, t₁, t₁, t₂, t₂, …: a prediction goes from
tₖ to tₖ₊₁, and a correction stays at tₖ₊₁ and replaces the slope by the mean of both. The last step to σ = 0 has no
correction.
"""

from collections.abc import Sequence
from itertools import pairwise

from ..errors import InputError
from ..schedule import Coefficients, Sampler
from .noise_schedules import Marginal
from .path import History, Path, row, straight


def heun(path: Path) -> list[Coefficients]:
    """Heun's method on dx̂/d(σ/α) = ε, or on dx/dt = ε − x₀ of flow matching (Karras et al. 2022, algorithm 1).

    Raises:
        InputError: the times are not those of `heun_times`.
    """
    _check(path)
    history: History = "velocity" if path.sampler.noise.kind == "flow" else "epsilon"
    return [correction(path, s, history) if s % 2 else prediction(path, s, history) for s in range(path.num_steps)]


def prediction(path: Path, s: int, history: History) -> Coefficients:
    """From the time of step s to that of the next along the slope that was just predicted."""
    p, q = straight(history, path.points[s], path.points[s + 1])
    return row(path, s, history, a=p, b=(q,))


def correction(path: Path, s: int, history: History) -> Coefficients:
    """The step before once more, along the mean of its slope and the newest: x + q/2 · (m − m₁)."""
    _, q = straight(history, path.points[s - 1], path.points[s])
    return row(path, s, history, a=1.0, b=(q / 2, -q / 2))


def heun_times(times: Sequence[float], sampler: Sampler) -> list[float]:
    """Times of the evaluations: all but the first twice, and train index 0 once where the last step goes there."""
    last = [0.0] if sampler.final == "train-0" else []
    inner = times[:-1] if last and times[-1] == 0 else times
    return [*inner[:1], *(time for time in inner[1:] for _ in range(2)), *last]


def _check(path: Path) -> None:
    points: Sequence[Marginal] = path.points
    for s in range(path.num_steps):
        fits = points[s + 1] == points[s] if s % 2 else points[s + 1].log_snr > points[s].log_snr
        if not fits:
            wanted = "repeated" if s % 2 else "followed by a lower one"
            around = ", ".join(f"{time:g}" for time in path.times[max(s - 1, 0) : s + 3])
            raise InputError(
                f"times: `{path.sampler.name}` predicts and corrects in turn, so the time of step {s} must be "
                f"{wanted}, but the times are {around}. Write t0, t1, t1, t2, …, or give coefficients."
            )


# Weights of the newest 1 to 4 values (eq. 9 and 12 of the paper, and its shorter relatives).
ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
RUNGE_KUTTA_STEPS = 3  # of the warm-up, four evaluations each


def pndm(path: Path) -> list[Coefficients]:
    """PNDM (Liu et al. 2022, arXiv 2202.09778): Adams–Bashforth on the predicted noise, with DDIM as the transfer.

    Its weights are those of equal strides in time. The history holds ε, one value for each evaluation, so that a row's
    weights stand where the values that the multistep formula keeps were stored. There are two warm-ups.

    `plms`: the second evaluation corrects the first step by Heun's method, as latent diffusion does and diffusers with
    `skip_prk_steps`. `prk`: three steps of the pseudo Runge–Kutta method, as in the paper.

    Raises:
        InputError: the times are not those of `pndm_times`.
    """
    if path.sampler.variant == "prk":
        return _after_runge_kutta(path)
    if path.num_steps == 1:
        return [prediction(path, 0, "epsilon")]
    _check_pattern(path, [(0, 1, False), (1, 2, True)])
    first = [prediction(path, 0, "epsilon"), correction(path, 1, "epsilon")]
    kept = [0]  # the correction's value is not kept
    return [*first, *_multistep(path, 2, kept)]


def _multistep(path: Path, start: int, kept: list[int]) -> list[Coefficients]:
    """The rows from step `start` on; `kept` are earlier steps whose values the formula looks back at."""
    made: list[Coefficients] = []
    for s in range(start, path.num_steps):
        _check_pattern(path, [(s, s + 1, False)])
        kept = [*kept, s][-4:]
        p, q = straight("epsilon", path.points[s], path.points[s + 1])
        b = [0.0] * (s - kept[0] + 1)
        for step, weight in zip(reversed(kept), ADAMS_BASHFORTH[len(kept) - 1], strict=True):
            b[s - step] = q * weight
        made.append(row(path, s, "epsilon", a=p, b=tuple(b)))
    return made


def _after_runge_kutta(path: Path) -> list[Coefficients]:
    warm_up = 4 * RUNGE_KUTTA_STEPS
    if path.num_steps <= warm_up:
        raise InputError(
            f"times: variant `prk` must have more than {warm_up} evaluations, but got {path.num_steps}. Use `plms`."
        )
    firsts = list(range(0, warm_up, 4))
    made = [each for s in firsts for each in _runge_kutta(path, s)]
    return [*made, *_multistep(path, warm_up, firsts)]


def _runge_kutta(path: Path, s: int) -> list[Coefficients]:
    """Four rows from T to T′ over the time M between (eq. 13). x(T) is what the rows before have made of it, undone."""
    _check_pattern(path, [(s, s + 1, False), (s + 1, s + 2, True), (s + 2, s + 3, False), (s + 3, s + 4, True)])
    p_half, q_half = straight("epsilon", path.points[s], path.points[s + 1])
    p, q = straight("epsilon", path.points[s], path.points[s + 3])
    return [
        row(path, s, "epsilon", a=p_half, b=(q_half,)),
        row(path, s + 1, "epsilon", a=1.0, b=(q_half, -q_half)),
        row(path, s + 2, "epsilon", a=p / p_half, b=(q, -q_half * p / p_half)),
        row(path, s + 3, "epsilon", a=1.0, b=(q / 6, q / 3 - q, q / 3, q / 6)),
    ]


def pndm_times(times: Sequence[float], sampler: Sampler) -> list[float]:
    """Times of the evaluations: t₀, t₁, t₁, t₂, … for `plms`; T, M, M, T′, T′, … for each Runge–Kutta step."""
    if sampler.variant != "prk":
        return [*times[:2], *times[1:]]
    if len(times) <= RUNGE_KUTTA_STEPS:
        raise InputError(f"num_steps: variant `prk` must have at least 4, but got {len(times)}. Use `plms`.")
    warm_up = [
        time
        for now, after in pairwise(times[: RUNGE_KUTTA_STEPS + 1])
        for time in (now, (now + after) / 2, (now + after) / 2, after)
    ]
    return [*warm_up, *times[RUNGE_KUTTA_STEPS:]]


def _check_pattern(path: Path, wanted: Sequence[tuple[int, int, bool]]) -> None:
    """Raise InputError unless each pair of points is equal, or falls, as wanted. The last step may stay where it is."""
    for s, after, equal in wanted:
        if (path.points[s] == path.points[after]) != equal and (equal or after < path.num_steps):
            times = ", ".join(f"{time:g}" for time in path.times[max(s - 1, 0) : after + 2])
            pattern = "T, M, M, T', T', …" if path.sampler.variant == "prk" else "t0, t1, t1, t2, t3, …"
            raise InputError(
                f"times: `pndm` ({path.sampler.variant or 'plms'}) evaluates at {pattern}, but around step {s} the "
                f"times are {times}. Write the times in that pattern, or give coefficients."
            )
