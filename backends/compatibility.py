"""Whether given networks can run a schedule."""

from collections.abc import Sequence

from .errors import InputError
from .network import Network
from .schedule import Embedded, Guidance, NetworkSignature, Schedule, branches_at


def check(networks: Sequence[Network], schedule: Schedule) -> None:
    """Raise InputError unless these networks can run this schedule; their weights may be other ones."""
    if len(networks) != len(schedule.networks):
        raise InputError(
            f"networks: the schedule names {len(schedule.networks)}, but got {len(networks)}. Give as many."
        )
    for index, (network, wanted) in enumerate(zip(networks, schedule.networks, strict=True)):
        have = network.signature
        for field in ("architecture", "granularity", "block_kinds"):
            if getattr(have, field) != getattr(wanted, field):
                raise InputError(
                    f"network {index}: the schedule is for {_describe(wanted)}, but `{network.name}` is "
                    f"{_describe(have)}. Give the checkpoint that the schedule was made for."
                )
        _check_sampler(network, schedule, index)
    if isinstance(schedule.guidance, Embedded):
        raise InputError("guidance: `embedded` needs a network that takes it as an input, and none of these does.")


def _describe(signature: NetworkSignature) -> str:
    return f"{signature.architecture} with {signature.num_blocks} blocks ({signature.granularity})"


def _check_sampler(network: Network, schedule: Schedule, index: int) -> None:
    sampler, used = schedule.sampler, [s for s, step in enumerate(schedule.steps) if step.network == index]
    if schedule.steps[0].coefficients is None and sampler.prediction != network.prediction:
        raise InputError(
            f"prediction: `{network.name}` predicts {network.prediction}, but the schedule says {sampler.prediction}. "
            f'Write "prediction": "{network.prediction}".'
        )
    if schedule.steps[0].coefficients is None and sampler.noise != network.noise:
        raise InputError(
            f"noise: `{network.name}` has {network.noise}, but the schedule says {sampler.noise}. Correct it."
        )
    if sampler.variance == "learned-range" and not network.learned_range:
        raise InputError(f'variance: `{network.name}` predicts no variance. Write "variance": "fixed-small".')
    channels = schedule.guidance.channels if isinstance(schedule.guidance, Guidance) else "all"
    if channels != "all" and channels > network.sample_shape[0]:
        raise InputError(f"guidance: channels must be at most {network.sample_shape[0]}, but got {channels}.")
    if any("unconditional" in branches_at(schedule, s) for s in used):
        if network.num_classes is None:
            raise InputError(f"guidance: `{network.name}` takes no conditions. Leave guidance away.")
        network.null_conditions(1)
