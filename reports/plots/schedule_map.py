"""A schedule's step × block matrix as a plain value, and its drawing in the terminal.

Every action has a letter as well as a colour, so that the map reads without colour: on paper or through a pipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group
from rich.text import Text

from ...backends.errors import printable
from ...backends.schedule import Embedded, Measurement, Schedule, branches_at, embedded_guidance_at, guidance_at


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
class MapStep:
    """One step of the map.

    Attributes:
        time: as the schedule has it.
        network: index of the network.
        actions: one (kind, order) a block, in execution order.
        depth: how many blocks run.
        branches: how many guidance branches are evaluated, 1 or 2.
        guidance: the scale and what is done with the unconditional branch, in words; empty where there is no guidance.
    """

    time: float
    network: int
    actions: tuple[tuple[str, int], ...]
    depth: int
    branches: int
    guidance: str


@dataclass(frozen=True)
class ScheduleMap:
    """All that the drawings show.

    Attributes:
        title: the schedule's name, or its digest's first digits.
        summary: solver, network and size, in words.
        guidance: the scale, and at how many steps the unconditional branch is evaluated; empty without guidance.
        steps: in sampling order, from noise to data.
        num_blocks: of the longest network.
        block_evaluations: blocks that run for one image, each guidance branch counted.
        full_block_evaluations: the same if every block ran at these steps, in both branches where there is guidance.
        measured: one line for each measurement that the file carries.
    """

    title: str
    summary: str
    guidance: str
    steps: tuple[MapStep, ...]
    num_blocks: int
    block_evaluations: int
    full_block_evaluations: int
    measured: tuple[str, ...]

    @property
    def looks(self) -> list[ActionLook]:
        """The actions that occur, from costly to cheap."""
        used = {action for step in self.steps for action in step.actions}
        return [look for action, look in LOOKS.items() if action in used]

    @property
    def num_networks(self) -> int:
        return 1 + max(step.network for step in self.steps)

    @property
    def words(self) -> str:
        """Size, cost and guidance in one line."""
        share = self.block_evaluations / self.full_block_evaluations
        cost = f"{self.block_evaluations} of {self.full_block_evaluations} block evaluations ({share:.0%})"
        return ", ".join([self.summary, cost, *([self.guidance] if self.guidance else [])])


def schedule_map(schedule: Schedule) -> ScheduleMap:
    """The map of a valid schedule."""
    steps = tuple(_step(schedule, s) for s in range(schedule.num_steps))
    networks = [f"{network.architecture} with {network.num_blocks} blocks" for network in schedule.networks]
    order = f" of order {schedule.sampler.order}" if schedule.sampler.order > 1 else ""
    return ScheduleMap(
        title=printable(schedule.name or f"schedule {schedule.digest[:12]}"),
        summary=printable(f"{schedule.num_steps} steps of {schedule.sampler.name}{order}, {' and '.join(networks)}"),
        guidance=_summary_of_guidance(schedule),
        steps=steps,
        num_blocks=max(network.num_blocks for network in schedule.networks),
        block_evaluations=sum(step.depth * step.branches for step in steps),
        full_block_evaluations=sum(_full(schedule, s) for s in range(schedule.num_steps)),
        measured=tuple(printable(_measurement(entry)) for entry in schedule.measured),
    )


def _step(schedule: Schedule, s: int) -> MapStep:
    step = schedule.steps[s]
    return MapStep(
        time=step.time,
        network=step.network,
        actions=tuple((action.kind, action.order) for action in step.blocks),
        depth=sum(action.kind == "run" for action in step.blocks),
        branches=len(branches_at(schedule, s)),
        guidance=_guidance(schedule, s),
    )


def _guidance(schedule: Schedule, s: int) -> str:
    scale, embedded = guidance_at(schedule, s), embedded_guidance_at(schedule, s)
    if embedded is not None:
        return f"{embedded:g} embedded"
    if scale is None:
        return "none" if schedule.guidance else ""
    return {"run": f"{scale:g}", "skip": "skipped", "reuse": f"{scale:g} reused"}[schedule.steps[s].unconditional]


def _summary_of_guidance(schedule: Schedule) -> str:
    """Such as `guidance 1.5 at 14 of 20 steps`."""
    if schedule.guidance is None:
        return ""
    count = schedule.num_steps
    if isinstance(schedule.guidance, Embedded):
        return f"embedded guidance {schedule.guidance.scale:g}"
    evaluated = sum(len(branches_at(schedule, s)) == 2 for s in range(count))
    where = "" if evaluated == count else f" at {evaluated} of {count} steps"
    return f"guidance {schedule.guidance.scale:g}{where}"


def _full(schedule: Schedule, s: int) -> int:
    num_blocks = schedule.networks[schedule.steps[s].network].num_blocks
    return num_blocks * (2 if guidance_at(schedule, s) is not None else 1)


def _measurement(entry: Measurement) -> str:
    interval = f" ({entry.interval[0]:g} to {entry.interval[1]:g})" if entry.interval else ""
    seeds = f" of {entry.seeds} seeds" if entry.seeds else ""
    speed = f", {entry.images_per_second:g} images/s" if entry.images_per_second else ""
    return f"{entry.metric} {entry.value:g}{interval} on {entry.num_images} images{seeds}{speed}"


# ---- in the terminal -------------------------------------------------------------------------------------------------


def terminal(info: ScheduleMap) -> Group:
    """One line a step: index, time, depth, guidance, and a letter a block. Print it with `soft_wrap=True`."""
    return Group(*_header(info), Text(), *_rows(info), Text(), _legend(info))


def _header(info: ScheduleMap) -> Iterator[Text]:
    yield Text(info.title, style="bold")
    yield Text(info.words)
    for line in info.measured:
        yield Text(f"measured: {line}")


def _rows(info: ScheduleMap) -> Iterator[Text]:
    table = [_columns(info, s) for s in range(len(info.steps))]
    heads = (
        "step",
        "time",
        "depth",
        *(["guidance"] if _is_guided(info) else []),
        *(["net"] if info.num_networks > 1 else []),
    )
    widths = [max(len(head), *(len(row[n]) for row in table)) for n, head in enumerate(heads)]
    prefix = "  ".join(head.rjust(width) for head, width in zip(heads, widths, strict=True))
    yield Text(f"{prefix}  {_ruler(info.num_blocks)}", style="dim")
    for row, step in zip(table, info.steps, strict=True):
        line = Text("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + "  ")
        for action in step.actions:
            look = LOOKS[action]
            line.append(look.letter, style=f"{look.ink} on {look.color}")
        yield line


def _columns(info: ScheduleMap, s: int) -> list[str]:
    step = info.steps[s]
    columns = [str(s), f"{step.time:.6g}", str(step.depth)]
    columns += [step.guidance] if _is_guided(info) else []
    return columns + ([str(step.network)] if info.num_networks > 1 else [])


def _is_guided(info: ScheduleMap) -> bool:
    return any(step.guidance for step in info.steps)


def _ruler(num_blocks: int) -> str:
    """Block numbers, every tenth one at its column."""
    return "".join(f"{block:<10}" for block in range(0, num_blocks, 10))[: max(num_blocks, 1)].rstrip()


def _legend(info: ScheduleMap) -> Text:
    line = Text("steps go down from noise to data, blocks to the right:  ")
    for look in info.looks:
        line.append(look.letter, style=f"{look.ink} on {look.color}").append(f" {look.name}   ")
    return line
