"""All baselines of a study measured together, without a search: on the same noises, timed, in one database.

It is an ordinary study: an interrupted one goes on, workers may share it, and a later search finds all of its values.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...backends.network import Network
from ...backends.sampling.conditions import Conditions
from ...studies.config.study import StudyConfig
from ...studies.store.records import summarized
from ...studies.workers.shared_state import BASELINES, FRONT, SEARCHING
from ..measuring.defaults import make_frame, resolve_defaults
from ..measuring.setup import load_networks, make_conditions, resolve_device
from ..runner import StudyRequest, open_study, report_study
from ..search.front import measure_front
from ..search.loop import measure_all, measure_baselines
from ..spaces.candidates import Candidate, list_baselines
from ..spaces.frame import FullSchedule
from .files import read_files
from .smoothcache import smoothcache


def gather(
    config: StudyConfig,
    networks: Mapping[str, Sequence[Network]],
    frames: Mapping[str, FullSchedule],
    conditions: Conditions | None,
    files: Sequence[Path] = (),
    check: Callable[[], None] = lambda: None,
) -> list[Candidate]:
    """The families of a configuration, then SmoothCache's of a calibration, then those of files.

    Args:
        networks, frames: by the names of the weights; the study's own come first. A small network stands beside each.
        conditions: what images of the calibration show; None for no calibration.
        files: of schedules for the study's own weights.
        check: raises to stop.

    Raises:
        InputError, ScheduleError: a file is wrong.
    """
    own = next(iter(networks))
    found = list_baselines(frames, config.search.baselines)
    if conditions is not None:
        for name, (network, *_) in networks.items():
            for label, schedule in smoothcache(network, frames[name], conditions, check):
                label = label if name == own else f"{label} · {name}"
                found.append(Candidate(label, "baseline", "smoothcache", name, summarized(schedule)))
    for label, schedule in read_files(files, networks[own], frames[own].full):
        found.append(Candidate(label, "baseline", "file", own, summarized(schedule)))
    return list({each.key: each for each in reversed(found)}.values())[::-1]


def load_baselines(
    config: StudyConfig, files: Sequence[Path], *, calibrates: bool, check: Callable[[], None] = lambda: None
) -> list[Candidate]:
    """What `gather` finds on networks that are loaded for it. Raises what `load_networks` and `gather` do."""
    config = resolve_device(config)
    networks = load_networks(config)
    own = next(iter(networks.values()))
    resolved = resolve_defaults(config, own[0])
    frames = {name: make_frame(each, resolved.baseline) for name, each in networks.items()}
    conditions = make_conditions(resolved, [each[0] for each in networks.values()]) if calibrates else None
    return gather(config, networks, frames, conditions, files, check)


def measure_study(request: StudyRequest, files: Sequence[Path], *, calibrates: bool) -> None:
    """Measures every baseline on search seeds and the front of them on final seeds, and writes the report.

    Raises what `optimize` does.
    """
    with open_study(request) as session:
        setup = session.study_setup
        conditions = setup.conditions if calibrates else None
        check = request.interruption.check
        wanted = gather(setup.config, setup.all_networks, setup.frames, conditions, files, check)
        session.enter(BASELINES)
        measure_baselines(session)
        session.enter(SEARCHING)
        measure_all(session, wanted)
        session.enter(FRONT)
        measure_front(session)
        report_study(session)
