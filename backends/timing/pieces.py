"""What a trajectory's time and memory are made of, each piece of time alone and ready to run again and again.

The pieces are the distinct kinds of network calls in some schedules' plans, the solver's arithmetic of a step, and the
decoder. Their inputs are noise: what the numbers are does not change how long they take. Of memory they are the
network's tensors, and what each block stores.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from types import FunctionType, ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from ..network import Network, NetworkInput, Slots, State, copied
from ..plan import DECODE as DECODE
from ..plan import SOLVER_STEP as SOLVER_STEP
from ..plan import Add, Call, Run, compile_plan
from ..sampling.conditions import labels, noises, uniform
from ..sampling.loop import num_draws, sample_batch
from ..schedule import Branch, Schedule, network_times

BOTH: tuple[Branch, ...] = ("conditional", "unconditional")
_SEED = 0


@dataclass(frozen=True)
class Piece:
    """Something to time.

    Attributes:
        network: index of the network whose timings it belongs to.
        kind: its name there.
        run: does it once.
        parts: how many of it one `sample_batch` does, such as the steps of a trajectory.
    """

    network: int
    kind: str
    run: Callable[[], object]
    parts: int = 1


def inputs(network: Network, schedule: Schedule, batch_size: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """What one trajectory of a batch starts from, on the CPU: (B, C, H, W) the first noise, (S, B, C, H, W) those of
    the steps, and (B,) labels or None."""
    images = range(batch_size)
    drawn = noises(_SEED, images, network.sample_shape, num_draws(schedule))
    return drawn[0], drawn[1:], labels(uniform(network.num_conditions), images)


def trajectory(networks: Sequence[Network], schedule: Schedule, batch_size: int) -> Callable[[], Tensor]:
    """A function that samples one batch and decodes it, from noises that were drawn before."""
    given = inputs(networks[0], schedule, batch_size)

    @torch.inference_mode()
    def sample() -> Tensor:
        latents = sample_batch(networks, schedule, *given)
        return networks[0].decode(latents.to(networks[0].dtype))

    return sample


def call_pieces(
    network: Network, index: int, schedules: Sequence[Schedule], kinds: Collection[str], batch_size: int
) -> Iterator[Piece]:
    """A piece for each of the kinds, from the first call of that kind in the schedules' plans on network `index`."""
    left, residuals = set(kinds), StoredValues(network, batch_size)
    for schedule in schedules:
        for moment, planned in zip(network_times(schedule), compile_plan(schedule).steps, strict=True):
            for call in planned.calls:
                if planned.network == index and call.kind in left:
                    left.remove(call.kind)
                    slots = residuals.slots(call, moment)
                    # Released slots would be empty at the second repeat, and to release costs nothing.
                    run = prepare_call(network, replace(call, release=()), slots, moment, batch_size)
                    yield Piece(index, call.kind, run)


def prepare_call(network: Network, call: Call, slots: Slots, moment: float, batch_size: int) -> Callable[[], Tensor]:
    """A function that makes the call once, on noise that is on the device before."""
    images = range(batch_size)
    noise = noises(_SEED, images, network.sample_shape, 1)[0].to(network.device, network.dtype)
    x = torch.cat([noise] * len(call.branches))
    time = torch.full((x.shape[0],), moment, dtype=torch.float32, device=network.device)
    guidance = torch.ones_like(time) if network.takes_guidance else None
    inputs = NetworkInput(x, time, _conditions(network, call.branches, images), guidance)
    return lambda: network.evaluate(inputs, call, slots)


def _conditions(network: Network, branches: tuple[Branch, ...], images: range) -> Tensor | None:
    """(len(images) × branches,) conditions for one call, on the device; None for a network without them."""
    own = labels(uniform(network.num_conditions), images)
    if own is None:
        return None
    null = network.null_conditions
    return torch.cat([own.to(network.device) if b == "conditional" else null(len(images)) for b in branches])


