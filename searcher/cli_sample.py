"""`exeunt sample` and `exeunt evaluate`: one schedule, run or measured, without a database."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..backends.errors import InputError
from ..backends.features import FeatureArray
from ..backends.network import Network
from ..backends.peak_memory import peak_memory
from ..backends.pieces import trajectory
from ..backends.sampling import Samples, check
from ..backends.sampling import sample as sample_batches
from ..backends.schedule import Schedule, block_evaluations, load
from ..backends.throughput import Subject, flops, speedup, time_schedules
from ..studies.interruption import interruptible
from .laboratory import Laboratory, load_one, make_conditions, resolve_device, set_up
from .options import json_flag
from .progress import Watch, watching
from .study_options import CHECKPOINT_FLAGS, QUALITY_FLAGS, flags, study_config

GRID_COLUMNS = 10
OUTPUTS = (".png", ".npz")

schedule_argument = click.argument("schedule", type=click.Path(path_type=Path))


@click.command()
@schedule_argument
@flags(CHECKPOINT_FLAGS)
@click.option("--num-images", type=click.IntRange(1), default=50, show_default=True, metavar="N")
@click.option(
    "--first-image", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Index to begin."
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, metavar="N", help="Of the noises.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("samples.png"), show_default=True)
def sample(schedule: Path, num_images: int, first_image: int, seed: int, output: Path, **given: Any) -> None:
    """Sample images with one schedule into a grid (.png) or an archive (.npz with `images` and `labels`).

    Image i depends on the seed and i alone, whatever the batch size; seed 1 is that of a study's final noises.

    \b
    Examples:
      exeunt sample fast.schedule.json -o grid.png
      exeunt sample fast.schedule.json --checkpoint DiT-XL-2.pt --device cuda --num-images 50000 -o images.npz
    """
    config = resolve_device(study_config({**given, "reference": "none"}))
    check_output(output)
    plan = load(schedule)
    network = load_one(config)
    check_runs(network, plan, schedule)
    conditions = make_conditions(config, network)
    images = range(first_image, first_image + num_images)
    with watching() as watch, interruptible() as interruption:
        watch.phase("sampling", num_images)
        batches = sample_batches(
            [network],
            plan,
            seed=seed,
            images=images,
            conditions=conditions,
            batch_size=config.quality.batch_size,
            observe=lambda _step, _values: interruption.check(),
        )
        pixels = np.concatenate(list(_pixels(batches, watch)))
    write_images(output, pixels)
    click.echo(f"{num_images} images of {schedule} (seed {seed}): {output}")


def check_output(path: Path) -> None:
    """Raises InputError unless images can be written there."""
    if path.suffix not in OUTPUTS:
        raise InputError(f"output: must end in {' or '.join(OUTPUTS)}, but got {path}. Use -o samples.png.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"output: the folder {path.parent} does not exist. Make it with `mkdir -p {path.parent}`.")


def check_runs(network: Network, schedule: Schedule, file: Path) -> None:
    """Raises InputError, with the file's name, unless the network can run the schedule."""
    try:
        check([network], schedule)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _pixels(batches: Iterator[Samples], watch: Watch) -> Iterator[NDArray[np.uint8]]:
    """(N, H, W, 3) uint8 a batch."""
    done = 0
    for batch in batches:
        done += len(batch.images)
        watch.advance(done, len(batch.images))
        yield batch.images.permute(0, 2, 3, 1).cpu().numpy()


