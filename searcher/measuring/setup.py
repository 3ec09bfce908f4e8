"""What a study measures with: networks, conditions, metric and reference, loaded and checked at once.

All inputs are checked here, before anything is sampled and before a database is touched.

It also reads schedules that a user proposes in place of a sampler's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from logging import LogRecord, getLogger
from operator import attrgetter
from pathlib import Path
from typing import Any

import click
import torch

from ...backends.checkpoints.files import is_folder
from ...backends.errors import InputError, printable
from ...backends.network import Network
from ...backends.networks.decoders import DecodedNetwork
from ...backends.networks.hf.load_pipeline import load_pipeline
from ...backends.networks.registry import load_network
from ...backends.quality.distances import MIN_IMAGES
from ...backends.quality.extractors import FeatureArray
from ...backends.quality.names import parse_metric
from ...backends.sampling import conditions as condition_lists
from ...backends.sampling.compatibility import check_decoding
from ...backends.sampling.conditions import Conditions, shown_condition
from ...backends.sampling.loop import Samples, check_schedule
from ...backends.schedule import SUFFIX, Schedule
from ...backends.schedule import load as load_schedule
from ...backends.solvers.tables import find_solver
from ...backends.timing.device import check_device, device_id, environment, keep_freed_memory
from ...backends.timing.device_lock import DeviceLock
from ...backends.timing.memory import Footprint, footprint, megabytes
from ...studies.config.families import check_families
from ...studies.config.reading import override
from ...studies.config.rules import parse_memory
from ...studies.config.study import AUTO, CheckpointConfig, StudyConfig
from ..monitoring.json_lines import EVENTS, listening
from ..spaces.base import Space, check_space, make_space
from ..spaces.candidates import Candidate, first_baseline
from ..spaces.frame import FullSchedule
from .defaults import make_frame, resolve_defaults
from .metric import Metric, load_metric
from .own_code import code_pins
from .readings import settle_reading, with_options

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class StudySetup:
    """What a study measures with.

    Attributes:
        config: the study's configuration, with nothing left open.
        networks: by the name of their weights; the study's own come first.
        frames: the full schedule of each of them.
        conditions: the labels or prompts of the images.
        small: the network that may take the first steps in place of any of these, or that takes the later ones of
            its pipeline; None without one.
    """

    config: StudyConfig
    networks: Mapping[str, Network]
    frames: Mapping[str, FullSchedule]
    conditions: Conditions
    metric: Metric
    small: Network | None = None

    @property
    def weights(self) -> str:
        """The name of the study's own weights."""
        return next(iter(self.networks))

    @property
    def network(self) -> Network:
        return self.networks[self.weights]

    @property
    def all_networks(self) -> dict[str, list[Network]]:
        """By the name of the weights: the network with these, and the small one where there is one."""
        return {name: _beside(network, self.small) for name, network in self.networks.items()}

    def networks_of(self, weights: str, schedule: Schedule | None = None) -> list[Network]:
        """The networks with these weights; only those that a schedule names, if one is given."""
        return self.all_networks[weights][: None if schedule is None else len(schedule.networks)]

    @property
    def frame(self) -> FullSchedule:
        return self.frames[self.weights]

    @cached_property
    def space(self) -> Space:
        """What proposals are taken from. Raises InputError for levers that it doesn't have."""
        return make_space(self.config.search.space, self.frame, dict(self.config.search.levers))

    @cached_property
    def footprints(self) -> dict[str, Footprint]:
        """What schedules need of the device's memory, by the name of their weights; empty where nothing limits that."""
        if self.config.search.max_memory is None:
            return {}
        size = self.config.throughput.batch_size
        return {name: footprint(each, self.frames[name].full, size) for name, each in self.all_networks.items()}

    def too_large(self, weights: str, schedule: Schedule) -> str | None:
        """Why a schedule is beyond the study's memory; None where it isn't."""
        if (limit := self.config.search.max_memory) is None:
            return None
        known = self.footprints[weights]
        if (needed := known.needed(schedule)) <= parse_memory(limit):
            return None
        stored, size = needed - known.without_stored(schedule), known.batch_size
        return (
            f"it needs {megabytes(needed)} at a batch of {size}, {megabytes(stored)} of that for stored values, and at "
            f"most {limit} may be used"
        )

    @cached_property
    def baseline(self) -> Candidate:
        """What everything is stated against: the full schedule, on the first of the other weights if there are any."""
        return first_baseline(self.frames)

    def features(self, batches: Sequence[Samples], seed: int) -> FeatureArray:
        """(N, D) features of sampled batches; the metric may ask for the prompts or labels that they were given."""
        images = [range(batch.first, batch.first + len(batch.images)) for batch in batches]
        given = [shown_condition(self.conditions, each, seed) for each in images]
        return self.metric.features([batch.images for batch in batches], given)

    def weights_digest(self, name: str) -> str:
        """What tells the weights of that name apart, with their decoder where that is no part of them, and the
        network's code where that is the user's own; the name where they have no digest."""
        network = self.networks[name]
        own = network.signature.weights_sha256 or network.name
        return "+".join(part for part in (own, network.decoder_sha256, network.code_sha256) if part is not None)

    @property
    def small_digest(self) -> str:
        """The same of the small network, whose decoder is not used; empty without one."""
        if self.small is None:
            return ""
        own = self.small.signature.weights_sha256 or self.small.name
        return "+".join(part for part in (own, self.small.code_sha256) if part is not None)

    @cached_property
    def lock(self) -> DeviceLock:
        """The lock of the device that all of this runs on."""
        return DeviceLock(device_id(self.network.device))

    @cached_property
    def timing_turn(self) -> DeviceLock:
        """The lock of the worker that times on this device, while others wait to read what it finds."""
        return DeviceLock(f"{device_id(self.network.device)}-turn")

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What timings depend on besides schedule, weights, dtype and executor."""
        return environment(self.network.device)

    @property
    def pins(self) -> dict[str, str]:
        """The digests of what settings only name, so that a changed file is not taken for the same one."""
        weights = [network.signature.weights_sha256 or network.name for network in self.networks.values()]
        return {
            "checkpoint.path": weights[0],
            "checkpoint.network": self.network.code_sha256 or "",
            "checkpoint.baseline_weights": "+".join(weights[1:]),
            "checkpoint.vae": self.network.decoder_sha256 or "",
            "quality.conditions": self.conditions.digest,
            "quality.reference": self.metric.reference,
            "quality.metric": self.metric.extractor_digest,
            "checkpoint.reading": self.network.reading,
            "checkpoint.small": self.small_digest,
            "checkpoint.small_reading": "" if self.small is None else self.small.reading,
            **code_pins(self.config),
        }


def load_setup(
    config: StudyConfig, accept: Callable[[Sequence[Network]], None] = lambda networks: None, *, settles: bool = True
) -> StudySetup:
    """Loads and checks everything that a study measures with.

    Args:
        config: settings that are `auto` are taken from the network.
        accept: raises if these are the wrong networks; called before anything else is read.
        settles: whether real images decide how a checkpoint is read that doesn't say it; a stored study has decided.

    Raises:
        InputError, ScheduleError: an input is wrong; the message says which and what to do.
        DeviceError: the device is not there.
    """
    keep_freed_memory()
    config = resolve_device(config)
    _check_names(config)
    networks = _load_weights(config)
    network = next(iter(networks.values()))
    if settles and network.open_readings:
        network.check_decodes()
        config, unsettled = _settle(config, network), config
        networks = networks if config == unsettled else _load_weights(config)
        network = next(iter(networks.values()))
    config = _settle_small(config, network) if settles else config
    small = load_small(config, network)
    accept(_beside(network, small))
    network.check_decodes()
    for each in networks.values():
        check_decoding(each)
    config = resolve_defaults(config, network)
    _, height, width = network.image_shape
    with _telling_of_references():
        metric = load_metric(config.quality, (height, width), config.throughput.device, network.condition_kind)
    _check_enough(config, metric)
    config = override(config, {"quality.higher_is_better": metric.higher_is_better})
    conditions = make_conditions(config, [*networks.values(), *([] if small is None else [small])], metric)
    frames = {name: make_frame(_beside(each, small), config.baseline) for name, each in networks.items()}
    made = StudySetup(config, networks, frames, conditions, metric, small)
    for name, frame in frames.items():
        if reason := made.too_large(name, frame.full):
            raise InputError(
                f"search.max_memory: must hold the full schedule on {name}, but {reason}. Give a larger --max-memory, "
                "or a smaller --batch-size."
            )
    return made


def _settle(config: StudyConfig, network: Network) -> StudyConfig:
    """The configuration with what real images decide of its checkpoint."""
    checkpoint = config.checkpoint

    def load(reading: dict[str, Any]) -> Network:
        return _open(checkpoint.path, with_options(checkpoint, reading), str(network.device))

    changed = settle_reading(resolve_defaults(config, network).quality, network, load, lambda note: tell_notes([note]))
    return replace(config, checkpoint=with_options(checkpoint, changed))


def _settle_small(config: StudyConfig, own: Network) -> StudyConfig:
    """The same of its small network."""
    checkpoint = config.checkpoint
    if checkpoint.small is None or not (small := _open_small(checkpoint, own)).open_readings:
        return config

    def told(reading: dict[str, Any]) -> CheckpointConfig:
        return replace(checkpoint, small_options=tuple(sorted((dict(checkpoint.small_options) | reading).items())))

    quality = resolve_defaults(config, own).quality
    found = settle_reading(quality, small, lambda r: _open_small(told(r), own), lambda note: tell_notes([note]), _SMALL)
    return replace(config, checkpoint=told(found))


def _telling_of_references() -> AbstractContextManager[None]:
    """Within this block, it is told how many real images take their time, unless programs are told already."""

    def tell(record: LogRecord) -> None:
        if not EVENTS.handlers:
            tell_notes([vars(record)["about"]["text"]])

    return listening(getLogger(f"{EVENTS.name}.reference"), tell)


def _check_enough(config: StudyConfig, metric: Metric) -> None:
    """Distances need a few images; a score has a mean from two on."""
    if metric.higher_is_better is not None:
        return
    for name in ("num_images", "final_images"):
        count = getattr(config.quality, name)
        if count < MIN_IMAGES:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(
                f"quality.{name}: a distance needs {MIN_IMAGES} images or more, but got {count}. Add {flag} 64."
            )


def _check_names(config: StudyConfig) -> None:
    """Names are checked before anything is loaded."""
    check_space(config.search.space)
    check_families(config.search.baselines)
    if config.quality.metric != AUTO and ":" not in config.quality.metric:
        parse_metric(config.quality.metric)
    if config.baseline.solver is not None:
        find_solver(config.baseline.solver)


def make_conditions(config: StudyConfig, networks: Sequence[Network], metric: Metric | None = None) -> Conditions:
    """The labels or prompts of a study's images. Networks that take prompts encode them now, each once.

    Raises InputError: a file is wrong, or the networks take no conditions.
    """
    spec, probabilities = config.quality.conditions, metric.label_probabilities if metric else None
    if networks[0].condition_kind != "prompts":
        classes = networks[0].num_classes
        return condition_lists.load_conditions("uniform" if spec == AUTO else spec, classes, probabilities)
    found = condition_lists.load_prompts(condition_lists.OWN_PROMPTS if spec == AUTO else spec)
    for network in networks:
        if network.num_conditions is None:
            known = len(network.notes)
            network.embed(found.prompts)
            tell_notes(network.notes[known:])
    return found


def resolve_device(config: StudyConfig) -> StudyConfig:
    """The configuration with `auto` replaced by the device that is there; a live pipeline brings its own device.

    Raises:
        InputError: not a device's name.
        DeviceError: the device is not there.
    """
    device = config.throughput.device
    if device == AUTO:
        if config.checkpoint.pipeline is not None:
            return config
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    return override(config, {"throughput.device": device})


def load_networks(config: StudyConfig) -> dict[str, list[Network]]:
    """The study's network, then those of `checkpoint.baseline_weights`, by the name of their weights; beside each the
    small network, where there is one.

    Raises:
        InputError: a checkpoint can't be loaded, or is no checkpoint of the same network.
        DeviceError: the device is not there.
    """
    networks = _load_weights(config)
    small = load_small(config, next(iter(networks.values())))
    return {name: _beside(network, small) for name, network in networks.items()}


def load_named(config: StudyConfig, schedule: Schedule) -> list[Network]:
    """The networks that a schedule names: the study's own, then the small one. Raises as `load_networks` does."""
    own = load_one(config)
    return [own] if len(schedule.networks) == 1 else _beside(own, load_small(config, own))


