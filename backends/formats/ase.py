"""ASE's ten depths (Moon et al. 2024, arXiv 2408.05927), next to the data first: how many leading blocks run in each
tenth of the 1,000 train timesteps.

Standard library only.
"""

import json
from typing import NoReturn

from ..schedule import DROP, RUN, Schedule, ScheduleError, Step, with_exits
from .masks import network_of
from .parsing import numbers, refuse, shortened

_NAME = "ase"


def write_ase(schedule: Schedule) -> str:
    """Ten integers as a JSON list, next to the data first. A tenth that no step visits takes the depth of the next
    visited one towards the data, or else towards the noise. Raises ScheduleError for what ten depths cannot say."""
    _check_ase_sampling(schedule)
    found: dict[int, int] = {}
    for s, step in enumerate(schedule.steps):
        tenth, depth = int(step.time) // 100, _ase_depth(step, f"step {s}")
        if found.setdefault(tenth, depth) != depth:
            rule = f"step {s}: ASE has one depth for times {100 * tenth} to {100 * tenth + 99}"
            _refuse("ase-depth-varies", rule, f"{depth} after {found[tenth]}", "Use one exit depth in each tenth.")
    ten = [found[min(found, key=lambda known: (known > tenth, abs(known - tenth)))] for tenth in range(10)]
    return f"{ten}\n"


def read_ase(text: str, base: Schedule | None) -> Schedule:
    """Ten integers, with commas or as a JSON list, on the solver, times and guidance of `base`: entry t // 100 for the
    train timestep t, so that the first one is next to the data; the blocks after the depth are dropped.

    Raises:
        InputError: the text is not integers.
        ScheduleError: they are not ten, or do not fit the network or the times of `base`.
    """
    base, _ = network_of(base, _NAME)
    depths = [depth for depth in numbers(text) or [] if isinstance(depth, int)]
    if not depths or len(depths) != len(numbers(text) or []):
        got = shortened(text.strip())
        refuse(_NAME, "depths must be ten integers with commas, or a JSON list of them", got, "Write such as 28,28,24.")
    _check_ase_sampling(base)
    if len(depths) != 10:
        _refuse("ase-count", "ASE's schedule must have 10 depths", len(depths), "Give one a tenth of 0..999.")
    most, num_blocks = max(depths), base.networks[0].num_blocks
    if most > num_blocks:
        rule = f"depths must be at most the {num_blocks} blocks of --base"
        _refuse("exit-range", rule, f"a row for {most} blocks or more", f"Give the base of a network of {most} blocks.")
    return with_exits(base, [depths[int(step.time) // 100] for step in base.steps])


def _ase_depth(step: Step, where: str) -> int:
    depth = sum(action == RUN for action in step.blocks)
    for j, action in enumerate(step.blocks):
        if action != (RUN if j < depth else DROP):
            rule = f"{where}, block {j}: ASE can only run leading blocks and drop the rest"
            _refuse("ase-action", rule, f'"{action.kind}"', 'Use "exit".')
    if step.unconditional != "run" or step.guidance != "inherit":
        got = f'"guidance": {json.dumps(step.guidance)} and "unconditional": "{step.unconditional}"'
        _refuse("ase-guidance", f"{where}: ASE has no guidance per step", got, "Remove both keys from the step.")
    return depth


def _check_ase_sampling(schedule: Schedule) -> None:
    sampler, networks = schedule.sampler, schedule.networks
    if len(networks) != 1:
        _refuse("ase-networks", "ASE has one network", len(networks), "Use a schedule with one network.")
    if networks[0].granularity != "block":
        got = f'granularity "{networks[0].granularity}"'
        _refuse("ase-granularity", "ASE counts whole blocks", got, 'Use granularity "block".')
    if sampler.time != "train-index" or sampler.noise.num_timesteps != 1000:
        length = sampler.noise.num_timesteps
        got = f'time "{sampler.time}"' + (f" with {length} train timesteps" if length else "")
        _refuse("ase-time", "ASE counts 1000 train timesteps", got, "Use a schedule on 1000 train indices.")


def _refuse(identifier: str, rule: str, got: object, fix: str) -> NoReturn:
    raise ScheduleError(identifier, f"{rule}, but got {got}. {fix}")
