"""Settings that the shapes of a checkpoint don't show, decided by the loss of denoising real images.

Number of heads, prediction and noise schedule leave no trace in a state dict. Under a wrong reading a network denoises
badly, so the readings are compared on the same images, noises and levels of noise. Each one's output is turned into
the velocity of its noise level (Salimans & Ho 2022), whose error is comparable between all predictions and noises.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ..network import Network, NetworkInput
from ..schedule import ExeuntError
from ..solvers.noise_schedules import time_at

NUM_IMAGES = 32
LOG_SNRS = (1.5, 0.5, -0.5, -1.5)  # ln(alpha / sigma) at which images are denoised
CLEAR = 3.0  # standard errors by which the least loss must be below every other
DENOISES = 0.9  # of the loss of the best linear guess, above which a network denoises nothing
ROUNDS = (2, 6, 24)  # noises of each image at each level, in each look at the readings that are left
MOST_OPERATIONS = 2e13  # beyond which each image is denoised at one level, not at all
MOST_HEADS, LEAST_HEAD_WIDTH = 32, 4


def heads_for(width: int, taken: int) -> list[int]:
    """The numbers of heads that a network of a width may have, the taken one first.

    All that divide it: where the right one is missing, another one of about its effect wins clearly.
    """
    found = [heads for heads in range(1, MOST_HEADS + 1) if width % heads == 0 and width // heads >= LEAST_HEAD_WIDTH]
    return list(dict.fromkeys([taken, *found]))


def readings(open_values: Mapping[str, Sequence[Any]], pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, Any], ...]:
    """Every combination of open arguments with the (noise, prediction) pairs; empty where only one is left."""
    names = list(open_values)
    made = [
        dict(zip(names, values, strict=True)) | {"noise": noise, "prediction": prediction}
        for values in product(*open_values.values())
        for noise, prediction in pairs
    ]
    return tuple(made) if len(made) > 1 else ()


@dataclass(frozen=True)
class Decision:
    """The losses of each reading, and what they decide.

    Attributes:
        losses: mean loss of each reading, the least first.
        guess: the loss of the best linear guess, which needs no network.
        is_clear: whether the first is below every other one by more than chance.
    """

    losses: tuple[tuple[dict[str, Any], float], ...]
    guess: float
    is_clear: bool

    @property
    def denoises(self) -> bool:
        """Whether the best reading denoises at all; the weights of an untrained network do so under none."""
        return self.losses[0][1] < DENOISES * self.guess


def decide(load: Callable[[dict[str, Any]], Network], open_readings: Sequence[dict[str, Any]], x: Tensor) -> Decision:
    """Compare readings by the loss of denoising: all of them on a few noises, then what is left on more and more.

    Args:
        load: the network under a reading.
        open_readings: see `Network`, at least one.
        x: (N, C, H, W) real samples, on the CPU.
    """
    every = list(range(len(open_readings)))
    levels, means = _look(load, open_readings, every, x, ROUNDS[0], 0)
    guess = float(torch.cat([_guess(x, level) for level in levels]).mean())
    count, left = len(levels), _not_above(means, every)
    for seed, rounds in enumerate(ROUNDS[1:], start=1):
        if len(left) == 1 or count < len(LOG_SNRS):  # a second look would take too long where the first was short
            break
        levels, more = _look(load, open_readings, left, x, rounds, seed)
        total = count + len(levels)
        means |= {index: (means[index] * count + more[index] * len(levels)) / total for index in left}
        count, left = total, _not_above(means, left)
    order = sorted(every, key=lambda index: (index not in left, float(means[index].mean())))
    return Decision(tuple((open_readings[i], float(means[i].mean())) for i in order), guess, len(left) == 1)


def _not_above(means: Mapping[int, Tensor], indices: Sequence[int]) -> list[int]:
    """Those whose loss is not above the least one by more than chance."""
    best = min(indices, key=lambda index: float(means[index].mean()))
    return [index for index in indices if index == best or not _is_above(means[index] - means[best])]


def _look(
    load: Callable[[dict[str, Any]], Network],
    open_readings: Sequence[dict[str, Any]],
    indices: Sequence[int],
    x: Tensor,
    rounds: int,
    seed: int,
) -> tuple[list[Tensor], dict[int, Tensor]]:
    """The levels of noise, and of some readings the mean error (N,) of each image over them."""
    means: dict[int, Tensor] = {}
    levels: list[Tensor] = []
    groups = _alike(open_readings, indices)
    for group in groups:
        network = load(open_readings[group[0]])
        levels = levels or _levels(network, len(x), len(groups), rounds)
        found = _errors(network, x, levels, [open_readings[index]["prediction"] for index in group], seed)
        means |= dict(zip(group, found, strict=True))
    return levels, means


def _alike(open_readings: Sequence[dict[str, Any]], indices: Sequence[int]) -> list[list[int]]:
    """The readings whose networks give the same output, of which each means something else."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index in indices:
        key = tuple(value for name, value in open_readings[index].items() if name != "prediction")
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def _is_above(difference: Tensor) -> bool:
    """Whether the mean of paired differences, one an image, is above 0 by more than chance."""
    error = float(difference.std()) / math.sqrt(len(difference))
    return float(difference.mean()) > CLEAR * error


