"""A word when a schedule runs on other weights than it was made for, which is allowed and may not be meant."""

from ..backends.loading import BUNDLED, load
from ..backends.network import Network
from ..backends.schedule import Schedule


def remark(schedule: Schedule, network: Network) -> str | None:
    """What to tell who runs this schedule on this network; None where the weights are those that it names.

    A schedule for weights with trained exits drops blocks that other weights of the same network can't do without.
    """
    wanted, have = schedule.networks[0].weights_sha256, network.signature.weights_sha256
    if wanted is None or have is None or wanted == have:
        return None
    bundled = [name for name in BUNDLED if network.name in BUNDLED and _weights(name) == wanted]
    fix = (
        f"Did you mean --checkpoint {bundled[0]}?" if bundled else "Give --checkpoint with those, if that isn't meant."
    )
    return f"Note: the schedule was made for other weights ({wanted[:12]}…) than `{network.name}` has. {fix}"


def _weights(bundled: str) -> str | None:
    return load(bundled).signature.weights_sha256
