"""What networks are searched with where their pipeline takes a number of steps and no times."""

from typing import Any

import diffusers
import pytest
from exeunt.backends.network import UsualSampler
from exeunt.backends.networks.hf.scheduler_config import usual_sampler

WAN = {"use_flow_sigmas": True, "flow_shift": 5.0, "prediction_type": "flow_prediction"}


@pytest.mark.parametrize(
    ("pipeline", "scheduler", "options", "wanted"),
    [
        ("DiTPipeline", "DDIMScheduler", {"clip_sample": False}, UsualSampler("ddim", "leading")),
        (
            "DDIMPipeline",
            "DDIMScheduler",
            {"steps_offset": 1},
            UsualSampler("ddim", "leading", (("offset", 1),), clip=1.0),
        ),
        (
            "DiTPipeline",
            "DDIMScheduler",
            {"timestep_spacing": "trailing", "clip_sample_range": 2},
            UsualSampler("ddim", "trailing", clip=2.0),
        ),
        ("WanPipeline", "UniPCMultistepScheduler", WAN, UsualSampler("unipc", "flow", (("shift", 5.0),), order=2)),
        (
            "WanPipeline",
            "FlowMatchEulerDiscreteScheduler",
            {"shift": 3.0},
            UsualSampler("flow-euler", "flow", (("shift", 3.0),)),
        ),
        ("DiTPipeline", "DDIMScheduler", {"timestep_spacing": "linspace"}, None),  # whose strides are not its times'
        ("DiTPipeline", "DPMSolverMultistepScheduler", {}, None),
        (
            "DDPMPipeline",
            "DDPMScheduler",
            {"variance_type": "fixed_large"},
            UsualSampler("ddpm", "leading", clip=1.0, variance="fixed-large", by_default=False),
        ),
        ("WanPipeline", "FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, None),
        ("StableDiffusionPipeline", "DDIMScheduler", {}, None),  # it takes times
        ("StableDiffusion3Pipeline", "FlowMatchEulerDiscreteScheduler", {}, None),  # it takes sigmas
    ],
)
def test_a_pipeline_that_takes_no_times_is_sampled_as_its_scheduler_does(
    pipeline: str, scheduler: str, options: dict[str, Any], wanted: UsualSampler | None
) -> None:
    made = getattr(diffusers, scheduler)(**options)
    config = {"_class_name": scheduler, **made.config}
    assert usual_sampler(getattr(diffusers, pipeline), config) == wanted


def test_a_model_alone_has_none() -> None:
    assert usual_sampler(None, {"_class_name": "DDIMScheduler"}) is None
    assert usual_sampler(diffusers.DiTPipeline, None) is None
