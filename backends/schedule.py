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
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby, repeat
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar

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

KINDS = ("residual", "branch", "merge", "replace")
GRANULARITIES = ("block", "branch")
PREDICTIONS = ("epsilon", "v", "sample", "flow", "edm")
TIMES = ("train-index", "sigma", "flow")
FINALS = ("zero", "train-0")
VARIANCES = ("none", "fixed-small", "fixed-large", "learned-range")
UNCONDITIONALS = ("run", "skip", "reuse")
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

Document: TypeAlias = dict[str, Any]
Extras: TypeAlias = tuple[tuple[str, str], ...]  # (key that starts with x-, its value as canonical JSON)
Branch: TypeAlias = Literal["conditional", "unconditional"]
T = TypeVar("T")


class ExeuntError(Exception):
    """Base of every error that a user can cause and mend. The message says the rule, the value and the fix."""

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
            _fail("unknown-name", f'an action must be run, drop, reuse or forecast, but got "{self.kind}". Use "run".')
        if self.order not in ((1, 2) if self.kind == "forecast" else (0,)):
            rule = "a forecast's order must be 1 or 2" if self.kind == "forecast" else f"{self.kind} has no order"
            _fail("forecast-order", f'{rule}, but got {self.order}. Write ["forecast", n, 1] for a linear forecast.')


