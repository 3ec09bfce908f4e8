"""What the arguments of a small denoiser's forward are made for, and the numbers that everything small agrees on."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor

HEADS, HEAD = 2, 16
WIDTH = HEADS * HEAD  # of everything that is wide: hidden states, prompts, MLPs
GRID, FRAMES = 8, 2  # latents a side, and latent frames of a video
SIDE = 4  # tokens a side, where a sample is tokens
PROMPT = 6  # tokens of a prompt; not as many as of an image, so that streams can be told apart


@dataclass(frozen=True)
class Example:
    """One call of a small model.

    Attributes:
        model: the model.
        rows: the batch.
        seed: of the noise.
    """

    model: Any
    rows: int = 2
    seed: int = 0

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The arguments of its forward."""
        return tuple(inspect.signature(type(self.model).forward).parameters)[1:]

    def noise(self, *shape: int) -> Tensor:
        """A sample, (N, *shape): another one for another seed."""
        return torch.randn(self.rows, *shape, generator=torch.Generator().manual_seed(self.seed))

    def fixed(self, *shape: int) -> Tensor:
        """A condition, (N, *shape): the same for any seed."""
        return torch.randn(self.rows, *shape, generator=torch.Generator().manual_seed(1000))

    def full(self, value: float, *shape: int) -> Tensor:
        """(N, *shape) of one value."""
        return torch.full((self.rows, *shape), value)

    def ones(self, *shape: int) -> Tensor:
        """A mask, (N, *shape), that lets everything through."""
        return torch.ones(self.rows, *shape, dtype=torch.bool)

    def whole(self, *shape: int) -> Tensor:
        """(N, *shape) of whole numbers, all 1."""
        return torch.ones(self.rows, *shape, dtype=torch.long)

    def get(self, *names: str) -> Any:
        """The first of these that the configuration has."""
        return next((value for name in names if (value := self.model.config.get(name)) is not None), None)

    @property
    def channels(self) -> int:
        """Of a sample."""
        return self.get("in_channels", "in_visual_dim", "io_channels", "latent_dim")

    def prompt(self, *tokens: int) -> Tensor:
        """(N, tokens, width) embeddings."""
        return self.fixed(*(tokens or (PROMPT,)), WIDTH)

    def sample(self) -> Tensor:
        """Tokens where the forward takes their coordinates, else a video or an image as the class's name says."""
        if {"img_ids", "img_shapes"} & set(self.names):
            return self.noise(SIDE * SIDE, self.channels)
        video = (FRAMES,) if "3D" in type(self.model).__name__ else ()
        return self.noise(self.channels, *video, GRID, GRID)

    def coordinates(self) -> Tensor:
        """(tokens, axes) of an image's tokens: zeros, row and column."""
        rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        found = torch.zeros(SIDE * SIDE, self.axes)
        found[:, 1], found[:, 2] = rows.flatten(), columns.flatten()
        return found

    @property
    def axes(self) -> int:
        """How many coordinates a token has."""
        return len(self.get("axes_dims_rope", "axes_dims") or (0, 0, 0))


Maker: TypeAlias = Callable[[Example], Any]
