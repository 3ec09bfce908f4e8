"""Whether given networks can run a schedule, and take given labels or prompts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ExeuntError, InputError, first_line
from ..network import Network
from ..schedule import Embedded, Guidance, NetworkSignature, Schedule, branches_at
from .conditions import Conditions


def as_scheduled(networks: Sequence[Network], schedule: Schedule) -> list[Network]:
    """Of these networks, those that the schedule names, each with its blocks counted as the schedule counts them: by
    blocks or by branches.

    A network of another architecture is left as it is, for `check_schedule` to name; so are networks that lack.

    Raises:
        InputError: a network does not know that granularity.
    """
    return [
        network.at(wanted.granularity) if network.signature.architecture == wanted.architecture else network
        for network, wanted in zip(networks, schedule.networks, strict=False)
    ]


def check_schedule(networks: Sequence[Network], schedule: Schedule) -> None:
    """Raise InputError unless these networks can run this schedule; their weights may be other ones."""
    if len(networks) != len(schedule.networks):
        raise InputError(
            f"networks: the schedule names {len(schedule.networks)}, but got {len(networks)}. Give one for each; "
            "on the command line `--network small=FILE` gives the second."
        )
    for index, (network, wanted) in enumerate(zip(networks, schedule.networks, strict=True)):
        have = network.signature
        for field in ("architecture", "granularity", "block_kinds"):
            if getattr(have, field) != getattr(wanted, field):
                fix = "Give the checkpoint that the schedule was made for."
                if field == "granularity":
                    fix = (
                        f"Load the network with `--granularity {wanted.granularity}`, or give one of {_counted(have)}."
                    )
                raise InputError(
                    f"network {index}: the schedule is for {_describe(wanted)}, but `{network.name}` is "
                    f"{_describe(have)}. {fix}"
                )
        _check_sampler(network, schedule, index)
        _check_embedded(network, schedule)


def _check_embedded(network: Network, schedule: Schedule) -> None:
    """Embedded guidance is for networks that take it, and for each of their steps."""
    if isinstance(schedule.guidance, Embedded) != network.takes_guidance:
        takes = "takes `embedded` guidance" if network.takes_guidance else "can't take `embedded` guidance"
        fix = '"guidance": {"embedded": 3.5}' if network.takes_guidance else '"guidance": {"scale": 1.5}, or omit it'
        raise InputError(f"guidance: `{network.name}` {takes}, but the schedule has another kind. Write {fix}.")
    if network.takes_guidance and any(step.guidance is None for step in schedule.steps):
        raise InputError(
            f"guidance: `{network.name}` needs a guidance scale at every step, but the schedule has null at one. Write "
            "a number there."
        )


def _describe(signature: NetworkSignature) -> str:
    return f"{signature.architecture} with {signature.num_blocks} {_counted(signature)}"


def _counted(signature: NetworkSignature) -> str:
    return "blocks" if signature.granularity == "block" else "branches"


def _check_sampler(network: Network, schedule: Schedule, index: int) -> None:
    sampler, used = schedule.sampler, [s for s, step in enumerate(schedule.steps) if step.network == index]
    if schedule.steps[0].coefficients is None and sampler.prediction != network.prediction:
        raise InputError(
            f"prediction: `{network.name}` predicts {network.prediction}, but the schedule says {sampler.prediction}. "
            f'Write "prediction": "{network.prediction}".'
        )
    if schedule.steps[0].coefficients is None and sampler.noise != network.noise:
        raise InputError(f"noise: `{network.name}` has {network.noise}, but the schedule says {sampler.noise}. Fix it.")
    if sampler.variance == "learned-range" and not network.learned_range:
        raise InputError(f'variance: `{network.name}` predicts no variance. Write "variance": "fixed-small".')
    channels = schedule.guidance.channels if isinstance(schedule.guidance, Guidance) else "all"
    if channels != "all" and channels > network.sample_shape[0]:
        most = network.sample_shape[0]
        raise InputError(f"guidance: channels must be at most {most}, but got {channels}. Use {most}, or `all`.")
    if any("unconditional" in branches_at(schedule, s) for s in used):
        if network.condition_kind == "none":
            raise InputError(f"guidance: `{network.name}` takes no conditions. Omit guidance.")
        if network.num_conditions is not None:  # prompts need not be embedded yet
            network.null_conditions(1)


def check_decoding(network: Network) -> None:
    """Raise InputError unless `decode` gives what it promises, of two samples of zeros; for networks of a user's own,
    whose images nothing has looked at yet."""
    if network.code_sha256 is None:
        return
    wanted, count = network.image_shape, 2
    rule = f"network: `decode` of `{network.name}` must give uint8 of shape (N, {', '.join(map(str, wanted))})"
    with torch.inference_mode():
        samples = torch.zeros(count, *network.sample_shape, dtype=network.dtype, device=network.device)
        try:
            images: Any = network.decode(samples)
        except ExeuntError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{rule}, but fails with {type(error).__name__}: {first_line(error)}. Fix it; docs/own-network.md has "
                "an example."
            ) from error
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or tuple(images.shape) != (count, *wanted):
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise InputError(
            f"{rule}, but of {count} samples it gives {got}. Fix it, or `image_shape`: clamp to 0 … 255, and then "
            "`.to(torch.uint8)`."
        )


def check_conditions(networks: Sequence[Network], conditions: Conditions) -> None:
    """Raise InputError unless every one of these networks takes these labels, or has embedded these prompts.

    A label beyond a network's table would read the row of another class, or fail somewhere inside the network.
    """
    _check_labels(conditions)
    for network in networks:
        if conditions.prompts or network.condition_kind == "prompts":
            _check_prompts(network, conditions)
            continue
        have, wanted = conditions.num_classes, network.num_classes
        if wanted is None and have is not None:
            raise InputError(
                f"conditions: `{network.name}` takes none, but got labels of {have} classes. Use `uniform(None)`."
            )
        if have != wanted:
            got = "none" if have is None else f"those of {have} classes"
            raise InputError(
                f"conditions: `{network.name}` takes labels of {wanted} classes, but got {got}. "
                f"Use `uniform({wanted})` or labels made for this network."
            )


def _check_prompts(network: Network, conditions: Conditions) -> None:
    """Raise InputError unless the network takes prompts, these are some, and they were embedded."""
    if network.condition_kind != "prompts":
        raise InputError(
            f"conditions: `{network.name}` takes {network.condition_kind.replace('none', 'no conditions')}, but got "
            "prompts. Give what it takes, or use a network that takes prompts."
        )
    if not conditions.prompts:
        raise InputError(f"conditions: `{network.name}` takes prompts, but got labels. Use `load_prompts(FILE)`.")
    if network.num_conditions != len(conditions.prompts):
        raise InputError(
            f"conditions: `{network.name}` must have embedded these {len(conditions.prompts)} prompts, but has "
            f"{network.num_conditions or 'none'} in its table. Call `network.embed(conditions.prompts)` first."
        )


def _check_labels(conditions: Conditions) -> None:
    """Raise InputError unless each label is one of the classes that the conditions themselves state."""
    count = conditions.num_classes
    if count is None:
        return
    if conditions.kind == "file" and not conditions.entries:
        raise InputError(
            "conditions: a list of labels must have at least one, but got none. Add one, or use `uniform`."
        )
    if conditions.entries and not 0 <= min(conditions.entries) <= max(conditions.entries) < count:
        index, label = next((i, label) for i, label in enumerate(conditions.entries) if not 0 <= label < count)
        raise InputError(f"conditions: labels must be from 0 to {count - 1}, but entry {index} is {label}. Fix it.")
    if conditions.kind == "reference" and len(conditions.probabilities) != count:
        raise InputError(
            f"conditions: there must be one probability for each of {count} classes, but got "
            f"{len(conditions.probabilities)}. Use `reference(probabilities)`, which counts them."
        )