def write_images(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes (N, H, W, 3) images as an archive, or as a grid of ten columns."""
    if path.suffix == ".npz":
        np.savez_compressed(path, images=pixels)
        return
    rows = -(-len(pixels) // GRID_COLUMNS)
    padded = np.full((rows * GRID_COLUMNS, *pixels.shape[1:]), 255, np.uint8)
    padded[: len(pixels)] = pixels
    _, height, width, channels = pixels.shape
    grid = padded.reshape(rows, GRID_COLUMNS, height, width, channels).transpose(0, 2, 1, 3, 4)
    Image.fromarray(grid.reshape(rows * height, GRID_COLUMNS * width, channels)).save(path)


@click.command()
@schedule_argument
@flags(CHECKPOINT_FLAGS, QUALITY_FLAGS)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, metavar="N", help="Of the noises.")
@click.option("--repeats", type=click.IntRange(2), default=5, show_default=True, metavar="N", help="Of each timing.")
@json_flag
def evaluate(schedule: Path, seed: int, repeats: int, as_json: bool, **given: Any) -> None:
    """Measure one schedule: quality with its interval, and throughput beside the same network at full depth.

    \b
    Examples:
      exeunt evaluate fast.schedule.json --num-images 2000
      exeunt evaluate fast.schedule.json --checkpoint DiT-XL-2.pt --reference photos/ --metric fid --json
    """
    config = resolve_device(study_config(given))
    plan = load(schedule)
    laboratory = set_up(config)
    check_runs(laboratory.network, plan, schedule)
    with watching(quiet=as_json) as watch, interruptible() as interruption:
        found = {"schedule": str(schedule), "digest": plan.digest, "weights": laboratory.weights}
        found |= measure_quality(laboratory, plan, seed, watch, interruption.check)
        found |= measure_speed(laboratory, plan, repeats, watch)
    click.echo(json.dumps(found, indent=2) if as_json else as_text(found))


def measure_quality(
    laboratory: Laboratory, schedule: Schedule, seed: int, watch: Watch, check_interruption: Callable[[], None]
) -> dict[str, Any]:
    """The value of the schedule's first images, with its interval and its floor."""
    config, features = laboratory.config, list[FeatureArray]()
    watch.phase("sampling", config.quality.num_images)
    with laboratory.lock.shared():
        for batch in sample_batches(
            [laboratory.network],
            schedule,
            seed=seed,
            images=range(config.quality.num_images),
            conditions=laboratory.conditions,
            batch_size=config.quality.batch_size,
            observe=lambda _step, _values: check_interruption(),
        ):
            features.append(laboratory.metric.features([batch.images]))
            watch.advance(batch.first + len(batch.images), len(batch.images))
    record = laboratory.metric.score("", np.concatenate(features))
    return {
        "metric": record.metric,
        "reference": config.quality.reference,
        "num_images": record.num_images,
        "seed": seed,
        "value": record.value,
        "interval": [record.lower, record.upper],
        "level": record.level,
        "floor": record.floor,
        "excess": record.excess,
    }


def measure_speed(laboratory: Laboratory, schedule: Schedule, repeats: int, watch: Watch) -> dict[str, Any]:
    """End-to-end timings, interleaved with the full schedule's; latency, memory and operations."""
    network, config = laboratory.network, laboratory.config.throughput
    watch.phase("timing", 1.0)
    subjects = {
        "schedule": Subject((network,), schedule),
        "full": Subject((network,), laboratory.frame.full),
    }
    timing = time_schedules(subjects, "full", batch_size=config.batch_size, repeats=repeats)["schedule"]
    latency = time_schedules(subjects, "full", batch_size=1, repeats=repeats)["schedule"]
    ratio = speedup(timing)
    run = trajectory([network], schedule, config.batch_size)
    with laboratory.lock.exclusive():
        memory = peak_memory(run, network.device)
    return {
        "images_per_second": timing.images_per_second,
        "batch_size": config.batch_size,
        "speedup": ratio.value,
        "speedup_interval": [ratio.lower, ratio.upper],
        "latency_seconds": latency.median,
        "block_evaluations": block_evaluations(schedule),
        "flops": flops([network], schedule),
        "peak_memory_bytes": memory.num_bytes,
        "peak_memory_counts": memory.counted,
        "device": laboratory.environment["device"],
        "dtype": laboratory.config.checkpoint.dtype,
        "executor": config.executor,
        "seconds": list(timing.seconds),
        "full_seconds": list(timing.neighbours),
    }


def as_text(found: dict[str, Any]) -> str:
    """The figures a line each, with what they hold for."""
    low, high = found["interval"]
    floor = "" if found["floor"] is None else f", {found['excess']:.2f} above the floor of {found['floor']:.2f}"
    slow, fast = found["speedup_interval"]
    return "\n".join(
        (
            f"{found['schedule']} on {found['weights']}",
            f"  {found['metric']}: {found['value']:.2f} [{low:.2f}, {high:.2f}]{floor} ({found['num_images']} images)",
            f"  {found['images_per_second']:.1f} images/s at batch {found['batch_size']}, "
            f"{found['speedup']:.2f} × [{slow:.2f}, {fast:.2f}] the full schedule",
            f"  {found['latency_seconds'] * 1000:.1f} ms for one image; "
            f"{found['block_evaluations']} block evaluations and {found['flops'] / 1e9:.2f} GFLOP an image",
            f"  {found['peak_memory_bytes'] / 2**20:.0f} MiB at most ({found['peak_memory_counts']}); "
            f"{found['dtype']}, {found['executor']}, {found['device']}",
        )
    )