RUN, DROP, REUSE = Action("run"), Action("drop"), Action("reuse")
FORECASTS = {1: Action("forecast", 1), 2: Action("forecast", 2)}


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
    guidance: float | None | Literal["inherit"] = "inherit"  # None: not guided at all, one evaluation
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

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON without name, measured, provenance and keys that start with x-."""
        bare = dataclasses.replace(self, name=None, measured=(), provenance=None)
        return hashlib.sha256(_encode(_document(bare, extras=False))).hexdigest()


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
        _fail("exit-count", f"there must be one exit depth a step: {schedule.num_steps}, but got {len(depths)}. "
              "Give as many depths as steps.")  # fmt: skip
    rows: list[Step] = []
    for s, (step, depth) in enumerate(zip(schedule.steps, depths, strict=True)):
        blocks = _exit_row(int(depth), schedule.networks[step.network].num_blocks, tail, f"step {s}")
        rows.append(dataclasses.replace(step, blocks=blocks))
    return dataclasses.replace(schedule, steps=tuple(rows), name=None, measured=(), provenance=None)


def _exit_row(depth: int, num_blocks: int, tail: Action, where: str) -> tuple[Action, ...]:
    if not 0 <= depth <= num_blocks:
        _fail("exit-range", f"{where}: exit must be from 0 to num_blocks={num_blocks}, but got {depth}. "
              f"Write {min(max(depth, 0), num_blocks)}.")  # fmt: skip
    return (RUN,) * depth + (tail,) * (num_blocks - depth)


def from_ase(ten: Sequence[int], base: Schedule) -> Schedule:
    """ASE's ten depths (Moon et al. 2024) on the sampling of `base`: entry t // 100 of the train timestep t, the first
    one next to the data; the blocks after the depth are dropped."""
    _check_ase_base(base)
    if len(ten) != 10:
        _fail("ase-count", f"ASE's schedule must have 10 depths, but got {len(ten)}. Give one a tenth of 0..999.")
    return with_exits(base, [ten[int(step.time) // 100] for step in base.steps])


def to_ase(schedule: Schedule) -> list[int]:
    """ASE's ten depths, next to the data first. A tenth that no step visits takes the next visited one's depth towards
    the data, or else towards the noise. Raises ScheduleError for what ten depths cannot say."""
    _check_ase_base(schedule)
    found: dict[int, int] = {}
    for s, step in enumerate(schedule.steps):
        tenth, depth = int(step.time) // 100, _ase_depth(schedule, s)
        if found.setdefault(tenth, depth) != depth:
            _fail("ase-depth-varies", f"step {s}: ASE has one depth for times {100 * tenth} to {100 * tenth + 99}, but "
                  f"got {depth} after {found[tenth]}. Use one exit depth in each tenth.")  # fmt: skip
    return [found[min(found, key=lambda known: (known > tenth, abs(known - tenth)))] for tenth in range(10)]


def _ase_depth(schedule: Schedule, s: int) -> int:
    step = schedule.steps[s]
    depth = sum(action == RUN for action in step.blocks)
    for j, action in enumerate(step.blocks):
        if action != (RUN if j < depth else DROP):
            _fail("ase-action", f"step {s}, block {j}: ASE can only run a prefix and drop the rest, but got "
                  f'"{action.kind}". Use "exit".')  # fmt: skip
    if step.unconditional != "run" or step.guidance != "inherit":
        _fail("ase-guidance", f"step {s}: ASE has no guidance per step, but this step changes it. "
              'Remove the step\'s "guidance" and "unconditional".')  # fmt: skip
    return depth


def _check_ase_base(schedule: Schedule) -> None:
    sampler = schedule.sampler
    if len(schedule.networks) != 1:
        _fail("ase-networks", f"ASE has one network, but got {len(schedule.networks)}. Use a schedule with one.")
    if schedule.networks[0].granularity != "block":
        _fail("ase-granularity", f'ASE counts whole blocks, but got granularity "{schedule.networks[0].granularity}". '
              'Use granularity "block".')  # fmt: skip
    if sampler.time != "train-index" or sampler.noise.num_timesteps != 1000:
        _fail("ase-time", f'ASE counts 1000 train timesteps, but got time "{sampler.time}" with '
              f"{sampler.noise.num_timesteps} of them. Use a schedule on 1000 train indices.")  # fmt: skip


# ---- reading and writing ---------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Schedule:
    """The schedule in a file. Raises ScheduleError, whose message starts with the path."""
    try:
        with open(path, "rb") as file:
            return parse(file.read(MAX_BYTES + 1))
    except OSError as error:
        _fail("unreadable", f"{os.fspath(path)}: a schedule file must be readable, but got {error.strerror}. "
              f"Give the path of a {SUFFIX} file.")  # fmt: skip
    except ScheduleError as error:
        raise ScheduleError(error.identifier, f"{os.fspath(path)}: {error}") from None


def parse(text: str | bytes) -> Schedule:
    """The schedule that a JSON text holds. Raises ScheduleError for anything that breaks the format."""
    schedule = _read_schedule(_migrate(_decode(text)))
    _check(schedule)
    return schedule


def validate(schedule: Schedule) -> None:
    """Raises ScheduleError if the value could not be written to a file and read back."""
    _check(_read_schedule(_document(schedule)))


def canonical(schedule: Schedule) -> bytes:
    """The one spelling of a schedule: sorted keys, no spaces, defaults omitted, UTF-8."""
    return _encode(_document(schedule))


def dumps(schedule: Schedule) -> str:
    """The canonical JSON laid out for people: one line a step. Ends with a newline."""
    lines: list[str] = []
    for key, value in _document(schedule).items():
        rows = [f"\n    {_json(row)}" for row in value] if key in ("networks", "steps", "measured") else None
        lines.append(f"  {_json(key)}: " + (f"[{','.join(rows)}\n  ]" if rows is not None else _json(value)))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def save(schedule: Schedule, path: str | os.PathLike[str]) -> None:
    """Validates the schedule, and writes it whole or not at all."""
    validate(schedule)
    text = dumps(schedule)
    if len(text.encode()) > MAX_BYTES:
        _fail("too-large", _TOO_LARGE)
    draft = Path(f"{os.fspath(path)}.{os.getpid()}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _encode(document: Document) -> bytes:
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        return text.encode()
    except ValueError as error:  # NaN, an infinity or half a surrogate pair: validation says where
        raise ScheduleError("number-not-finite", f"every number must be finite and every text UTF-8, but got {error}. "
                            "Validate the schedule to see where.") from None  # fmt: skip


def _document(value: Any, *, extras: bool = True) -> Document:
    """A value as the JSON object that stands for it, defaults omitted."""
    document: Document = {"format": FORMAT, "version": VERSION} if isinstance(value, Schedule) else {}
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        if field.name == "extras" or content == field.default:
            continue
        if isinstance(value, Step) and field.name == "blocks":
            content = _coded(content)
        document[_KEYS.get((type(value), field.name), field.name)] = _plain(content, str(field.type), extras)
    if isinstance(value, Step) and document.get("network_time") == document["time"]:
        del document["network_time"]
    if extras:
        document |= {key: json.loads(text) for key, text in value.extras}
    return document


_KEYS = {(Embedded, "scale"): "embedded"}


def _plain(content: Any, annotation: str, extras: bool) -> Any:
    """Tuples as lists, values as objects, and each number in the type of its field, so that 999 and 999.0 are one."""
    if dataclasses.is_dataclass(content):
        return _document(content, extras=extras)
    if isinstance(content, tuple | list):
        return [_plain(entry, annotation, extras) for entry in content]
    if isinstance(content, numbers.Real) and not isinstance(content, bool):
        return float(content) + 0.0 if "float" in annotation else int(content) if content == int(content) else content
    return content


def _coded(blocks: Iterable[Action]) -> list[list[str | int]]:
    """One action a block -> run lengths."""
    runs = [(action, len(list(group))) for action, group in groupby(blocks)]
    return [[a.kind, count, a.order] if a.kind == "forecast" else [a.kind, count] for a, count in runs]


# ---- the strict reader -----------------------------------------------------------------------------------------------

_TOO_LARGE = f"a schedule file must be at most {MAX_BYTES} bytes. Write block actions as run lengths."


def _fail(identifier: str, message: str) -> NoReturn:
    raise ScheduleError(identifier, message)


def _decode(text: str | bytes) -> Any:
    """JSON as RFC 8259 has it, without duplicate keys, NaN, or numbers that a float64 cannot hold."""
    try:
        data = text.encode() if isinstance(text, str) else text
        if len(data) > MAX_BYTES:
            _fail("too-large", _TOO_LARGE)
        return json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_float=_float,
            parse_int=_int,
            parse_constant=lambda name: _fail(
                "number-not-finite", f"numbers must be finite, but got {name}. Write a number."
            ),
        )
    except UnicodeError as error:
        _fail("not-utf8", f"a schedule file must be UTF-8, but {error.reason} at position {error.start}. "
              "Save it as UTF-8.")  # fmt: skip
    except json.JSONDecodeError as error:
        _fail("not-json", f"a schedule file must be JSON, but got {error}. Mend it there.")
    except RecursionError:
        _fail("too-deep", f"values must nest at most {MAX_DEPTH} deep, but got more. Remove the nesting.")


def _object(pairs: list[tuple[str, Any]]) -> Document:
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        key = next(key for key in keys if keys.count(key) > 1)
        _fail("duplicate-key", f"keys must be unique, but {_show(key)} stands twice in one object. Remove one.")
    return document


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        _fail("number-overflow", f"numbers must fit a float64, but got {text[:40]}. Write a smaller one.")
    return number


def _int(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        _fail("number-overflow", f"integers must be within 2^53, but got {text[:40]}. Write a smaller one.")
    return int(text)


# Numbered migrations: entry n turns a document of version n into one of version n + 1. Version 1 is the first.
MIGRATIONS: dict[int, Callable[[Document], Document]] = {}


def _migrate(value: Any) -> Document:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        _fail("not-a-schedule", f'a schedule file must be an object with "format": "{FORMAT}", but got '
              f"{_show(value.get('format', {}) if isinstance(value, dict) else value)}. Give a {SUFFIX} file.")  # fmt: skip
    document: Document = value
    version = _integer(_required(document, "version", "schedule"), "version", low=1)
    if version > VERSION:
        _fail("version-newer", f"this reader knows versions up to {VERSION}, but got version {version}. "
              "Install a newer Exeunt, or write the file as version 1.")  # fmt: skip
    for number in range(version, VERSION):
        document = MIGRATIONS[number](document)
    return document


def _show(value: object) -> str:
    """A value for a message: short, and safe for what is nested deeply."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value) if isinstance(value, str | int | float | None) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _required(document: Document, key: str, where: str) -> Any:
    if key not in document:
        _fail("missing-key", f'{where}: "{key}" must be given, but is missing. Add "{key}".')
    return document[key]


