"""A second extractor for `ranks.py`, which has nothing in common with the metrics' own: trained on the data."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from exeunt.backends.networks.bundled.trainer import index_batches, training_images
from exeunt.backends.quality.extractors import Extractor, extractor_digest
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

EPOCHS, BATCH, SEED = 3, 128, 0


class Classifier(Extractor):
    """A small convolutional classifier of clothes: its 128 pooled features, from which it tells the ten classes.

    Args:
        weights: what `train` wrote.
        device: where it runs.
    """

    name = "classifier"
    dim = 128
    preprocessing: ClassVar[dict[str, Any]] = {"size": "as it is", "grey": "mean of channels", "range": "0 to 1"}

    def __init__(self, *, weights: Path | None, device: torch.device) -> None:
        assert weights is not None
        self.network, self.device = make_network().to(device).eval(), device
        self.network.load_state_dict(load_file(weights))
        self.digest = extractor_digest(self.preprocessing, self.network.state_dict())

    def extract(self, images: Tensor) -> Tensor:
        return self.network[:-1](images.float().mean(dim=1, keepdim=True) / 255)


def make_network() -> nn.Sequential:
    """Grey images (N, 1, H, W) to logits (N, 10); all but the last layer to features (N, 128)."""
    layers: list[nn.Module] = []
    for given, made in ((1, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(given, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def train(data: Path, path: Path) -> None:
    """Three epochs on the 55,000 images that the bundled network was trained on; four minutes on one core."""
    torch.manual_seed(SEED)
    images, labels = training_images(data)
    images = images.add(1).div(2)
    network = make_network()
    steps = EPOCHS * len(images) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    batches = index_batches(len(images), BATCH, torch.Generator().manual_seed(SEED), torch.device("cpu"))
    for step in range(steps):
        rows = next(batches)
        loss = cross_entropy(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 200 == 0:
            print(f"classifier: step {step} of {steps}, loss {loss.item():.3f}", flush=True)
    part = path.with_suffix(".part")
    save_file(network.state_dict(), part)
    part.replace(path)
