"""Code of the user's own that a study names: `FILE.py:name` networks, pipelines and metrics.

A database says which file is imported, and anybody can hand one over. So what a command does not name itself is
imported only where its file is the one that the study was measured with, which is looked at without running anything.
"""

from collections.abc import Collection, Mapping

from ...backends.errors import InputError
from ...backends.quality.names import TO_BASELINE
from ...backends.user_code import source_sha256
from ...studies.config.study import StudyConfig
from ...studies.store.store import stored_pins

NETWORK, PIPELINE, METRIC = "checkpoint.network", "checkpoint.pipeline", "quality.metric"


def own_code(config: StudyConfig) -> dict[str, str]:
    """The names of code that is not this package's, by their settings."""
    given = {
        NETWORK: config.checkpoint.network,
        PIPELINE: config.checkpoint.pipeline,
        METRIC: config.quality.metric.removesuffix(TO_BASELINE),
    }
    return {key: name for key, name in given.items() if name and ":" in name and not name.startswith("exeunt.")}


def code_pins(config: StudyConfig) -> dict[str, str]:
    """The digests of the files behind such names."""
    found = {_pin(key): source_sha256(name) for key, name in own_code(config).items()}
    return {key: digest for key, digest in found.items() if digest is not None}


def refuse_unpinned(config: StudyConfig, url: str, named: Collection[str] = (), *, scores: bool = True) -> None:
    """Raises `InputError` where loading a stored study would import code that is neither pinned nor named.

    Args:
        config: the study's, with what this command changes.
        url: its database, where it is.
        named: the names that this command gives itself.
        scores: whether the metric is loaded too.
    """
    names = {key: name for key, name in own_code(config).items() if scores or key != METRIC}
    unnamed = {key: name for key, name in names.items() if not {name, f"{name}{TO_BASELINE}"} & set(named)}
    pins = stored_pins(url, config.name) if unnamed else {}
    for key, name in unnamed.items():
        digest = source_sha256(name)
        if digest is None or not _matches(key, digest, config, pins):
            have = "here there is no such file" if digest is None else f"here the digest is {digest[:12]}"
            raise InputError(
                f"{key}: the study `{config.name}` names `{name}`, which is imported only if its file is the one that "
                f"the study was measured with (digest {pins.get(_pin(key), '')[:12] or 'not stored'}), but {have}. "
                f"Restore that file, or name the code yourself: `exeunt optimize` with `{_FLAGS[key]} {name}`."
            )


_FLAGS = {NETWORK: "--network", PIPELINE: "--pipeline", METRIC: "--metric"}


def _pin(key: str) -> str:
    return f"{key}.code"


def _matches(key: str, digest: str, config: StudyConfig, pins: Mapping[str, str]) -> bool:
    """Whether a file is the pinned one. Older studies pinned the network's file and part of the pipeline's digest."""
    if _pin(key) in pins:
        return digest == pins[_pin(key)]
    if key == NETWORK:
        return digest == pins.get(key)
    if key == PIPELINE:
        return config.throughput.executor == f"pipeline-{digest[:12]}"
    return False
