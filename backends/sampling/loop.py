"""The one sampling loop: a schedule's plan and coefficients executed on networks, from noise to images.

Inside the loop nothing synchronises host and device: coefficients are numbers of the host, and times, labels and noises
are on the device before it starts.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import ExeuntError, InputError
from ..network import Network, NetworkInput, Slots, State
from ..plan import Call, Plan, compile_plan
from ..schedule import (
    Branch,
    Coefficients,
    Embedded,
    Guidance,
    Schedule,
    as_schedule,
    embedded_guidance_at,
    guidance_at,
    network_times,
)
from ..solvers.tables import solver_rows
from .compatibility import check_conditions
from .compatibility import check_schedule as check_schedule
from .conditions import Conditions, noises
from .conditions import labels as labels


class NonFiniteSamples(ExeuntError):
    """Samples hold NaN or infinity."""

    identifier = "non-finite-samples"


@dataclass(frozen=True)
class Samples:
    """One batch of finished images.

    Attributes:
        first: index of the first image.
        latents: (N, C, H, W) what the sampler ended with, on the networks' device.
        images: (N, 3, H, W) uint8, decoded.
    """

    first: int
    latents: Tensor
    images: Tensor


@dataclass(frozen=True)
class StepValues:
    """What an observer sees after each step, (N, C, H, W) each. The tensors are the loop's own: copy what you keep.

    Attributes:
        x: before the step.
        output: the network's guided output F.
        m: the step's prediction, clipped.
        x_next: after the step.
        slots: stored values of N or 2N rows, or None.
    """

    x: Tensor
    output: Tensor
    m: Tensor
    x_next: Tensor
    slots: Sequence[State | None]


Observer = Callable[[int, StepValues], None]


@dataclass(frozen=True)
class Waypoint:
    """A batch before one step of a schedule, from which other trajectories may go on.

    Attributes:
        step: the next one.
        x: (B, C, H, W) before it.
        history: of m, newest first.
    """

    step: int
    x: Tensor
    history: tuple[Tensor, ...]


@dataclass(frozen=True)
class _Step:
    """One step with all that it needs on the device.

    `calls` holds each call with its times (n,), conditions (n,) and embedded guidance (n,), where n is B for each
    branch; `scale` is that of classifier-free guidance, None where the conditional output stands alone.
    """

    network: int
    calls: tuple[tuple[Call, Tensor, Tensor | None, Tensor | None], ...]
    scale: float | None
    row: Coefficients


@lru_cache(maxsize=256)
def _compiled(schedule: Schedule) -> tuple[Plan, tuple[Coefficients, ...]]:
    return compile_plan(schedule), tuple(solver_rows(schedule))


def num_draws(schedule: Schedule) -> int:
    """Noises that an image needs: the first one, and one for each step that adds noise."""
    return 1 + sum(_is_random(row) for row in _compiled(schedule)[1])


def _is_random(row: Coefficients) -> bool:
    return row.c != 0 or row.log_variance is not None


@torch.inference_mode()
def sample_batch(
    networks: Sequence[Network],
    schedule: Schedule,
    noise: Tensor,
    step_noise: Iterable[Tensor],
    conditions: Tensor | None,
    *,
    observe: Observer | None = None,
) -> Tensor:
    """Sample one batch and return its latents (B, C, H, W) in float32, or in float64 for a network of that type.

    Args:
        networks: those that the schedule names, in its order, on one device.
        schedule: what to run.
        noise: (B, C, H, W) standard normal.
        step_noise: (B, C, H, W) each, for the steps that add noise, in order: `num_draws` − 1 of them.
        conditions: (B,) labels, or None for networks without conditions.
        observe: called after each step with its index and values.
    """
    run = Trajectory(networks, schedule, noise, step_noise, conditions)
    for s, row in enumerate(run.rows):
        x, output = run.x, run.predict()
        run.advance(row)
        if observe is not None:
            observe(s, StepValues(x, output, run.history[0], run.x, run.slots))
    return run.x


class Trajectory:
    """One batch on its way: for each step, `predict` evaluates the network and `advance` takes a row to the next x.

    The arguments are those of `sample_batch`, and perhaps a waypoint to start from, before which nothing may have been
    stored that a later step reads. All of it stands under `torch.inference_mode`.

    Attributes:
        rows: the schedule's own, one a step that is still to come.
        x: (B, C, H, W) before the next step.
        history: of m, newest first, as far back as any of the rows looks.
        slots: stored values of B or 2B rows, or None.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        schedule: Schedule,
        noise: Tensor,
        step_noise: Iterable[Tensor],
        conditions: Tensor | None,
        start: Waypoint | None = None,
    ) -> None:
        plan, rows = _compiled(schedule)
        first = 0 if start is None else start.step
        self.rows = rows[first:]
        self._networks = networks
        self._clip, self._channels = schedule.sampler.clip, _guided_channels(schedule)
        x = noise.to(networks[0].device, torch.promote_types(networks[0].dtype, torch.float32))
        self.x = x * schedule.sampler.initial_scale if start is None else start.x
        drawn = list(step_noise)[sum(map(_is_random, rows[:first])) :]
        self._draws = iter([draw.to(x.device, x.dtype) for draw in drawn])
        self._steps = iter(_prepare(networks, schedule, self.x, conditions)[first:])
        before = () if start is None else start.history
        self.history: deque[Tensor] = deque(before, maxlen=max(len(row.b) for row in rows))
        self.slots: Slots = [None] * plan.num_slots
        self._unconditional: dict[int, Tensor] = {}  # each network's last unconditional output

    def predict(self) -> Tensor:
        """Evaluate the network at the next step and return its guided output F; m goes into the history."""
        step = next(self._steps)
        network = self._networks[step.network]
        self._conditional = _evaluate(network, step, self.x, self.slots, self._unconditional)
        unconditional = self._unconditional.get(step.network)
        output = _guide(self._conditional, unconditional, step.scale, self._channels)
        if network.keeps_norm and step.scale is not None:
            output = _with_norm_of(self._conditional, output)
        output = output[:, : self.x.shape[1]]
        self.history.appendleft(_predict(step.row, self.x, output, self._clip))
        return output

    def advance(self, row: Coefficients) -> None:
        """Take the step by a row: the schedule's own, or one with other a and b."""
        self.x = _advance(row, self.x, self.history)
        if _is_random(row):
            _add_noise(row, self.x, self._conditional, next(self._draws))