def load_small(config: StudyConfig, own: Network) -> Network | None:
    """The network of `checkpoint.small`, on the device and in the type of the study's own; None without one.

    It gets the same kind of network and the same decoder. Raises as `load_networks` does.
    """
    checkpoint = config.checkpoint
    if own.successor is not None and checkpoint.small is not None:
        raise InputError(
            f"checkpoint.small: `{own.name}` has two networks that take turns, so there is no place for another one. "
            "Omit --network small=FILE."
        )
    if checkpoint.small is None:
        return None if own.successor is None else own.successor.network
    small = _ready(_open_small(checkpoint, own), checkpoint, _SMALL)
    for name in (*_ALIKE, "takes_guidance", "decoder_sha256"):
        if (have := getattr(small, name)) != (wanted := getattr(own, name)):
            raise InputError(
                f"checkpoint.small: `{checkpoint.small}` must be a network for the same samples as `{own.name}`, but "
                f"its {name.replace('_', ' ')} is {have}, not {wanted}. Give another one, or say how it was trained "
                f"with --network-arg {_SMALL}KEY=VALUE."
            )
    if isinstance(own, DecodedNetwork) and isinstance(small, DecodedNetwork):
        small.set_decoder(own.decoder)  # once in memory
    return small


_SMALL = "small."  # before the names of its options on the command line


