"""Real images of the closed-form network's mixture."""

from pathlib import Path

import numpy as np
import torch
from exeunt.backends.networks.registry import load_network


def real_images(folder: Path, count: int = 1000) -> Path:
    """An archive of them in a folder."""
    network = load_network("closed-form")
    latents = torch.from_numpy(network.mixture.draw(count, seed=1)).float().reshape(-1, *network.sample_shape)
    path = folder / "real.npz"
    np.savez(path, images=network.decode(latents).permute(0, 2, 3, 1).numpy())
    return path
