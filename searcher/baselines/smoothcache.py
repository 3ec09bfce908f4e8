"""SmoothCache (Liu et al. 2024, arXiv 2411.10510): what to cache, from how much each layer's output changes.

A few images are sampled in full. Between two steps a layer's output changes by ‖L(s) − L(s − k)‖₁ / ‖L(s)‖₁; its mean
over images and over all layers of one kind is compared with a threshold α. A computed output is kept for as many steps,
three at most, as stay within α. The first and the last step are always computed.

A layer is what the network counts as a block: attention and MLP by themselves at granularity `branch`, as in the paper,
and whole blocks else.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ...backends.formats.branches import branches_of
from ...backends.network import Network, NetworkInput, Slots, State, in_turns
from ...backends.plan import Call, Run
from ...backends.sampling.conditions import Conditions, noises
from ...backends.sampling.loop import StepValues, labels, num_draws, sample_batch
from ...backends.schedule import (
    REUSE,
    RUN,
    NetworkSignature,
    Schedule,
    branches_at,
    embedded_guidance_at,
    network_times,
    validate,
)
from ...backends.solvers.tables import solver_rows
from ..spaces.baselines import Row
from ..spaces.frame import FullSchedule, with_rows

# 0.08 and 0.18 are published for 50 steps of DiT-XL/2, 0.35 for 30 of Open-Sora; fewer steps change more each.
THRESHOLDS = (0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5)
LONGEST = 3
IMAGES, SEED = 16, 3  # noises of neither the search nor the final values

Changes = Sequence[Sequence[float]]  # by step and by how many steps before, from 1


def smoothcache(
    network: Network, frame: FullSchedule, conditions: Conditions, check: Callable[[], None] = lambda: None
) -> list[Row]:
    """The schedules of all thresholds that differ, from the most careful to the boldest.

    Args:
        network: that is calibrated.
        frame: its full schedule.
        conditions: what its images show.
        check: raises to stop; called at each step.
    """
    changes = layer_changes(network, frame.full, conditions, check)
    groups = layer_groups(frame.full.networks[0])
    found: dict[str, Row] = {}
    for threshold in THRESHOLDS:
        computed = {name: computed_steps(each, threshold) for name, each in changes.items()}
        rows = [tuple(RUN if computed[name][s] else REUSE for name in groups) for s in range(frame.num_steps)]
        schedule = with_rows(frame.full, rows)
        validate(schedule)
        if schedule.digest != frame.full.digest:
            found.setdefault(schedule.digest, (f"SmoothCache α={threshold:g}", schedule))
    return list(found.values())


def layer_groups(signature: NetworkSignature) -> list[str]:
    """The kind of each layer, in execution order: layers of one kind are cached together."""
    kinds = branches_of(signature) if signature.granularity == "branch" else ("block",)
    return [kinds[j % len(kinds)] for j in range(signature.num_blocks)]


def computed_steps(changes: Changes, threshold: float) -> list[bool]:
    """At which steps a kind of layers is computed, where `changes[s][k - 1]` is from step s − k to s."""
    count = len(changes)
    computed, s = [True] * count, 0
    while s < count:
        reach = max(
            (k for k in range(1, LONGEST + 1) if s + k < count and changes[s + k][k - 1] <= threshold), default=0
        )
        computed[s + 1 : s + reach + 1] = [False] * reach
        s += reach + 1
    computed[-1] = True
    return computed


@torch.inference_mode()
def layer_changes(
    network: Network, full: Schedule, conditions: Conditions, check: Callable[[], None] = lambda: None
) -> Mapping[str, Changes]:
    """How much the layers of each kind change, by step and by how many steps before; 0 where there is none before."""
    images = range(IMAGES)
    shown = labels(conditions, images, SEED)
    states: list[Tensor] = []

    def observe(_step: int, values: StepValues) -> None:
        check()
        states.append(values.x.clone())

    drawn = noises(SEED, images, network.sample_shape, num_draws(full)).to(network.device)
    networks = in_turns(network, full)
    sample_batch(networks, full, drawn[0], drawn[1:], shown, observe=observe)
    groups = layer_groups(full.networks[0])
    found: dict[str, list[list[float]]] = {name: [] for name in groups}
    before: list[Slots] = []
    for s, x in enumerate(states):
        check()
        now = _layers(networks[full.steps[s].network], full, s, x, shown)
        for name in found:
            layers = [j for j, each in enumerate(groups) if each == name]
            gaps = [[_change(old[j], now[j]) for j in layers] for old in before]
            found[name].append([sum(gap) / len(gap) for gap in gaps] + [0.0] * (LONGEST - len(gaps)))
        before = [now, *before][:LONGEST]
    return found


def _layers(network: Network, full: Schedule, s: int, x: Tensor, shown: Tensor | None) -> Slots:
    """What each layer computes at a step, conditional rows alone: guidance may end before the steps do."""
    count = x.shape[0]
    slots: Slots = [None] * network.num_blocks
    call = Call(branches_at(full, s)[:1], tuple(Run(j, j + 1, j) for j in range(network.num_blocks)), ())
    scale = embedded_guidance_at(full, s)
    inputs = NetworkInput(
        (x * solver_rows(full)[s].input_scale).to(network.dtype),
        torch.full((count,), network_times(full)[s], dtype=x.dtype, device=x.device),
        None if shown is None else shown.to(x.device),
        None if scale is None else torch.full((count,), scale, dtype=x.dtype, device=x.device),
    )
    network.evaluate(inputs, call, slots)
    return slots


def _change(old: State | None, new: State | None) -> float:
    """‖new − old‖₁ / ‖new‖₁, over all parts."""
    assert old is not None
    assert new is not None
    pairs = list(zip(_parts(old), _parts(new), strict=True))
    change = sum(float((after.float() - before.float()).abs().sum()) for before, after in pairs)
    return change / max(sum(float(after.float().abs().sum()) for _, after in pairs), 1e-12)


def _parts(state: State) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [part for each in state for part in _parts(each)]
