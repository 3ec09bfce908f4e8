"""What tests of ONNX folders share: the exported program as a module, and the comparison with our own images."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
from exeunt.backends.network import Network
from exeunt.backends.sampling.conditions import from_prompts, uniform
from exeunt.backends.sampling.loop import sample
from exeunt.backends.schedule import Schedule

NUM_IMAGES, SEED = 3, 3
PROMPTS = ["a red bicycle", "fog over a harbour"]


def sampler_of(folder: Path) -> ModuleType:
    """The folder's `sample.py`."""
    spec = importlib.util.spec_from_file_location("exported_sampler", folder / "sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_same_images(networks: list[Network], schedule: Schedule, folder: Path, *, levels: int = 1) -> None:
    """Latents to 1e-4 of their largest value, and the decoded images to a level of 255."""
    sampler, first = sampler_of(folder).Sampler(folder), networks[0]
    images = range(2, 2 + NUM_IMAGES)
    prompted = first.condition_kind == "prompts"
    conditions = from_prompts(PROMPTS) if prompted else uniform(first.num_classes)
    (ours,) = sample(networks, schedule, seed=SEED, images=images, conditions=conditions, batch_size=NUM_IMAGES)
    drawn = sampler.draw(SEED, images)
    wanted = ours.latents.float().numpy()
    assert np.abs(sampler.latents(*drawn) - wanted).max() <= 1e-4 * np.abs(wanted).max()
    decoded = sampler.sample(*drawn)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - ours.images.numpy().astype(int)).max() <= levels
