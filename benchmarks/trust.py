"""Whether a study on bad ground recommends broken images, and whether it says what is wrong.

    python benchmarks/trust.py [--only weak …] [--trials 16]        # a study each; minutes

Each case spoils the bundled checkpoint or its reference: weights after 200 training steps, random weights, another
number of attention heads, another prediction than it was trained for, a decoder whose images are all the same, a
reference of other images; and, beside them, the checkpoint as it is. A blind rule then looks at the recommended point,
which knows nothing of the guards: it calls images broken whose features or pixels are nearer to those of undenoised
noise, of one constant image or of a grey blur than to the full schedule's of the same noises, or whose saturation or
correlation of neighbours is out of the range of the full schedule's. The last line is JSON; the exit code is 1 where a
broken point was recommended.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exeunt.backends.checkpoints.files import ASSETS
from exeunt.backends.networks.bundled.train import DIT, NUM_TIMESTEPS, alpha_sigma, noised, normal_loss
from exeunt.backends.networks.transformer.module import DiT
from exeunt.backends.quality.extractors import load_extractor
from exeunt.backends.sampling.conditions import noises
from exeunt.backends.sampling.loop import sample
from exeunt.reports.page.headline import details, headline
from exeunt.reports.view.view import Point, StudyView
from exeunt.searcher import runner
from exeunt.searcher.measuring.setup import StudySetup, load_setup
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

COUNT = 256
TRAINING_STEPS = 200
BUNDLED = ASSETS / "fashion-dit"
Case = Callable[[Path], dict[str, Any]]  # makes what is needed in a folder; the settings that differ


def changed(folder: Path, tensors: dict[str, Tensor] | None = None, **metadata: Any) -> dict[str, Any]:
    """The bundled weights with other tensors or other metadata, as a checkpoint file beside its autoencoder."""
    with safe_open(BUNDLED / "normal.safetensors", framework="pt") as file:
        known = json.loads(file.metadata()["exeunt"])
    own = load_file(BUNDLED / "normal.safetensors") | (tensors or {})
    save_file(own, folder / "net.safetensors", metadata={"exeunt": json.dumps(known | metadata)})
    if not (folder / "autoencoder.safetensors").exists():
        shutil.copy(BUNDLED / "autoencoder.safetensors", folder)
    return {"checkpoint.path": str(folder / "net.safetensors")}


def as_it_is(folder: Path) -> dict[str, Any]:
    return changed(folder)


def weak(folder: Path) -> dict[str, Any]:
    """Trained for 200 steps, on samples of the bundled checkpoint in place of its data."""
    setup = load_setup(StudyConfig(name="teacher"))
    torch.manual_seed(0)
    batches = sample(
        [setup.networks[setup.baseline.weights]],
        setup.baseline.schedule,
        seed=9,
        images=range(512),
        conditions=setup.conditions,
        batch_size=64,
    )
    latents = torch.cat([batch.latents for batch in batches]).clone()
    labels = torch.arange(len(latents)) % DIT["num_classes"]
    model, (alpha, sigma) = DiT(**DIT), alpha_sigma(torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(TRAINING_STEPS):
        chosen = torch.randint(len(latents), (64,))
        time = torch.randint(NUM_TIMESTEPS, (64,))
        x, target, weight = noised(latents[chosen], time, alpha, sigma)
        loss = normal_loss(model, x, time.float(), labels[chosen], target, weight, time)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return changed(folder, {name: each.detach().half() for name, each in model.state_dict().items()})


def random_weights(folder: Path) -> dict[str, Any]:
    """Every matrix drawn again, with the spread that it has."""
    torch.manual_seed(0)
    own = load_file(BUNDLED / "normal.safetensors")
    return changed(folder, {name: (torch.randn(each.shape) * each.float().std()).half() for name, each in own.items()})


def wrong_heads(folder: Path) -> dict[str, Any]:
    return changed(folder, num_heads=2)


def wrong_prediction(folder: Path) -> dict[str, Any]:
    return changed(folder, prediction="epsilon")


def constant(folder: Path) -> dict[str, Any]:
    """A decoder that ignores its latents: all images are one grey."""
    with safe_open(BUNDLED / "autoencoder.safetensors", framework="pt") as file:
        metadata = file.metadata()
    decoder = {name: torch.zeros_like(each) for name, each in load_file(BUNDLED / "autoencoder.safetensors").items()}
    save_file(decoder, folder / "autoencoder.safetensors", metadata=metadata)
    return changed(folder)


def other_reference(folder: Path) -> dict[str, Any]:
    """Smooth coloured textures in place of clothes."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.uniform(0, 255, (1000, 3, 5, 5)))
    smooth = torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bicubic").clamp(0, 255).to(torch.uint8)
    np.savez(folder / "textures.npz", images=smooth.permute(0, 2, 3, 1).numpy())
    return changed(folder) | {"quality.reference": str(folder / "textures.npz")}


