"""Solvers that evaluate twice at a time: Heun's method and EDM's sampler, whose second evaluation is a row like any.

The steps are t₀, t₁, t₁, t₂, t₂, …: a prediction goes from tₖ to tₖ₊₁, and a correction stays at tₖ₊₁ and replaces the
slope by the mean of both. The last step to σ = 0 has no correction.
"""

from collections.abc import Sequence

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
