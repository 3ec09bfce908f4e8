"""A diffusers pipeline as it is served: a function of the user's own makes it, and it becomes the network."""

from typing import Any

from ...errors import ExeuntError, InputError
from ...network import Network
from ...user_code import own_function


def load_pipeline(name: str, **options: Any) -> Network:
    """The network of a live pipeline.

    Args:
        name: "FILE.py:function" or "module:function"; the function takes nothing and returns the pipeline, on its
            device, with its types, its LoRA, its quantisation and its compiled parts.
        options: what `DiffusersNetwork.from_pipeline` takes, such as `height`.

    Raises:
        InputError: there is no such function, it fails, or what it returns is no pipeline that is known here.
    """
    make = own_function(name, "pipeline")
    from .network import DiffusersNetwork  # diffusers takes seconds to import

    known = ("height", "width", "num_frames")
    for option in options:
        if option not in known:
            raise InputError(f"pipeline: takes no argument `{option}`. Known: {', '.join(known)}.")
    try:
        pipeline = make()
    except ExeuntError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"pipeline: `{name}` fails with {type(error).__name__}: {error}. Fix the function.") from error
    if not hasattr(pipeline, "components") or not hasattr(pipeline, "scheduler"):
        raise InputError(
            f"pipeline: `{name}` must return a diffusers pipeline, but gave a {type(pipeline).__name__}. "
            "Return what `from_pretrained` made."
        )
    return DiffusersNetwork.from_pipeline(pipeline, name=name.rpartition("/")[2], **options)
