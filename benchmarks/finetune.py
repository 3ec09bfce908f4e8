"""What fine-tuning for ASE's staircase wins back on the bundled, normally trained checkpoint, and what a step costs.

Run as `python benchmarks/finetune.py`; run again, it goes on. ASE's depths (Moon et al. 2024, arXiv 2408.05927) are
rescaled to 12 blocks, as a schedule of 20 steps. Quality is the excess distance of images of final noises.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import torch
from exeunt.backends.networks.registry import load_network
from exeunt.backends.networks.training.exits import exit_call
from exeunt.backends.networks.training.losses import ExitLoss
from exeunt.backends.networks.training.process import Process
from exeunt.backends.quality.distances import frechet
from exeunt.backends.quality.extractors import load_extractor
from exeunt.backends.quality.floors import frechet_floor
from exeunt.backends.quality.intervals import excess
from exeunt.backends.quality.references import load_reference
from exeunt.backends.sampling.conditions import uniform
from exeunt.backends.sampling.loop import sample
from exeunt.backends.schedule import Schedule, save, with_exits
from exeunt.backends.solvers.tables import make_schedule

ASE = (28, 28, 24, 24, 20, 20, 16, 16, 12, 12)  # next to the data first
CHECKPOINT, FINAL_SEED = "fashion-dit", 1


def excess_of(checkpoint: str, schedule: Schedule, num_images: int) -> float:
    """The excess distance of images that a checkpoint draws with a schedule."""
    network, extractor = load_network(checkpoint), load_extractor("efficientnet-lite0")
    reference = load_reference("fashion-mnist", extractor)
    batches = sample(
        [network], schedule, seed=FINAL_SEED, images=range(num_images), conditions=uniform(10), batch_size=100
    )
    features = np.concatenate([extractor(batch.images) for batch in batches])
    return excess(frechet(features, reference.root), frechet_floor(reference, num_images)).value


def step_ratio(depths: list[int], repeats: int) -> float:
    """The median time of forward and backward passes at the staircase's depths over that at full depth, interleaved."""
    network = load_network(CHECKPOINT)
    module = network.weights().module.requires_grad_(True)
    process = Process.of(network)
    torch.manual_seed(0)
    data, noise = torch.randn(2, 128, *network.sample_shape)
    index, labels = torch.randint(1000, (128,)), torch.randint(10, (128,))
    ratios = list[float]()
    for _ in range(repeats):
        seconds = list[float]()
        for own in (depths, [12]):
            objective = ExitLoss(network, module, process, [exit_call(depth, 12) for depth in own], with_full=False)
            start = time.perf_counter()
            objective(data, noise, index, labels, [row % len(own) for row in range(128)]).backward()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return float(np.median(ratios))


@click.command()
@click.option("--data", default="/usr/share/datasets/fashion-mnist", help="Fashion-MNIST's IDX files.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("finetune-runs"), help="What is gone on from.")
@click.option("--num-steps", default=4_500, help="Steps of 64 images.")
@click.option("--num-images", default=1_000, help="Images of each distance.")
def main(data: str, folder: Path, num_steps: int, num_images: int) -> None:
    network = load_network(CHECKPOINT)
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=20)
    rescaled = [round(depth * 12 / 28) for depth in ASE]
    stairs = with_exits(full, [rescaled[int(step.time) // 100] for step in full.steps])
    folder.mkdir(parents=True, exist_ok=True)
    save(stairs, folder / "ase.schedule.json")
    words = f"--checkpoint {CHECKPOINT} --data {data} --limit 55000 --schedule {folder}/ase.schedule.json --device cpu"
    recipe = f"--num-steps {num_steps} --batch-size 64 --learning-rate 5e-4 --decay cosine --ema-decay 0.998"
    command = f"{words} {recipe} --weighting min-snr --seed 1 -o {folder}/stairs".split()
    subprocess.run([sys.executable, "-m", "exeunt", "finetune", *command], check=True, stdout=sys.stderr)
    card = json.loads((folder / "stairs" / "card.json").read_text())
    at_full, untrained, tuned = (
        excess_of(checkpoint, schedule, num_images)
        for checkpoint, schedule in ((CHECKPOINT, full), (CHECKPOINT, stairs), (str(folder / "stairs"), stairs))
    )
    ratio = step_ratio(rescaled, 5)
    figures = {
        "excess, full": at_full,
        "excess, staircase, not fine-tuned": untrained,
        "excess, staircase, fine-tuned": tuned,
        "share recovered": (untrained - tuned) / (untrained - at_full),
        "step over full-depth step": ratio,
        "that over mean depth / blocks": ratio / (sum(rescaled) / len(rescaled) / 12),
        "training seconds": card["seconds"],
    }
    conditions = {"steps": card["steps"], "images": num_images, "threads": torch.get_num_threads(), "depths": rescaled}
    print(json.dumps({"benchmark": "finetune", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
