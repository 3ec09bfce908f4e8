"""The closed-form network's real images, and the flags that search it in seconds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exeunt.backends.network import load


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 real images of the closed-form network's mixture."""
    network = load("closed-form")
    latents = torch.from_numpy(network.mixture.draw(1000, seed=1)).float().reshape(-1, *network.sample_shape)
    path = tmp_path_factory.mktemp("reference") / "real.npz"
    np.savez(path, images=network.decode(latents).permute(0, 2, 3, 1).numpy())
    return path


@pytest.fixture(scope="session")
def closed_form(reference: Path) -> list[str]:
    """Flags for the closed-form network: pixels as features, few images, two repeats of each timing."""
    return [
        *("--checkpoint", "closed-form", "--reference", str(reference), "--metric", "fd-pixels"),
        *("--num-steps", "8", "--num-images", "32", "--final-images", "64", "--batch-size", "32"),
        *("--set", "throughput.repeats=2", "--set", "run.chunk_images=16", "--device", "cpu"),
    ]
