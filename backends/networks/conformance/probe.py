"""Inputs that put a network to the test: noise at a schedule's own times, conditions, and random action matrices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...network import Network, NetworkInput, Slots
from ...plan import Call, compile_plan
from ...sampling.conditions import noises
from ...schedule import DROP, REUSE, RUN, Action, Branch, Embedded, Schedule, Step, branches_at, forecast, network_times
from ...solvers.tables import make_schedule

_SEED = 0
GUIDANCE = 2.0
PROMPTS = ("a red bicycle", "two dogs on a beach", "a lighthouse at night")

Outputs = dict[Branch, Tensor]  # of one step, (N, …) by guidance branch


@dataclass(frozen=True)
class Probe:
    """What a network is called with at every step.

    Attributes:
        schedule: what to run.
        xs: the input of each step, (N, *sample_shape).
        times: of each step, (N,), what the network receives.
        conditions: (N,) by guidance branch; None for a network without conditions.
        guidance: (N,) for a network that takes it; None elsewhere.
    """

    schedule: Schedule
    xs: tuple[Tensor, ...]
    times: tuple[Tensor, ...]
    conditions: dict[Branch, Tensor | None]
    guidance: Tensor | None

    def input(self, s: int, *branches: Branch) -> NetworkInput:
        """What the branches' evaluation at step `s` is given; one after the other in one batch."""
        count = len(branches)
        parts = [part for part in (self.conditions[branch] for branch in branches) if part is not None]
        return NetworkInput(
            self.xs[s].repeat(count, *[1] * (self.xs[s].ndim - 1)),
            self.times[s].repeat(count),
            torch.cat(parts) if parts else None,
            None if self.guidance is None else self.guidance.repeat(count),
        )


def full_schedule(network: Network, num_steps: int, *, guided: bool = False) -> Schedule:
    """At least `num_steps` steps in which every block runs."""
    guidance = Embedded(GUIDANCE) if network.takes_guidance else GUIDANCE if guided else None
    return make_schedule(network.signature, network.noise, network.prediction, num_steps=num_steps, guidance=guidance)


def with_actions(schedule: Schedule, columns: Sequence[Sequence[Action]]) -> Schedule:
    """The schedule with these actions, one list a step."""
    pairs = zip(schedule.steps, columns, strict=True)
    return replace(schedule, steps=tuple(replace(step, blocks=tuple(column)) for step, column in pairs))


def random_schedule(network: Network, seed: int, *, guided: bool) -> Schedule:
    """Random actions for every block and step; guided ones leave the unconditional branch out at random steps."""
    random = np.random.default_rng(seed)
    full = full_schedule(network, 6, guided=guided)
    steps: list[Step] = []
    for s, step in enumerate(full.steps):
        column = _random_column(network.signature.block_kinds, s, random)
        skips = guided and s > 0 and random.random() < 0.3
        steps.append(replace(step, blocks=tuple(column), unconditional="skip" if skips else "run"))
    return replace(full, steps=tuple(steps))


def random_columns(kinds: Sequence[str], num_steps: int, random: np.random.Generator) -> list[list[Action]]:
    """Random actions for each step and block of these kinds; at the first two steps every block runs."""
    return [_random_column(kinds, s, random) for s in range(num_steps)]


def _random_column(kinds: Sequence[str], s: int, random: np.random.Generator) -> list[Action]:
    return [RUN if s < 2 else _action(kind, random) for kind in kinds]


def _action(kind: str, random: np.random.Generator) -> Action:
    """`run` as often as all others; a block of kind replace can't be dropped."""
    others = [REUSE, forecast(1), forecast(2)] + ([DROP] if kind != "replace" else [])
    return RUN if random.random() < 0.5 else others[random.integers(len(others))]


def probe(network: Network, schedule: Schedule, num_images: int = 2) -> Probe:
    """Noises, times and conditions for each step of a schedule, on the network's device."""
    drawn = noises(_SEED, range(num_images), network.sample_shape, schedule.num_steps)
    guided = any("unconditional" in branches_at(schedule, s) for s in range(schedule.num_steps))
    conditions: dict[Branch, Tensor | None] = {"conditional": conditions_of(network, num_images)}
    if guided:
        conditions["unconditional"] = network.null_conditions(num_images)
    full = torch.full((num_images,), 1.0, dtype=torch.float32, device=network.device)
    return Probe(
        schedule,
        tuple(drawn.to(network.device, network.dtype)),
        tuple(full * time for time in network_times(schedule)),
        conditions,
        full * GUIDANCE if network.takes_guidance else None,
    )


def conditions_of(network: Network, num_images: int) -> Tensor | None:
    """(num_images,) different conditions in turn; prompts are embedded where none are yet."""
    if network.condition_kind == "none":
        return None
    if network.condition_kind == "prompts" and network.num_conditions is None:
        network.embed(PROMPTS)
    count = network.num_conditions
    if not count:
        raise InputError(f"conditions: `{network.name}` has {network.condition_kind}, but num_conditions is {count}.")
    return (torch.arange(num_images) % count).to(network.device)


def can_be_guided(network: Network) -> bool:
    """Whether schedules may guide the network by an unconditional branch. One that takes guidance as an input has no
    other, whatever conditions it knows."""
    if network.condition_kind == "none" or network.takes_guidance:
        return False
    try:
        conditions_of(network, 1)
        network.null_conditions(1)
    except InputError:
        return False
    return True


def planned_outputs(network: Network, given: Probe, slots: Slots | None = None) -> Iterator[Outputs]:
    """Each step's outputs by the schedule's compiled plan; nothing of a step is done before it is asked for.

    Stored values go to `slots`, which the plan's number of them is added to.
    """
    plan = compile_plan(given.schedule)
    slots = [] if slots is None else slots
    slots.extend([None] * plan.num_slots)
    for s, step in enumerate(plan.steps):
        yield {branch: output for call in step.calls for branch, output in _call(network, given, s, call, slots)}


def _call(network: Network, given: Probe, s: int, call: Call, slots: Slots) -> list[tuple[Branch, Tensor]]:
    output = network.evaluate(given.input(s, *call.branches), call, slots)
    return list(zip(call.branches, output.chunk(len(call.branches)), strict=True))


def full_output(network: Network, given: Probe) -> Tensor:
    """The conditional output at the first step, without a plan."""
    return network.evaluate(given.input(0, "conditional"), None, [])