def _open_small(checkpoint: CheckpointConfig, own: Network) -> Network:
    assert checkpoint.small is not None
    options = ({} if checkpoint.vae is None else {"vae": checkpoint.vae}) | dict(checkpoint.small_options)
    return load_network(checkpoint.small, own.device, own.dtype, network=checkpoint.network, **options)


def _beside(network: Network, small: Network | None) -> list[Network]:
    """A network, and the second one: its own, where it has a successor."""
    small = small if network.successor is None else network.successor.network
    return [network] if small is None else [network, small]


def _load_weights(config: StudyConfig) -> dict[str, Network]:
    """The study's network and those of `checkpoint.baseline_weights`. Raises as `load_networks` does."""
    paths = [config.checkpoint.path, *config.checkpoint.baseline_weights]
    own = load_one(config)
    loaded = [own, *(_load(path, config.checkpoint, str(own.device)) for path in paths[1:])]
    for path, network in zip(paths, loaded, strict=True):
        _check_same_network(loaded[0], network, path)
    networks = {network.name: network for network in loaded}
    if len(networks) < len(loaded):
        raise InputError(
            f"checkpoint: each set of weights must have its own name, but got {', '.join(paths)}. "
            "Rename one file, or leave the repeated one out of `checkpoint.baseline_weights`."
        )
    return networks


