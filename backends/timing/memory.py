"""What a network and a schedule's stored values need of a device's memory, known before anything is sampled.

Stored values are exact: their sizes are read from one call that stores them all, and a plan says which are held when.
Beside them there are the weights and, on CUDA, what torch's allocator counts while the full schedule runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..network import Network
from ..plan import compile_plan, peak_stored
from ..schedule import Schedule
from .device import peak_memory
from .pieces import call_pieces, decode_piece, stored_bytes, tensor_bytes


@dataclass(frozen=True)
class Footprint:
    """What schedules on one network need, or on two in turn.

    Attributes:
        base: bytes of the first network without stored values.
        stored: bytes of what each block of each network stores, for one image in one guidance branch.
        batch_size: images a call.
        second: bytes that a second network takes beside the first.
    """

    base: int
    stored: tuple[tuple[int, ...], ...]
    batch_size: int
    second: int = 0

    def needed(self, schedule: Schedule) -> int:
        """The most bytes that a schedule needs at a time."""
        return self.without_stored(schedule) + self.batch_size * peak_stored(compile_plan(schedule), self.stored)

    def without_stored(self, schedule: Schedule) -> int:
        """What of that is there whatever is stored."""
        return self.base + (self.second if len(schedule.networks) > 1 else 0)


def megabytes(size: int) -> str:
    """`1,234 MB`."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e6:.3g} MB"


def footprint(networks: Sequence[Network], full: Schedule, batch_size: int) -> Footprint:
    """The footprint of one network or two, from the full schedule of the first, which stores nothing."""
    own = tensor_bytes(networks[0])
    base, second = own + working_bytes(networks[0], full, batch_size), tensor_bytes(*networks) - own
    return Footprint(base, tuple(stored_bytes(each, full) for each in networks), batch_size, second)


def working_bytes(network: Network, full: Schedule, batch_size: int) -> int:
    """What torch's allocator counts beyond what is there while calls of the full schedule run, and the decoder.

    0 on a CPU, where only whole processes are measured.
    """
    if network.device.type != "cuda":
        return 0
    kinds = {call.kind for step in compile_plan(full).steps for call in step.calls}
    before, most = torch.cuda.memory_allocated(network.device), 0
    with torch.inference_mode():
        for piece in (*call_pieces(network, 0, [full], kinds, batch_size), decode_piece(network, batch_size)):
            most = max(most, peak_memory(piece.run, network.device).num_bytes)
    return max(0, most - before)
