"""Values for settings that the configuration leaves `auto`, chosen for the network, and the full schedule.

A study stores these values and keeps them when it is resumed, so that a later version's defaults change no number.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Literal

from ...backends.errors import InputError
from ...backends.network import Network, UsualSampler
from ...backends.networks.registry import BUNDLED
from ...backends.quality.names import TO_BASELINE
from ...backends.sampling.conditions import OWN_PROMPTS
from ...backends.sampling.loop import check_schedule
from ...backends.schedule import Embedded, Guidance, Schedule
from ...backends.solvers.spacings import default_spacing
from ...backends.solvers.tables import default_solver, find_solver, make_schedule
from ...backends.user_code import own_source
from ...studies.config.reading import override, says_nothing, settings
from ...studies.config.study import AUTO, SECTIONS, BaselineConfig, StudyConfig
from ..spaces.frame import FullSchedule, Turn, stitched

DEFAULT_METRIC = "fd-efficientnet-lite0"
DEFAULT_PAIRED = "efficientnet-lite0-to-baseline"
BUNDLED_REFERENCE = "fashion-mnist"


def resolve_defaults(config: StudyConfig, network: Network) -> StudyConfig:
    """The configuration with every `auto` replaced by what fits the network.

    Raises InputError: the network needs to be told something, or a setting contradicts its pipeline.
    """
    if config.checkpoint.pipeline:
        config = _as_served(config, network)
    metric, reference = _compared(config, network)
    chosen = {
        "checkpoint.dtype": "float32",
        "throughput.executor": "eager",
        "quality.metric": metric,
        "quality.reference": reference,
        "quality.conditions": OWN_PROMPTS if network.condition_kind == "prompts" else "uniform",
    }
    config = override(config, {key: value for key, value in chosen.items() if _value(config, key) == AUTO})
    return replace(config, baseline=resolve_baseline(network, config.baseline))


def keep_stored_defaults(config: StudyConfig, stored: StudyConfig) -> StudyConfig:
    """The configuration with what it leaves to the network taken from a study that is stored already."""
    left = [key for key in settings() if key != "name" and says_nothing(key, _value(config, key))]
    return override(config, {key: _value(stored, key) for key in left})


def _value(config: StudyConfig, key: str) -> Any:
    section, _, name = key.partition(".")
    assert section in SECTIONS, key
    return getattr(getattr(config, section), name)


def _as_served(config: StudyConfig, network: Network) -> StudyConfig:
    """Type, device and executor as a live pipeline has them, which nothing here may change."""
    assert config.checkpoint.pipeline is not None
    own = {"checkpoint.dtype": str(network.dtype).removeprefix("torch."), "throughput.device": str(network.device)}
    for key, value in own.items():
        if _value(config, key) not in (AUTO, value):
            raise InputError(
                f"{key}: the pipeline is measured as it is served, with {value}, but got `{_value(config, key)}`. "
                f"Change it in `{config.checkpoint.pipeline}`, and omit the setting."
            )
    made = {"checkpoint.path": config.checkpoint.pipeline, "throughput.executor": executor(config.checkpoint.pipeline)}
    return override(config, own | made)


def executor(pipeline: str) -> str:
    """What runs the network of a live pipeline: the code that makes it, which may compile or quantise it."""
    source = own_source(pipeline)
    if source is None:
        raise InputError(f"pipeline: `{pipeline}` must have a source file, so that changes are noticed. Give FILE.py.")
    return f"pipeline-{sha256(source).hexdigest()[:12]}"


def _compared(config: StudyConfig, network: Network) -> tuple[str, str | None]:
    """The metric and the reference, completed where one or both were not given."""
    metric, reference, bundled = config.quality.metric, config.quality.reference, config.checkpoint.path in BUNDLED
    if reference not in (AUTO, None):
        return DEFAULT_METRIC, reference
    if reference is None:
        return DEFAULT_PAIRED, None
    if metric != AUTO:
        is_to_reference = not metric.endswith(TO_BASELINE) and ":" not in metric
        return metric, BUNDLED_REFERENCE if bundled and is_to_reference else None
    if bundled:
        return DEFAULT_METRIC, BUNDLED_REFERENCE
    if network.condition_kind == "prompts":
        return DEFAULT_PAIRED, None
    raise InputError(
        f"reference: `{config.checkpoint.path}` needs real images to compare with. Add --reference FOLDER, or an "
        f".npz of images or of mu and sigma; or compare with the full schedule's images: --metric {DEFAULT_PAIRED}."
    )


def make_frame(networks: Sequence[Network], baseline: BaselineConfig) -> FullSchedule:
    """The full schedule of the first network as the configuration wants it; a second one may take some of its steps.

    Raises InputError: an unknown solver or spacing, or values that do not go together.
    """
    network, *others = networks
    settled = resolve_baseline(network, baseline)
    if settled.guidance is not None and network.condition_kind == "none":
        raise InputError(
            f"guidance: `{network.name}` takes no conditions, so there is nothing to guide. Omit `--guidance`."
        )
    full = _full(network, settled)
    check_schedule([network], full)
    assert settled.spacing is not None
    warps = _own_sampler(network, settled) is None
    if (later := network.successor) is not None:
        turn = Turn(later.network.signature, later.below)
        full = turn.taken(full)
        check_schedule([network, later.network], full)
        return FullSchedule(full, settled.spacing, settled.spacing_options, baseline.include_zero, warps, turn=turn)
    small = others[0].signature if others else None
    if small is not None:
        check_schedule(networks, stitched(full, small, full.num_steps))
    return FullSchedule(full, settled.spacing, settled.spacing_options, baseline.include_zero, warps, small)


def resolve_baseline(network: Network, baseline: BaselineConfig) -> BaselineConfig:
    """The configuration with the defaults of the network and of its pipeline filled in."""
    usual = None if network.condition_kind == "none" else network.usual_guidance
    if own := _own_sampler(network, baseline):
        baseline = replace(
            baseline,
            solver=own.solver,
            spacing=own.spacing,
            spacing_options=own.options,
            order=baseline.order or own.order,
            clip=own.clip if baseline.clip is None else baseline.clip,
            variance=baseline.variance or own.variance,
        )
    spacing = baseline.spacing or default_spacing(network.noise)
    return replace(
        baseline,
        solver=baseline.solver or default_solver(network.noise),
        spacing=spacing,
        spacing_options=_spacing_options(network, spacing, baseline),
        guidance=usual if baseline.guidance == AUTO else baseline.guidance,
        guidance_channels=guidance_channels(network, baseline),
    )


def _own_sampler(network: Network, baseline: BaselineConfig) -> UsualSampler | None:
    """Solver and times of a pipeline that takes no others; None where there are none, or the configuration differs."""
    own = network.usual_sampler
    if own is None or baseline.include_zero is not None or not (own.by_default or baseline.solver):
        return None
    differs = baseline.solver not in (None, own.solver) or baseline.spacing not in (None, own.spacing)
    return None if differs or not dict(baseline.spacing_options).items() <= dict(own.options).items() else own


def _full(network: Network, settled: BaselineConfig) -> Schedule:
    return make_schedule(
        network.signature,
        network.noise,
        network.prediction,
        solver=settled.solver,
        order=settled.order,
        variant=settled.variant,
        num_steps=settled.num_steps,
        spacing=settled.spacing,
        spacing_parameters=dict(settled.spacing_options),
        include_zero=settled.include_zero,
        guidance=_guidance(network, settled),
        variance=_variance(network, settled),
        eta=settled.eta,
        clip=settled.clip,
    )


def _spacing_options(network: Network, spacing: str, baseline: BaselineConfig) -> tuple[tuple[str, float], ...]:
    """What the spacing takes: the network's own shift where the configuration has none."""
    given = dict(baseline.spacing_options)
    if spacing == "flow" and network.usual_shift is not None:
        given.setdefault("shift", network.usual_shift)
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"baseline.spacing_options.{name} must be a number, but got {value!r}. Write one.")
    return tuple(sorted(given.items()))


def _guidance(network: Network, settled: BaselineConfig) -> Guidance | Embedded | None:
    """Guidance in two passes, or as an input for networks that take a scale."""
    scale = settled.guidance
    assert not isinstance(scale, str)
    if network.takes_guidance:
        if scale is None:
            raise InputError(
                f"guidance: `{network.name}` takes a scale at every step, but got none. Add --guidance 3.5."
            )
        return Embedded(scale)
    return None if scale is None else Guidance(scale, guidance_channels(network, settled))


def guidance_channels(network: Network, baseline: BaselineConfig) -> int | Literal["all"]:
    """How many leading channels are guided: as the configuration says, else as the network's own code does."""
    wanted = baseline.guidance_channels
    if wanted is None:
        return network.guidance_channels
    return "all" if wanted == "all" else int(wanted)


def _variance(network: Network, settled: BaselineConfig) -> str | None:
    """The variance of the solver's noise: the network's own where it has learned one and nothing else is wanted."""
    assert settled.solver is not None
    learned = network.learned_range and "learned-range" in find_solver(settled.solver).variances
    return "learned-range" if settled.variance is None and learned else settled.variance
