"""What a diffusers pipeline samples with, where it takes a number of steps and no times of ours.

Such a pipeline visits the times of its own scheduler's spacing and no others. A schedule that is to go on it must have
them, so they are what its network is searched with where nobody says otherwise.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from .hf_noise import process
from .network import UsualSampler

STRIDES = ("leading", "trailing")  # of DDIM and DDPM in diffusers: equal ones, whatever the times are
VARIANCES = {"fixed_small": "fixed-small", "fixed_large": "fixed-large"}


def usual_sampler(pipeline: Any, config: Mapping[str, Any] | None) -> UsualSampler | None:
    """The solver and the times of a pipeline's own scheduler.

    Args:
        pipeline: its class; None for a model alone.
        config: of its scheduler, with `_class_name`.

    Returns:
        None for a pipeline that can be given times, and for a scheduler without a counterpart here. DDPM's is not what
        is searched by default: its few steps are no baseline.
    """
    if pipeline is None or config is None or _takes_times(pipeline):
        return None
    kind, given = config.get("_class_name"), process(config)
    if given.noise.kind == "flow":
        solvers = {"FlowMatchEulerDiscreteScheduler": "flow-euler", "UniPCMultistepScheduler": "unipc"}
        if kind not in solvers or given.shift is None:
            return None
        return UsualSampler(solvers[kind], "flow", (("shift", given.shift),), order=config.get("solver_order"))
    spacing = config.get("timestep_spacing", "leading")
    if kind not in ("DDIMScheduler", "DDPMScheduler") or spacing not in STRIDES:
        return None
    offset = config.get("steps_offset", 0) if spacing == "leading" else 0
    options = (("offset", offset),) if offset else ()
    clip = float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample", True) else None
    if kind == "DDIMScheduler":
        return UsualSampler("ddim", spacing, options, clip=clip)
    variance = VARIANCES.get(config.get("variance_type", "fixed_small"))
    return UsualSampler("ddpm", spacing, options, clip=clip, variance=variance, by_default=False)


def _takes_times(pipeline: Any) -> bool:
    return bool({"timesteps", "sigmas"} & inspect.signature(pipeline.__call__).parameters.keys())
