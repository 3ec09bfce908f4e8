"""SmoothCache's JSON (Liu et al. 2024, arXiv 2411.10510): which branches are computed at which step.

An object of lists with an entry a call of the network, 1 = compute, 0 = the output that was computed last. A key is a
branch's name and a block's index, `attn-0`, or the name alone for every block that has no list of its own; branches
without a list are always computed. What is kept is the branch's output before its gate.

Standard library only.
"""

import json
import re

from ..schedule import REUSE, NetworkSignature, Schedule
from .branches import at_branch, branches_of, num_transformer_blocks
from .masks import Mask, check_num_steps, mask_of, network_of, on_base
from .parsing import bits, mapping, parse_json, refuse, shortened

_NAME = "smoothcache"
# Networks that are called once a step: an entry is a call, so a second one would meet the next step's.
_ARCHITECTURES = ("DiT", "DiTTransformer2DModel", "PixArtTransformer2DModel")
# The names in files that were made for facebookresearch/DiT, also on the same network under diffusers' names.
GENERAL = {"attn": 0, "mlp": -1}


def write_smoothcache(schedule: Schedule) -> str:
    """The file's text: one list a branch for all blocks where they agree, else one for each block.

    Raises:
        InputError: the schedule says more than that; the message says what, and the way out.
    """
    mask, signature = mask_of(schedule, _NAME), schedule.networks[0]
    branches = _branches(signature)
    if signature.granularity == "block":
        check_no_block_reuse(schedule, _NAME)
        mask = [[run for run in row for _ in branches] for row in mask]
    lists = {
        branch: [[int(row[j]) for row in mask] for j in range(index, len(mask[0]), len(branches))]
        for index, branch in enumerate(branches)
    }
    if all(column == columns[0] for columns in lists.values() for column in columns):
        content = {branch: columns[0] for branch, columns in lists.items()}
    else:
        count = num_transformer_blocks(signature)
        content = {f"{branch}-{j}": lists[branch][j] for j in range(count) for branch in branches}
    return "{" + ",\n ".join(f"{json.dumps(key)}: {json.dumps(column)}" for key, column in content.items()) + "}\n"


def _branches(signature: NetworkSignature) -> tuple[str, ...]:
    """The branches of a block of a network that SmoothCache runs."""
    if signature.architecture not in _ARCHITECTURES:
        rule = f"the format is for {', '.join(_ARCHITECTURES)}, called once a step"
        refuse(_NAME, rule, f"`{signature.architecture}`", "Use the format exeunt.")
    return branches_of(signature)


def check_no_block_reuse(schedule: Schedule, name: str) -> None:
    """Refuses `reuse` of whole blocks: it adds what a block added under older gates, so the images would differ."""
    for s, step in enumerate(schedule.steps):
        for j, action in enumerate(step.blocks):
            if action == REUSE:
                rule = f"step {s}, block {j}: the format reuses the outputs of branches, before their gates"
                fix = "Run: exeunt schedule convert FILE --granularity branch (another schedule, other images)."
                refuse(name, rule, '"reuse" of a whole block', fix)


def read_smoothcache(text: str, base: Schedule | None) -> Schedule:
    """The file on the solver, times and guidance of `base`, at granularity `branch`.

    Raises:
        InputError: the file breaks its format, or does not fit the network or the steps of `base`.
    """
    base, signature = network_of(base, _NAME)
    branches = _branches(signature)
    signature, num_blocks = at_branch(signature), num_transformer_blocks(signature)
    general: dict[int, list[bool]] = {}
    own: dict[tuple[int, int], list[bool]] = {}
    for key, value in mapping(parse_json(text, _NAME), _NAME, "the file").items():
        branch, block = _place(key, branches, num_blocks)
        column = bits(value, _NAME, shortened(key))
        check_num_steps(len(column), base, _NAME, shortened(key))
        if (branch in general) if block is None else ((block, branch) in own):
            refuse(_NAME, "each branch must have one list", f"a second one, {shortened(key)}", "Remove one.")
        if block is None:
            general[branch] = column
        else:
            own[block, branch] = column
    always = [True] * base.num_steps
    columns = [own.get((j, k), general.get(k, always)) for j in range(num_blocks) for k in range(len(branches))]
    mask: Mask = [[column[s] for column in columns] for s in range(base.num_steps)]
    return on_base(base, signature, mask)


def _place(key: str, branches: tuple[str, ...], num_blocks: int) -> tuple[int, int | None]:
    """The branch of a key, and the block, or None where the key is for all blocks."""
    branch, _, index = key.partition("-")
    if branch in branches:
        place = branches.index(branch)
    elif branch in GENERAL:
        place = GENERAL[branch] % len(branches)
    else:
        rule = f"keys must name a branch of the network ({', '.join(branches)})"
        refuse(_NAME, rule, shortened(key), f'Write such as "{branches[0]}-0".')
    if key == branch:
        return place, None
    if not re.fullmatch("[0-9]{1,6}", index) or int(index) >= num_blocks:
        rule = f"{shortened(key)}: the block must be from 0 to {num_blocks - 1}"
        refuse(_NAME, rule, shortened(index), "Give --base a schedule of the network that the file is for.")
    return place, int(index)
