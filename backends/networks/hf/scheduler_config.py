"""What a diffusers scheduler's configuration says: what the network predicts, on which noise, and what its pipeline
samples with where that takes a number of steps and no times of ours.

Such a pipeline visits the times of its own scheduler's spacing and no others. A schedule that is to go on it must have
them, so they are what its network is searched with by default.
"""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ...errors import InputError
from ...network import UsualSampler
from ...schedule import Noise, noise_of
from ...solvers.noise_schedules import log_alpha_bars

_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample", "flow_prediction": "flow"}
BETA_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}


@dataclass(frozen=True)
class TrainedProcess:
    """What a network was trained on.

    Attributes:
        prediction: what its output means.
        noise: the forward process.
        shift: of flow matching's times, where the scheduler shifts them by a fixed one; None else.
    """

    prediction: str
    noise: Noise
    shift: float | None = None


def process(config: Mapping[str, Any]) -> TrainedProcess:
    """The process that a scheduler's configuration describes.

    Raises:
        InputError: a prediction or a noise that has no solver here.
    """
    # Flow matching: by its own schedulers, which have no betas, or by another one that is told so.
    told = config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction"
    if told or "FlowMatch" in config.get("_class_name", ""):
        dynamic = config.get("use_dynamic_shifting", False)
        shift = config.get("flow_shift", config.get("shift"))
        return TrainedProcess("flow", Noise("flow"), None if dynamic or shift is None else float(shift))
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        raise InputError(
            f"scheduler: prediction_type must be one of {', '.join(_PREDICTIONS)}, but got `{prediction}`. "
            "Correct scheduler_config.json."
        )
    return TrainedProcess(_PREDICTIONS[prediction], _betas(config))


def _betas(config: Mapping[str, Any]) -> Noise:
    if "beta_start" not in config and not config.get("trained_betas"):
        raise InputError(
            f"scheduler: {config.get('_class_name', 'it')} states neither betas nor flow matching. "
            "Give the pipeline a scheduler that does, such as DDIMScheduler."
        )
    if config.get("rescale_betas_zero_snr"):
        raise InputError(
            "scheduler: rescale_betas_zero_snr must be false, but is true: the first time is then pure noise, which no "
            "solver here supports. Set it to false in scheduler_config.json."
        )
    if config.get("trained_betas"):
        return noise_of({"kind": "betas", "betas": [float(beta) for beta in config["trained_betas"]]}, "scheduler")
    name = config.get("beta_schedule", "linear")
    if name not in BETA_SCHEDULES:
        raise InputError(
            f"scheduler: beta_schedule must be one of {', '.join(BETA_SCHEDULES)}, but got `{name}`. "
            "Write the betas themselves as trained_betas in scheduler_config.json."
        )
    kind, length = BETA_SCHEDULES[name], int(config.get("num_train_timesteps", 1000))
    if kind == "cosine":
        return noise_of({"kind": kind, "num_train_timesteps": length}, "scheduler")
    ends = {"beta_start": float(config["beta_start"]), "beta_end": float(config["beta_end"])}
    found = noise_of({"kind": kind, **ends, "num_train_timesteps": length}, "scheduler")
    shift = float(config.get("snr_shift_scale") or 1.0)
    return found if shift == 1 else Noise("betas", betas=_shifted_betas(found, shift))


def _shifted_betas(noise: Noise, shift: float) -> tuple[float, ...]:
    """The betas whose signal-to-noise ratio ᾱ/(1 − ᾱ) is that of a noise over `shift`, as CogVideoX has them."""
    plain = [math.exp(value) for value in log_alpha_bars(noise)]
    bars = [1.0, *(bar / (shift + (1 - shift) * bar) for bar in plain)]
    return tuple(1 - after / before for before, after in pairwise(bars))


STRIDES = ("leading", "trailing")  # of DDIM and DDPM in diffusers: equal ones, whatever the times are
_VARIANCES = {"fixed_small": "fixed-small", "fixed_large": "fixed-large"}


def usual_sampler(pipeline: Any, config: Mapping[str, Any] | None) -> UsualSampler | None:
    """The solver and the times of a pipeline's own scheduler.

    Args:
        pipeline: its class; None for a model alone.
        config: of its scheduler, with `_class_name`.

    Returns:
        None for a pipeline that can be given times, and for a scheduler without a counterpart here. DDPM's is not what
        is searched by default: its few steps are no baseline.
    """
    if pipeline is None or config is None:
        return None
    if {"timesteps", "sigmas"} & inspect.signature(pipeline.__call__).parameters.keys():
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
    variance = _VARIANCES.get(config.get("variance_type", "fixed_small"))
    return UsualSampler("ddpm", spacing, options, clip=clip, variance=variance, by_default=False)