CASES: dict[str, Case] = {
    "as it is": as_it_is,
    "weak": weak,
    "random weights": random_weights,
    "wrong heads": wrong_heads,
    "wrong prediction": wrong_prediction,
    "constant images": constant,
    "other reference": other_reference,
}


def simple_statistics(images: Tensor) -> np.ndarray:
    """(N, 2) the share of values at either end, and the correlation of horizontal neighbours."""
    values = images.float().mean(dim=1).numpy()
    left, right = values[:, :, :-1].reshape(len(values), -1), values[:, :, 1:].reshape(len(values), -1)
    pairs = [np.corrcoef(a, b)[0, 1] if a.std() and b.std() else 1.0 for a, b in zip(left, right, strict=True)]
    ends = ((images < 4) | (images > 251)).float().mean(dim=(1, 2, 3)).numpy()
    return np.stack([ends, np.array(pairs)], 1)


def broken(setup: StudySetup, point: Point) -> str | None:
    """What the blind rule says of a point's images; None: nothing."""

    def images(weights: str, schedule: Any) -> Tensor:
        batches = sample(
            [setup.networks[weights]],
            schedule,
            seed=77,
            images=range(COUNT),
            conditions=setup.conditions,
            batch_size=64,
        )
        return torch.cat([batch.images for batch in batches])

    baseline = setup.baseline
    full, own = images(baseline.weights, baseline.schedule), images(point.weights, point.schedule)
    network = setup.network
    noise = network.decode(noises(77, range(COUNT), network.sample_shape, 1)[0])
    smear = torch.nn.functional.interpolate(
        torch.nn.functional.avg_pool2d(full.float().mean(dim=1, keepdim=True), 7), size=full.shape[-2:]
    )
    nothing = [noise, full.float().mean(dim=0, keepdim=True).expand_as(full), smear.expand_as(full)]
    extractor = load_extractor("efficientnet-lite0")
    for name, space in {
        "features": lambda x: extractor(x.round().clamp(0, 255).to(torch.uint8)),
        "pixels": lambda x: x.float().flatten(1).numpy(),
    }.items():
        mine, theirs = space(own), space(full)
        apart = float(((mine - theirs) ** 2).sum(1).mean())
        least = min(float(((space(each) - theirs) ** 2).sum(1).mean()) for each in nothing)
        if apart > 0.5 * least:
            return f"nearer to nothing in {name} ({apart:.4g} of {least:.4g})"
    normal, found = simple_statistics(full), simple_statistics(own).mean(0)
    low, high = np.percentile(normal, 2.5, axis=0), np.percentile(normal, 97.5, axis=0)
    out = [
        name for name, v, a, b in zip(("saturation", "neighbours"), found, low, high, strict=True) if not a <= v <= b
    ]
    return f"{' and '.join(out)} out of range" if out else None


def study(folder: Path, settings: dict[str, Any], trials: int) -> tuple[StudyView, StudySetup]:
    config = override(
        StudyConfig(name="trust"),
        {
            "checkpoint.baseline_weights": (),
            "quality.reference": "fashion-mnist",
            "quality.metric": "fd-efficientnet-lite0",
            "quality.num_images": 128,
            "quality.final_images": 256,
            "run.budget": f"{trials}-trials",
            "run.report": None,
            **settings,
        },
    )
    return runner.optimize(config, f"sqlite:///{folder / 'trust.db'}"), load_setup(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--trials", type=int, default=16, help="of each study")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            view, setup = study(Path(folder), CASES[name](Path(folder)), options.trials)
            point = view.recommended
            fault = None if point is None or point is view.full else broken(setup, point)
            print(f"\n=== {name}\n{headline(view)}")
            print("\n".join(details(view)))
            print(
                f"recommended: {point.label if point else None}; blind rule: {fault or 'nothing to object'}", flush=True
            )
            found[name] = {
                "recommended": point.label if point else None,
                "gain": view.has_gain,
                "broken": fault,
                "vetoed": len(view.vetoed),
                "measured": len(view.measured("final")),
                "standard_errors": view.standard.scale.standard_errors if view.standard.scale else None,
            }
    print(json.dumps({"benchmark": "trust", "figures": found}))
    sys.exit(1 if any(each["broken"] for each in found.values()) else 0)


if __name__ == "__main__":
    main()
