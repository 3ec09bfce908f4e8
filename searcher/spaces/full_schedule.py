"""The full schedule of a network: as the configuration says, else by the defaults of the network and its pipeline."""

from dataclasses import replace
from typing import Literal

from ...backends.errors import InputError
from ...backends.network import Network, UsualSampler
from ...backends.sampling.loop import check_schedule
from ...backends.schedule import Embedded, Guidance, Schedule
from ...backends.solvers.spacings import default_spacing
from ...backends.solvers.tables import default_solver, find_solver, make_schedule
from ...studies.config.study import AUTO, BaselineConfig
from .frame import FullSchedule


def make_frame(network: Network, baseline: BaselineConfig) -> FullSchedule:
    """The full schedule of a network as the configuration wants it.

    Raises:
        InputError: an unknown solver or spacing, or values that do not go together.
    """
    settled = resolve_baseline(network, baseline)
    if settled.guidance is not None and network.condition_kind == "none":
        raise InputError(
            f"guidance: `{network.name}` takes no conditions, so there is nothing to guide. Omit `--guidance`."
        )
    full = _full(network, settled)
    check_schedule([network], full)
    assert settled.spacing is not None
    warps = _pipeline_s_own(network, settled) is None
    return FullSchedule(full, settled.spacing, settled.spacing_options, baseline.include_zero, warps)


def resolve_baseline(network: Network, baseline: BaselineConfig) -> BaselineConfig:
    """The configuration with the defaults of the network and of its pipeline filled in."""
    usual = None if network.condition_kind == "none" else network.usual_guidance
    if own := _pipeline_s_own(network, baseline):
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


def _pipeline_s_own(network: Network, baseline: BaselineConfig) -> UsualSampler | None:
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
