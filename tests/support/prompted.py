"""A network that takes prompts and is exact: the closed-form mixture, a text's bytes naming one of its components."""

import time
from collections.abc import Sequence
from typing import Literal

import torch
from exeunt.backends.network import Pass
from exeunt.backends.networks.closed_form import ClosedFormNetwork
from torch import Tensor


class PromptedNetwork(ClosedFormNetwork):
    """Prompts become components: the sum of a text's bytes modulo their number; the empty one is the whole mixture."""

    _table: Tensor | None = None
    usual_guidance = 1.5

    @property
    def condition_kind(self) -> Literal["none", "labels", "prompts"]:
        return "prompts"

    @property
    def num_conditions(self) -> int | None:
        return None if self._table is None else len(self._table) - 1

    def embed(self, prompts: Sequence[str]) -> None:
        started = time.perf_counter()
        components = [sum(prompt.encode()) % len(self.mixture.means) for prompt in prompts]
        self._table = torch.tensor([*components, len(self.mixture.means)])
        self.text_seconds = (time.perf_counter() - started) / len(prompts)

    def null_conditions(self, num_images: int) -> Tensor:
        assert self._table is not None, "embed() comes first"
        return torch.full((num_images,), len(self._table) - 1, dtype=torch.long)

    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        assert self._table is not None, "embed() comes first"
        assert conditions is not None, "each image has a prompt"
        return super().begin(x, time, self._table[conditions], guidance)
