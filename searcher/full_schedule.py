"""The full schedule of a network: what the configuration says, and where it says nothing, what is customary."""

from dataclasses import replace
from typing import Literal

from ..backends.errors import InputError
from ..backends.network import Network
from ..backends.sampling import check
from ..backends.schedule import Guidance, Schedule
from ..backends.solvers import custom, find, make_schedule
from ..backends.spacings import custom as custom_spacing
from ..studies.config import BaselineConfig
from .frames import Frame


def make_frame(network: Network, baseline: BaselineConfig) -> Frame:
    """The full schedule of a network as the configuration wants it.

    Raises:
        InputError: an unknown solver or spacing, or values that do not go together.
    """
    if baseline.guidance is not None and network.condition_kind == "none":
        raise InputError(
            f"guidance: `{network.name}` takes no conditions, so there is nothing to guide. Leave `--guidance` away."
        )
    settled = settle(network, baseline)
    full = _full(network, settled)
    check([network], full)
    assert settled.spacing is not None
    return Frame(full, settled.spacing, _spacing_options(network, settled), baseline.include_zero)


def settle(network: Network, baseline: BaselineConfig) -> BaselineConfig:
    """The configuration with the customs of the network written out where it says nothing."""
    return replace(
        baseline,
        solver=baseline.solver or custom(network.noise),
        spacing=baseline.spacing or custom_spacing(network.noise),
        guidance_channels=guidance_channels(network, baseline),
    )


def _full(network: Network, settled: BaselineConfig) -> Schedule:
    channels = guidance_channels(network, settled)
    return make_schedule(
        network.signature,
        network.noise,
        network.prediction,
        solver=settled.solver,
        order=settled.order,
        variant=settled.variant,
        num_steps=settled.num_steps,
        spacing=settled.spacing,
        spacing_parameters=dict(_spacing_options(network, settled)),
        include_zero=settled.include_zero,
        guidance=None if settled.guidance is None else Guidance(settled.guidance, channels),
        variance=_variance(network, settled),
        eta=settled.eta,
        clip=settled.clip,
    )


def _spacing_options(network: Network, settled: BaselineConfig) -> tuple[tuple[str, float], ...]:
    """What the spacing takes: the network's own shift where the configuration has none."""
    given = dict(settled.spacing_options)
    if settled.spacing == "flow" and network.usual_shift is not None:
        given.setdefault("shift", network.usual_shift)
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"baseline.spacing_options.{name} must be a number, but got {value!r}. Write one.")
    return tuple(sorted(given.items()))


def guidance_channels(network: Network, baseline: BaselineConfig) -> int | Literal["all"]:
    """How many leading channels are guided: as the configuration says, else as the network's own code does."""
    wanted = baseline.guidance_channels
    if wanted is None:
        return network.guidance_channels
    return "all" if wanted == "all" else int(wanted)


def _variance(network: Network, settled: BaselineConfig) -> str | None:
    """The variance of the solver's noise: the network's own where it has learned one and nothing else is wanted."""
    assert settled.solver is not None
    learned = network.learned_range and "learned-range" in find(settled.solver).variances
    return "learned-range" if settled.variance is None and learned else settled.variance
