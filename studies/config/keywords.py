"""Settings by the short names of flags and of keyword arguments in Python: `checkpoint`, `reference`, `num_steps`."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...backends.errors import InputError, nearest
from .reading import from_toml, override, parse_assignment
from .study import LATENCY, SECTIONS, StudyConfig

# Each with the settings that it sets: those of its name, in all sections that have one.
KEYWORDS: dict[str, list[str]] = {"study": ["name"], "checkpoint": ["checkpoint.path"]}
for section, kind in SECTIONS.items():
    for each in fields(kind):
        KEYWORDS.setdefault(each.name, []).append(f"{section}.{each.name}")
_ARGUMENTS, _OF_SMALL = "network_args", "small."


def described(config: StudyConfig, given: Mapping[str, Any], values: Mapping[str, Any]) -> StudyConfig:
    """The configuration with what was given over it.

    Args:
        config: what holds where nothing is given.
        given: values by their names in `KEYWORDS`, and `network_args`, KEY=VALUE each, small.KEY for the small
            network's; None where there is none.
        values: settings by their dotted keys, over which `given` goes.

    Raises:
        InputError: a value is wrong, or two of them contradict each other.
    """
    values = dict(values)
    for keyword, keys in KEYWORDS.items():
        if given.get(keyword) is not None:
            values |= dict.fromkeys(keys, given[keyword])
    arguments = dict(map(parse_assignment, given.get(_ARGUMENTS) or ()))
    small = {key.removeprefix(_OF_SMALL): arguments.pop(key) for key in list(arguments) if key.startswith(_OF_SMALL)}
    named = {"checkpoint.options": arguments, "checkpoint.small_options": small}
    values |= {key: options for key, options in named.items() if options}
    if values.get("throughput.objective") == LATENCY != config.throughput.objective:
        values.setdefault("throughput.batch_size", 1)
    return override(config, _for_checkpoint(config, values))


def configured(config: StudyConfig | str | os.PathLike[str] | None, given: Mapping[str, Any]) -> StudyConfig:
    """A configuration, or that in a study file, or the demo's, with keyword arguments over it.

    Raises InputError for a keyword that there isn't, and as `described` does.
    """
    for keyword in given:
        if keyword not in KEYWORDS:
            raise InputError(f"`{keyword}` is not a setting. {nearest(keyword, KEYWORDS)}")
    if not isinstance(config, StudyConfig):
        config = StudyConfig() if config is None else from_toml(os.fspath(config))
    return described(config, given, {}) if given else config


def _for_checkpoint(config: StudyConfig, values: dict[str, Any]) -> dict[str, Any]:
    """The values, with the demo's defaults taken back where they belong to the demo's checkpoint alone."""
    pipeline = values.get("checkpoint.pipeline", config.checkpoint.pipeline)
    if pipeline is not None and "checkpoint.path" in values:
        raise InputError("checkpoint: give --checkpoint or --pipeline, but got both. Omit one.")
    checkpoint = os.fspath(pipeline or values.get("checkpoint.path", config.checkpoint.path))
    defaults = StudyConfig()
    if checkpoint == defaults.checkpoint.path:
        return values
    if pipeline is not None:
        values = {"checkpoint.path": pipeline} | values
    own: dict[str, Any] = {}
    if config.checkpoint.baseline_weights == defaults.checkpoint.baseline_weights:
        own["checkpoint.baseline_weights"] = ()
    if config.name == defaults.name:
        own["name"] = _as_name(Path(checkpoint).stem)
    return own | values


def _as_name(text: str) -> str:
    kept = "".join(sign if sign.isalnum() or sign in "_.:+-" else "-" for sign in text)
    return kept.lstrip("_.:+-")[:100] or "study"
