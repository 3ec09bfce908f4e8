"""What goes beside the bundled weights: reference statistics and the card.

Run as `python -m exeunt.backends.networks.bundled.card STAGE`.

reference   mean and covariance of 13,000 real images that no weights were trained on, features of 2,000 others
card        the quality of both weights at every exit depth, the training's figures, as card.json and card.md
"""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from ...checkpoints.files import ASSETS
from ...errors import InputError
from ...network import Network
from ...quality.distances import frechet
from ...quality.extractors import Extractor, load_extractor
from ...quality.floors import frechet_floor
from ...quality.intervals import estimate_distance, excess
from ...quality.references import BUNDLED_REFERENCES, Reference, load_reference, reference_of_images, save_reference
from ...sampling import conditions
from ...sampling.loop import sample
from ...schedule import with_exits
from ...solvers.tables import make_schedule
from .. import registry
from .train import DATA_OPTION, DIT, FOLDER, RUNS
from .trainer import NUM_TRAINING_IMAGES, held_out_images

_FOLDER = ASSETS / "fashion-dit"
EXTRACTOR = "efficientnet-lite0"
NUM_FEATURES = 2_000
_WEIGHTS = ("fashion-dit", "fashion-dit-exits")
DEPTHS = {"fashion-dit": (12, 9, 6, 3), "fashion-dit-exits": (12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1)}
LICENCES = "weights and statistics: Apache-2.0; Fashion-MNIST (Zalando Research): MIT"


def rgb_batches(images: np.ndarray[Any, np.dtype[np.uint8]]) -> Iterator[Tensor]:
    """Grey images (N, 28, 28) as batches of uint8 (n, 3, 28, 28)."""
    for start in range(0, len(images), 500):
        yield torch.from_numpy(images[start : start + 500].copy())[:, None].expand(-1, 3, -1, -1)


def make_reference(data: Path, extractor: Extractor) -> Reference:
    """Statistics of all held-out images but every 7th or so, whose 2,000 features stand beside them."""
    images = held_out_images(data)
    order = np.random.default_rng(0).permutation(len(images))
    kept, beside = np.sort(order[NUM_FEATURES:]), np.sort(order[:NUM_FEATURES])
    made = {
        "source": "Fashion-MNIST: training images from 55,000 on, and the test images; none were trained on",
        "pixels": "28 × 28, grey as RGB, as they are",
        "split": "numpy default_rng(0).permutation: the first 2,000 are the features, the others the statistics",
    }
    whole = reference_of_images("fashion-mnist", rgb_batches(images[kept]), extractor, made)
    features = reference_of_images("fashion-mnist", rgb_batches(images[beside]), extractor, made).features
    moments = (whole.count, whole.mean, whole.covariance)
    return Reference("fashion-mnist", extractor.name, extractor.digest, *moments, features, True, made)


def exit_table(weights: Network, reference: Reference, extractor: Extractor, num_images: int) -> list[dict[str, Any]]:
    """The distance of the 20-step schedule with every step leaving at one depth, for several depths."""
    full = make_schedule(weights.signature, weights.noise, weights.prediction, num_steps=20)
    floor, rows = frechet_floor(reference, num_images), list[dict[str, Any]]()
    for depth in DEPTHS[weights.name]:
        batches = sample(
            [weights],
            with_exits(full, [depth] * full.num_steps),
            seed=1,
            images=range(num_images),
            conditions=conditions.uniform(weights.num_classes),
            batch_size=100,
        )
        distance = frechet(np.concatenate([extractor(batch.images) for batch in batches]), reference.root)
        value, beyond = estimate_distance(distance), excess(distance, floor)
        rows.append(
            {
                "exit": depth,
                "distance": round(value.value, 2),
                "interval": [round(value.lower, 2), round(value.upper, 2)],
                "excess": round(beyond.value, 2),
                "floor": round(floor.value, 2),
            }
        )
        click.echo(
            f"{weights.name}: exit {depth:2d}  distance {value.value:8.2f}  excess {beyond.value:8.2f}", err=True
        )
    return rows


