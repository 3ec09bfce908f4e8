"""A study's whole configuration, as data: frozen sections, from a TOML file with flags over it, stored as JSON.

Whatever can change a number stands here and nowhere else, so two studies with equal configurations measure the same
things. What cannot (`run`) may differ between one session of a study and the next.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

from ...backends.errors import InputError
from ..artifacts.base import artifacts_url
from .budget import budget_text
from .rules import (
    Section,
    any_of,
    decimal,
    from_table,
    many,
    name,
    nearest,
    one_of,
    optional,
    options,
    pipeline_executor,
    plain,
    setting,
    shown,
    text,
    whole,
)

MAX_FILE_BYTES = 1_000_000
MOST_DOTS = 200
MAX_SEED = 2**63 - 1
# What a setting is where the network decides. A study stores what it came to.
AUTO = "auto"


@dataclass(frozen=True)
class CheckpointConfig(Section):
    """The network that is searched."""

    section: ClassVar[str] = "checkpoint"
    path: str = setting("fashion-dit-exits", text, "a file of weights, or the name of a bundled checkpoint")
    network: str | None = setting(
        None, optional(text), "the kind of network, by its name, or FILE.py:Class; none: as the checkpoint says"
    )
    options: tuple[tuple[str, Any], ...] = setting(
        (), options, "a table of what the network's constructor takes besides"
    )
    weights_key: str | None = setting(
        None, optional(text), "which set of weights of a .pt file, such as ema; none: the file's own"
    )
    vae: str | None = setting(
        None,
        optional(text),
        "the folder of the diffusers autoencoder that decodes latents; none: as the checkpoint says",
    )
    granularity: str = setting("block", one_of("block", "branch"), "what is scheduled: blocks, or attention and MLP")
    pipeline: str | None = setting(
        None, optional(text), "a function that returns a live diffusers pipeline: FILE.py:function; none: the path's"
    )
    dtype: str = setting(
        AUTO,
        one_of(AUTO, "float32", "float16", "bfloat16"),
        "the type that blocks are computed in; auto: float32, or the pipeline's own",
    )
    baseline_weights: tuple[str, ...] = setting(
        ("fashion-dit",), many(text), "other checkpoints of the same network, whose full schedules are baselines"
    )

    @property
    def option_words(self) -> str:
        """`num_heads=4, noise=linear`; empty where the constructor takes nothing besides."""
        return ", ".join(f"{name}={value}" for name, value in self.options)


@dataclass(frozen=True)
class BaselineConfig(Section):
    """The full schedule that everything is compared with."""

    section: ClassVar[str] = "baseline"
    solver: str | None = setting(
        None, optional(name), "the solver, by its registered name; none: the custom on the network's noise"
    )
    order: int | None = setting(None, optional(whole(1, 4)), "the solver's order; none: its custom")
    variant: str | None = setting(None, optional(name), "the solver's variant, by its name; none: its custom")
    num_steps: int = setting(
        20, whole(2, 1000), "steps of the full schedule; a solver that evaluates twice at a time makes two of one"
    )
    spacing: str | None = setting(
        None, optional(name), "where the steps stand, by the spacing's registered name; none: the noise's custom"
    )
    spacing_options: tuple[tuple[str, Any], ...] = setting(
        (), options, "a table of what the spacing takes, such as rho, or shift for flow matching"
    )
    include_zero: bool | None = setting(
        None,
        optional(one_of(True, False)),
        "whether a step is spent at the spacing's end; none: the solver's custom",
    )
    guidance: float | str | None = setting(
        AUTO,
        any_of(one_of(AUTO), optional(decimal(0.0, 100.0))),
        "the scale of guidance; none: no guidance; auto: what the network's pipeline is called with by default",
    )
    guidance_channels: int | str | None = setting(
        None,
        optional(any_of(whole(1, 4096), one_of("all"))),
        "how many leading channels are guided, or all; none: as many as the network's own code guides",
    )
    variance: str | None = setting(
        None, optional(name), "the variance of the solver's noise; none: the solver's custom"
    )
    eta: float | None = setting(None, optional(decimal(0.0, 1.0)), "DDIM's noise: 0 is deterministic, 1 is DDPM's")
    clip: float | None = setting(None, optional(decimal(0.0, 1e6)), "bound on predicted data; none: no bound")

    @property
    def spacing_words(self) -> str:
        """`log-snr`, or `flow (shift 3)`."""
        given = ", ".join(f"{name} {value:g}" for name, value in self.spacing_options)
        return f"{self.spacing} ({given})" if given else str(self.spacing)

    @property
    def guidance_words(self) -> str:
        """`no guidance` or `guidance 1.5`."""
        if self.guidance is None:
            return "no guidance"
        return f"guidance {self.guidance:g}" if isinstance(self.guidance, float) else "the network's usual guidance"


@dataclass(frozen=True)
class QualityConfig(Section):
    """How images are scored, and on which noises."""

    section: ClassVar[str] = "quality"
    metric: str = setting(
        AUTO,
        text,
        "the metric, by its registered name, or FILE.py:function; auto: fd-efficientnet-lite0, and without a reference "
        "efficientnet-lite0-to-baseline where the network takes prompts",
    )
    higher_is_better: bool | None = setting(
        None, optional(one_of(True, False)), "the direction of a function's scores; none: as the function says"
    )
    extractor_weights: str | None = setting(None, optional(text), "a local file with the feature extractor's weights")
    reference: str | None = setting(
        AUTO,
        optional(text),
        "a folder of images, an .npz, or the name of bundled statistics; none: the metric needs none; auto: "
        "the bundled checkpoint's own",
    )
    crop: str = setting("none", one_of("none", "center"), "how reference images are made square")
    resize_filter: str = setting(
        "bilinear",
        one_of("bilinear", "bicubic", "lanczos", "box", "nearest"),
        "the filter that resizes reference images",
    )
    num_images: int = setting(256, whole(2, 10_000_000), "images per schedule in the search")
    final_images: int = setting(
        1024, whole(2, 10_000_000), "images per point of the front for the values that are reported"
    )
    search_seed: int = setting(0, whole(0, MAX_SEED), "the seed of the noises that the selection sees")
    final_seed: int = setting(1, whole(0, MAX_SEED), "the seed of the noises that no selection sees")
    conditions: str = setting(
        AUTO,
        text,
        "what images show: uniform or reference labels, prompts (a set of our own), or a file with a label or prompt a "
        "line; auto: uniform, or prompts where the network takes them",
    )
    batch_size: int = setting(64, whole(1, 100_000), "images sampled at a time; moves values by rounding only")
    level: float = setting(0.9, decimal(0.5, 0.999), "the confidence of every interval")


@dataclass(frozen=True)
class ThroughputConfig(Section):
    """How schedules are timed."""

    section: ClassVar[str] = "throughput"
    device: str = setting("auto", name, "cpu, cuda or cuda:N; auto: cuda where there is one")
    batch_size: int = setting(64, whole(1, 100_000), "images timed at a time")
    repeats: int = setting(5, whole(2, 1000), "how often each figure is measured; all are kept")
    executor: str = setting(
        AUTO, any_of(pipeline_executor, one_of(AUTO, "eager")), "what runs the network; auto: eager, or the pipeline"
    )


@dataclass(frozen=True)
class SearchConfig(Section):
    """What proposes schedules."""

    section: ClassVar[str] = "search"
    sampler: str = setting("tpe", one_of("tpe", "gp", "nsga2", "random"), "Optuna's sampler")
    seed: int = setting(0, whole(0, 2**32 - 1), "the sampler's seed")
    space: str = setting("mixed", name, "the space of schedules, by its registered name")
    baselines: tuple[str, ...] = setting(
        ("full", "fewer-steps", "uniform-depth", "staircase", "interval-reuse"),
        many(name, at_least=1),
        "families of schedules that need no search, measured beside it",
    )
    max_trials: int = setting(10_000, whole(1, 10_000_000), "the search ends here whatever the budget")


@dataclass(frozen=True)
class RunConfig(Section):
    """What changes no number, and may differ from one session of a study to the next."""

    section: ClassVar[str] = "run"
    budget: str = setting(
        "4m", budget_text, "when the search ends: 4m, 100-trials, 20k-images, or several with a comma"
    )
    report: str | None = setting("exeunt-report", optional(text), "the folder of the report; none: no report")
    chunk_images: int = setting(128, whole(1, 100_000), "at most this many images between two commits")
    lease_seconds: float = setting(
        60.0, decimal(1.0, 86_400.0), "a worker that is silent for this long has lost its claims"
    )
    artifacts: str | None = setting(
        None,
        optional(artifacts_url),
        "where features and other files go: a folder, or s3://BUCKET/PREFIX; none: where the database says",
    )
    keep: str = setting(
        "front",
        one_of("front", "compared", "none"),
        "sample images and schedule files that are kept: those of the front, samples of all compared too, or none",
    )


@dataclass(frozen=True)
class StudyConfig:
    """The configuration of one study. Every section has the demo's values as defaults."""

    name: str = "demo"
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    throughput: ThroughputConfig = field(default_factory=ThroughputConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        name("name", self.name)
        _check_seeds(self.quality)


SECTIONS: dict[str, type[Section]] = {
    each.section: each
    for each in (CheckpointConfig, BaselineConfig, QualityConfig, ThroughputConfig, SearchConfig, RunConfig)
}

# Settings that may change when a study is resumed, because no stored number depends on them.
FREE_SETTINGS = frozenset({*(f"run.{each.name}" for each in fields(RunConfig)), "search.max_trials"})
# Settings that a study stores as the loaded network resolves them, as it does whatever is `auto`: before that, none
# says nothing about them.
RESOLVED_SETTINGS = frozenset(
    {
        "baseline.clip",
        "baseline.guidance_channels",
        "baseline.order",
        "baseline.solver",
        "baseline.spacing",
        "baseline.spacing_options",
        "baseline.variance",
        "quality.higher_is_better",
    }
)


class Difference(NamedTuple):
    """A setting with two values. `free` says that no stored number depends on it."""

    key: str
    old: Any
    new: Any
    free: bool


def _check_seeds(quality: QualityConfig) -> None:
    """Selection bias is only visible on noises that selection never saw."""
    if quality.search_seed == quality.final_seed:
        raise InputError(
            f"quality.final_seed must differ from quality.search_seed, but both are {quality.final_seed}. "
            f"Write final_seed = {(quality.final_seed + 1) % MAX_SEED}."
        )


def from_toml(path: str | Path) -> StudyConfig:
    """The configuration in a study file, at most 1 MB of UTF-8 TOML; what it leaves out has its default.

    Raises:
        InputError: the file cannot be read, is not TOML, has an unknown key, or a value breaks its rule.
    """
    try:
        return from_dict(_tables(_read(Path(path))))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise InputError(
                f"a study file must have at most {MAX_FILE_BYTES} bytes, but has more. Is it the right one?"
            )
        return data.decode("utf-8")
    except OSError as error:
        raise InputError(f"the study file cannot be read ({error.strerror}). Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"a study file must be UTF-8, but byte {error.start} is not. Save it as UTF-8.") from error


def _tables(text: str) -> dict[str, Any]:
    # Python's reader keeps every prefix of a dotted key: one of 20,000 parts takes a gigabyte.
    dots = max(line.count(".") for line in text.split("\n"))
    if dots > MOST_DOTS:
        raise InputError(f"a line of a study file must have at most {MOST_DOTS} dots, but one has {dots}. Shorten it.")
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and Python's own for a number of thousands of digits
        raise InputError(f"a study file must be TOML, but {_lower_first(str(error))}. Mend that.") from error
    except RecursionError as error:
        raise InputError("a study file must not nest this deeply. Tables in tables are not needed.") from error


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def from_dict(tables: Mapping[str, Any]) -> StudyConfig:
    """The configuration from nested dicts, the inverse of `to_dict`; what is left out has its default."""
    known = [each.name for each in fields(StudyConfig)]
    for key in tables:
        if key not in known:
            raise InputError(f"`{key}` is no table of a study file. {_where(key, known)}")
    made = {key: from_table(SECTIONS[key], table) for key, table in tables.items() if key != "name"}
    return StudyConfig(name=tables.get("name", StudyConfig.name), **cast(dict[str, Any], made))


def _where(key: str, known: list[str]) -> str:
    """The section that has this setting, for a key that was written outside any; else the nearest name."""
    holders = [section for section, kind in SECTIONS.items() if key in {each.name for each in fields(kind)}]
    return f"Write it under [{'] or ['.join(holders)}]." if holders else nearest(key, known)


def to_dict(config: StudyConfig) -> dict[str, Any]:
    """The configuration as JSON types, whole: defaults are written out, since a later version may have others."""
    sections = {
        section: {each.name: plain(getattr(getattr(config, section), each.name)) for each in fields(kind)}
        for section, kind in SECTIONS.items()
    }
    return {"name": config.name, **sections}


def override(config: StudyConfig, values: Mapping[str, Any]) -> StudyConfig:
    """The configuration with some settings replaced, by their dotted keys: `{"quality.num_images": 512}`.

    Raises:
        InputError: a key is unknown, or a value breaks its rule.
    """
    for key in values:
        if key not in settings():
            raise InputError(f"`{key}` is not a setting. {_nearest_setting(key)}")
    made: dict[str, Any] = {"name": values["name"]} if "name" in values else {}
    for section in SECTIONS:
        inside = {key.split(".")[1]: value for key, value in values.items() if key.startswith(f"{section}.")}
        made |= {section: replace(getattr(config, section), **inside)} if inside else {}
    return replace(config, **made)


def settings() -> list[str]:
    """The dotted keys of all settings."""
    return ["name", *(f"{section}.{each.name}" for section, kind in SECTIONS.items() for each in fields(kind))]


def _nearest_setting(key: str) -> str:
    last = key.rsplit(".", 1)[-1]
    same = [each for each in settings() if each.rsplit(".", 1)[-1] == last]
    return f"Did you mean `{same[0]}`?" if same else nearest(key, settings())


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """`quality.num_images=512` as key and value. The value is TOML where it can be, and text where it cannot."""
    key, equals, value = assignment.partition("=")
    if not equals:
        raise InputError(f"a setting must be KEY=VALUE, but got `{assignment}`. Write quality.num_images=512.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key.strip(), value.strip()


def difference(old: StudyConfig, new: StudyConfig, same: Collection[str] = ()) -> list[Difference]:
    """The settings in which two configurations differ, those that change a number first.

    `same` names settings whose values differ in spelling only: a checkpoint that was moved and has the same digest.
    """
    before, after = _flat(old), _flat(new)
    changed = [
        Difference(key, before[key], after[key], key in FREE_SETTINGS or key in same or says_nothing(key, after[key]))
        for key in before
        if before[key] != after[key]
    ]
    return sorted(changed, key=lambda each: each.free)


def says_nothing(key: str, value: Any) -> bool:
    """Whether a setting's value leaves it to the network."""
    return value == AUTO or (key in RESOLVED_SETTINGS and value in (None, (), []))


def _flat(config: StudyConfig) -> dict[str, Any]:
    tables = to_dict(config)
    inner = {f"{section}.{key}": value for section in SECTIONS for key, value in tables[section].items()}
    return {"name": tables["name"], **inner}


def refuse_difference(stored: StudyConfig, given: StudyConfig, same: Collection[str] = ()) -> None:
    """Raises `InputError`, with the difference shown, where resuming with `given` would change a number."""
    changed = [each for each in difference(stored, given, same) if not each.free]
    if changed:
        lines = "\n".join(f"  {each.key}: stored {shown(each.old)}, given {shown(each.new)}" for each in changed)
        raise InputError(
            f"study `{stored.name}` was started with another configuration; figures could not be compared:\n{lines}\n"
            f"Go on as stored with `exeunt resume --study {stored.name}`, or start another study with --study NAME."
        )
