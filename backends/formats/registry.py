"""The files that schedules go out to and come in from: one table, and the guess which of them a text is.

None of it costs torch.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, cast

from ..errors import InputError
from ..schedule import SUFFIX, Schedule, dumps, parse
from ..solvers.tables import has_own_rows, with_coefficients
from .ase import read_ase, write_ase
from .cache_dit import cache_dit_unread, parse_yaml, read_cache_dit, write_cache_dit
from .ecad import read_ecad, write_ecad
from .parsing import numbers, shortened
from .smoothcache import read_smoothcache, write_smoothcache
from .times import read_times, write_times


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: of its files.
        read: (text, base) -> the schedule; `base` gives what the format leaves out. None: the format is only written.
        write: schedule -> text.
        leaves_out: what a file has no place for, of SOLVER, TIMES and GUIDANCE.
        unread: text -> the names of what a file says that a schedule has no place for, and that changes none.

    `read` and `write` raise InputError or ScheduleError for what they refuse; the message has the rule, the value and
    the fix.
    """

    suffix: str
    read: Callable[[str, Schedule | None], Schedule] | None
    write: Callable[[Schedule], str]
    leaves_out: tuple[str, ...] = ()
    unread: Callable[[str], list[str]] = lambda text: []


def _read_own(text: str, base: Schedule | None) -> Schedule:
    if base is not None:
        raise InputError(
            "--base: is for files of other runtimes, but got a schedule file, which is complete. Omit --base."
        )
    return parse(text)


SOLVER, TIMES, GUIDANCE = "solver", "times", "guidance"
SAMPLING = (SOLVER, TIMES, GUIDANCE)
FORMATS: dict[str, Format] = {
    # Our own file, for runtimes without solver code; and as it stands, the solver by name.
    "exeunt": Format(SUFFIX, _read_own, lambda schedule: dumps(with_coefficients(schedule))),
    "schedule": Format(SUFFIX, _read_own, dumps),
    "ase": Format(".ase.txt", read_ase, write_ase, SAMPLING),
    "smoothcache": Format(".smoothcache.json", read_smoothcache, write_smoothcache, SAMPLING),
    "ecad": Format(".ecad.json", read_ecad, write_ecad, (SOLVER, TIMES)),
    "cache-dit": Format(".cache-dit.yaml", read_cache_dit, write_cache_dit, SAMPLING, cache_dit_unread),
    "timesteps": Format(".times.json", read_times, write_times, (SOLVER, GUIDANCE)),
}


def find_format(name: str, flag: str = "--format", others: Sequence[str] = ()) -> Format:
    """The format of that name. Raises InputError with the nearest name; `others` are what the flag takes besides."""
    if name not in FORMATS:
        known = [*FORMATS, *others]
        near = get_close_matches(name, known, n=1) or ["exeunt"]
        raise InputError(f'{flag}: must be one of {", ".join(known)}, but got "{name}". Use {flag} {near[0]}.')
    return FORMATS[name]


def left_out(name: str, schedule: Schedule) -> str | None:
    """A sentence with what a file of this format does not hold, and its values in this schedule; None for nothing."""
    sampler, times = schedule.sampler, [step.time for step in schedule.steps]
    rows = ", with coefficients of its own" if has_own_rows(schedule) else ""
    scale = None if schedule.guidance is None else schedule.guidance.scale
    values = {
        SOLVER: f"the solver ({sampler.name}, order {sampler.order}{rows})",
        TIMES: f"the {len(times)} times ({times[0]:g} to {times[-1]:g})",
        GUIDANCE: "guidance (none)" if scale is None else f"guidance ({scale:g})",
    }
    parts = [values[part] for part in FORMATS[name].leaves_out]
    if not parts:
        return None
    listed = ", ".join(parts[:-1]) + " and " + parts[-1]
    return f"A file of format {name} does not contain {listed}: set them in the runtime that reads it."


def sniff(text: str, base: Schedule | None = None) -> str:
    """The name of the format that a text is in, by its content.

    Raises:
        InputError: it is in none, or may be in two: ten small numbers that fall are ASE's depths or times.
    """
    found = numbers(text)
    if found is not None:
        return "ase" if _is_written(text, found, base) else _depths_or_times(found, base)
    document = _document(text)
    keys = set(document)
    if keys & {"format", "networks", "sampler", "steps"}:
        return "schedule"
    if "cache_schedule" in keys:
        return "ecad"
    if keys & {"cache_config", "steps_computation_mask"}:
        return "cache-dit"
    if keys and all(isinstance(value, list) for value in document.values()):
        return "smoothcache"
    raise InputError(
        f"--from: the text is in no known format: {shortened(text.strip())}. "
        f"Say which with --from: {', '.join(FORMATS)}."
    )


def _document(text: str) -> dict[Any, Any]:
    """The object that a JSON or YAML text holds; an empty one where it holds something else."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = parse_yaml(text)
        except InputError:
            value = None
    return cast(dict[Any, Any], value) if isinstance(value, dict) else {}


MOST_DEPTH = 100  # a falling list that begins above it is one of times, whatever the number of blocks


def named_by_suffix(path: str) -> str | None:
    """The format that a file's name says, as `exeunt export` names its files; None where it says none."""
    return next((name for name, kind in reversed(FORMATS.items()) if path.endswith(kind.suffix)), None)


def _is_written(text: str, found: list[int | float], base: Schedule | None) -> bool:
    """Whether these are depths as `write_ase` writes them: whole numbers in brackets, far below the times of `base`."""
    if base is None or base.sampler.time != "train-index" or len(found) != 10 or not text.lstrip().startswith("["):
        return False
    return all(isinstance(each, int) for each in found) and 2 * max(found) < base.steps[0].time


def _depths_or_times(found: list[int | float], base: Schedule | None) -> str:
    num_blocks = max((network.num_blocks for network in base.networks), default=0) if base else 0
    times = all(after < before for before, after in pairwise(found))
    depths = len(found) == 10 and all(isinstance(each, int) for each in found)
    if depths and times and max(found) <= max(num_blocks, MOST_DEPTH if base else max(found)):
        raise InputError(
            f"--from: {shortened(found)} may be ASE's depths or times. Add --from ase or --from timesteps."
        )
    return "ase" if depths and not times else "timesteps"
