"""A tiny DiT of pixels in a file of its own, and data in the formats that people have them in."""

import gzip
import json
from pathlib import Path

import numpy as np
import torch
from exeunt.backends.networks.registry import load_network
from exeunt.backends.networks.transformer.module import DiT
from exeunt.backends.schedule import Schedule, with_exits
from exeunt.backends.solvers.tables import make_schedule
from safetensors.torch import save_file

NOISE = {"kind": "linear", "beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000}


def tiny_dit(folder: Path, depth: int = 4) -> Path:
    """A file of random weights: 8 × 8 grey pixels, three classes, `depth` blocks of width 16."""
    torch.manual_seed(0)
    sizes = {"input_size": 8, "patch_size": 2, "channels": 1, "width": 16, "num_heads": 2, "num_classes": 3}
    model = DiT(**sizes, depth=depth)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.05 * torch.randn_like(parameter)
    said = {"num_heads": 2, "num_classes": 3, "prediction": "v", "noise": NOISE}
    path = folder / "tiny.safetensors"
    save_file(model.state_dict(), path, {"exeunt": json.dumps(said)})
    return path


def staircase(checkpoint: Path, depths: tuple[int, ...] = (1, 2, 3, 4)) -> Schedule:
    """A schedule that runs so many blocks at each of its steps."""
    network = load_network(checkpoint)
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=len(depths))
    return with_exits(full, list(depths))


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in values.shape)
    content = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def idx_data(folder: Path, count: int = 48) -> Path:
    """Squares whose place is the label, in MNIST's files."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=count)
    images = rng.integers(0, 60, size=(count, 8, 8))
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 3, 2:6] = 220
    write_idx(folder / "train-images-idx3-ubyte.gz", images)
    write_idx(folder / "train-labels-idx1-ubyte.gz", labels)
    return folder