def _guided_channels(schedule: Schedule) -> int | None:
    """How many leading channels guidance acts on; None for all of them."""
    guidance = schedule.guidance
    return guidance.channels if isinstance(guidance, Guidance) and guidance.channels != "all" else None


def _prepare(networks: Sequence[Network], schedule: Schedule, x: Tensor, conditions: Tensor | None) -> list[_Step]:
    """Lay out each step's times and conditions on the device, uploaded once."""
    plan, table = _compiled(schedule)
    times = torch.tensor(network_times(schedule), dtype=x.dtype).to(x.device)  # (S,)
    embedded = _embedded_guidance(schedule, x)
    labels = [_branch_conditions(network, plan, index, x, conditions) for index, network in enumerate(networks)]
    steps: list[_Step] = []
    for s, planned in enumerate(plan.steps):
        calls = tuple(
            (
                call,
                times[s].expand(len(call.branches) * x.shape[0]),
                labels[planned.network].get(call.branches),
                None if embedded is None else embedded[s].expand(len(call.branches) * x.shape[0]),
            )
            for call in planned.calls
        )
        scale = None if schedule.steps[s].unconditional == "skip" else guidance_at(schedule, s)
        steps.append(_Step(planned.network, calls, scale, table[s]))
    return steps


def _embedded_guidance(schedule: Schedule, x: Tensor) -> Tensor | None:
    """(S,) the scales that the network receives as an input, on the device; None where it receives none."""
    if not isinstance(schedule.guidance, Embedded):
        return None
    scales = [embedded_guidance_at(schedule, s) for s in range(schedule.num_steps)]
    return torch.tensor([schedule.guidance.scale if g is None else g for g in scales], dtype=x.dtype).to(x.device)


def _branch_conditions(
    network: Network, plan: Plan, index: int, x: Tensor, conditions: Tensor | None
) -> dict[tuple[Branch, ...], Tensor]:
    """The labels of each combination of branches that the plan calls this network with; none without conditions."""
    if conditions is None:
        return {}
    wanted = {call.branches for step in plan.steps if step.network == index for call in step.calls}
    single: dict[Branch, Tensor] = {"conditional": conditions.to(x.device)}
    if any("unconditional" in branches for branches in wanted):
        single["unconditional"] = network.null_conditions(x.shape[0])
    return {branches: torch.cat([single[branch] for branch in branches]) for branches in wanted}


def _evaluate(network: Network, step: _Step, x: Tensor, slots: Slots, unconditional: dict[int, Tensor]) -> Tensor:
    """Run a step's calls; return the conditional output and keep the unconditional one."""
    scaled = x if step.row.input_scale == 1 else x * step.row.input_scale
    scaled = scaled.to(network.dtype)
    outputs: dict[Branch, Tensor] = {}
    for call, time, conditions, guidance in step.calls:
        rows = scaled if len(call.branches) == 1 else torch.cat([scaled, scaled])
        output = network.evaluate(NetworkInput(rows, time, conditions, guidance), call, slots).to(x.dtype)
        outputs.update(zip(call.branches, output.chunk(len(call.branches)), strict=True))
    if "unconditional" in outputs:
        unconditional[step.network] = outputs["unconditional"]
    return outputs["conditional"]


