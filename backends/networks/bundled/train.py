"""How the bundled checkpoint is made: `python -m exeunt.backends.networks.bundled.train STAGE`, stage after stage.

    autoencoder   a small convolutional autoencoder, so that the DiT works on 16 tokens
    normal        a class-conditional DiT with 12 blocks, trained as usual
    exits         the same weights fine-tuned with a random exit depth for each image, so that tails can be dropped
    export        half-precision safetensors, and the card's figures
    small         a smaller DiT on the latents of the bundled checkpoint, to take steps in turn with it; by itself

Every stage saves its state every minute, continues from it when started again, and runs on a CPU or a GPU unchanged.
The data are Fashion-MNIST's gzipped IDX files (MIT licence). The last 5,000 training images and the test images are
left out: the reference statistics come from them.
"""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import click
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...checkpoints.containers import ENTRY_METADATA
from ...checkpoints.files import ASSETS
from ..decoders import Autoencoder
from ..training.loop import Recipe, Trainer
from ..transformer.module import DiT
from .trainer import DATA, StageLoss, index_batches, open_stage, run_stage, training_images

_NUM_CLASSES = 10
NUM_TIMESTEPS = 1_000
_NOISE = {"kind": "linear", "beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": NUM_TIMESTEPS}
MIN_SNR_GAMMA = 5.0  # Hang et al. 2023, arXiv 2303.09556
DIT: dict[str, Any] = {
    "input_size": 8,
    "patch_size": 2,
    "channels": 4,
    "width": 128,
    "depth": 12,
    "num_heads": 4,
    "num_classes": _NUM_CLASSES,
}
LABEL_DROPOUT = 0.1  # Ho & Salimans 2022


RECIPES = {
    "autoencoder": Recipe(num_steps=4_000, batch_size=128, learning_rate=2e-3, warmup=100, ema_decay=0.998, seed=1),
    "normal": Recipe(num_steps=5_000, batch_size=128, learning_rate=1e-3, warmup=400, ema_decay=0.999, seed=2),
    "exits": Recipe(num_steps=3_000, batch_size=128, learning_rate=5e-4, warmup=200, ema_decay=0.999, seed=3),
    "small": Recipe(num_steps=4_000, batch_size=128, learning_rate=2e-3, warmup=200, ema_decay=0.998, seed=4),
}
SMALL = {"depth": 4, "width": 64, "num_heads": 2}
AUTOENCODER = "autoencoder.safetensors"


def alpha_sigma(device: torch.device) -> tuple[Tensor, Tensor]:
    """(1000,) √ᾱ and √(1 − ᾱ) of the noise schedule."""
    betas = torch.linspace(1e-4, 0.02, NUM_TIMESTEPS, dtype=torch.float64)
    alphas_bar = torch.cumprod(1 - betas, 0)
    return alphas_bar.sqrt().float().to(device), (1 - alphas_bar).sqrt().float().to(device)


def autoencoder_loss(model: Autoencoder, images: Tensor) -> Tensor:
    """Absolute error of pixels and of their differences, and a light pull of the latents to a normal distribution."""
    mean, log_variance = model.encode(images)
    latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    decoded = model.decode(latents)
    error = decoded - images
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
    return error.abs().mean() + error.square().mean() + edges + 2e-3 * divergence


