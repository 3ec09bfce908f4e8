"""`exeunt sample` and `exeunt evaluate`: one schedule, run or measured, without a database.

Beside them what else loads one network: schedules as ONNX folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...backends.checkpoints.files import is_folder
from ...backends.errors import InputError
from ...backends.schedule import Schedule, load
from ...reports.files.export import STANDARD_OUTPUT, is_special, is_standard_output, write_whole
from ...reports.view.interval import Interval, per_second
from ...studies.config.reading import override
from ...studies.config.study import StudyConfig
from ...studies.interruption import interruptible
from ..monitoring.progress import ProgressListener, watching
from .flags.database import json_flag, show
from .flags.paths import OUTPUT_FILE
from .flags.study import BASELINE_FLAGS, CHECKPOINT_FLAGS, CONFIG_FLAGS, QUALITY_FLAGS, flags, study_config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...backends.sampling.loop import Samples
    from ..measuring.evaluate import Evaluation

GRID_COLUMNS = 10
OUTPUTS = (".png", ".npz")
NOTHING_KEPT = "nothing was written. Run the command again."

schedule_argument = click.argument("schedule", type=click.Path(path_type=Path))
seed_flag = click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, metavar="N", help="Seed of the noises."
)


@click.command("sample")
@schedule_argument
@flags(CHECKPOINT_FLAGS)
@click.option(
    "--num-images", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="How many images."
)
@click.option(
    "--first-image", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Index of the first image."
)
@seed_flag
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FILE,
    default=Path("samples.png"),
    show_default=True,
    metavar="FILE",
    help="File to write; - (standard output) and devices get a grid.",
)
@json_flag
def sample_command(
    schedule: Path, num_images: int, first_image: int, seed: int, output: Path, as_json: bool, **given: Any
) -> None:
    """Sample images with one schedule into a grid (.png) or an archive (.npz with `images` and `labels`).

    Image i depends only on the seed and on i, not on the batch size. Seed 1 is the default seed of final images.

    \b
    Examples:
      exeunt sample fast.schedule.json -o grid.png
      exeunt sample fast.schedule.json --checkpoint DiT-XL-2.pt --vae sd-vae-ft-ema --num-images 50000 -o images.npz
      exeunt sample two.schedule.json --network small=small.safetensors
    """
    import numpy as np

    from ...backends.sampling.compatibility import as_scheduled, check_decoding, check_schedule
    from ...backends.sampling.loop import labels
    from ...backends.sampling.loop import sample as sample_batches
    from ..measuring.evaluate import remarks
    from ..measuring.setup import load_named, make_conditions, resolve_device

    config = resolve_device(study_config({**given, "reference": "none"}))
    check_output(output)
    plan = load(schedule)
    networks = as_scheduled(load_named(config, plan), plan)
    check_schedule(networks, plan)
    networks[0].check_decodes()
    check_decoding(networks[0])
    conditions = make_conditions(config, networks)
    images = range(first_image, first_image + num_images)
    with watching(quiet=as_json) as watch, interruptible() as interruption:
        interruption.hint = NOTHING_KEPT
        for note in remarks(plan, networks, config.checkpoint.option_words):
            watch.say(note)
        watch.phase("sampling", num_images)
        batches = sample_batches(
            networks,
            plan,
            seed=seed,
            images=images,
            conditions=conditions,
            batch_size=config.quality.batch_size,
            observe=lambda _step, _values: interruption.check(),
        )
        pixels = np.concatenate(list(_pixels(batches, watch)))
    drawn = labels(conditions, images, seed)
    write_images(output, pixels, None if drawn is None else drawn.numpy())
    found = {"output": str(output), "digest": plan.digest, "weights": networks[0].name}
    names = " and ".join(each.name for each in networks)
    text = f"{num_images} images of {schedule} on {names} (seed {seed}): {output}"
    values = {**found, "first_image": first_image, "num_images": num_images, "seed": seed}
    show(values, text, as_json, err=is_standard_output(output))


def check_output(path: Path) -> None:
    """Raises InputError unless images can be written there."""
    if is_standard_output(path) or is_special(path):
        return
    if path.suffix not in OUTPUTS:
        raise InputError(f"output: must end in {' or '.join(OUTPUTS)}, but got {path}. Use -o samples.png.")
    if not is_folder(path.absolute().parent):
        raise InputError(f"output: the folder {path.parent} does not exist. Make it with `mkdir -p {path.parent}`.")


def _pixels(batches: Iterator[Samples], watch: ProgressListener) -> Iterator[NDArray[np.uint8]]:
    """(N, H, W, 3) uint8 a batch."""
    done = 0
    for batch in batches:
        done += len(batch.images)
        watch.advance(done, len(batch.images))
        yield batch.images.permute(0, 2, 3, 1).cpu().numpy()


def write_images(path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> None:
    """Writes (N, H, W, 3) images as an archive, with labels (N,) if there are any, or as a grid of ten columns."""
    import numpy as np
    from PIL import Image

    content = BytesIO()
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {"images": pixels} if labels is None else {"images": pixels, "labels": labels}
        np.savez_compressed(content, **arrays)
        write_whole(path, content.getbuffer())
        return
    rows = -(-len(pixels) // GRID_COLUMNS)
    padded = np.full((rows * GRID_COLUMNS, *pixels.shape[1:]), 255, np.uint8)
    padded[: len(pixels)] = pixels
    _, height, width, channels = pixels.shape
    grid = padded.reshape(rows, GRID_COLUMNS, height, width, channels).transpose(0, 2, 1, 3, 4)
    Image.fromarray(grid.reshape(rows * height, GRID_COLUMNS * width, channels)).save(content, "PNG")
    write_whole(path, content.getbuffer())


@click.command("evaluate")
@schedule_argument
@flags(CHECKPOINT_FLAGS, BASELINE_FLAGS, QUALITY_FLAGS, CONFIG_FLAGS)
@seed_flag
@click.option(
    "--repeats", type=click.IntRange(2), default=5, show_default=True, metavar="N", help="Repeats of each timing."
)
@json_flag
def evaluate_command(
    schedule: Path,
    config_file: Path | None,
    assignments: tuple[str, ...],
    seed: int,
    repeats: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Measure one schedule: quality with its interval, and throughput compared with the full schedule's.

    \b
    Examples:
      exeunt evaluate fast.schedule.json --num-images 2000
      exeunt evaluate fast.schedule.json --checkpoint DiT-XL-2.pt --vae sd-vae-ft-ema --reference photos/ --json
    """
    from ..measuring.evaluate import evaluate as measure
    from ..measuring.setup import resolve_device

    plan, config = load(schedule), resolve_device(study_config(given, config_file, assignments))
    with watching(quiet=as_json) as watch, interruptible() as interruption:
        interruption.hint = NOTHING_KEPT
        found = measure(plan, config, seed=seed, repeats=repeats, watch=watch, check_interruption=interruption.check)
    show(as_dict(schedule, found), evaluation_text(schedule, found), as_json)