def _keys(value: Any, known: Sequence[str], where: str) -> tuple[Document, Extras]:
    """The object itself once its keys are known ones, and its x- keys apart."""
    if not isinstance(value, dict):
        _fail("wrong-type", f"{where} must be an object, but got {_show(value)}. Write {{...}}.")
    extras: list[tuple[str, str]] = []
    for key, content in value.items():
        if key.startswith("x-"):
            extras.append((_text(key, where), _extra(content, f"{where}, {_show(key)}")))
        elif key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            _fail("unknown-key", f'{where}: keys must be known, but got {_show(key)}. Did you mean "{near}"? '
                  "Your own keys start with x-.")  # fmt: skip
    return value, tuple(sorted(extras))


def _extra(value: Any, where: str) -> str:
    """Any JSON value as canonical text."""
    _check_nesting(value, where)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    if any("\ud800" <= character <= "\udfff" for character in text):
        _fail("not-utf8", f"{where}: texts must be UTF-8, but got half a surrogate pair. Remove the \\u escape.")
    return text


def _check_nesting(value: Any, where: str) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [entry for parent in level for entry in _entries(parent)]
    if level:
        _fail("too-deep", f"{where}: values must nest at most {MAX_DEPTH} deep, but got more. Remove the nesting.")


def _entries(value: Any) -> Iterator[Any]:
    return iter(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())


