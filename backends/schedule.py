"""The schedule file, version 1: frozen values, a strict reader, and the canonical form.

A schedule says what to run at every sampling step of a diffusion network: the solver, the times, one action for every
(step, block), and the guidance. It holds everything another runtime needs to sample the same images, and nothing that
can run. `docs/schedule-format.md` specifies the file.

This file needs the standard library alone and imports nothing of Exeunt, so another runtime can copy it as it is.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import numbers
import operator
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import chain, groupby, repeat
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar, cast

FORMAT = "exeunt.schedule"
VERSION = 1
SUFFIX = ".schedule.json"

# Bounds that keep a hostile file from exhausting a reader's memory; real schedules are far below them.
MAX_BYTES = 8_000_000
MAX_DEPTH = 32
MAX_BLOCKS = 10_000
MAX_MATRIX = 4_000_000
MAX_TRAIN_TIMESTEPS = 1_000_000
MAX_INTEGER = 2**53  # beyond it a float64 reader would silently round
MAX_TEXT = 4_096
MAX_NAME = 100
MAX_HISTORY = 64

KINDS = ("residual", "branch", "merge", "replace")
GRANULARITIES = ("block", "branch")
PREDICTIONS = ("epsilon", "v", "sample", "flow", "edm")
TIMES = ("train-index", "sigma", "flow")
FINALS = ("zero", "train-0")
VARIANCES = ("none", "fixed-small", "fixed-large", "learned-range")
UNCONDITIONALS: tuple[Literal["run", "skip", "reuse"], ...] = ("run", "skip", "reuse")
# Each noise kind with the parameters that it must have, and those that it may have.
NOISES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear": (("beta_start", "beta_end", "num_train_timesteps"), ()),
    "scaled-linear": (("beta_start", "beta_end", "num_train_timesteps"), ()),
    "cosine": (("num_train_timesteps",), ()),
    "betas": (("betas",), ()),
    "vp": (("beta_min", "beta_max"), ()),
    "edm": ((), ("sigma_min", "sigma_max")),
    "flow": ((), ()),
}
# Each named solver with what its history m holds; `x0` is what `clip` needs.
SOLVERS: Mapping[str, str] = {
    "ddpm": "x0",
    "ddim": "x0",
    "dpmsolver++": "x0",
    "unipc": "x0",
    "pndm": "epsilon",
    "euler": "epsilon",
    "euler-maruyama": "epsilon",
    "heun": "derivative",
    "edm": "derivative",
    "flow-euler": "flow",
}
EVALUATES_TWICE = ("heun", "pndm", "edm")  # at one time; elsewhere two equal times in a row are refused
CAPABILITIES: frozenset[str] = frozenset()  # what `requires` may name and this reader knows: nothing beyond version 1

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Document: TypeAlias = dict[str, Json]
Extras: TypeAlias = tuple[tuple[str, str], ...]  # (key that starts with x-, its value as canonical JSON)
Branch: TypeAlias = Literal["conditional", "unconditional"]
_VALID = "_valid"  # the entry of a schedule's `__dict__` that says that it was checked
_CONSTANT = "_is_constant"  # of a schedule that can't change
T = TypeVar("T")
Name = TypeVar("Name", bound=str)
V = TypeVar("V", bound="Value")


class ExeuntError(Exception):
    """Base of every error that a user can cause and fix. The message says the rule, the value and the fix."""

    exit_code = 1
    identifier = "error"


class ScheduleError(ExeuntError):
    """A schedule that breaks a rule of the format. `identifier` names the rule and never changes."""

    exit_code = 2

    def __init__(self, identifier: str, message: str) -> None:
        super().__init__(message)
        self.identifier = identifier


# ---- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Action:
    """What happens to one block at one step. `order` is 1 or 2 for `forecast` and 0 otherwise."""

    kind: Literal["run", "drop", "reuse", "forecast"]
    order: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("run", "drop", "reuse", "forecast"):
            _fail("unknown-name", "an action must be run, drop, reuse or forecast", _show(self.kind), 'Use "run".')
        if self.order not in ((1, 2) if self.kind == "forecast" else (0,)):
            rule = "the order of a forecast must be 1 or 2, and nothing else has one"
            _fail("forecast-order", rule, f'{self.order} for "{self.kind}"', "Use 1 for a linear forecast.")


RUN, DROP, REUSE = Action("run"), Action("drop"), Action("reuse")
FORECASTS = {1: Action("forecast", 1), 2: Action("forecast", 2)}
ACTIONS = {"run": RUN, "drop": DROP, "reuse": REUSE, "forecast": FORECASTS[1]}


def forecast(order: int) -> Action:
    """Taylor forecast of order 1 or 2 from the last runs of the block."""
    return FORECASTS.get(order) or Action("forecast", order)


@dataclass(frozen=True)
class Coefficients:
    """One row of a solver, float64.

    m = model_x x + model_f F(input_scale x);  x <- a x + sum_j b[j] m[newest - j] + c xi.
    `log_variance` = (log of the posterior's beta, log beta) stands in place of `c` for learned-range variance.
    """

    input_scale: float
    model_x: float
    model_f: float
    a: float
    b: tuple[float, ...]
    c: float = 0.0
    log_variance: tuple[float, float] | None = None
    extras: Extras = ()


@dataclass(frozen=True)
class Noise:
    """The forward process. `NOISES` says which parameters each kind has; None means not given."""

    kind: str
    beta_start: float | None = None
    beta_end: float | None = None
    num_train_timesteps: int | None = None
    betas: tuple[float, ...] | None = None
    beta_min: float | None = None
    beta_max: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    extras: Extras = ()

    @property
    def num_timesteps(self) -> int | None:
        """How many train indices there are; None where time is continuous."""
        return self.num_train_timesteps if self.betas is None else len(self.betas)


@dataclass(frozen=True)
class Sampler:
    """The solver by name, and what the network predicts. Coefficients on the steps overrule all but `initial_scale`,
    `clip` and `variance`."""

    name: str
    prediction: str
    time: str
    noise: Noise
    variant: str | None = None
    order: int = 1
    lower_order_final: bool = True
    final: str = "zero"
    initial_scale: float = 1.0
    clip: float | None = None
    variance: str = "none"
    sigma_data: float | None = None
    extras: Extras = ()


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance u + scale (c - u) on all channels, or on that many leading ones."""

    scale: float
    channels: Literal["all"] | int = "all"
    extras: Extras = ()


@dataclass(frozen=True)
class Embedded:
    """Guidance that is an input of the network: one evaluation a step."""

    scale: float
    extras: Extras = ()


@dataclass(frozen=True)
class Step:
    """One evaluation of one network. `blocks` holds one action a block, in execution order."""

    time: float
    blocks: tuple[Action, ...]
    network: int = 0
    network_time: float | None = None  # None: the network receives `time`
    guidance: float | Literal["inherit"] | None = "inherit"  # None: not guided at all, one evaluation
    unconditional: Literal["run", "skip", "reuse"] = "run"
    coefficients: Coefficients | None = None
    extras: Extras = ()


@dataclass(frozen=True)
class NetworkSignature:
    """What a network must be for a schedule to fit it. `kinds` is run-length coded."""

    architecture: str
    granularity: str
    kinds: tuple[tuple[str, int], ...]
    weights_sha256: str | None = None
    extras: Extras = ()

    @cached_property
    def num_blocks(self) -> int:
        return sum(count for _, count in self.kinds)

    @cached_property
    def block_kinds(self) -> tuple[str, ...]:
        """One kind a block."""
        return tuple(chain.from_iterable(repeat(kind, count) for kind, count in self.kinds))


@dataclass(frozen=True)
class Measurement:
    """One quality value with its conditions, and the throughput measured beside it. It is no part of the identity."""

    metric: str
    value: float
    num_images: int
    interval: tuple[float, float] | None = None
    floor: float | None = None
    seeds: str | None = None
    images_per_second: float | None = None
    baseline_images_per_second: float | None = None
    batch_size: int | None = None
    dtype: str | None = None
    executor: str | None = None
    device: str | None = None
    extras: Extras = ()


@dataclass(frozen=True)
class Provenance:
    """Where a schedule came from. It is no part of the identity."""

    study: str | None = None
    trial: int | None = None
    exeunt: str | None = None
    created: str | None = None
    extras: Extras = ()


@dataclass(frozen=True)
class Schedule:
    """A whole schedule: `steps` stand in sampling order, from noise to data."""

    networks: tuple[NetworkSignature, ...]
    sampler: Sampler
    steps: tuple[Step, ...]
    guidance: Guidance | Embedded | None = None
    name: str | None = None
    measured: tuple[Measurement, ...] = ()
    provenance: Provenance | None = None
    requires: tuple[str, ...] = ()
    extras: Extras = ()

    @property
    def num_steps(self) -> int:
        return len(self.steps)

    def __hash__(self) -> int:
        return hash(self.digest)  # worked out once, where thousands of actions would be hashed at every look-up

    @cached_property
    def bare(self) -> bytes:
        """The canonical JSON without name, measured and provenance."""
        return _encode(_document(_unnamed(self)))

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON without name, measured, provenance and keys that start with x-."""
        data = _encode(_document(_unnamed(self), extras=False)) if b'"x-' in self.bare else self.bare
        return hashlib.sha256(data).hexdigest()


def _unnamed(schedule: Schedule) -> Schedule:
    return dataclasses.replace(schedule, name=None, measured=(), provenance=None)


Value: TypeAlias = (
    Schedule | NetworkSignature | Sampler | Noise | Guidance | Embedded | Step | Coefficients | Measurement | Provenance
)


# ---- questions -------------------------------------------------------------------------------------------------------


def guidance_at(schedule: Schedule, s: int) -> float | None:
    """Scale of classifier-free guidance at step `s`; None where the network is evaluated once."""
    return _scale_at(schedule, s) if isinstance(schedule.guidance, Guidance) else None


def embedded_guidance_at(schedule: Schedule, s: int) -> float | None:
    """Guidance that the network receives as an input at step `s`; None where it receives none."""
    return _scale_at(schedule, s) if isinstance(schedule.guidance, Embedded) else None


def _scale_at(schedule: Schedule, s: int) -> float | None:
    own = schedule.steps[s].guidance
    return own if not isinstance(own, str) else schedule.guidance.scale if schedule.guidance else None


def network_times(schedule: Schedule) -> list[float]:
    """What the network receives as its time at each step."""
    return [step.time if step.network_time is None else step.network_time for step in schedule.steps]


def branches_at(schedule: Schedule, s: int) -> tuple[Branch, ...]:
    """The guidance branches that are evaluated at step `s`."""
    guided = guidance_at(schedule, s) is not None and schedule.steps[s].unconditional == "run"
    return ("conditional", "unconditional") if guided else ("conditional",)


def depths(schedule: Schedule) -> list[int]:
    """How many blocks run at each step."""
    return [sum(action.kind == "run" for action in step.blocks) for step in schedule.steps]


def block_evaluations(schedule: Schedule) -> int:
    """Blocks that run for one image, each guidance branch counted."""
    return sum(depth * len(branches_at(schedule, s)) for s, depth in enumerate(depths(schedule)))


# ---- changes ---------------------------------------------------------------------------------------------------------


def with_exits(schedule: Schedule, depths: Sequence[int], tail: Action = DROP) -> Schedule:
    """The same sampling with blocks[:depth] run at each step and `tail` done to the rest.

    Name, measurements and provenance belong to the schedule they were made for, and are left behind.
    """
    if len(depths) != schedule.num_steps:
        rule = f"there must be one exit depth a step, {schedule.num_steps} in all"
        _fail("exit-count", rule, len(depths), "Give as many depths as steps.")
    rows: list[Step] = []
    for s, (step, depth) in enumerate(zip(schedule.steps, depths, strict=True)):
        blocks = _exit_row(operator.index(depth), schedule.networks[step.network].num_blocks, tail, f"step {s}")
        rows.append(dataclasses.replace(step, blocks=blocks))
    return dataclasses.replace(schedule, steps=tuple(rows), name=None, measured=(), provenance=None)


def _exit_row(depth: int, num_blocks: int, tail: Action, where: str) -> tuple[Action, ...]:
    if not 0 <= depth <= num_blocks:
        nearest = min(max(depth, 0), num_blocks)
        _fail("exit-range", f"{where}: exit must be from 0 to num_blocks={num_blocks}", depth, f"Write {nearest}.")
    return (RUN,) * depth + (tail,) * (num_blocks - depth)


# ---- reading and writing ---------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Schedule:
    """The schedule in a file. Raises ScheduleError, whose message starts with the path."""
    try:
        with open(path, "rb") as file:
            return parse(file.read(MAX_BYTES + 1))
    except OSError as error:
        rule = f"{os.fspath(path)}: a schedule file must be readable"
        _fail("unreadable", rule, error.strerror or str(error), f"Give the path of a {SUFFIX} file.")
    except ScheduleError as error:
        raise ScheduleError(error.identifier, f"{os.fspath(path)}: {error}") from None


def as_schedule(given: object) -> Schedule:
    """A schedule as it is, or that in a file. Raises ScheduleError for a file that holds none and for anything else."""
    if not isinstance(given, Schedule | str | os.PathLike):
        _fail("wrong-type", "a schedule must be a Schedule or the path of a file", type(given).__name__, "Give one.")
    return given if isinstance(given, Schedule) else load(given)


def parse(text: str | bytes) -> Schedule:
    """The schedule that a JSON text holds. Raises ScheduleError for anything that breaks the format."""
    schedule = _read_schedule(_migrate(_decode(text)))
    _check(schedule)
    vars(schedule)[_VALID] = True
    return schedule


def validate(schedule: Schedule) -> None:
    """Raises ScheduleError if the value could not be written to a file and read back.

    A value is checked once: it can't change, unless it holds lists where tuples are due.
    """
    if _VALID not in vars(schedule):
        _check(_read_schedule(_document(schedule)))
        if is_constant(schedule):
            vars(schedule)[_VALID] = True


def is_constant(schedule: Schedule) -> bool:
    """Whether nothing of the value can change, as it could where lists stand in place of tuples."""
    if _CONSTANT not in vars(schedule):
        try:
            hash(tuple(getattr(schedule, field.name) for field in dataclasses.fields(schedule)))
        except TypeError:
            return False
        vars(schedule)[_CONSTANT] = True
    return True


def canonical(schedule: Schedule) -> bytes:
    """The one spelling of a schedule: sorted keys, no spaces, defaults omitted, UTF-8."""
    return _encode(_document(schedule))


def dumps(schedule: Schedule) -> str:
    """The canonical JSON laid out for people, one line a step. Raises ScheduleError where the schedule is invalid."""
    validate(schedule)
    lines: list[str] = []
    for key, value in _document(schedule).items():
        if isinstance(value, list) and key in ("networks", "steps", "measured"):
            lines.append(f'  "{key}": [\n    ' + ",\n    ".join(_json(row) for row in value) + "\n  ]")
        else:
            lines.append(f"  {_json(key)}: {_json(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def save(schedule: Schedule, path: str | os.PathLike[str]) -> None:
    """Writes the file whole or not at all. Raises ScheduleError where the schedule is invalid or too large."""
    data = dumps(schedule).encode()
    _check_size(data)
    write_file(path, data)


def write_file(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Writes a file whole or not at all, through links to it. What is no regular file is written to, never replaced.

    Raises OSError.
    """
    descriptor = opened_as(path)
    target = Path(os.path.realpath(path))
    special = (os.path.exists(path) or os.path.lexists(target)) and not os.path.isfile(path)
    if descriptor is not None or special:
        with open(path if descriptor is None else descriptor, "wb", closefd=descriptor is None) as device:
            device.write(data)
        return
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(draft, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def opened_as(path: str | os.PathLike[str]) -> int | None:
    """The open file that `/dev/stdout`, `/dev/fd/N` or a link to one names, which may be at the end of a log."""
    place = os.path.abspath(path)
    for _ in range(40):  # as many links as Linux follows
        folder, name = os.path.split(place)
        folder = os.path.realpath(folder)
        if name.isdecimal() and folder in (f"/proc/{os.getpid()}/fd", "/dev/fd"):
            return int(name)
        if not os.path.islink(place):
            return None
        place = os.path.join(folder, os.readlink(place))
    return None


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _encode(document: Document) -> bytes:
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        return text.encode()
    except ValueError:  # NaN, an infinity or half a surrogate pair: the reader says where
        _read_schedule(document)
        raise


def _document(schedule: Schedule, *, extras: bool = True) -> Document:
    """A schedule as the JSON object that stands for it, defaults omitted."""
    fields = _object(schedule, extras)
    order = ("requires", "name", "networks", "sampler", "guidance", "steps")
    document: Document = {"format": FORMAT, "version": VERSION}
    document |= {key: fields.pop(key) for key in order if key in fields} | fields
    inherited = schedule.guidance.scale if schedule.guidance else None
    for step in cast(list[Document], document["steps"]):
        for key, default in (("network_time", step["time"]), ("guidance", inherited)):
            if key in step and step[key] == default:
                del step[key]
    return document


def _object(value: Value, extras: bool) -> Document:
    """The fields that differ from their defaults; `extras` says whether x- keys are kept."""
    document: Document = {}
    for field in _fields(type(value)):
        content = getattr(value, field.name)
        if field.name != "extras" and content != field.default:
            name = "embedded" if isinstance(value, Embedded) else field.name
            code = _CODED.get(name)
            document[name] = code(content) if code else _plain(content, "float" in str(field.type), extras)
    if extras:
        document |= {key: json.loads(text) for key, text in value.extras}
    return document


_fields = lru_cache(dataclasses.fields)


def _plain(content: Any, is_float: bool, extras: bool) -> Json:
    """Tuples as lists, values as objects, and each number in the type of its field, so that 999 and 999.0 are one."""
    if isinstance(content, str | bool | None):
        return content
    if isinstance(content, tuple | list):
        return [_plain(entry, is_float, extras) for entry in cast(Sequence[Any], content)]
    if isinstance(content, Value):
        return _object(content, extras)
    if not isinstance(content, numbers.Real):
        return content
    if is_float:
        return float(content) + 0.0  # which makes -0.0 a plain zero
    return int(content) if isinstance(content, numbers.Integral) else float(content)


def _coded_blocks(blocks: Iterable[Action]) -> Json:
    """One action a block -> run lengths."""
    runs = [(action, len(list(group))) for action, group in groupby(blocks)]
    return [[a.kind, n, _plain(a.order, False, True)] if a.kind == "forecast" else [a.kind, n] for a, n in runs]


def _coded_kinds(kinds: Iterable[tuple[str, int]]) -> list[list[str | int]]:
    """Run lengths -> run lengths whose neighbours differ."""
    return [[kind, sum(count for _, count in runs)] for kind, runs in groupby(kinds, operator.itemgetter(0))]


_CODED: Mapping[str, Callable[[Any], Json]] = {
    "blocks": _coded_blocks,
    "kinds": lambda kinds: _plain(_coded_kinds(kinds), False, True),
}


# ---- the strict reader -----------------------------------------------------------------------------------------------


def _fail(identifier: str, rule: str, got: object, fix: str) -> NoReturn:
    """Every message has the rule, the value and the fix."""
    raise ScheduleError(identifier, f"{rule}, but got {got}. {fix}")


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        rule = f"a schedule file must be at most {MAX_BYTES} bytes"
        _fail("too-large", rule, f"{len(data)} or more", "Write block actions as run lengths.")


def _decode(text: str | bytes) -> Json:
    """JSON as RFC 8259 has it, without duplicate keys, NaN, or numbers that a float64 cannot hold."""
    hooks: Any = {"object_pairs_hook": _unique, "parse_float": _float, "parse_int": _int, "parse_constant": _constant}
    try:
        data = text.encode() if isinstance(text, str) else text
        _check_size(data)
        value = json.loads(data.decode("utf-8-sig"), **hooks)
    except UnicodeError as error:
        _fail("not-utf8", "a schedule file must be UTF-8", error, "Give a schedule file, saved as UTF-8.")
    except json.JSONDecodeError as error:
        _fail("not-json", "a schedule file must be JSON", error, "Fix the file there.")
    except RecursionError:
        _fail_nesting()
    _check_nesting(value)
    return value


def _check_nesting(value: Json) -> None:
    level: list[Json] = [value]
    for _ in range(MAX_DEPTH):
        level = [entry for parent in level if isinstance(parent, dict | list) for entry in _entries(parent)]
    if level:
        _fail_nesting()


def _entries(value: dict[str, Json] | list[Json]) -> Iterable[Json]:
    return value.values() if isinstance(value, dict) else value


def _fail_nesting() -> NoReturn:
    _fail("too-deep", f"values must nest at most {MAX_DEPTH} deep", "more", "Remove the nesting.")


def _unique(pairs: list[tuple[str, Json]]) -> Document:
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        _fail("duplicate-key", "the keys of an object must be unique", f"{_show(twice)} twice", "Remove one.")
    return document


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        _fail("number-overflow", "numbers must fit a float64", text[:40], "Write a smaller one.")
    return number


def _int(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        _fail("number-overflow", "integers must be within 2^53", text[:40], "Write a smaller one.")
    return int(text)


def _constant(name: str) -> NoReturn:
    _fail("number-not-finite", "numbers must be finite", name, "Write a number.")


# Numbered migrations: entry n turns a document of version n into one of version n + 1. Version 1 is the first.
MIGRATIONS: dict[int, Callable[[Document], Document]] = {}


def _migrate(value: Json) -> Document:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        got = _show(value.get("format", "none") if isinstance(value, dict) else value)
        _fail(
            "not-a-schedule", f'a schedule must be an object with "format": "{FORMAT}"', got, f"Give a {SUFFIX} file."
        )
    document, version = value, _integer(_required(value, "version", "schedule"), "version", low=1)
    if version > VERSION:
        fix = f"Install a newer Exeunt, or write the file as version {VERSION}."
        _fail("version-newer", f"version must be at most {VERSION} for this reader", version, fix)
    for number in range(version, VERSION):
        document = MIGRATIONS[number](document)
    return document


def _show(value: object) -> str:
    """A value for a message: short, in ASCII, and safe for what is nested deeply."""
    if isinstance(value, dict | list | tuple):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value) if isinstance(value, str | int | float | None) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _nearest(name: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(name[:MAX_NAME], list(known), n=1, cutoff=0.0)[0]


def _required(document: Document, key: str, where: str) -> Json:
    if key not in document:
        _fail("missing-key", f'{where}: "{key}" must be given', "nothing", f'Add "{key}".')
    return document[key]


def _keys(value: Json, known: Iterable[str], where: str) -> tuple[Document, Extras]:
    """The object itself once its keys are known ones, and its x- keys apart."""
    if not isinstance(value, dict):
        _fail("wrong-type", f"{where} must be an object", _show(value), "Write {...}.")
    extras: list[tuple[str, str]] = []
    for key, content in value.items():
        if key.startswith("x-"):
            extras.append((_text(key, f"{where}: key"), _extra(content, f"{where}: {_show(key)}")))
        elif key not in known:
            fix = f'Did you mean "{_nearest(key, known)}"? Keys of your own start with x-.'
            _fail("unknown-key", f"{where}: every key must be known", _show(key), fix)
    return value, tuple(sorted(extras))


def _extra(value: Json, where: str) -> str:
    """Any JSON value as canonical text."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return _unicode(text, where)


def _number(value: Json, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite float strictly between `low` and `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail("wrong-type", f"{where} must be a number", _show(value), "Write a number.")
    if not math.isfinite(value):
        _fail("number-not-finite", f"{where} must be finite", value, "Write a number.")
    if not low < value < high:
        rule = f"above {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        _fail("out-of-range", f"{where} must be {rule}", value, "Write a value in that range.")
    return float(value) + 0.0


def _integer(value: Json, where: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _fail("wrong-type", f"{where} must be an integer", _show(value), "Write one without a point.")
    if not low <= value <= high:
        rule = f"at least {low}" if high == MAX_INTEGER else f"from {low} to {high}"
        _fail("out-of-range", f"{where} must be {rule}", value, "Write a value in that range.")
    return value


_positive = partial(_number, low=0)
_beta = partial(_number, low=0, high=1)
_count = partial(_integer, low=1)


def _boolean(value: Json, where: str) -> bool:
    if not isinstance(value, bool):
        _fail("wrong-type", f"{where} must be true or false", _show(value), "Write true or false.")
    return value


def _text(value: Json, where: str) -> str:
    if not isinstance(value, str):
        _fail("wrong-type", f"{where} must be a text", _show(value), "Write it in quotes.")
    if not 0 < len(value) <= MAX_TEXT:
        rule = f"{where} must have 1 to {MAX_TEXT} characters"
        _fail("out-of-range", rule, len(value), "Shorten it." if value else "Write one, or omit the key.")
    return _unicode(value, where)


def _unicode(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        _fail("not-utf8", f"{where} must be UTF-8", "half a surrogate pair", "Remove the \\u escape.")
    return text


def _choice(value: Json, names: Iterable[Name], where: str) -> Name:
    for name in names:
        if name == value:
            return name
    text = _text(value, where)
    fix = f'Did you mean "{_nearest(text, names)}"?'
    _fail("unknown-name", f"{where} must be one of {', '.join(names)}", _show(text), fix)


def _items(value: Json, where: str, low: int = 0, high: int = MAX_MATRIX) -> list[Json]:
    if not isinstance(value, list):
        _fail("wrong-type", f"{where} must be a list", _show(value), "Write [...].")
    if not low <= len(value) <= high:
        fix = f"Give at {'least' if len(value) < low else 'most'} {low if len(value) < low else high}."
        _fail("out-of-range", f"{where} must have {low} to {high} entries", len(value), fix)
    return value


def _list(read: Callable[[Json, str], T], low: int = 0, high: int = 100) -> Callable[[Json, str], tuple[T, ...]]:
    """A reader of lists from a reader of their entries."""
    return lambda value, where: tuple(
        read(entry, f"{where}[{n}]") for n, entry in enumerate(_items(value, where, low, high))
    )


def _one_of(names: Iterable[Name]) -> Callable[[Json, str], Name]:
    return lambda value, where: _choice(value, names, where)


def _read(kind: type[V], value: Json, where: str, **given: Any) -> V:
    """An object, by its table of fields: one without a default must be there, and null is None where that is the
    default. Fields that are `given` were read before."""
    document, extras = _keys(value, _FIELDS[kind], where)
    content: dict[str, Any] = {"extras": extras} | given
    for field in _fields(kind):
        if field.name in content:
            continue
        if field.name in document or field.default is dataclasses.MISSING:
            entry, read = _required(document, field.name, where), _FIELDS[kind][field.name]
            none = entry is None and field.default is None
            content[field.name] = None if none else read(entry, f"{where}: {field.name}")
    return kind(**content)


def _read_schedule(value: Json) -> Schedule:
    where = "schedule"
    document, _ = _keys(value, ("format", "version", *_FIELDS[Schedule]), where)
    networks = _list(_read_network, 1, 64)(_required(document, "networks", where), "networks")
    steps = _items(_required(document, "steps", where), "steps", low=1)
    if len(steps) * max(network.num_blocks for network in networks) > MAX_MATRIX:
        _fail("too-many-blocks", f"steps x blocks must be at most {MAX_MATRIX}", "more", "Use fewer steps or blocks.")
    rest: Document = {key: entry for key, entry in document.items() if key not in ("format", "version")}
    rows = tuple(_read_step(step, networks, f"step {s}") for s, step in enumerate(steps))
    return _read(Schedule, rest, where, networks=networks, steps=rows)


def _read_capability(value: Json, where: str) -> str:
    if _text(value, where) not in CAPABILITIES:
        fix = "Read the file with a runtime that knows it."
        _fail("requires-unknown", f"{where} must be a capability known here", _show(value), fix)
    return str(value)


def _read_network(value: Json, where: str) -> NetworkSignature:
    network = _read(NetworkSignature, value, where)
    if network.num_blocks > MAX_BLOCKS:
        rule = f"{where}: a network must have at most {MAX_BLOCKS} blocks"
        _fail("too-many-blocks", rule, network.num_blocks, "Count larger blocks.")
    if network.granularity == "block" and any(kind == "branch" for kind, _ in network.kinds):
        rule, fix = f'{where}: kind "branch" needs granularity "branch"', 'Write "granularity": "branch".'
        _fail("kind-granularity", rule, '"block"', fix)
    return network


def _read_kinds(value: Json, where: str) -> tuple[tuple[str, int], ...]:
    runs = _list(_read_kind, 1, MAX_BLOCKS)(value, where)
    return tuple((str(kind), int(count)) for kind, count in _coded_kinds(runs))


def _read_kind(value: Json, where: str) -> tuple[str, int]:
    kind, count = _items(value, where, low=2, high=2)
    return _choice(kind, KINDS, where), _count(count, f"{where}: count")


def _read_sha256(value: Json, where: str) -> str:
    digest = _text(value, where)
    if not re.fullmatch("[0-9a-f]{64}", digest):
        fix = "Give the SHA-256 of the weights, or omit the key."
        _fail("weights-digest", f"{where} must be 64 lower-case hexadecimal digits", _show(digest), fix)
    return digest


def noise_of(value: Json, where: str) -> Noise:
    """A forward process from its JSON object, with the rules that a schedule file's has. Raises ScheduleError."""
    noise = _read(Noise, value, where)
    required, optional = NOISES[noise.kind]
    for name in _FIELDS[Noise]:
        given = name == "kind" or getattr(noise, name) is not None
        if not given and name in required:
            _fail("missing-key", f'{where}: kind "{noise.kind}" must have "{name}"', "nothing", f'Add "{name}".')
        if given and name not in ("kind", *required, *optional):
            takes = ", ".join(required + optional) or "no parameters"
            _fail("noise-parameter", f'{where}: kind "{noise.kind}" takes {takes}', f'"{name}"', "Remove it.")
    _check_pair(noise.beta_start, noise.beta_end, f"{where}: beta_start and beta_end")
    _check_pair(noise.beta_min, noise.beta_max, f"{where}: beta_min and beta_max")
    _check_pair(noise.sigma_min, noise.sigma_max, f"{where}: sigma_min and sigma_max")
    return noise


def _read_pair(value: Json, where: str) -> tuple[float, float]:
    low, high = _list(_number, 2, 2)(value, where)
    _check_pair(low, high, where)
    return low, high


def _check_pair(low: float | None, high: float | None, where: str) -> None:
    if low is not None and high is not None and low > high:
        _fail("pair-order", f"{where} must not fall", f"{low} and {high}", "Swap them.")


def _read_guidance(value: Json, where: str) -> Guidance | Embedded:
    document, extras = _keys(value, ("embedded", *_FIELDS[Guidance]), where)
    if "embedded" not in document:
        return _read(Guidance, value, where)
    if "scale" in document or "channels" in document:
        rule, fix = f"{where} must be embedded or classifier-free", 'Keep "embedded" alone, or remove it.'
        _fail("guidance-both", rule, "both", fix)
    return Embedded(_number(document["embedded"], f"{where}: embedded"), extras)


def _read_step(value: Json, networks: Sequence[NetworkSignature], where: str) -> Step:
    document, _ = _keys(value, ("exit", *_FIELDS[Step]), where)
    index = _integer(document.get("network", 0), f"{where}: network")
    if index >= len(networks):
        rule, fix = f"{where}: network must be below {len(networks)}, the number of networks", "Use 0 for the first."
        _fail("network-index", rule, index, fix)
    rest: Document = {key: entry for key, entry in document.items() if key != "exit"}
    return _read(Step, rest, where, blocks=_read_blocks(document, networks[index].num_blocks, where))


def _read_blocks(document: Document, num_blocks: int, where: str) -> tuple[Action, ...]:
    if ("blocks" in document) == ("exit" in document):
        got, fix = "both" if "exit" in document else "neither", f'Write "blocks": [["run", {num_blocks}]].'
        _fail("blocks-or-exit", f'{where} must have one of "blocks" and "exit"', got, fix)
    if "exit" in document:
        return _exit_row(_integer(document["exit"], f"{where}: exit", low=-MAX_INTEGER), num_blocks, DROP, where)
    entries = _items(document["blocks"], f"{where}: blocks", low=1, high=MAX_BLOCKS)
    runs = [_read_run(entry, f"{where}: blocks") for entry in entries]
    total = sum(count for _, count in runs)  # compared before anything is expanded: a count may be 2^53
    if total != num_blocks:
        fix = f'Add [["drop", {num_blocks - total}]].' if total < num_blocks else f"Remove {total - num_blocks} blocks."
        _fail("blocks-sum", f"{where}: blocks must sum to num_blocks={num_blocks}", total, fix)
    return tuple(chain.from_iterable(repeat(action, count) for action, count in runs))


def _read_run(value: Json, where: str) -> tuple[Action, int]:
    if not isinstance(value, list) or len(value) not in (2, 3):
        _fail("blocks-entry", f"{where} must hold pairs and triples", _show(value), 'Write each as ["run", n].')
    kind = _choice(value[0], ACTIONS, where)
    if (len(value) == 3) != (kind == "forecast"):
        fix = 'Write ["forecast", n, 1].' if kind == "forecast" else f'Write ["{kind}", n].'
        got = f'"{kind}" with{"" if len(value) == 3 else "out"} one'
        _fail("blocks-entry", f"{where}: forecast and nothing else has an order", got, fix)
    action = forecast(_integer(value[2], f"{where}: order")) if kind == "forecast" else ACTIONS[kind]
    return action, _count(value[1], f"{where}: count")


# What the object of each value may hold; the dataclass says which fields have defaults.
_FIELDS: Mapping[type[Value], Mapping[str, Callable[[Json, str], Any]]] = {
    Schedule: {
        "networks": _list(_read_network, 1, 64),
        "sampler": lambda value, where: _read(Sampler, value, "sampler"),
        "steps": _items,
        "guidance": lambda value, where: _read_guidance(value, "guidance"),
        "name": _text,
        "measured": lambda value, where: _list(partial(_read, Measurement), 0, 10_000)(value, "measured"),
        "provenance": lambda value, where: _read(Provenance, value, "provenance"),
        "requires": lambda value, where: _list(_read_capability)(value, "requires"),
    },
    NetworkSignature: {
        "architecture": _text,
        "granularity": _one_of(GRANULARITIES),
        "kinds": _read_kinds,
        "weights_sha256": _read_sha256,
    },
    Sampler: {
        "name": _text,
        "prediction": _one_of(PREDICTIONS),
        "time": _one_of(TIMES),
        "noise": noise_of,
        "variant": _text,
        "order": partial(_integer, low=1, high=MAX_HISTORY),
        "lower_order_final": _boolean,
        "final": _one_of(FINALS),
        "initial_scale": _positive,
        "clip": _positive,
        "variance": _one_of(VARIANCES),
        "sigma_data": _positive,
    },
    Noise: {
        "kind": _one_of(NOISES),
        "beta_start": _beta,
        "beta_end": _beta,
        "num_train_timesteps": partial(_integer, low=1, high=MAX_TRAIN_TIMESTEPS),
        "betas": _list(_beta, 1, MAX_TRAIN_TIMESTEPS),
        "beta_min": _positive,
        "beta_max": _positive,
        "sigma_min": _positive,
        "sigma_max": _positive,
    },
    Guidance: {
        "scale": _number,
        "channels": lambda value, where: "all" if value == "all" else _count(value, where),
    },
    Step: {
        "time": _number,
        "blocks": _items,
        "network": _integer,
        "network_time": _number,
        # Here null is not the default: it says that the network is not guided at this step.
        "guidance": lambda value, where: None if value is None else _number(value, where),
        "unconditional": _one_of(UNCONDITIONALS),
        "coefficients": lambda value, where: _read(Coefficients, value, where),
    },
    Coefficients: {
        "input_scale": _number,
        "model_x": _number,
        "model_f": _number,
        "a": _number,
        "b": _list(_number, 1, MAX_HISTORY),
        "c": _number,
        "log_variance": _read_pair,
    },
    Measurement: {
        "metric": _text,
        "value": _number,
        "num_images": _count,
        "interval": _read_pair,
        "floor": _number,
        "seeds": _text,
        "images_per_second": _positive,
        "baseline_images_per_second": _positive,
        "batch_size": _count,
        "dtype": _text,
        "executor": _text,
        "device": _text,
    },
    Provenance: {"study": _text, "trial": _integer, "exeunt": _text, "created": _text},
}


# ---- the rules that need more than one value -------------------------------------------------------------------------


def _check(schedule: Schedule) -> None:
    _check_sampler(schedule)
    _check_times(schedule)
    _check_guidance(schedule)
    _check_coefficients(schedule)
    _check_caches(schedule)


def _check_sampler(schedule: Schedule) -> None:
    sampler, carried = schedule.sampler, schedule.steps[0].coefficients is not None
    if sampler.name not in SOLVERS and not carried:
        rule = f"sampler: name must be one of {', '.join(SOLVERS)} where steps carry no coefficients"
        _fail("solver-unknown", rule, _show(sampler.name), f'Did you mean "{_nearest(sampler.name, SOLVERS)}"?')
    if (sampler.prediction == "edm") != (sampler.sigma_data is not None):
        got = f'prediction "{sampler.prediction}" with sigma_data {_show(sampler.sigma_data)}'
        _fail("sigma-data", 'sampler: sigma_data goes with prediction "edm"', got, "Give both or neither.")
    history = SOLVERS.get(sampler.name, "x0")
    if sampler.clip is not None and history != "x0":
        got = f'"{sampler.name}", which holds {history}'
        _fail("clip-history", "sampler: clip needs a solver whose history holds x0", got, 'Write "clip": null.')
    _check_time_kind(sampler)


def _check_time_kind(sampler: Sampler) -> None:
    noise, time = sampler.noise, sampler.time
    fits = {"train-index": noise.num_timesteps is not None, "sigma": noise.kind != "flow", "flow": noise.kind == "flow"}
    if not fits[time]:
        fix = f'Write "time": "{next(name for name, fit in fits.items() if fit)}".'
        _fail("time-noise", f'sampler: time "{time}" must fit the noise', f'kind "{noise.kind}"', fix)
    needed = {"flow": "flow", "edm": "sigma"}.get(sampler.prediction, time)
    if time != needed:
        rule = f'sampler: prediction "{sampler.prediction}" needs time "{needed}"'
        _fail("prediction-time", rule, f'"{time}"', f'Write "time": "{needed}".')
    if sampler.final == "train-0" and noise.num_timesteps is None:
        rule = 'sampler: final "train-0" needs noise with train indices'
        _fail("final-noise", rule, f'kind "{noise.kind}"', 'Write "final": "zero".')


def _check_times(schedule: Schedule) -> None:
    sampler, times = schedule.sampler, [step.time for step in schedule.steps]
    allowed = 2 if sampler.name in EVALUATES_TWICE else 1
    carried = schedule.steps[0].coefficients is not None
    for s, time in enumerate(times):
        _check_time_range(sampler, time, f"step {s}")
        if s and time > times[s - 1]:
            rule, fix = f"step {s}: time must not rise", "Sort the steps from noise to data."
            _fail("time-rises", rule, f"{time} after {times[s - 1]}", fix)
        if not carried and times[max(s - allowed, 0) : s] == [time] * allowed:
            rule = f'step {s}: solver "{sampler.name}" evaluates a time at most {("once", "twice")[allowed - 1]}'
            _fail("time-repeats", rule, f"{time} again", "Give the step a lower time, or all steps coefficients.")


def _check_time_range(sampler: Sampler, time: float, where: str) -> None:
    last = (sampler.noise.num_timesteps or 1) - 1
    inside, rule = {
        "train-index": (0 <= time <= last, f"from 0 to {last}"),
        "sigma": (time > 0, "above 0"),
        "flow": (0 < time <= 1, "above 0 and at most 1"),
    }[sampler.time]
    if not inside:
        _fail("time-range", f'{where}: time, a "{sampler.time}", must be {rule}', time, "Write a value in that range.")


def _check_guidance(schedule: Schedule) -> None:
    evaluated: set[int] = set()  # networks whose unconditional output exists
    for s, step in enumerate(schedule.steps):
        if schedule.guidance is None and isinstance(step.guidance, float):
            fix = f'Add "guidance": {{"scale": {step.guidance}}} to the schedule.'
            rule = f"step {s}: guidance overrides the schedule's, which must be there"
            _fail("guidance-undeclared", rule, f"{step.guidance} alone", fix)
        if guidance_at(schedule, s) is None and step.unconditional != "run":
            rule = f"step {s}: unconditional is for steps with classifier-free guidance"
            _fail("unconditional-unguided", rule, f'"{step.unconditional}" without', 'Remove "unconditional".')
        if step.unconditional == "reuse" and step.network not in evaluated:
            rule = f"step {s}: the unconditional output must exist before it is reused"
            _fail("unconditional-nothing-stored", rule, '"reuse" first', 'Write "run" or "skip".')
        if "unconditional" in branches_at(schedule, s):
            evaluated.add(step.network)


def _check_coefficients(schedule: Schedule) -> None:
    carried = schedule.steps[0].coefficients is not None
    for s, step in enumerate(schedule.steps):
        if (step.coefficients is not None) != carried:
            rule = "every step or none must carry coefficients"
            _fail("coefficients-some", rule, f"step {s} unlike step 0", "Add the missing ones.")
        if step.coefficients is not None:
            _check_row(schedule, s, step.coefficients)


def _check_row(schedule: Schedule, s: int, row: Coefficients) -> None:
    if any(row.b[s + 1 :]):
        got, fix = f"{len(row.b)}", f"Write {s + 1}, or zeros after them."
        _fail("coefficients-history", f"step {s}: b must have at most {s + 1} entries, one a step so far", got, fix)
    last = s == schedule.num_steps - 1
    learned = schedule.sampler.variance == "learned-range" and not last
    if learned != (row.log_variance is not None):
        rule = f'step {s}: log_variance is for variance "learned-range" on every step but the last'
        got = f'{"the last step" if last else "a step"} with variance "{schedule.sampler.variance}"'
        _fail("coefficients-variance", rule, got, f"{'Add' if learned else 'Remove'} log_variance.")
    if row.c and schedule.sampler.variance == "learned-range":
        _fail("coefficients-variance", f"step {s}: c must be 0 where the variance is learned", row.c, "Remove c.")


def _check_caches(schedule: Schedule) -> None:
    """Follows what each branch has stored: a block of a network stores when it runs in that branch."""
    stored: dict[tuple[int, Branch], set[int]] = {}
    for s, step in enumerate(schedule.steps):
        _check_drops(step, schedule.networks[step.network], f"step {s}")
        ran = {j for j, action in enumerate(step.blocks) if action.kind == "run"}
        reading = {j for j, action in enumerate(step.blocks) if action.kind in ("reuse", "forecast")}
        for branch in branches_at(schedule, s):
            cache = stored.setdefault((step.network, branch), set())
            cache |= ran
            if not reading <= cache:
                j = min(reading - cache)
                rule = f"step {s}, block {j}: the block must have run before in the {branch} branch"
                _fail("nothing-stored", rule, f'"{step.blocks[j].kind}" with nothing stored', 'Use "run".')


def _check_drops(step: Step, network: NetworkSignature, where: str) -> None:
    for j, kind in enumerate(network.block_kinds if any(kind == "replace" for kind, _ in network.kinds) else ()):
        if kind == "replace" and step.blocks[j].kind == "drop":
            rule = f'{where}, block {j}: a block of kind "replace" cannot be dropped'
            _fail("drop-replace", rule, '"drop"', 'Use "run" or "reuse".')
