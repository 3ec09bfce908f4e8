"""The denoising loss at the exits. Only the blocks that a sample's call runs are computed for it.

In a chain of residual blocks all samples of a batch go together: the batch gets smaller where some of them leave, and
the output head runs once. Elsewhere the samples of each call are evaluated by themselves.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...network import ChainNetwork, Network, NetworkInput
from ...plan import Call
from .exits import depth_of
from .process import Process


class ExitLoss(nn.Module):
    """Weighted squared error of a network's outputs at the exits of a batch.

    Args:
        network: what is trained.
        module: its weights.
        process: what it was trained on.
        calls: what `Batch.calls` name.
        with_full: whether the full depth's loss is added for every sample.
    """

    def __init__(
        self, network: Network, module: nn.Module, process: Process, calls: Sequence[Call], with_full: bool
    ) -> None:
        super().__init__()
        self.module, self._network, self._process = module, network, process
        self._calls, self._with_full = calls, with_full
        self._depths = None
        depths = [depth_of(call) for call in calls]
        if isinstance(network, ChainNetwork) and set(network.signature.block_kinds) == {"residual"}:
            self._depths = None if None in depths else cast(list[int], depths)

    def forward(
        self, data: Tensor, noise: Tensor, index: Tensor, conditions: Tensor | None, calls: Sequence[int]
    ) -> Tensor:
        """The fields of a `Batch` -> the loss, a mean over samples."""
        process = self._process
        inputs = NetworkInput(process.noisy(data, noise, index), process.time[index], conditions)
        target, weight = process.target(data, noise, index), process.weight[index]
        outputs = self._outputs(inputs, calls)
        losses = [self._errors(output, target) for output in outputs]
        return torch.stack([(weight * loss).mean() for loss in losses]).sum()

    def _errors(self, output: Tensor, target: Tensor) -> Tensor:
        """(N,) mean squared errors; what a learned variance says is left alone."""
        channels = target.shape[1]
        return (output[:, :channels].float() - target).square().flatten(1).mean(dim=1)

    def _outputs(self, inputs: NetworkInput, calls: Sequence[int]) -> list[Tensor]:
        if self._depths is None:
            full = [self._network.evaluate(inputs, None, [])] if self._with_full else []
            return [*full, by_call(self._network, inputs, [self._calls[each] for each in calls])]
        network, depths = cast(ChainNetwork, self._network), [self._depths[each] for each in calls]
        return full_and_early(network, inputs, depths) if self._with_full else [leaving(network, inputs, depths)]


def by_call(network: Network, inputs: NetworkInput, calls: Sequence[Call]) -> Tensor:
    """(N, …) outputs of samples that each have a call; those of one call are evaluated together."""
    order, outputs = list[int](), list[Tensor]()
    for call in dict.fromkeys(calls):
        rows = [row for row, own in enumerate(calls) if own == call]
        outputs.append(network.evaluate(_taken(inputs, rows), call, []))
        order += rows
    return torch.cat(outputs)[_inverse(order, inputs.x.device)]


def leaving(network: ChainNetwork, inputs: NetworkInput, depths: Sequence[int]) -> Tensor:
    """(N, …) outputs of samples that leave a chain of residual blocks at depths of their own."""
    order = sorted(range(len(depths)), key=lambda row: -depths[row])  # those that stay longest come first
    ordered = _taken(inputs, order)
    h, chain, finish = network.begin(ordered.x, ordered.time, ordered.conditions)
    left, done = list[Tensor](), 0
    for depth in sorted(set(depths)):
        for block in range(done, depth):
            h = chain.run(block, h)
        assert isinstance(h, Tensor)
        staying = sum(each > depth for each in depths)
        left.append(h[staying:])
        if staying:
            # A chain belongs to the rows that it was begun with. Beginning again costs an embedding, far less than a
            # block, and needs nothing of the network.
            h, done, rows = h[:staying], depth, list(range(staying))
            fewer = _taken(ordered, rows)
            chain = network.begin(fewer.x, fewer.time, fewer.conditions).chain
    return finish(torch.cat(left[::-1]))[_inverse(order, inputs.x.device)]


def full_and_early(network: ChainNetwork, inputs: NetworkInput, depths: Sequence[int]) -> list[Tensor]:
    """Outputs at full depth, and those at each sample's own depth, (N, …) both, in one pass through the blocks."""
    h, chain, finish = network.begin(inputs.x, inputs.time, inputs.conditions)
    order, left = list[int](), list[Tensor]()
    for depth in range(len(chain.kinds) + 1):
        assert isinstance(h, Tensor)
        if rows := [row for row, own in enumerate(depths) if own == depth]:
            order += rows
            left.append(h[torch.tensor(rows, device=h.device)])
        if depth < len(chain.kinds):
            h = chain.run(depth, h)
    return [finish(h), finish(torch.cat(left)[_inverse(order, inputs.x.device)])]


def _taken(inputs: NetworkInput, rows: Sequence[int]) -> NetworkInput:
    taken = torch.tensor(rows, device=inputs.x.device)
    conditions = None if inputs.conditions is None else inputs.conditions[taken]
    guidance = None if inputs.guidance is None else inputs.guidance[taken]
    return NetworkInput(inputs.x[taken], inputs.time[taken], conditions, guidance)


def _inverse(order: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(order, device=device).argsort()
