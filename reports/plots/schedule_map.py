"""A schedule's step × block matrix as a plain value, and its drawing in the terminal.

Every action has a letter as well as a colour, so that the map reads without colour: on paper or through a pipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group
from rich.text import Text

from ...backends.errors import printable
from ...backends.schedule import (
    Embedded,
    Measurement,
    Schedule,
    block_evaluations,
    branches_at,
    depths,
    embedded_guidance_at,
    guidance_at,
)


@dataclass(frozen=True)
class ActionLook:
    """How an action is written and coloured; `ink` is the colour of the letter on it."""

    letter: str
    name: str
    color: str
    ink: str


# Okabe and Ito's colours, which people with any common colour blindness can tell apart, from dark (costly) to light.
LOOKS: dict[tuple[str, int], ActionLook] = {
    ("run", 0): ActionLook("R", "run", "#0072b2", "#ffffff"),
    ("forecast", 2): ActionLook("2", "forecast, order 2", "#cc79a7", "#1b1b1f"),
    ("forecast", 1): ActionLook("1", "forecast, order 1", "#009e73", "#ffffff"),
    ("reuse", 0): ActionLook("u", "reuse", "#e69f00", "#1b1b1f"),
    ("drop", 0): ActionLook("d", "drop", "#dcdce2", "#1b1b1f"),
}


@dataclass(frozen=True)
class ScheduleMap:
    """A schedule, and what the drawings say of it.

    Attributes:
        title: the schedule's name, or its digest's first digits.
        words: solver, network, size, cost and guidance in one line.
        num_blocks: of the longest network.
        depths: how many blocks run at each step.
        branches: how many guidance branches are evaluated at each step, 1 or 2.
        guidance: the scale at each step and the treatment of the unconditional branch, in words; empty where unguided.
        block_evaluations: blocks that run for one image, each guidance branch counted.
        full_block_evaluations: the same if every block ran at these steps, in both branches where there is guidance.
        measured: one line for each measurement that the file carries.
    """

    schedule: Schedule
    title: str
    words: str
    num_blocks: int
    depths: tuple[int, ...]
    branches: tuple[int, ...]
    guidance: tuple[str, ...]
    block_evaluations: int
    full_block_evaluations: int
    measured: tuple[str, ...]

    @property
    def steps(self) -> list[list[ActionLook]]:
        """The look of each block at each step, from noise to data."""
        return [[LOOKS[action.kind, action.order] for action in step.blocks] for step in self.schedule.steps]

    @property
    def looks(self) -> list[ActionLook]:
        """The actions that occur, from costly to cheap."""
        used = {look.letter for looks in self.steps for look in looks}
        return [look for look in LOOKS.values() if look.letter in used]


def schedule_map(schedule: Schedule) -> ScheduleMap:
    """The map of a valid schedule."""
    count, order = schedule.num_steps, f" of order {schedule.sampler.order}" if schedule.sampler.order > 1 else ""
    networks = " and ".join(f"{each.architecture} with {each.num_blocks} blocks" for each in schedule.networks)
    ran = block_evaluations(schedule)
    whole = sum(
        schedule.networks[step.network].num_blocks * (2 if guidance_at(schedule, s) is not None else 1)
        for s, step in enumerate(schedule.steps)
    )
    cost = f"{ran} of {whole} block evaluations ({ran / whole:.0%})"
    words = [f"{count} steps of {schedule.sampler.name}{order}, {networks}", cost, *_summary_of_guidance(schedule)]
    return ScheduleMap(
        schedule,
        title=printable(schedule.name or f"schedule {schedule.digest[:12]}"),
        words=printable(", ".join(words)),
        num_blocks=max(network.num_blocks for network in schedule.networks),
        depths=tuple(depths(schedule)),
        branches=tuple(len(branches_at(schedule, s)) for s in range(count)),
        guidance=tuple(_guidance(schedule, s) for s in range(count)),
        block_evaluations=ran,
        full_block_evaluations=whole,
        measured=tuple(printable(_measurement(entry)) for entry in schedule.measured),
    )


def _guidance(schedule: Schedule, s: int) -> str:
    scale, embedded = guidance_at(schedule, s), embedded_guidance_at(schedule, s)
    if embedded is not None:
        return f"{embedded:g} embedded"
    if scale is None:
        return "none" if schedule.guidance else ""
    return {"run": f"{scale:g}", "skip": "skipped", "reuse": f"{scale:g} reused"}[schedule.steps[s].unconditional]


def _summary_of_guidance(schedule: Schedule) -> list[str]:
    """Such as `guidance 1.5 at 14 of 20 steps`; nothing without guidance."""
    if schedule.guidance is None:
        return []
    if isinstance(schedule.guidance, Embedded):
        return [f"embedded guidance {schedule.guidance.scale:g}"]
    count = schedule.num_steps
    evaluated = sum(len(branches_at(schedule, s)) == 2 for s in range(count))
    where = "" if evaluated == count else f" at {evaluated} of {count} steps"
    return [f"guidance {schedule.guidance.scale:g}{where}"]


def _measurement(entry: Measurement) -> str:
    interval = f" ({entry.interval[0]:g} to {entry.interval[1]:g})" if entry.interval else ""
    seeds = f" of {entry.seeds} seeds" if entry.seeds else ""
    speed = f", {entry.images_per_second:g} images/s" if entry.images_per_second else ""
    return f"{entry.metric} {entry.value:g}{interval} on {entry.num_images} images{seeds}{speed}"


# ---- in the terminal -------------------------------------------------------------------------------------------------


def terminal(info: ScheduleMap) -> Group:
    """One line a step: index, time, depth, guidance, and a letter a block. Print it with `soft_wrap=True`."""
    measured = (Text(f"measured: {line}") for line in info.measured)
    legend = Text("steps go down from noise to data, blocks to the right:  ")
    for look in info.looks:
        legend.append(look.letter, style=f"{look.ink} on {look.color}").append(f" {look.name}   ")
    return Group(Text(info.title, style="bold"), Text(info.words), *measured, Text(), *_rows(info), Text(), legend)


def _rows(info: ScheduleMap) -> Iterator[Text]:
    steps = info.schedule.steps
    columns = [
        ["step", *map(str, range(len(steps)))],
        ["time", *(f"{step.time:.6g}" for step in steps)],
        ["depth", *map(str, info.depths)],
    ]
    if any(info.guidance):
        columns.append(["guidance", *info.guidance])
    if any(step.network for step in steps):
        columns.append(["net", *(str(step.network) for step in steps)])
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    heads, *rows = ("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    # Every tenth block has its number above its column.
    ruler = "".join(f"{block:<10}" for block in range(0, info.num_blocks, 10))[: max(info.num_blocks, 1)].rstrip()
    yield Text(f"{heads}  {ruler}", style="dim")
    for row, looks in zip(rows, info.steps, strict=True):
        line = Text(f"{row}  ")
        for look in looks:
            line.append(look.letter, style=f"{look.ink} on {look.color}")
        yield line
