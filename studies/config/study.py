"""A study's whole configuration, as data: frozen sections, from a TOML file with flags over it, stored as JSON.

Whatever can change a number stands here and nowhere else, so two studies with equal configurations measure the same
things. What cannot (`run`) may differ between one session of a study and the next.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from ...backends.errors import InputError
from ..artifacts.base import artifacts_url
from .budget import budget_text
from .families import DEFAULT_FAMILIES
from .goal import goal_text
from .rules import (
    Section,
    any_of,
    decimal,
    many,
    memory,
    name,
    one_of,
    optional,
    pipeline_executor,
    setting,
    text,
    whole,
)
from .rules import options as table

MAX_SEED = 2**63 - 1
# What a setting is where the network decides. A study stores what it came to.
AUTO = "auto"
LATENCY = "latency"  # the objective that times one image alone, unless a batch size is given
# The names of the samplers, which are made in `searcher/search/proposer.py`.
SAMPLER_NAMES = ("auto", "front", "tpe", "gp", "nsga2", "random")
# The names of the search spaces, which `searcher/spaces/base.py` has with their classes.
SPACE_NAMES = ("free", "mixed", "curve", "snr-curve", "cache", "staircase", "segments")


@dataclass(frozen=True)
class CheckpointConfig(Section):
    """The network that is searched."""

    section: ClassVar[str] = "checkpoint"
    path: str = setting("fashion-dit-exits", text, "a file or folder of weights, or the name of a bundled checkpoint")
    network: str | None = setting(
        None, optional(text), "the kind of network, by its name, or FILE.py:Class; none: recognised from the checkpoint"
    )
    options: tuple[tuple[str, Any], ...] = setting(
        (), table, "a table of further arguments of the network's constructor"
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
    small: str | None = setting(
        None,
        optional(text),
        "a file or folder of weights of a smaller network for the same samples, which may take the first steps",
    )
    small_options: tuple[tuple[str, Any], ...] = setting(
        (), table, "a table of further arguments of the smaller network's constructor"
    )

    @property
    def option_words(self) -> str:
        """`num_heads=4, noise=linear`; empty where no further arguments are given."""
        return ", ".join(f"{name}={value}" for name, value in self.options)


@dataclass(frozen=True)
class BaselineConfig(Section):
    """The full schedule that everything is compared with."""

    section: ClassVar[str] = "baseline"
    solver: str | None = setting(
        None, optional(name), "the solver, by its registered name; none: the default for the network's noise"
    )
    order: int | None = setting(None, optional(whole(1, 4)), "the solver's order; none: its default")
    variant: str | None = setting(None, optional(name), "the solver's variant, by its name; none: its default")
    num_steps: int = setting(
        20,
        whole(2, 1000),
        "times of the full schedule; a solver that evaluates twice at each time makes two steps of it",
    )
    spacing: str | None = setting(
        None,
        optional(name),
        "the spacing of the times, by its registered name; none: the default for the network's noise",
    )
    spacing_options: tuple[tuple[str, Any], ...] = setting(
        (), table, "a table of the spacing's parameters, such as rho, or shift for flow matching"
    )
    include_zero: bool | None = setting(
        None,
        optional(one_of(True, False)),
        "whether the network is evaluated at the spacing's end; none: the solver's default",
    )
    guidance: float | str | None = setting(
        AUTO,
        any_of(one_of(AUTO), optional(decimal(0.0, 100.0))),
        "the scale of guidance; none: no guidance; auto: the default of the network's pipeline",
    )
    guidance_channels: int | str | None = setting(
        None,
        optional(any_of(whole(1, 4096), one_of("all"))),
        "how many leading channels are guided, or all; none: as many as the network's own code guides",
    )
    variance: str | None = setting(
        None, optional(name), "the variance of the solver's noise; none: the solver's default"
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
        return f"guidance {self.guidance:g}" if isinstance(self.guidance, float) else "the network's default guidance"


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
    search_seed: int = setting(
        0, whole(0, MAX_SEED), "the seed of the search's noises, which schedules are selected on"
    )
    final_seed: int = setting(1, whole(0, MAX_SEED), "the seed of the final noises, which no schedule is selected on")
    conditions: str = setting(
        AUTO,
        text,
        "what images show: uniform or reference labels, prompts (the bundled set), or a file with a label or prompt a "
        "line; auto: uniform, or prompts where the network takes them",
    )
    batch_size: int = setting(64, whole(1, 100_000), "images sampled at a time; changes values only by rounding")
    level: float = setting(0.9, decimal(0.5, 0.999), "the confidence of every interval")


@dataclass(frozen=True)
class ThroughputConfig(Section):
    """How schedules are timed."""

    section: ClassVar[str] = "throughput"
    objective: str = setting(
        "throughput",
        one_of("throughput", LATENCY),
        "what speed means: images a second, or the time of one batch; for latency batch_size is 1 where it isn't given",
    )
    device: str = setting("auto", name, "cpu, cuda or cuda:N; auto: cuda where there is one")
    batch_size: int = setting(64, whole(1, 100_000), "images timed at a time")
    repeats: int = setting(5, whole(2, 1000), "how often each schedule is timed; all timings are stored")
    executor: str = setting(
        AUTO, any_of(pipeline_executor, one_of(AUTO, "eager")), "what runs the network; auto: eager, or the pipeline"
    )


@dataclass(frozen=True)
class SearchConfig(Section):
    """How schedules are proposed."""

    section: ClassVar[str] = "search"
    sampler: str = setting(AUTO, one_of(*SAMPLER_NAMES), "Optuna's sampler; auto: front on space free, else tpe")
    seed: int = setting(0, whole(0, 2**32 - 1), "the sampler's seed")
    space: str = setting("free", name, "the space of schedules, by its registered name")
    levers: tuple[tuple[str, Any], ...] = setting(
        (), table, 'a table of levers of the space free that are fixed or bounded, such as steps = "8..12"'
    )
    calibrate: bool = setting(
        True,
        one_of(True, False),
        "whether a search on the space free begins with the front of a quick calibration, where 8 % of the budget is "
        "enough for it",
    )
    fit: bool = setting(
        False,
        one_of(True, False),
        "whether the solver's rows of the most promising proposals are fitted to full trajectories, as one more lever",
    )
    max_memory: str | None = setting(
        None,
        optional(memory),
        "the memory that a schedule may need at throughput.batch_size, such as 8GB: weights and stored values; on CUDA "
        "also what the full schedule works with; none: no limit",
    )
    baselines: tuple[str, ...] = setting(
        DEFAULT_FAMILIES,
        many(name, at_least=1),
        "families of baselines: schedules that need no search",
    )
    max_trials: int = setting(
        10_000, whole(1, 10_000_000), "the search ends after this many trials, whatever the budget"
    )


@dataclass(frozen=True)
class RunConfig(Section):
    """Settings that change no measured value, and may differ from one session of a study to the next."""

    section: ClassVar[str] = "run"
    budget: str = setting(
        "4m", budget_text, "when the search ends: 4m, 100-trials, 20k-images, or several with a comma"
    )
    goal: str | None = setting(
        None,
        optional(goal_text),
        "what the search is after: fastest within 5% of full quality, or best at 2x; none: the whole front",
    )
    until_stalled: bool = setting(
        False,
        one_of(True, False),
        "whether the search ends early, once its proposals are expected to gain less than the noise of the front",
    )
    report: str | None = setting("exeunt-report", optional(text), "the folder of the report; none: no report")
    chunk_images: int = setting(128, whole(1, 100_000), "at most this many images between two commits")
    lease_seconds: float = setting(
        60.0, decimal(1.0, 86_400.0), "a worker that gives no sign of life for this long loses its claims"
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
        if self.quality.search_seed == (seed := self.quality.final_seed):  # selection bias shows on unseen noises only
            raise InputError(
                f"quality.final_seed must differ from quality.search_seed, but both are {seed}. "
                f"Write final_seed = {(seed + 1) % MAX_SEED}."
            )
        sampler, space = self.search.sampler, self.search.space
        if self.run.until_stalled and (sampler not in (AUTO, "front") or space != "free"):
            raise InputError(
                "run.until_stalled needs the sampler front on the space free, which says what it expects to gain, but "
                f"got {sampler} on {space}. Omit it, or --sampler and --space."
            )


SECTIONS: dict[str, type[Section]] = {
    each.section: each
    for each in (CheckpointConfig, BaselineConfig, QualityConfig, ThroughputConfig, SearchConfig, RunConfig)
}

# Settings that may change when a study is resumed, because no stored number depends on them.
FREE_SETTINGS = frozenset(
    {*(f"run.{each.name}" for each in fields(RunConfig)), "search.max_trials", "search.calibrate", "search.fit"}
)
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