def load_one(config: StudyConfig) -> Network:
    """The network with the study's own weights alone. Raises as `load_networks` does."""
    if config.checkpoint.pipeline is not None:
        return _ready(load_pipeline(config.checkpoint.pipeline, **dict(config.checkpoint.options)), config.checkpoint)
    return _load(config.checkpoint.path, config.checkpoint, config.throughput.device)


def _load(path: str, checkpoint: CheckpointConfig, device: str) -> Network:
    return _ready(_open(path, checkpoint, device), checkpoint)


def _open(path: str, checkpoint: CheckpointConfig, device: str) -> Network:
    own = {"vae": checkpoint.vae, "weights_key": checkpoint.weights_key}
    options = dict(checkpoint.options) | {name: value for name, value in own.items() if value is not None}
    dtype = DTYPES["float32" if checkpoint.dtype == AUTO else checkpoint.dtype]
    return load_network(path, device, dtype, network=checkpoint.network, **options)


def _ready(network: Network, checkpoint: CheckpointConfig, prefix: str = "") -> Network:
    """The network, after telling what was chosen of its checkpoint, with its blocks counted as wanted."""
    assumptions = (each.replace("--network-arg ", f"--network-arg {prefix}") for each in network.assumptions)
    tell_notes([*network.notes, *assumptions])
    return network.at(checkpoint.granularity)


def tell_notes(notes: Iterable[str]) -> None:
    """Says what a user should know before anything is sampled."""
    for note in notes:
        click.echo(printable(f"Note: {note}."), err=True)


_ALIKE = ("prediction", "noise", "sample_shape", "condition_kind", "num_classes")
_SAME = ("signature.architecture", "signature.granularity", "signature.block_kinds", *_ALIKE)


def _check_same_network(first: Network, other: Network, path: str) -> None:
    for name in _SAME:
        wanted, have = attrgetter(name)(first), attrgetter(name)(other)
        if have != wanted:
            raise InputError(
                f"checkpoint.baseline_weights: `{path}` must be other weights of the same network, but its "
                f"{name.removeprefix('signature.').replace('_', ' ')} is {have}, not {wanted}. Omit it."
            )


def load_frames(config: StudyConfig) -> dict[str, FullSchedule]:
    """The full schedule on each of the study's weights, the study's own first. Raises as `load_setup` does."""
    networks = load_networks(config)
    baseline = resolve_defaults(config, next(iter(networks.values()))[0]).baseline
    return {name: make_frame(each, baseline) for name, each in networks.items()}


def read_proposals(paths: Sequence[Path], study_setup: StudySetup) -> list[Candidate]:
    """The schedules in some files and folders, sorted by name within a folder, each once.

    Raises:
        ScheduleError: a file is no schedule.
        InputError: there is none, or the study's networks can't run one.
    """
    files = [file for path in paths for file in (sorted(path.glob(f"*{SUFFIX}")) if is_folder(path) else [path])]
    if paths and not files:
        raise InputError(f"proposals: {', '.join(map(str, paths))} holds no file *{SUFFIX}. Give schedule files.")
    found: dict[str, Candidate] = {}
    for file in files:
        schedule = load_schedule(file)
        try:
            check_schedule(study_setup.networks_of(study_setup.weights, schedule), schedule)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
        label = file.name.removesuffix(SUFFIX)
        found[schedule.digest] = Candidate.proposed(label, study_setup.weights, schedule)
    return list(found.values())
