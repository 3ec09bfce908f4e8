"""The branches of a transformer block, by the name of the network's class: what `granularity: branch` counts.

Standard library only.
"""

from collections.abc import Mapping
from dataclasses import replace

from ..errors import InputError
from ..schedule import NetworkSignature, Schedule

# The modules of a block whose outputs are added to the hidden state, each under its gate, in execution order, as the
# network's own code names them. In all of these a branch's output is one tensor.
BRANCHES: Mapping[str, tuple[str, ...]] = {
    "DiT": ("attn", "mlp"),
    "DiTTransformer2DModel": ("attn1", "ff"),
    "PixArtTransformer2DModel": ("attn1", "attn2", "ff"),
    "WanTransformer3DModel": ("attn1", "attn2", "ffn"),
}


def branches_of(signature: NetworkSignature) -> tuple[str, ...]:
    """The names of a block's branches. Raises InputError where the network's class is not known here."""
    if signature.architecture not in BRANCHES:
        raise InputError(
            f"granularity: branches are known of {', '.join(BRANCHES)}, but got `{signature.architecture}`. "
            "Use whole blocks."
        )
    return BRANCHES[signature.architecture]


def num_transformer_blocks(signature: NetworkSignature) -> int:
    """How many transformer blocks a network has, whatever its signature counts."""
    if signature.granularity == "block":
        return signature.num_blocks
    count, rest = divmod(signature.num_blocks, len(branches_of(signature)))
    if rest:
        raise InputError(
            f"granularity: `{signature.architecture}` has {len(branches_of(signature))} branches a block, "
            f"but got {signature.num_blocks} branches in all. Give the schedule of a whole network."
        )
    return count


def at_branch(signature: NetworkSignature) -> NetworkSignature:
    """The same weights, counted by branch.

    Raises:
        InputError: the network's branches are not known here, or its blocks are not all residual.
    """
    if signature.granularity == "branch":
        return signature
    branches = branches_of(signature)
    other = next((kind for kind in signature.block_kinds if kind != "residual"), None)
    if other is not None:
        raise InputError(f'granularity: only residual blocks have branches, but got "{other}". Use whole blocks.')
    return replace(signature, granularity="branch", kinds=(("branch", signature.num_blocks * len(branches)),))


def by_branch(schedule: Schedule) -> Schedule:
    """The same actions with each block's done to all of its branches.

    With `reuse` and `forecast` this is another schedule, of slightly other images: a block's stored value is what it
    added under the gates of its own step, and a branch's stored output goes under the gates of the step that reads it.
    So name, measurements and provenance are left behind.

    Raises:
        InputError: as `at_branch`.
    """
    signatures = tuple(at_branch(signature) for signature in schedule.networks)
    widths = [new.num_blocks // old.num_blocks for new, old in zip(signatures, schedule.networks, strict=True)]
    steps = tuple(
        replace(step, blocks=tuple(action for action in step.blocks for _ in range(widths[step.network])))
        for step in schedule.steps
    )
    return replace(schedule, networks=signatures, steps=steps, name=None, measured=(), provenance=None)