def _number(value: Any, where: str, *, above: float = -math.inf, below: float = math.inf) -> float:
    """A finite float strictly between `above` and `below`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail("wrong-type", f"{where} must be a number, but got {_show(value)}. Write a number.")
    if not math.isfinite(value):
        _fail("number-not-finite", f"{where} must be finite, but got {value}. Write a number.")
    if not above < value < below:
        _fail("out-of-range", f"{where} must be between {above} and {below}, but got {value}. Write one between.")
    return float(value) + 0.0


def _integer(value: Any, where: str, *, low: int = 0, high: int = MAX_INTEGER) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _fail("wrong-type", f"{where} must be an integer, but got {_show(value)}. Write one without a point.")
    if not low <= value <= high:
        _fail("out-of-range", f"{where} must be from {low} to {high}, but got {value}. Write one between.")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        _fail("wrong-type", f"{where} must be a text, but got {_show(value)}. Write it in quotes.")
    if not 0 < len(value) <= MAX_TEXT:
        _fail("out-of-range", f"{where} must have 1 to {MAX_TEXT} characters, but got {len(value)}. Change its length.")
    if any("\ud800" <= character <= "\udfff" for character in value):
        _fail("not-utf8", f"{where} must be UTF-8, but got half a surrogate pair. Remove the \\u escape.")
    return value


def _choice(value: Any, names: Iterable[str], where: str) -> Any:
    name, known = _text(value, where), tuple(names)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        _fail("unknown-name", f"{where} must be one of {', '.join(known)}, but got {_show(name)}. "
              f'Did you mean "{near}"?')  # fmt: skip
    return name


def _items(value: Any, where: str, *, low: int = 0, high: int = MAX_MATRIX) -> list[Any]:
    if not isinstance(value, list):
        _fail("wrong-type", f"{where} must be a list, but got {_show(value)}. Write [...].")
    if not low <= len(value) <= high:
        _fail("out-of-range", f"{where} must have {low} to {high} entries, but got {len(value)}. Change its length.")
    return value


def _optional(document: Document, key: str, read: Callable[[Any, str], T], where: str) -> T | None:
    value = document.get(key)
    return None if value is None else read(value, f"{where}: {key}")


def _read_schedule(value: Any) -> Schedule:
    known = (
        "format",
        "version",
        "requires",
        "name",
        "networks",
        "sampler",
        "guidance",
        "steps",
        "measured",
        "provenance",
    )
    document, extras = _keys(value, known, "schedule")
    requires = _read_requires(document.get("requires", []))
    entries = _items(_required(document, "networks", "schedule"), "networks", low=1, high=64)
    networks = tuple(_read_network(entry, f"networks[{n}]") for n, entry in enumerate(entries))
    steps = _items(_required(document, "steps", "schedule"), "steps", low=1)
    if len(steps) * max(network.num_blocks for network in networks) > MAX_MATRIX:
        _fail("too-many-blocks", f"steps x blocks must be at most {MAX_MATRIX}, but got {len(steps)} steps. "
              "Use fewer steps or blocks.")  # fmt: skip
    measured = _items(document.get("measured", []), "measured", high=10_000)
    return Schedule(
        networks=networks,
        sampler=_read_sampler(_required(document, "sampler", "schedule")),
        steps=tuple(_read_step(step, networks, f"step {s}") for s, step in enumerate(steps)),
        guidance=_optional(document, "guidance", _read_guidance, "schedule"),
        name=_optional(document, "name", _text, "schedule"),
        measured=tuple(_read_measurement(entry, f"measured[{n}]") for n, entry in enumerate(measured)),
        provenance=_optional(document, "provenance", _read_provenance, "schedule"),
        requires=requires,
        extras=extras,
    )


def _read_requires(value: Any) -> tuple[str, ...]:
    names = tuple(_text(entry, f"requires[{n}]") for n, entry in enumerate(_items(value, "requires", high=100)))
    for name in names:
        if name not in CAPABILITIES:
            _fail("requires-unknown", f"every capability in requires must be known, but got {_show(name)}. "
                  "Read the file with a runtime that has it.")  # fmt: skip
    return names


def _read_network(value: Any, where: str) -> NetworkSignature:
    document, extras = _keys(value, ("architecture", "granularity", "kinds", "weights_sha256"), where)
    runs = _items(_required(document, "kinds", where), f"{where}: kinds", low=1, high=MAX_BLOCKS)
    network = NetworkSignature(
        architecture=_text(_required(document, "architecture", where), f"{where}: architecture"),
        granularity=_choice(_required(document, "granularity", where), GRANULARITIES, f"{where}: granularity"),
        kinds=_merged(_read_kind(run, f"{where}: kinds") for run in runs),
        weights_sha256=_optional(document, "weights_sha256", _sha256, where),
        extras=extras,
    )
    if network.num_blocks > MAX_BLOCKS:
        _fail("too-many-blocks", f"{where}: a network must have at most {MAX_BLOCKS} blocks, but got "
              f"{network.num_blocks}. Count larger blocks.")  # fmt: skip
    if network.granularity == "block" and any(kind == "branch" for kind, _ in network.kinds):
        _fail("kind-granularity", f'{where}: kind "branch" needs granularity "branch", but got "block". '
              'Write "granularity": "branch".')  # fmt: skip
    return network


def _read_kind(value: Any, where: str) -> tuple[str, int]:
    if not isinstance(value, list) or len(value) != 2:
        _fail("wrong-type", f'{where} must hold pairs, but got {_show(value)}. Write ["residual", n].')
    return _choice(value[0], KINDS, where), _integer(value[1], f"{where}: count", low=1)


def _merged(runs: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    groups = groupby(runs, key=lambda run: run[0])
    return tuple((kind, sum(count for _, count in group)) for kind, group in groups)


def _sha256(value: Any, where: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", _text(value, where)):
        _fail("weights-digest", f"{where} must be 64 lower-case hexadecimal digits, but got {_show(value)}. "
              "Give the SHA-256 of the weights, or leave the key out.")  # fmt: skip
    return value


def _read_sampler(value: Any) -> Sampler:
    known = tuple(field.name for field in dataclasses.fields(Sampler) if field.name != "extras")
    document, extras = _keys(value, known, "sampler")

    def choice(key: str, names: Iterable[str], default: str | None = None) -> str:
        given = document.get(key, default) if default else _required(document, key, "sampler")
        return _choice(given, names, f"sampler: {key}")

    lower = document.get("lower_order_final", True)
    if not isinstance(lower, bool):
        _fail("wrong-type", f"sampler: lower_order_final must be true or false, but got {_show(lower)}. Write true.")
    return Sampler(
        name=_text(_required(document, "name", "sampler"), "sampler: name"),
        prediction=choice("prediction", PREDICTIONS),
        time=choice("time", TIMES),
        noise=_read_noise(_required(document, "noise", "sampler")),
        variant=_optional(document, "variant", _text, "sampler"),
        order=_integer(document.get("order", 1), "sampler: order", low=1, high=10),
        lower_order_final=lower,
        final=choice("final", FINALS, "zero"),
        initial_scale=_number(document.get("initial_scale", 1.0), "sampler: initial_scale", above=0),
        clip=_optional(document, "clip", _positive, "sampler"),
        variance=choice("variance", VARIANCES, "none"),
        sigma_data=_optional(document, "sigma_data", _positive, "sampler"),
        extras=extras,
    )


def _positive(value: Any, where: str) -> float:
    return _number(value, where, above=0)


def _beta(value: Any, where: str) -> float:
    return _number(value, where, above=0, below=1)


def _read_noise(value: Any) -> Noise:
    where = "sampler: noise"
    parameters = tuple(field.name for field in dataclasses.fields(Noise) if field.name not in ("kind", "extras"))
    document, extras = _keys(value, ("kind", *parameters), where)
    kind = _choice(_required(document, "kind", where), NOISES, f"{where}: kind")
    required, optional = NOISES[kind]
    for name in parameters:
        if name in document and name not in required + optional:
            _fail("noise-parameter", f'{where}: kind "{kind}" has the parameters {list(required + optional)}, but got '
                  f'"{name}". Remove it.')  # fmt: skip
    for name in required:
        _required(document, name, where)
    noise = Noise(
        kind=kind,
        beta_start=_optional(document, "beta_start", _beta, where),
        beta_end=_optional(document, "beta_end", _beta, where),
        num_train_timesteps=_optional(document, "num_train_timesteps", _train_timesteps, where),
        betas=_optional(document, "betas", _read_betas, where),
        beta_min=_optional(document, "beta_min", _positive, where),
        beta_max=_optional(document, "beta_max", _positive, where),
        sigma_min=_optional(document, "sigma_min", _positive, where),
        sigma_max=_optional(document, "sigma_max", _positive, where),
        extras=extras,
    )
    for low, high in (("beta_start", "beta_end"), ("beta_min", "beta_max"), ("sigma_min", "sigma_max")):
        if (
            getattr(noise, low) is not None
            and getattr(noise, high) is not None
            and getattr(noise, low) > getattr(noise, high)
        ):
            _fail("out-of-range", f"{where}: {low} must be at most {high}, but got {getattr(noise, low)} and "
                  f"{getattr(noise, high)}. Swap them.")  # fmt: skip
    return noise


def _train_timesteps(value: Any, where: str) -> int:
    return _integer(value, where, low=1, high=MAX_TRAIN_TIMESTEPS)


def _read_betas(value: Any, where: str) -> tuple[float, ...]:
    entries = _items(value, where, low=1, high=MAX_TRAIN_TIMESTEPS)
    return tuple(_beta(entry, f"{where}[{n}]") for n, entry in enumerate(entries))


def _read_guidance(value: Any, where: str) -> Guidance | Embedded:
    document, extras = _keys(value, ("scale", "channels", "embedded"), where)
    if "embedded" in document:
        if len(document) - len(extras) > 1:
            _fail("guidance-both", f"{where} must be embedded or classifier-free, but got both. "
                  'Keep "embedded" alone, or remove it.')  # fmt: skip
        return Embedded(_number(document["embedded"], f"{where}: embedded"), extras)
    channels = document.get("channels", "all")
    if channels != "all":
        channels = _integer(channels, f"{where}: channels", low=1)
    return Guidance(_number(_required(document, "scale", where), f"{where}: scale"), channels, extras)


def _read_step(value: Any, networks: Sequence[NetworkSignature], where: str) -> Step:
    known = ("time", "blocks", "exit", "network", "network_time", "guidance", "unconditional", "coefficients")
    document, extras = _keys(value, known, where)
    index = _integer(document.get("network", 0), f"{where}: network")
    if index >= len(networks):
        _fail("network-index", f"{where}: network must be below the number of networks, {len(networks)}, but got "
              f"{index}. Use one of 0 to {len(networks) - 1}.")  # fmt: skip
    guidance = document.get("guidance", "inherit")
    if "guidance" in document and guidance is not None:
        guidance = _number(guidance, f"{where}: guidance")
    return Step(
        time=_number(_required(document, "time", where), f"{where}: time"),
        blocks=_read_blocks(document, networks[index].num_blocks, where),
        network=index,
        network_time=_optional(document, "network_time", _number, where),
        guidance=guidance,
        unconditional=_choice(document.get("unconditional", "run"), UNCONDITIONALS, f"{where}: unconditional"),
        coefficients=_optional(document, "coefficients", _read_coefficients, where),
        extras=extras,
    )


def _read_blocks(document: Document, num_blocks: int, where: str) -> tuple[Action, ...]:
    if ("blocks" in document) == ("exit" in document):
        given = "both" if "blocks" in document else "neither"
        _fail("blocks-or-exit", f'{where} must have one of "blocks" and "exit", but got {given}. '
              f'Write "blocks": [["run", {num_blocks}]].')  # fmt: skip
    if "exit" in document:
        return _exit_row(_integer(document["exit"], f"{where}: exit", low=-MAX_INTEGER), num_blocks, DROP, where)
    entries = _items(document["blocks"], f"{where}: blocks", low=1, high=MAX_BLOCKS)
    runs = [_read_run(entry, f"{where}: blocks") for entry in entries]
    total = sum(count for _, count in runs)  # compared before anything is expanded: a count may be 2^53
    if total != num_blocks:
        fix = f'Add [["drop", {num_blocks - total}]].' if total < num_blocks else f"Take away {total - num_blocks}."
        _fail("blocks-sum", f"{where}: blocks must sum to num_blocks={num_blocks}, but got {total}. {fix}")
    return tuple(chain.from_iterable(repeat(action, count) for action, count in runs))


def _read_run(value: Any, where: str) -> tuple[Action, int]:
    if not isinstance(value, list) or len(value) not in (2, 3):
        _fail("blocks-entry", f'{where} must hold entries such as ["run", 12], but got {_show(value)}. Write one so.')
    kind = _choice(value[0], ("run", "drop", "reuse", "forecast"), where)
    if (len(value) == 3) != (kind == "forecast"):
        _fail("blocks-entry", f'{where}: only forecast has an order, and must have one, but got "{kind}" with '
              f'{len(value) - 1} numbers. Write ["{kind}", n{", 1" if kind == "forecast" else ""}].')  # fmt: skip
    action = forecast(_integer(value[2], f"{where}: order")) if kind == "forecast" else _PLAIN[kind]
    return action, _integer(value[1], f"{where}: count", low=1)


_PLAIN = {"run": RUN, "drop": DROP, "reuse": REUSE}


def _read_coefficients(value: Any, where: str) -> Coefficients:
    names = ("input_scale", "model_x", "model_f", "a")
    document, extras = _keys(value, (*names, "b", "c", "log_variance"), where)
    numbers = [_number(_required(document, name, where), f"{where}: {name}") for name in names]
    b = _items(_required(document, "b", where), f"{where}: b", low=1, high=64)
    return Coefficients(
        *numbers,
        b=tuple(_number(entry, f"{where}: b[{j}]") for j, entry in enumerate(b)),
        c=_number(document.get("c", 0.0), f"{where}: c"),
        log_variance=_optional(document, "log_variance", _pair, where),
        extras=extras,
    )


def _pair(value: Any, where: str) -> tuple[float, float]:
    first, second = (_number(entry, where) for entry in _items(value, where, low=2, high=2))
    return first, second


def _read_measurement(value: Any, where: str) -> Measurement:
    known = tuple(field.name for field in dataclasses.fields(Measurement) if field.name != "extras")
    document, extras = _keys(value, known, where)
    return Measurement(
        metric=_text(_required(document, "metric", where), f"{where}: metric"),
        value=_number(_required(document, "value", where), f"{where}: value"),
        num_images=_count(_required(document, "num_images", where), f"{where}: num_images"),
        interval=_optional(document, "interval", _pair, where),
        floor=_optional(document, "floor", _number, where),
        seeds=_optional(document, "seeds", _text, where),
        images_per_second=_optional(document, "images_per_second", _positive, where),
        baseline_images_per_second=_optional(document, "baseline_images_per_second", _positive, where),
        batch_size=_optional(document, "batch_size", _count, where),
        dtype=_optional(document, "dtype", _text, where),
        executor=_optional(document, "executor", _text, where),
        device=_optional(document, "device", _text, where),
        extras=extras,
    )


def _count(value: Any, where: str) -> int:
    return _integer(value, where, low=1)


def _read_provenance(value: Any, where: str) -> Provenance:
    document, extras = _keys(value, ("study", "trial", "exeunt", "created"), where)
    return Provenance(
        study=_optional(document, "study", _text, where),
        trial=_optional(document, "trial", _integer, where),
        exeunt=_optional(document, "exeunt", _text, where),
        created=_optional(document, "created", _text, where),
        extras=extras,
    )


# ---- the rules that need more than one value -------------------------------------------------------------------------


def _check(schedule: Schedule) -> None:
    _check_sampler(schedule)
    _check_times(schedule)
    _check_guidance(schedule)
    _check_coefficients(schedule)
    _check_caches(schedule)


def _check_sampler(schedule: Schedule) -> None:
    sampler = schedule.sampler
    carried = schedule.steps[0].coefficients is not None
    if sampler.name not in SOLVERS and not carried:
        near = difflib.get_close_matches(sampler.name, SOLVERS, n=1, cutoff=0.0)[0]
        _fail("solver-unknown", f"sampler: name must be one of {', '.join(SOLVERS)} where steps carry no coefficients, "
              f'but got {_show(sampler.name)}. Did you mean "{near}"?')  # fmt: skip
    if (sampler.prediction == "edm") != (sampler.sigma_data is not None):
        _fail("sigma-data", f'sampler: sigma_data belongs to prediction "edm", but got prediction '
              f'"{sampler.prediction}" and sigma_data {_show(sampler.sigma_data)}. Give both or neither.')  # fmt: skip
    if sampler.clip is not None and SOLVERS.get(sampler.name, "x0") != "x0":
        _fail("clip-history", f'sampler: clip needs a solver whose history holds x0, but "{sampler.name}" holds '
              f'{SOLVERS[sampler.name]}. Write "clip": null.')  # fmt: skip
    _check_time_kind(sampler)


def _check_time_kind(sampler: Sampler) -> None:
    noise, time = sampler.noise, sampler.time
    fits = {"train-index": noise.num_timesteps is not None, "sigma": noise.kind != "flow", "flow": noise.kind == "flow"}
    if not fits[time]:
        fix = next(name for name, fit in fits.items() if fit)
        _fail("time-noise", f'sampler: time "{time}" must fit the noise, but got kind "{noise.kind}". '
              f'Write "time": "{fix}".')  # fmt: skip
    if sampler.prediction in ("flow", "edm") and time != {"flow": "flow", "edm": "sigma"}[sampler.prediction]:
        _fail("prediction-time", f'sampler: prediction "{sampler.prediction}" needs another time, but got "{time}". '
              'Use time "flow" with flow and "sigma" with edm.')  # fmt: skip
    if sampler.final == "train-0" and noise.num_timesteps is None:
        _fail("final-noise", f'sampler: final "train-0" needs train indices, but got noise kind "{noise.kind}". '
              'Write "final": "zero".')  # fmt: skip


def _check_times(schedule: Schedule) -> None:
    sampler, times = schedule.sampler, [step.time for step in schedule.steps]
    for s, time in enumerate(times):
        _check_time_range(sampler, time, f"step {s}")
        if s and time > times[s - 1]:
            _fail("time-rises", f"step {s}: time must not rise, but got {time} after {times[s - 1]}. "
                  "Sort the steps from noise to data.")  # fmt: skip
        allowed = 2 if sampler.name in EVALUATES_TWICE else 1
        if schedule.steps[0].coefficients is None and times[max(s - allowed, 0) : s] == [time] * allowed:
            _fail("time-repeats", f'step {s}: solver "{sampler.name}" evaluates a time at most {allowed} times, but got '
                  f"{time} again. Give each step a lower time, or coefficients.")  # fmt: skip


def _check_time_range(sampler: Sampler, time: float, where: str) -> None:
    if sampler.time == "train-index":
        last = (sampler.noise.num_timesteps or 1) - 1
        inside, rule = 0 <= time <= last, f"from 0 to {last}"
    else:
        inside, rule = (time > 0, "above 0") if sampler.time == "sigma" else (0 < time <= 1, "above 0 and at most 1")
    if not inside:
        _fail("time-range", f'{where}: time of kind "{sampler.time}" must be {rule}, but got {time}. Write one there.')


def _check_guidance(schedule: Schedule) -> None:
    evaluated: set[int] = set()  # networks whose unconditional output exists
    for s, step in enumerate(schedule.steps):
        if schedule.guidance is None and not isinstance(step.guidance, str | None):
            _fail("guidance-undeclared", f"step {s}: guidance overrides the schedule's, but got {step.guidance} and no "
                  f'guidance there. Add "guidance": {{"scale": {step.guidance}}} to the schedule.')  # fmt: skip
        if guidance_at(schedule, s) is None and step.unconditional != "run":
            _fail("unconditional-unguided", f"step {s}: unconditional needs classifier-free guidance at that step, but "
                  f'got "{step.unconditional}" without. Remove "unconditional".')  # fmt: skip
        if step.unconditional == "reuse" and step.network not in evaluated:
            _fail("unconditional-nothing-stored", f"step {s}: unconditional must have run before it is reused, but got "
                  '"reuse" first. Write "run" or "skip".')  # fmt: skip
        if "unconditional" in branches_at(schedule, s):
            evaluated.add(step.network)


def _check_coefficients(schedule: Schedule) -> None:
    rows = [step.coefficients for step in schedule.steps]
    learned = schedule.sampler.variance == "learned-range"
    for s, row in enumerate(rows):
        if (row is None) != (rows[0] is None):
            _fail("coefficients-some", f"step {s}: every step or none must carry coefficients, but got both kinds. "
                  "Add the missing ones.")  # fmt: skip
        if row is None:
            continue
        if any(row.b[s + 1 :]):
            _fail("coefficients-history", f"step {s}: b must look back at most {s} steps, but got {len(row.b)} entries. "
                  f"Write at most {s + 1}.")  # fmt: skip
        if (row.log_variance is not None) != (learned and s < len(rows) - 1) or (
            row.c and (learned or row.log_variance)
        ):
            _fail("coefficients-variance", f"step {s}: log_variance must stand in place of c on every step but the last "
                  f'where variance is "learned-range" and nowhere else, but got variance "{schedule.sampler.variance}". '
                  f"{'Use' if learned and s < len(rows) - 1 else 'Remove'} log_variance.")  # fmt: skip


def _check_caches(schedule: Schedule) -> None:
    """Follows what each branch has stored: a block of a network stores when it runs in that branch."""
    stored: dict[tuple[int, Branch], set[int]] = {}
    for s, step in enumerate(schedule.steps):
        kinds = schedule.networks[step.network].block_kinds
        for branch in branches_at(schedule, s):
            cache = stored.setdefault((step.network, branch), set())
            for j, action in enumerate(step.blocks):
                if action is RUN or action.kind == "run":
                    cache.add(j)
                elif action.kind == "drop":
                    if kinds[j] == "replace":
                        _fail("drop-replace", f'step {s}, block {j}: a block of kind "replace" cannot be dropped, but '
                              'got "drop". Use "run" or "reuse".')  # fmt: skip
                elif j not in cache:
                    _fail("nothing-stored", f"step {s}, block {j}: the block must have run before in the {branch} "
                          f'branch, but got "{action.kind}" with nothing stored. Use "run".')  # fmt: skip
