"""A word when a schedule runs on another network than it was made for, which is allowed and may not be meant."""

import json

from ..backends.errors import printable
from ..backends.network import Network
from ..backends.networks.registry import BUNDLED, load
from ..backends.schedule import Schedule
from ..reports.files.export import NETWORK_ARGS


def remarks(schedule: Schedule, network: Network, arguments: str = "") -> list[str]:
    """What to tell who runs this schedule on this network; nothing where it is the one that it was made for.

    Args:
        schedule: whose weights and provenance say what it was made for.
        network: what it is about to run on.
        arguments: what the network's constructor was given besides, as `CheckpointConfig.option_words` says it.
    """
    return [note for note in (_on_weights(schedule, network), _on_arguments(schedule, arguments)) if note]


def _on_weights(schedule: Schedule, network: Network) -> str | None:
    """A schedule for weights with trained exits drops blocks that other weights of the network can't do without."""
    wanted, have = schedule.networks[0].weights_sha256, network.signature.weights_sha256
    if wanted is None or have is None or wanted == have:
        return None
    bundled = [name for name in BUNDLED if network.name in BUNDLED and _weights(name) == wanted]
    fix = (
        f"Did you mean --checkpoint {bundled[0]}?" if bundled else "Give --checkpoint with those, if that isn't meant."
    )
    return f"Note: the schedule was made for other weights ({wanted[:12]}…) than `{network.name}` has. {fix}"


def _on_arguments(schedule: Schedule, have: str) -> str | None:
    """The same weights with other heads, say, draw other images, and no digest tells."""
    origin = schedule.provenance
    if origin is None or origin.study is None:
        return None
    wanted = printable(str(json.loads(dict(origin.extras).get(NETWORK_ARGS, '""'))))
    if wanted == have:
        return None
    was, fix = (f"with --network-arg {wanted}", "Add it") if wanted else ("without --network-arg", "Drop it")
    now = f"with {have}" if have else "without"
    return f"Note: the schedule was found {was}, but runs {now} here. {fix}, if that isn't meant: images may differ."


def _weights(bundled: str) -> str | None:
    return load(bundled).signature.weights_sha256
