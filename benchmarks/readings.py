"""Whether real images find out how a checkpoint must be read: small networks, trained for a moment, each with a number
of heads, a noise schedule, a prediction and a make of block of its own, whose files say none of it.

A network counts as right where the reading found is the one that it was trained with, and as asked where the losses
are too near to each other. Trained networks are kept in a folder, so that a run that was interrupted goes on there:
`OMP_NUM_THREADS=1 python benchmarks/readings.py --networks 20 --seconds 60 --keep readings/`
"""

import argparse
import json
import random
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from exeunt.backends.network import NetworkInput
from exeunt.backends.networks.bundled.trainer import read_idx
from exeunt.backends.networks.dit import DiT, DiTNetwork
from exeunt.backends.networks.readings import decide
from exeunt.backends.networks.registry import load_network
from exeunt.backends.networks.transformer.reading import DIT_NOISES, DIT_READINGS, FLOWS
from exeunt.backends.solvers.noise_schedules import marginal
from torch import Tensor
from torch.nn import functional as F

SIDE, CLASSES = 16, 4
FASHION = Path("/usr/share/datasets/fashion-mnist")  # of Debian's dataset-fashion-mnist
# Makes of block: DiT's, and two of LightningDiT's that don't tell the number of heads.
STYLES: tuple[dict[str, Any], ...] = ({}, {"swiglu": True, "rms_norm": True}, {"swiglu": True, "shifts": False})


def images(data: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(N, C, 16, 16) in [-1, 1], with a class (N,) each."""
    return fashion(count, seed) if data == "fashion" else shapes(count, seed)


def fashion(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Grey images of Fashion-MNIST made smaller, (N, 1, 16, 16), of its first four classes."""
    pixels, labels = everything()
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:count]
    small = F.interpolate(pixels[chosen].float().unsqueeze(1), (SIDE, SIDE), mode="bilinear", antialias=True)
    return small / 127.5 - 1, labels[chosen]


@cache
def everything() -> tuple[Tensor, Tensor]:
    pixels, labels = (
        torch.from_numpy(read_idx(FASHION / f"train-{kind}-ubyte.gz").copy()) for kind in ("images-idx3", "labels-idx1")
    )
    wanted = labels < CLASSES
    return pixels[wanted], labels[wanted].long()


def shapes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(N, 3, 16, 16): a bright disc or square on a ground, with the class (N,) of its shape and colour."""
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
    """Noisy samples as Exeunt has them, times, and what the network should give back."""
    eps, n = torch.randn_like(x), len(x)
    if prediction == "flow":
        t = torch.rand(n)
        part = t.view(-1, 1, 1, 1)
        return (1 - part) * x + part * eps, 1000 * t, eps - x
    t = torch.randint(0, 1000, (n,))
    alpha, sigma = (scale[t].view(-1, 1, 1, 1) for scale in scales(noise))
    wanted = {"epsilon": eps, "sample": x, "v": alpha * eps - sigma * x}[prediction]
    return alpha * x + sigma * eps, t.float(), wanted


def trained(data: str, truth: dict[str, Any], style: dict[str, Any], width: int, seconds: float, seed: int) -> DiT:
    """A network after some seconds of a processor's time in training, with every tenth label left out."""
    torch.manual_seed(seed)
    pixels, labels = images(data, 4096, seed)
    sizes = {"input_size": SIDE, "patch_size": 4, "width": width, "depth": 4, "num_classes": CLASSES}
    module = DiT(**sizes, channels=pixels.shape[1], num_heads=truth["num_heads"], **style)
    module.initialize()
    network = DiTNetwork(
        module,
        name="small",
        weights_sha256=None,
        num_classes=CLASSES,
        prediction=truth["prediction"],
        noise=DIT_NOISES[truth["noise"]],
        flow=FLOWS.get(truth["noise"]),
    )
    parameters = [each for each in module.requires_grad_(True).parameters() if each is not module.pos_embed]
    module.pos_embed.requires_grad_(False)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    end = time.process_time() + seconds
    while time.process_time() < end:
        chosen = torch.randint(0, len(pixels), (64,))
        noisy, times, wanted = targets(truth["noise"], truth["prediction"], pixels[chosen])
        given = torch.where(torch.rand(64) < 0.1, CLASSES, labels[chosen])
        out = network.evaluate(NetworkInput(noisy, times, given), None, [])
        loss = (out - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return module.eval()


def outcome(path: Path, data: str, truth: dict[str, Any]) -> tuple[str, str]:
    """What is decided of a network's file, and the losses of the nearest readings in words."""
    bare = load_network(path)
    found = decide(lambda reading: load_network(path, **reading), bare.open_readings, images(data, 32, 999)[0])
    decided = "right" if found.losses[0][0] == truth else "wrong"
    decided = "untrained" if not found.denoises else decided if found.is_clear else "asked"
    near = "; ".join(f"{tuple(reading.values())} {loss:.4f}" for reading, loss in found.losses[:4])
    return decided, f"{near}; linear guess {found.guess:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=20, help="how many")
    parser.add_argument("--seconds", type=float, default=60, help="of a processor's time, to train each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the trained networks; they are lost if not given")
    given = parser.parse_args()
    data = ("shapes", "fashion") if FASHION.is_dir() else ("shapes",)
    rng, counts = random.Random(given.seed), {"right": 0, "asked": 0, "untrained": 0, "wrong": 0}
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(given.networks):
            noise, prediction = rng.choice(DIT_READINGS)
            width, style, kind = rng.choice((64, 96, 128)), rng.choice(STYLES), data[index % len(data)]
            heads = rng.choice([each for each in (1, 2, 4, 8) if width % each == 0 and width // each <= 128])
            truth = {"num_heads": heads, "noise": noise, "prediction": prediction}
            path = folder / f"{given.seed}-{index}-{given.seconds:g}.pt"
            if not path.exists():
                module = trained(kind, truth, style, width, given.seconds, given.seed + index)
                torch.save(module.state_dict(), path.with_suffix(".part"))
                path.with_suffix(".part").rename(path)
            decided, losses = outcome(path, kind, truth)
            counts[decided] += 1
            print(f"{index}: {kind}, width {width}, {style}, {truth}: {decided}. {losses}", flush=True)
    conditions = {"networks": given.networks, "seconds": given.seconds, "seed": given.seed, "data": data}
    print(json.dumps({"benchmark": "readings", "figures": counts, "conditions": conditions}))


if __name__ == "__main__":
    main()