def noised(latents: Tensor, time: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, the v target (Salimans & Ho 2022: α·ε − σ·x) and the min-SNR weight of each row."""
    a, s = alpha[time].view(-1, 1, 1, 1), sigma[time].view(-1, 1, 1, 1)
    noise = torch.randn_like(latents)
    snr = (a / s).square().flatten()
    return a * latents + s * noise, a * noise - s * latents, snr.clamp(max=MIN_SNR_GAMMA) / (snr + 1.0)


def normal_loss(
    model: DiT, x: Tensor, time: Tensor, labels: Tensor, target: Tensor, weight: Tensor, depth: Tensor
) -> Tensor:
    """The ordinary denoising loss at full depth."""
    del depth
    return (weight * (model(x, time, labels) - target).square().mean(dim=(1, 2, 3))).mean()


def exits_loss(
    model: DiT, x: Tensor, time: Tensor, labels: Tensor, target: Tensor, weight: Tensor, depth: Tensor
) -> Tensor:
    """The denoising loss at full depth plus the one at each image's own exit depth, through the shared output head.

    ASE (Moon et al. 2024) fine-tunes for one schedule; a random depth for each image serves all schedules.
    """
    h = model.x_embedder(x) + model.pos_embed
    c = model.t_embedder(time) + model.y_embedder(labels)
    early = torch.zeros_like(h)
    for index, block in enumerate(model.blocks):
        h = block(h, c)
        early = torch.where((depth == index + 1).view(-1, 1, 1), h, early)
    outputs = model.unpatchify(model.final_layer(torch.cat([h, early]), torch.cat([c, c])))
    errors = (outputs.view(2, *target.shape) - target).square().mean(dim=(2, 3, 4))  # (2, N)
    return (weight * errors).mean(dim=1).sum()


def train_autoencoder(
    data: Path, out: Path, device: torch.device, recipe: Recipe, max_seconds: float, compiled: bool
) -> None:
    """Stage 1. Writes autoencoder.safetensors, and the latents' mean and deviation by channel into its metadata."""
    torch.manual_seed(recipe.seed)
    images = training_images(data)[0].to(device)
    model = Autoencoder().to(device)
    loss = torch.compile(autoencoder_loss) if compiled else autoencoder_loss
    objective = StageLoss(model, loss, device, is_half=True)
    trainer = open_stage(objective, recipe, out / "autoencoder.state.pt", device)
    generator = torch.Generator(device).manual_seed(recipe.seed + trainer.step)
    rows = index_batches(len(images), recipe.batch_size, generator, device)
    run_stage(trainer, lambda: (images[next(rows)],), max_seconds)
    _write_log(out, "autoencoder", trainer)


def train_dit(
    stage: str,
    data: Path,
    out: Path,
    device: torch.device,
    recipe: Recipe,
    max_seconds: float,
    compiled: bool,
    sizes: Mapping[str, Any] = DIT,
    assets: Path | None = None,
) -> None:
    """Stages 2 and 3, and the small one. Writes STAGE.fp32.safetensors: the moving average.

    `assets` has the checkpoint whose latents it is trained on; those of the autoencoder in `out` if None.
    """
    torch.manual_seed(recipe.seed)
    model = DiT(**sizes).to(device)
    if stage == "exits":
        model.load_state_dict(load_file(out / "normal.fp32.safetensors"))
        model.t_embedder.requires_grad_(False)  # as ASE does
    else:
        model.initialize()
    function = exits_loss if stage == "exits" else normal_loss
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    loss = torch.compile(function, mode=mode) if compiled else function
    objective = StageLoss(model, loss, device, is_half=device.type == "cuda")
    trainer = open_stage(objective, recipe, out / f"{stage}.state.pt", device)
    latents = Latents.make(data, load_autoencoder(out).to(device)) if assets is None else Latents.bundled(data, assets)
    draw = LatentBatches(latents, data, device, recipe, trainer.step)
    run_stage(trainer, draw, max_seconds)
    _write_log(out, stage, trainer)


def train_small(
    data: Path, out: Path, assets: Path, device: torch.device, recipe: Recipe, sizes: Mapping[str, int], **how: Any
) -> None:
    """Train a smaller DiT, and write small.safetensors with the autoencoder beside it that its metadata names."""
    train_dit("small", data, out, device, recipe, sizes=DIT | dict(sizes), assets=assets, **how)
    shutil.copyfile(assets / AUTOENCODER, out / AUTOENCODER)
    metadata = bundled_metadata(assets) | {"num_heads": sizes["num_heads"]}
    _save_half(load_file(out / "small.fp32.safetensors"), out / "small.safetensors", metadata)


def bundled_metadata(assets: Path) -> dict[str, Any]:
    """What the bundled weights say beside their tensors."""
    with safe_open(assets / "normal.safetensors", "pt") as file:
        return json.loads(file.metadata()[ENTRY_METADATA])


@dataclass(frozen=True)
class Latents:
    """Mean and deviation of every training image's latents (N, C, 8, 8), and each channel's shift and scale."""

    mean: Tensor
    deviation: Tensor
    statistics: Mapping[str, list[float]]

    @classmethod
    def make(cls, data: Path, autoencoder: Autoencoder) -> Self:
        """Those of an autoencoder, on its device."""
        device = next(autoencoder.parameters()).device
        return cls(*encode_all(autoencoder, training_images(data)[0].to(device)))

    @classmethod
    def bundled(cls, data: Path, assets: Path) -> Self:
        """Those that the bundled weights were trained on, by their own shift and scale."""
        autoencoder = Autoencoder()
        autoencoder.load_state_dict(load_file(assets / AUTOENCODER))
        made = cls.make(data, autoencoder.eval().requires_grad_(False))
        return cls(made.mean, made.deviation, bundled_metadata(assets)["latent"])


class LatentBatches:
    """Draws training batches: noisy latents, time, labels (some null), target, weight and exit depth of each row."""

    def __init__(self, latents: Latents, data: Path, device: torch.device, recipe: Recipe, step: int) -> None:
        self.mean, self.deviation = latents.mean.to(device), latents.deviation.to(device)
        self.shift, self.scale = (
            torch.tensor(latents.statistics[key], device=device).view(1, -1, 1, 1) for key in ("shift", "scale")
        )
        self.labels, self.device, self.size = training_images(data)[1].to(device), device, recipe.batch_size
        self.alpha, self.sigma = alpha_sigma(device)
        generator = torch.Generator(device).manual_seed(recipe.seed + step)
        self.rows = index_batches(len(self.mean), recipe.batch_size, generator, device)

    def __call__(self) -> tuple[Tensor, ...]:
        rows, n, device = next(self.rows), self.size, self.device
        latents = self.mean[rows] + self.deviation[rows] * torch.randn_like(self.mean[rows])
        time = torch.randint(NUM_TIMESTEPS, (n,), device=device)
        dropped = torch.rand(n, device=device) < LABEL_DROPOUT
        labels = torch.where(dropped, _NUM_CLASSES, self.labels[rows])
        depth = torch.randint(1, DIT["depth"], (n,), device=device)
        x, target, weight = noised((latents - self.shift) / self.scale, time, self.alpha, self.sigma)
        return x, time.float(), labels, target, weight, depth


def load_autoencoder(out: Path) -> Autoencoder:
    """The trained autoencoder in single precision."""
    model = Autoencoder()
    model.load_state_dict(load_file(out / "autoencoder.fp32.safetensors"))
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def encode_all(model: Autoencoder, images: Tensor) -> tuple[Tensor, Tensor, dict[str, list[float]]]:
    """Mean and deviation of every image's latents (N, C, 8, 8), and the channels' shift and scale to unit variance."""
    parts = [model.encode(chunk) for chunk in images.split(1024)]
    mean, deviation = torch.cat([m for m, _ in parts]), torch.cat([torch.exp(0.5 * v) for _, v in parts])
    shift = mean.mean(dim=(0, 2, 3))
    scale = (mean.var(dim=(0, 2, 3)) + deviation.square().mean(dim=(0, 2, 3))).sqrt()
    return mean.clone(), deviation.clone(), {"shift": shift.tolist(), "scale": scale.tolist()}


def _write_log(out: Path, stage: str, trainer: Trainer) -> None:
    """The stage's recipe, seconds and loss curve, which the card shows."""
    device = trainer.parameters[0].device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    log = {
        "recipe": asdict(trainer.recipe),
        "seconds": round(trainer.seconds, 1),
        "device": name,
        "torch": torch.__version__,
    }
    (out / f"{stage}.log.json").write_text(
        json.dumps({**log, "num_steps_done": trainer.step, "losses": trainer.losses}, indent=1)
    )
    click.echo(f"{stage}: {trainer.step} steps in {trainer.seconds:.0f} s")


def export_weights(data: Path, out: Path, assets: Path) -> None:
    """Half-precision safetensors with what surrounds the weights in their metadata."""
    assets.mkdir(parents=True, exist_ok=True)
    autoencoder = load_autoencoder(out)
    _, _, statistics = encode_all(autoencoder, training_images(data)[0][:10_000])
    _save_half(autoencoder.state_dict(), assets / AUTOENCODER, {"width": 64, "latent_channels": 4})
    for stage in ("normal", "exits"):
        if not (out / f"{stage}.fp32.safetensors").exists():
            continue
        metadata = {
            "architecture": "DiT",
            "num_heads": DIT["num_heads"],
            "num_classes": _NUM_CLASSES,
            "prediction": "v",
            "noise": _NOISE,
            "latent": {"autoencoder": AUTOENCODER, **statistics},
        }
        _save_half(load_file(out / f"{stage}.fp32.safetensors"), assets / f"{stage}.safetensors", metadata)


def _save_half(tensors: dict[str, Tensor], path: Path, metadata: dict[str, Any]) -> None:
    halves = {name: value.half().contiguous() for name, value in tensors.items()}
    save_file(halves, path, {ENTRY_METADATA: json.dumps(metadata)})
    path.chmod(0o644)
    click.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


FOLDER, RUNS = click.Path(path_type=Path), Path("runs/fashion")
DATA_OPTION = click.option(
    "--data", type=FOLDER, default=DATA, show_default=True, help="Folder of Fashion-MNIST's IDX files."
)


@click.command(
    epilog="Examples: python -m exeunt.backends.networks.bundled.train normal --out runs/fashion --device cuda, and "
    "python -m exeunt.backends.networks.bundled.train small --depth 4 --width 64"
)
@click.argument("stage", type=click.Choice([*RECIPES, "export"]))
@DATA_OPTION
@click.option("--out", type=FOLDER, default=RUNS, show_default=True, help="States and results.")
@click.option("--assets", type=FOLDER, default=ASSETS / "fashion-dit", help="Where export writes and small reads.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--num-steps", type=int, help="Other than the recipe's number of steps.")
@click.option("--batch-size", type=int, help="Other than the recipe's batch size.")
@click.option("--max-seconds", type=float, default=math.inf, help="Stop after so long; started again, it goes on.")
@click.option("--compile/--no-compile", "compiled", default=True, show_default=True, help="Compile the loss.")
@click.option("--depth", type=int, default=SMALL["depth"], show_default=True, help="Blocks of the small DiT.")
@click.option("--width", type=int, default=SMALL["width"], show_default=True, help="Channels of the small DiT.")
@click.option("--num-heads", type=int, default=SMALL["num_heads"], show_default=True, help="Heads of the small DiT.")
def main(
    stage: str,
    data: Path,
    out: Path,
    assets: Path,
    device: str,
    num_steps: int | None,
    batch_size: int | None,
    max_seconds: float,
    compiled: bool,
    **sizes: int,
) -> None:
    """Train one STAGE of the bundled Fashion-MNIST checkpoint, or export the trained weights."""
    if stage == "export":
        return export_weights(data, out, assets)
    out.mkdir(parents=True, exist_ok=True)
    recipe = RECIPES[stage]
    recipe = replace(recipe, num_steps=num_steps or recipe.num_steps, batch_size=batch_size or recipe.batch_size)
    target = torch.device(device)
    torch.set_float32_matmul_precision("high")
    if stage == "autoencoder":
        return train_autoencoder(data, out, target, recipe, max_seconds, compiled)
    if stage == "small":
        return train_small(data, out, assets, target, recipe, sizes, max_seconds=max_seconds, compiled=compiled)
    return train_dit(stage, data, out, target, recipe, max_seconds, compiled)


if __name__ == "__main__":
    main()
