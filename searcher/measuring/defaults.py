"""The values that settings get from the network where the configuration says `auto`.

A study stores these values and keeps them when it is resumed, so that a later version's defaults change no number.
"""

from dataclasses import replace
from hashlib import sha256
from typing import Any

from ...backends.errors import InputError
from ...backends.network import Network
from ...backends.networks.registry import BUNDLED
from ...backends.quality.names import TO_BASELINE
from ...backends.sampling.conditions import OWN_PROMPTS
from ...backends.user_code import own_source
from ...studies.config.reading import override, says_nothing, settings
from ...studies.config.study import AUTO, SECTIONS, StudyConfig
from ..spaces.full_schedule import resolve_baseline

DEFAULT_METRIC = "fd-efficientnet-lite0"
DEFAULT_PAIRED = "efficientnet-lite0-to-baseline"
BUNDLED_REFERENCE = "fashion-mnist"


def resolve_defaults(config: StudyConfig, network: Network) -> StudyConfig:
    """The configuration with every `auto` replaced by what fits the network.

    Raises:
        InputError: the network needs to be told something, or a setting contradicts its pipeline.
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
        raise InputError(f"pipeline: `{pipeline}` must have a source file, which tells changes apart. Give FILE.py.")
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
        f"reference: `{config.checkpoint.path}` needs real images to be compared with. Add --reference FOLDER, or an "
        f".npz of images or of mu and sigma; or compare with the full schedule's images: --metric {DEFAULT_PAIRED}."
    )
