"""Live pipelines of diffusers: their model, their text encoders, and what they guide with."""

import inspect
from typing import Any

from ...errors import InputError
from .models.base import Architecture


def denoiser_of(pipeline: Any) -> Any:
    """The model of a live pipeline that predicts noise.

    Raises:
        InputError: it has none, or two.
    """
    parts = {name: getattr(pipeline, name, None) for name in ("transformer", "unet", "transformer_2")}
    found = [part for part in parts.values() if part is not None]
    if len(found) != 1:
        raise InputError(
            f"pipeline: must have one transformer or unet, but {type(pipeline).__name__} has {len(found)}. "
            "Give a pipeline with one, such as Wan 2.1 in place of 2.2."
        )
    return found[0]


def bare(module: Any) -> Any:
    """The module behind what `torch.compile` may have put around it."""
    return getattr(module, "_orig_mod", module)


def with_text(pipeline: Any) -> Any:
    """The pipeline itself.

    Raises:
        InputError: its text encoders were taken out.
    """
    names = [name for name in pipeline.components if name.startswith("text_encoder")]
    if all(getattr(pipeline, name) is None for name in names):
        raise InputError("conditions: this pipeline's text encoders were removed before. Load the pipeline again.")
    return pipeline


def default_guidance(architecture: Architecture, pipeline: Any) -> float | None:
    """What the pipeline's call guides with by default; None where it has no guidance."""
    if pipeline is None or not (architecture.has_null or architecture.takes_guidance):
        return None
    parameter = inspect.signature(pipeline.__call__).parameters.get("guidance_scale")
    return None if parameter is None or not isinstance(parameter.default, int | float) else float(parameter.default)