def make_card(runs: Path, num_images: int, notes: tuple[str, ...]) -> dict[str, Any]:
    """The card's content: how the weights were made, and how good they are at every exit."""
    extractor = load_extractor(EXTRACTOR)
    reference = load_reference("fashion-mnist", extractor)
    loaded = [registry.load_network(name) for name in _WEIGHTS]
    stages = ("autoencoder", "normal", "exits")
    return {
        "checkpoint": "fashion-dit",
        "data": f"Fashion-MNIST, the first {NUM_TRAINING_IMAGES:,} training images",
        "architecture": DIT,
        "prediction": "v, min-SNR weights with gamma 5",
        "commands": [f"python -m exeunt.backends.networks.bundled.train {stage}" for stage in (*stages, "export")],
        "training": {stage: json.loads((runs / f"{stage}.log.json").read_text()) for stage in stages},
        "weights_sha256": {each.name: each.signature.weights_sha256 for each in loaded},
        "quality": {
            "metric": f"fd-{EXTRACTOR}",
            "num_images": num_images,
            "schedule": "DPM-Solver++ 2M, 20 steps, log-SNR spacing, no guidance",
            "reference": dict(reference.made),
            "exits": {each.name: exit_table(each, reference, extractor, num_images) for each in loaded},
        },
        "notes": list(notes),
        "licences": LICENCES,
        "made": date.today().isoformat(),
    }


def markdown(card: dict[str, Any]) -> str:
    """The card as a page."""
    lines = [
        "# The bundled checkpoint, fashion-dit",
        "",
        "A class-conditional DiT with 12 blocks of width 128 on 16 tokens, in the latents of a small autoencoder",
        f"that ships with it. Data: {card['data']}. Two sets of weights in half precision:",
        "`fashion-dit`, trained normally, and",
        "`fashion-dit-exits`, the same fine-tuned with a random exit depth for each image. Licences: "
        f"{card['licences']}.",
        "",
        "## Quality at every exit",
        f"`{card['quality']['metric']}` of {card['quality']['num_images']:,} images (90 % interval),",
        f"{card['quality']['schedule']};",
        "every step leaves at the same depth and drops the rest. The floor, the distance between real images and real",
        f"images at this count, is {next(iter(card['quality']['exits'].values()))[0]['floor']}.",
        "",
        "| weights | exit | distance | interval | excess distance |",
        "|---|---|---|---|---|",
    ]
    for name, rows in card["quality"]["exits"].items():
        lines += [
            f"| {name} | {r['exit']} | {r['distance']} | {r['interval'][0]} – {r['interval'][1]} | {r['excess']} |"
            for r in rows
        ]
    lines += [
        "",
        "## Training",
        "| stage | steps | batch | seconds | device | loss, first → last |",
        "|---|---|---|---|---|---|",
    ]
    for stage, log in card["training"].items():
        first, last = log["losses"][0], log["losses"][-1]
        lines.append(
            f"| {stage} | {log['num_steps_done']:,} | {log['recipe']['batch_size']} | {log['seconds']:.0f} "
            f"| {log['device']}, "
            f"torch {log['torch']} | {first[1]:.4f} (step {first[0]}) → {last[1]:.4f} (step {last[0]}) |"
        )
    lines += [
        "",
        "The whole loss curves are in `card.json`. Made again with:",
        "```sh",
        *card["commands"],
        "```",
        *card["notes"],
        "",
    ]
    return "\n".join(lines)


@click.command(epilog="Example: python -m exeunt.backends.networks.bundled.card card --runs runs/fashion")
@click.argument("stage", type=click.Choice(["reference", "card"]))
@DATA_OPTION
@click.option("--runs", type=FOLDER, default=RUNS, show_default=True, help="Where training wrote its logs.")
@click.option("--note", "notes", multiple=True, help="A sentence for the card: what the logs don't tell.")
@click.option(
    "--num-images", type=click.IntRange(8), default=1_000, show_default=True, help="Images for each row of the table."
)
def main(stage: str, data: Path, runs: Path, notes: tuple[str, ...], num_images: int) -> None:
    """Write reference statistics or the card of the bundled checkpoint."""
    if not data.is_dir():
        raise InputError(
            f"data: `{data}` must be the folder of Fashion-MNIST's gzipped IDX files. Install it or give `--data`."
        )
    if stage == "reference":
        save_reference(make_reference(data, load_extractor(EXTRACTOR)), BUNDLED_REFERENCES["fashion-mnist"])
        BUNDLED_REFERENCES["fashion-mnist"].chmod(0o644)
        return
    card = make_card(runs, num_images, notes)
    (_FOLDER / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    (_FOLDER / "card.md").write_text(markdown(card))


if __name__ == "__main__":
    main()
