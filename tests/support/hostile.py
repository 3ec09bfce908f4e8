"""What the fuzzing tests share: the property that holds for every reader, and mutations of valid files."""

import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from exeunt.backends.errors import InputError
from exeunt.backends.schedule import ExeuntError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SECONDS = 20.0  # of processor time; no file of these sizes may take longer
MEGABYTES = 400  # nor raise the process's memory by more; the largest limit of a text file is 100 MB

# What hostile and careless files have in place of a value.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e308, -0.0]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "../../etc/passwd", "\x1b[2J", "\u202e", "\ud800", "\0", "<script>", "a" * 5000, "[/bold]"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


LONG = "long"  # the profile of `pytest tests/fuzz --hypothesis-profile=long`


def quick(examples: int, long: int = 2000) -> settings:
    """For the selection of every day. Examples are the same in each run, so that a failure can be seen again.

    With the profile `long` there are many more, and others each time.
    """
    if settings.get_current_profile_name() == LONG:
        return _settings(long, derandomize=False)
    return _settings(examples, derandomize=True)


def thorough(examples: int) -> settings:
    """For tests marked `slow`: others each time."""
    return _settings(examples, derandomize=False)


def _settings(examples: int, derandomize: bool) -> settings:
    return settings(
        max_examples=examples,
        derandomize=derandomize,
        deadline=None,  # `survives` has its own
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@contextmanager
def bounded() -> Generator[None]:
    """Within this block neither time nor memory may run away: what hangs is cut off."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at what is in use
    began, before = time.process_time(), _peak()
    previous = signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert time.process_time() - began < SECONDS
    assert _peak() - before < MEGABYTES


class Hung(BaseException):
    """Nothing catches it as a mistake in a file."""


def _too_slow(*_: object) -> NoReturn:
    raise Hung("the reader hangs")


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def survives(read: Callable[[], Any]) -> ExeuntError | None:
    """Reads; what a user sees then is a result or one of our errors, which can be printed."""
    with bounded():
        return _error(read)


def _error(read: Callable[[], Any]) -> ExeuntError | None:
    try:
        read()
    except ExeuntError as error:
        return error
    return None


def refuses(read: Callable[[], Any]) -> str:
    """The message with which a reader refuses a file."""
    error = survives(read)
    assert isinstance(error, InputError | ExeuntError), "it was taken"
    return str(error)


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file, cut off, overwritten, doubled or stretched somewhere."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["cut", "flip", "put", "double", "drop"]))
        if kind == "cut":
            del data[at:]
        elif kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "put":
            data[at:at] = draw(st.binary(min_size=1, max_size=12))
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
        else:
            del data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """A JSON document with one to three values at any depth replaced, removed or repeated."""
    for _ in range(draw(st.integers(1, 3))):
        document = _mutate(draw, document)
    return document


def _mutate(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 5)) == 0:
        return draw(ODD)
    if isinstance(value, list):
        at = draw(st.integers(0, len(value) - 1))
        inside = draw(st.sampled_from([[], [value[at]] * 2])) if draw(st.booleans()) else [_mutate(draw, value[at])]
        return [*value[:at], *inside, *value[at + 1 :]]
    key = draw(st.sampled_from(sorted(value)))
    kept = {name: each for name, each in value.items() if name != key}
    how = draw(st.sampled_from(["change", "change", "change", "remove", "rename"]))
    if how == "remove":
        return kept
    return {**kept, (draw(st.text(max_size=8)) if how == "rename" else key): _mutate(draw, value[key])}
