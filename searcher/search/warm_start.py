"""The first proposals of a search, from what other studies found: `exeunt optimize --warm-start`.

A source is a schedule file, a folder of them, or the front of another study. Its schedules may have other numbers of
steps, blocks and other noise; each becomes the nearest one of this study's space and is measured as any proposal.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...backends.checkpoints.files import is_folder
from ...backends.errors import InputError
from ...backends.schedule import SUFFIX, Schedule, block_evaluations, load
from ...reports.view.loading import load_view
from ...studies.database.errors import corrupt_rows
from ...studies.database.urls import storage_url
from ...studies.store.store import only_study, open_store
from ..measuring.setup import StudySetup
from ..spaces.base import Space
from ..spaces.free import Free
from ..spaces.levers import Parameters
from ..spaces.nearest import Nearest, nearest

_T = TypeVar("_T")

MOST_WARM = 12  # spread over what they cost: each takes an evaluation of the budget


@dataclass(frozen=True)
class _Source:
    """Schedules, and the words for where they came from."""

    words: str
    schedules: Sequence[Schedule]


def warm_points(sources: Sequence[str], study_setup: StudySetup, say: Callable[[str], object]) -> list[Parameters]:
    """The points of the study's space to propose first, the most different in cost first.

    Args:
        sources: schedule files, folders of them, or databases: a file or URL, with #STUDY where it holds several.
        say: told what is taken of each source, and what of it is adapted.

    Raises:
        InputError, ScheduleError: a source can't be read, or holds nothing that this study's space can express.
    """
    if not sources:
        return []
    space = study_setup.space
    read = [_read(each) for each in sources]
    full = study_setup.frame.full.digest
    pairs: list[tuple[_Source, Nearest]] = []
    for source in read:
        found = [near for each in source.schedules if (near := _expressed(space, each)) is not None]
        if not found:
            raise _nothing(space, source)
        pairs += [(source, near) for near in found]
    unique = {near.schedule.digest: (source, near) for source, near in reversed(pairs) if near.schedule.digest != full}
    chosen = spread(list(unique.values())[::-1], lambda pair: block_evaluations(pair[1].schedule), MOST_WARM)
    for source in read:
        say(_told(source, [near for origin, near in chosen if origin is source]))
    return [near.parameters for _, near in chosen]


def spread(items: Sequence[_T], cost: Callable[[_T], float], count: int) -> list[_T]:
    """So many items, each next one the farthest in log cost from those before it, from the middle one on."""
    left = sorted(items, key=cost)
    if not left:
        return []
    places = {id(each): math.log(max(cost(each), 1e-9)) for each in left}
    taken = [left.pop((len(left) - 1) // 2)]
    while left and len(taken) < count:
        gaps = [min(abs(places[id(each)] - places[id(other)]) for other in taken) for each in left]
        taken.append(left.pop(gaps.index(max(gaps))))
    return taken


def _read(source: str) -> _Source:
    """The schedules of a source. Raises what reading it does."""
    path = Path(source)
    if is_folder(path):
        files = sorted(path.glob(f"*{SUFFIX}"))
        if not files:
            raise InputError(f"warm-start: {source} holds no file *{SUFFIX}. Give schedule files, or a database.")
        return _Source(source, [load(each) for each in files])
    if source.endswith(".json"):
        return _Source(source, [load(path)])
    return _front(source)


def _front(source: str) -> _Source:
    """The front of another study: what was measured on final seeds, then what the search values show."""
    where, mark, name = source.rpartition("#") if "#" in source and not Path(source).exists() else (source, "", "")
    url = storage_url(where)
    study = only_study(url, name if mark else None)
    with open_store(url, read_only=True) as store, corrupt_rows(store.url):
        view = load_view(store, study)
        front = dict.fromkeys([*view.front("final"), *view.front("search")])
        schedules = [point.schedule for point in front]
    if not schedules:
        raise InputError(f"warm-start: study `{study}` has measured no front yet. Give another source, or omit it.")
    return _Source(f"study `{study}`", schedules)


def _expressed(space: Space, schedule: Schedule) -> Nearest | None:
    """What a space has of a schedule; spaces other than `free` only what they hold exactly."""
    if isinstance(space, Free):
        return nearest(space, schedule)
    found = space.parameters(schedule)
    return None if found is None else Nearest(found, schedule)


def _nothing(space: Space, source: _Source) -> InputError:
    if isinstance(space, Free):
        fix = "its networks must be chains of blocks where this one is, and stages where it has stages. Omit it."
    else:
        fix = "only the space `free` adapts others' schedules. Use --space free, or omit it."
    return InputError(f"warm-start: no schedule of {source.words} is in the space `{space.name}`; {fix}")


def _told(source: _Source, chosen: Sequence[Nearest]) -> str:
    """`warm start: 8 of 15 schedules of study `demo`; adapted: depths rescaled from 28 to 12 blocks (8)`."""
    counts = Counter(change for each in chosen for change in each.changes)
    adapted = "; adapted: " + ", ".join(f"{change} ({count})" for change, count in counts.items()) if counts else ""
    return f"warm start: {len(chosen)} of {len(source.schedules)} schedules of {source.words}{adapted}"
