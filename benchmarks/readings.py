"""Whether real images find out how a checkpoint must be read: small networks, trained for a moment, each with a number
of heads, a noise schedule and a prediction of its own, whose files say none of it.

A network counts as right where the reading found is the one that it was trained with, and as asked where the losses
are too near to each other. `python benchmarks/readings.py --networks 20 --seconds 60`
"""

import argparse
import random
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from exeunt.backends.network import NetworkInput
from exeunt.backends.networks.dit import DIT_NOISES, DIT_READINGS, DiT, DiTNetwork
from exeunt.backends.networks.readings import decide
from exeunt.backends.networks.registry import load_network
from exeunt.backends.solvers.noise_schedules import marginal
from torch import Tensor

SIDE, CLASSES = 16, 4


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(N, 3, 16, 16) in [-1, 1]: a bright disc or square on a ground, with the class (N,) of its shape and colour."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=rng)
    x, y, size = (torch.rand(count, 1, 1, generator=rng) * s + o for s, o in ((8, 4), (8, 4), (3, 2.5)))
    rows = torch.arange(SIDE).view(1, SIDE, 1) - y
    columns = torch.arange(SIDE).view(1, 1, SIDE) - x
    disc = rows.square() + columns.square() < size.square()
    square = torch.maximum(rows.abs(), columns.abs()) < size
    shape = torch.where((labels % 2 == 0).view(-1, 1, 1), disc, square).float()
    colour = torch.rand(count, 3, 1, 1, generator=rng) * 0.4 + (labels // 2).view(-1, 1, 1, 1) * 0.4
    return (shape.unsqueeze(1) * (colour + 0.4) + 0.1) * 1.6 - 1, labels


@cache
def scales(noise: str) -> tuple[Tensor, Tensor]:
    """alpha and sigma (1000,) at each train index."""
    at = [marginal(DIT_NOISES[noise], float(t)) for t in range(1000)]
    return torch.tensor([each.alpha for each in at]), torch.tensor([each.sigma for each in at])


def targets(noise: str, prediction: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy samples, times and what the network should give back."""
    eps, n = torch.randn_like(x), len(x)
    if prediction == "flow":
        t = torch.rand(n)
        part = t.view(-1, 1, 1, 1)
        return (1 - part) * x + part * eps, 1000 * t, eps - x
    t = torch.randint(0, 1000, (n,))
    alpha, sigma = (scale[t].view(-1, 1, 1, 1) for scale in scales(noise))
    wanted = {"epsilon": eps, "sample": x, "v": alpha * eps - sigma * x}[prediction]
    return alpha * x + sigma * eps, t.float(), wanted


def trained(truth: dict[str, Any], width: int, seconds: float, seed: int) -> DiT:
    """A network after some seconds of a processor's time in training, with every tenth label left out."""
    torch.manual_seed(seed)
    sizes = {"input_size": SIDE, "patch_size": 4, "channels": 3, "width": width, "depth": 4, "num_classes": CLASSES}
    module = DiT(**sizes, num_heads=truth["num_heads"])
    module.initialize()
    network = DiTNetwork(
        module,
        name="small",
        weights_sha256=None,
        num_classes=CLASSES,
        prediction=truth["prediction"],
        noise=DIT_NOISES[truth["noise"]],
        counts_from_noise=truth["noise"] == "sit",
    )
    parameters = [each for each in module.requires_grad_(True).parameters() if each is not module.pos_embed]
    module.pos_embed.requires_grad_(False)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    everything, labels = images(4096, seed)
    end = time.process_time() + seconds
    while time.process_time() < end:
        chosen = torch.randint(0, len(everything), (64,))
        noisy, times, wanted = targets(truth["noise"], truth["prediction"], everything[chosen])
        given = torch.where(torch.rand(64) < 0.1, CLASSES, labels[chosen])
        out = network.evaluate(NetworkInput(noisy, times, given), None, [])
        loss = (out - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return module.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=20, help="how many")
    parser.add_argument("--seconds", type=float, default=60, help="of a processor's time, to train each")
    parser.add_argument("--first", type=int, default=0, help="leave out networks before this one")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, counts = random.Random(given.seed), {"right": 0, "asked": 0, "untrained": 0, "wrong": 0}
    for index in range(given.networks):
        noise, prediction = rng.choice(DIT_READINGS)
        width = rng.choice((64, 96, 128))
        heads = rng.choice([each for each in (1, 2, 4, 8) if width % each == 0 and width // each <= 128])
        truth = {"num_heads": heads, "noise": noise, "prediction": prediction}
        if index < given.first:
            continue
        module = trained(truth, width, given.seconds, given.seed + index)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "small.pt"
            torch.save(module.state_dict(), path)
            bare = load_network(path)
            found = decide(
                lambda reading, path=path: load_network(path, **reading), bare.open_readings, images(32, 999)[0]
            )
        best = found.losses[0][0]
        outcome = "right" if best == truth else "wrong"
        outcome = "untrained" if not found.denoises else outcome if found.is_clear else "asked"
        counts[outcome] += 1
        near = "; ".join(f"{tuple(reading.values())} {loss:.4f}" for reading, loss in found.losses[:4])
        print(f"{index}: width {width}, {truth}: {outcome}. {near}; linear guess {found.guess:.4f}", flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))


if __name__ == "__main__":
    main()
