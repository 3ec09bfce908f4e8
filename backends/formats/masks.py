"""What the files of caching runtimes can say of a schedule: which blocks run at which step; the others are reused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from ..schedule import REUSE, RUN, NetworkSignature, Schedule, validate
from .parsing import refuse

Mask: TypeAlias = list[list[bool]]  # (steps, blocks), true where the block runs


def check_one_kind_of_step(schedule: Schedule, name: str) -> None:
    """Refuses several networks, and guidance that changes from step to step: no such file has a place for them."""
    if len(schedule.networks) != 1:
        refuse(name, "the format knows one network", len(schedule.networks), "Use a schedule with one network.")
    scale = schedule.guidance.scale if schedule.guidance else None
    for s, step in enumerate(schedule.steps):
        if step.guidance not in ("inherit", scale) or step.unconditional != "run":
            got = f'"guidance": {"null" if step.guidance is None else step.guidance}'
            if step.unconditional != "run":
                got = f'"unconditional": "{step.unconditional}"'
            refuse(name, f"step {s}: the format has no guidance per step", got, "Remove the key from the step.")


def mask_of(schedule: Schedule, name: str) -> Mask:
    """Where each block runs. Raises InputError for what is neither `run` nor `reuse`, and as the check above."""
    check_one_kind_of_step(schedule, name)
    for s, step in enumerate(schedule.steps):
        for j, action in enumerate(step.blocks):
            if action.kind not in ("run", "reuse"):
                rule = f"step {s}, block {j}: the format can only run or reuse"
                refuse(name, rule, f'"{action.kind}"', 'Use "run" or "reuse", or the format exeunt.')
    return [[action == RUN for action in step.blocks] for step in schedule.steps]


def network_of(base: Schedule | None, name: str) -> tuple[Schedule, NetworkSignature]:
    """The base that a file needs for what it leaves out, and its one network."""
    if base is None:
        rule = "a file holds no solver, times and guidance, so a schedule that has them must be given"
        refuse(name, rule, "none", "Give --base FILE.")
    if len(base.networks) != 1:
        refuse(name, "--base must have one network", len(base.networks), "Use a schedule with one network.")
    return base, base.networks[0]


def check_num_steps(found: int, base: Schedule, name: str, where: str) -> None:
    """Refuses a file for another number of steps: its entries would meet other times than they were made for."""
    if found != base.num_steps:
        rule = f"{where} must have an entry for each step of --base, {base.num_steps} in all"
        refuse(name, rule, found, f"Give --base a schedule of {found} steps.")


def on_base(base: Schedule, signature: NetworkSignature, mask: Sequence[Sequence[bool]]) -> Schedule:
    """The solver, times and guidance of `base` with the actions of a mask.

    A block that should be reused before it ever ran does run, as it does in the runtimes whose files these are.

    Raises:
        ScheduleError: the result breaks a rule of the schedule file.
    """
    stored = [False] * signature.num_blocks
    steps = list(base.steps)
    for s, row in enumerate(mask):
        runs = [run or not known for run, known in zip(row, stored, strict=True)]
        stored = [run or known for run, known in zip(runs, stored, strict=True)]
        steps[s] = replace(steps[s], blocks=tuple(RUN if run else REUSE for run in runs), network=0)
    schedule = replace(base, networks=(signature,), steps=tuple(steps), name=None, measured=(), provenance=None)
    validate(schedule)
    return schedule
