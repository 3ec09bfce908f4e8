"""Any other denoiser of diffusers: it can follow a schedule; what its pipeline hands it, its own call alone knows."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from ....errors import InputError
from ....schedule import Noise
from .base import FLOW, Architecture, Layout, Size
from .recording import TIMES, TRAIN_TIMES, scale_offset

# Arguments by whose tensor a request is known, the first that a call has.
_CONDITIONS = (
    "encoder_hidden_states", "cap_feats", "text_bth", "encoder_hidden_states_t5", "proj_embedding", "clip_text_pooled",
    "class_labels",
)  # fmt: skip
# Of networks whose pipelines mean embedded guidance by `guidance_scale`, and guide by a second pass beside it.
_TWO_SCALES = ("HunyuanVideoTransformer3DModel", "QwenImageTransformer2DModel", "QwenImage21Transformer2DModel")
_REFUSED = {"controlnet": "a ControlNet", "additional_residual": "a ControlNet", "kv_cache": "a cache of its own"}


class OtherDenoiser(Architecture):
    """A class of which no more is known than its blocks and the names of its arguments."""

    is_seen: ClassVar[bool] = True
    layout: Layout | None = None
    prediction: ClassVar[str] = "flow"
    noise: ClassVar[Noise] = FLOW
    clocks: tuple[Callable[[Any], Any], ...] = TRAIN_TIMES  # a run's own times tell which

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model)
        self.scale_offset = scale_offset(model)

    @property
    def takes_guidance(self) -> bool:
        return bool(self.model.config.get("guidance_embeds", False))

    @property
    def embeds_scale(self) -> bool:
        return type(self.model).__name__ in _TWO_SCALES

    @cached_property
    def refused(self) -> Mapping[str, str]:  # type: ignore[override]
        return {name: what for name in self.parameters for part, what in _REFUSED.items() if part in name}

    def time_of(self, arguments: Mapping[str, Any]) -> Any:
        return next(arguments[name] for name in TIMES if name in arguments)

    def condition_of(self, arguments: Mapping[str, Any]) -> Tensor | None:
        given = next((arguments[name] for name in _CONDITIONS if arguments.get(name) is not None), None)
        while isinstance(given, list | tuple) and given:
            given = given[0]
        return given if isinstance(given, torch.Tensor) else None

    def sample_shape(self, size: Size) -> tuple[int, ...]:
        raise InputError(
            f"network: {type(self.model).__name__} can follow a schedule, by `exeunt.apply(model, schedule)`, but what "
            "its pipeline hands it is not known here. To search it, describe it in a file of your own and give "
            "`--network FILE.py:Class` (docs/own-network.md)."
        )
