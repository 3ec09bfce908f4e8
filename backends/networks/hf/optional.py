"""The only import of diffusers: where it is not installed, the error says what to install."""

from ...errors import InputError

try:
    import diffusers
    from diffusers.hooks._helpers import TransformerBlockRegistry
    from diffusers.hooks.hooks import HookRegistry, ModelHook
except ImportError as error:
    raise InputError(
        f"network: diffusers folders and pipelines need a package that is not installed ({error}). "
        "Run: pip install 'exeunt[diffusers]'"
    ) from error

__all__ = ["HookRegistry", "ModelHook", "TransformerBlockRegistry", "diffusers", "is_pipeline"]


def is_pipeline(value: object) -> bool:
    """Whether a value is a `DiffusionPipeline` of diffusers."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline  # seconds to import, and models alone need none

    return isinstance(value, DiffusionPipeline)