def _guide(conditional: Tensor, unconditional: Tensor | None, scale: float | None, channels: int | None) -> Tensor:
    """u + scale · (c − u) on the guided channels, c on the others (Ho & Salimans 2022)."""
    if scale is None:
        return conditional
    assert unconditional is not None, "validation lets no step reuse an output that is not there"
    if channels is None:
        return torch.lerp(unconditional, conditional, scale)
    guided = torch.lerp(unconditional[:, :channels], conditional[:, :channels], scale)
    return torch.cat([guided, conditional[:, channels:]], dim=1)


def _with_norm_of(conditional: Tensor, guided: Tensor) -> Tensor:
    """Guided outputs, each row of the last axis with the length of the conditional one, as Qwen-Image has them."""
    lengths = [torch.linalg.vector_norm(each, dim=-1, keepdim=True) for each in (conditional, guided)]
    return guided * (lengths[0] / lengths[1])


def _predict(row: Coefficients, x: Tensor, output: Tensor, clip: float | None) -> Tensor:
    """m = model_x · x + model_f · F, clipped."""
    m = output * row.model_f
    if row.model_x:
        m.add_(x, alpha=row.model_x)
    return m if clip is None else m.clamp_(-clip, clip)


def _advance(row: Coefficients, x: Tensor, history: Iterable[Tensor]) -> Tensor:
    """a · x + Σⱼ bⱼ · m, the newest m first."""
    x = x * row.a
    for weight, m in zip(row.b, history, strict=False):
        x.add_(m, alpha=weight)
    return x


def _add_noise(row: Coefficients, x: Tensor, conditional: Tensor, noise: Tensor) -> None:
    """Add c · ξ in place; with learned range, the output's second half says c (Nichol & Dhariwal 2021, eq. 15)."""
    if row.log_variance is None:
        x.add_(noise, alpha=row.c)
        return
    small, large = row.log_variance
    interpolation = conditional[:, x.shape[1] :]  # v, −1 for the small variance and 1 for the large
    x.addcmul_(interpolation.mul((large - small) / 4).add_((large + small) / 4).exp_(), noise)


def sample(
    networks: Sequence[Network],
    schedule: Schedule | str | os.PathLike[str],
    *,
    seed: int,
    images: range,
    conditions: Conditions,
    batch_size: int,
    observe: Observer | None = None,
) -> Iterator[Samples]:
    """Sample images in batches.

    Args:
        networks: those that the schedule names, in its order.
        schedule: what to run, or its file.
        seed: of the noises; image i's are bit-identical for any batch size.
        images: indices of the images, consecutive.
        conditions: their labels, of as many classes as the networks have.
        batch_size: images a batch; the last batch may be smaller.
        observe: see `sample_batch`; called for each batch.

    Raises:
        InputError: the networks do not fit the schedule or the labels, or a value is out of range. Raised before any
            sampling.
        NonFiniteSamples: a batch ended with NaN or infinity.
    """
    schedule = as_schedule(schedule)
    check_schedule(networks, schedule)
    check_conditions(networks, conditions)
    if batch_size < 1 or images.step != 1:
        got = f"{batch_size} and {images}"
        raise InputError(f"batch_size: must be at least 1, and images consecutive, but got {got}. Fix them.")
    chunks = (images[first : first + batch_size] for first in range(0, len(images), batch_size))
    return (_sample_batch(networks, schedule, seed, chunk, conditions, observe) for chunk in chunks)


@torch.inference_mode()
def _sample_batch(
    networks: Sequence[Network],
    schedule: Schedule,
    seed: int,
    images: range,
    conditions: Conditions,
    observe: Observer | None,
) -> Samples:
    drawn = noises(seed, images, networks[0].sample_shape, num_draws(schedule)).to(networks[0].device)
    latents = sample_batch(networks, schedule, drawn[0], drawn[1:], labels(conditions, images, seed), observe=observe)
    if not bool(torch.isfinite(latents).all()):
        raise NonFiniteSamples(
            f"samples: images {images.start} to {images.stop - 1} have NaN or infinite values. "
            "Use float32, a lower guidance scale, or check the weights."
        )
    return Samples(images.start, latents, networks[0].decode(latents.to(networks[0].dtype)))