def _levels(network: Network, num_images: int, num_groups: int, rounds: int) -> list[Tensor]:
    """Tensors (N,) of ln(alpha / sigma): each image at every level, or at one of them where that takes too long."""
    operations = network.flops(range(network.num_blocks)) * num_images * num_groups
    rounds = min(rounds, int(MOST_OPERATIONS // (operations * len(LOG_SNRS))))
    if rounds:
        return [torch.full((num_images,), level) for level in LOG_SNRS * rounds]
    return [torch.tensor([LOG_SNRS[i % len(LOG_SNRS)] for i in range(num_images)])]


def _scales(level: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma (N, 1, 1, 1), the sum of their squares 1, at ln(alpha / sigma)."""
    rows = level.view(-1, 1, 1, 1)
    return torch.sigmoid(2 * rows).sqrt(), torch.sigmoid(-2 * rows).sqrt()


def _guess(x: Tensor, level: Tensor) -> Tensor:
    """(N,) error of the velocity where data is guessed by the best linear function of the noisy image."""
    alpha, sigma = _scales(level)
    ratio = (sigma / alpha) ** 2
    variance = x.var(dim=(0, 2, 3), keepdim=True)
    return (variance * ratio / (variance + ratio) / sigma**2).mean(dim=(1, 2, 3))


@torch.no_grad()
def _errors(
    network: Network, x: Tensor, levels: Sequence[Tensor], predictions: Sequence[str], seed: int
) -> list[Tensor]:
    """(N,) mean squared errors of the velocity for each prediction that the output may mean."""
    sums = [torch.zeros(len(x)) for _ in predictions]
    generator = torch.Generator().manual_seed(seed)  # the same noises for all readings
    for level in levels:
        noise = torch.randn(x.shape, generator=generator)
        alpha, sigma = _scales(level)
        out = _output(network, alpha * x + sigma * noise, level)
        velocity = alpha * noise - sigma * x
        for total, prediction in zip(sums, predictions, strict=True):
            made = _velocity(out, prediction, alpha * x + sigma * noise, alpha, sigma)
            total += (made - velocity).square().mean(dim=(1, 2, 3)).nan_to_num(1e9).clamp(max=1e9) / len(levels)
    return sums


def _output(network: Network, noisy: Tensor, level: Tensor) -> Tensor:
    """What the network gives back of variance-preserving samples (N, C, H, W), in the first C channels."""
    flow = network.noise.kind == "flow"
    if flow:
        alpha, sigma = _scales(level)
        noisy, time = noisy / (alpha + sigma), 1000 * torch.sigmoid(-level)
    else:
        time = torch.tensor([time_at(network.noise, float(each)) for each in level])
    where = network.device
    conditions = _conditions(network, len(noisy))
    inputs = NetworkInput(noisy.to(where, network.dtype), time.to(where).float(), conditions)
    return network.evaluate(inputs, None, []).float().cpu()[:, : noisy.shape[1]]


def _conditions(network: Network, count: int) -> Tensor | None:
    """The null label, which holds for all images; without one, any labels, the same for all readings."""
    if network.num_classes is None:
        return None
    rows = network.num_classes
    try:
        return network.null_conditions(count)
    except ExeuntError:
        return (torch.arange(count) % rows).to(network.device)


def _velocity(out: Tensor, prediction: str, noisy: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """alpha · noise - sigma · data of an output."""
    if prediction == "v":
        return out
    if prediction == "epsilon":
        return (out - sigma * noisy) / alpha
    if prediction == "sample":
        return (alpha * noisy - out) / sigma
    # flow: noise - data, of the sample over alpha + sigma
    return (out + (alpha - sigma) * noisy) / (alpha + sigma)