class StoredValues:
    """Stored values for calls that read some: what the replaced blocks store when they run."""

    def __init__(self, network: Network, batch_size: int) -> None:
        self.network, self.batch_size = network, batch_size
        self._made: dict[tuple[int, int], State] = {}  # by block and number of branches

    def slots(self, call: Call, moment: float) -> Slots:
        """Slots in which all that `call` reads is there, each with a tensor of its own as in a real trajectory."""
        adds = [op for op in call.ops if isinstance(op, Add)]
        stores = [op.store for op in call.ops if isinstance(op, Run) and op.store is not None]
        slots: Slots = [None] * (1 + max([*stores, *(read.slot for op in adds for read in op.reads)], default=-1))
        for op in adds:
            for read in op.reads:
                # A half is read by one branch from what a joint call of both has stored.
                branches = call.branches if read.rows == "all" else BOTH
                slots[read.slot] = copied(self._value(op, branches, moment))
        return slots

    @torch.inference_mode()
    def _value(self, op: Add, branches: tuple[Branch, ...], moment: float) -> State:
        """What a block of the span stores in a call of these branches; neighbouring residuals are all of one shape."""
        first, kinds = op.start, self.network.signature.block_kinds
        while first and kinds[first - 1] == kinds[first] == "residual":
            first -= 1
        key = (first, len(branches))
        if key not in self._made:
            store: Slots = [None]
            spans = [Run(0, first), Run(first, first + 1, store=0), Run(first + 1, self.network.num_blocks)]
            call = Call(branches, tuple(span for span in spans if span.start < span.stop), ())
            prepare_call(self.network, call, store, moment, self.batch_size)()
            assert store[0] is not None
            self._made[key] = store[0]
        return self._made[key]


def decode_piece(network: Network, batch_size: int) -> Piece:
    """The decoder on one batch of noise."""
    x = noises(_SEED, range(batch_size), network.sample_shape, 1)[0].to(network.device, network.dtype)
    return Piece(0, DECODE, lambda: network.decode(x))


def solver_piece(networks: Sequence[Network], schedule: Schedule, batch_size: int) -> Piece:
    """A step without its network calls: the real loop over networks that answer at once."""
    still, given = [_still(network) for network in networks], inputs(networks[0], schedule, batch_size)

    def sample() -> Tensor:
        return sample_batch(still, schedule, *given)

    return Piece(0, SOLVER_STEP, sample, parts=schedule.num_steps)


def _still(network: Network) -> Network:
    """Stands where a network stands and answers every call with the same zeros, at no cost."""
    channels = network.sample_shape[0] * (2 if network.learned_range else 1)
    answers: dict[int, Tensor] = {}

    def evaluate(inputs: NetworkInput, call: Call | None, slots: Slots) -> Tensor:
        x = inputs.x
        if x.shape[0] not in answers:
            answers[x.shape[0]] = x.new_zeros(x.shape[0], channels, *x.shape[2:])
        return answers[x.shape[0]]

    still = copy(network)
    vars(still)["evaluate"] = evaluate
    return still


def tensor_bytes(*networks: Network) -> int:
    """Bytes of the tensors that networks hold on their device, each storage once: weights, decoder, embeddings."""
    device = networks[0].device
    storages = {each.data_ptr(): each.untyped_storage() for each in _tensors(networks) if each.device == device}
    return sum({each.data_ptr(): each.nbytes() for each in storages.values()}.values())


def _tensors(root: object) -> Iterator[Tensor]:
    """All tensors that can be reached over attributes, lists and tables."""
    seen, left = set[int](), [root]
    while left:
        found = left.pop()
        if id(found) in seen or isinstance(found, (type, ModuleType, FunctionType, str, bytes)):
            continue
        seen.add(id(found))
        if isinstance(found, Tensor):
            yield found
        elif isinstance(found, Mapping):
            left.extend(cast(Mapping[Any, object], found).values())
        elif isinstance(found, (list, tuple, set, frozenset)):
            left.extend(cast(Iterable[object], found))
        else:
            left.extend(getattr(found, "__dict__", {}).values())


@torch.inference_mode()
def stored_bytes(network: Network, full: Schedule) -> tuple[int, ...]:
    """Bytes of what each block stores for one image in one guidance branch, from one call that stores all of it."""
    slots: Slots = [None] * network.num_blocks
    ops = tuple(Run(index, index + 1, store=index) for index in range(network.num_blocks))
    prepare_call(network, Call(("conditional",), ops, ()), slots, network_times(full)[0], batch_size=1)()
    return tuple(state_bytes(value) for value in slots)


def state_bytes(value: State | None) -> int:
    """Bytes of a stored value's tensors, each storage once."""
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in _parts(value)}
    return sum(storages.values())


def _parts(value: State | None) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    for part in value or () if isinstance(value, tuple) else ():
        yield from _parts(part)