def as_dict(file: Path, found: Evaluation) -> dict[str, Any]:
    """The figures as JSON has them."""
    quality, shown, standard = found.quality, _shown(found), found.standard
    excess = _excess(found)
    return {
        "schedule": str(file),
        "digest": found.schedule_digest,
        "weights": found.weights,
        "metric": quality.metric,
        "num_images": quality.num_images,
        "value": shown.value,
        "interval": list(shown.ends),
        "level": quality.level,
        "floor": quality.floor if standard.kind == "reference" else None,
        "excess": excess,
        "noise": standard.noise.value if standard.noise else None,
        "of_noise": standard.relative(excess or 0.0, 0.0) if standard.noise else None,
        **asdict(found.speed),
        **{key: getattr(found, key) for key in ("full_steps", "device", "dtype", "executor", "text_seconds")},
    }


def _shown(found: Evaluation) -> Interval:
    """The value with the sign that people know."""
    return found.standard.shown(Interval(found.quality.value, found.quality.lower, found.quality.upper))


def _excess(found: Evaluation) -> float | None:
    """What the value has beyond the floor, or beyond the full schedule's; None where there is no floor to draw."""
    return found.quality.value if found.standard.kind == "baseline" else found.quality.excess


def _beside(found: Evaluation) -> str:
    """What stands beside the value, after a comma."""
    excess, standard = _excess(found), found.standard
    if excess is None:
        return ""
    if standard.kind == "reference":
        return f", {excess:.4g} above the floor of {found.quality.floor:.4g}"
    relative = standard.relative(excess, 0.0)
    part = "" if relative is None else f", {relative:.1%} of {standard.whole}"
    return part if standard.kind == "baseline" else f", {excess:.4g} worse than the full schedule's{part}"


def evaluation_text(file: Path, found: Evaluation) -> str:
    """The figures, one line each, with the conditions under which they hold."""
    quality, speed, shown = found.quality, found.speed, _shown(found)
    slow, fast = speed.speedup_interval
    with_text = ""
    if found.text_seconds is not None:
        whole = 1 / (1 / speed.images_per_second + found.text_seconds)
        with_text = f" ({per_second(whole)} with {found.text_seconds * 1000:.3g} ms of text encoding an image)"
    return (
        f"{file} on {found.weights}\n"
        f"  {quality.metric}: {shown.value:.4g} [{shown.lower:.4g}, {shown.upper:.4g}]{_beside(found)} "
        f"({quality.num_images} images)\n"
        f"  {per_second(speed.images_per_second)} images/s at batch {speed.batch_size}{with_text}, "
        f"{speed.speedup:.2f} × [{slow:.2f}, {fast:.2f}] as fast as the full schedule of {found.full_steps} steps\n"
        f"  {speed.latency_seconds * 1000:.1f} ms for one image; "
        f"{speed.block_evaluations} block evaluations and {speed.flops / 1e9:.2f} GFLOP an image\n"
        f"  {speed.peak_memory_bytes / 2**20:.0f} MiB of peak memory ({speed.peak_memory_counts}); "
        f"{found.dtype}, {found.executor}, {found.device}"
    )


def write_onnx(schedule: Schedule, config: StudyConfig, folder: Path) -> Path:
    """Write the folder for a schedule on the configuration's checkpoint, and return its manifest's path.

    Raises:
        InputError: the checkpoint can't be loaded or isn't the schedule's, or the folder is not empty.
        CannotExport: the network has operations that ONNX does not.
    """
    from ...backends.formats.onnx.export import export_onnx
    from ...backends.sampling.compatibility import as_scheduled
    from ..measuring.setup import load_named, make_conditions

    if folder == STANDARD_OUTPUT:
        raise InputError("output: an ONNX export is a folder, but got standard output. Give -o FOLDER.")
    config = override(config, {"throughput.device": "cpu"})
    networks = as_scheduled(load_named(config, schedule), schedule)
    make_conditions(config, networks)  # a network of prompts carries what it has embedded into its graphs
    with watching() as watch:
        return export_onnx(networks, schedule, folder, observe=lambda file: watch.say(f"{folder}/{file}"))
