"""`exeunt finetune`: weights that can leave early, trained from weights that can't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ....backends.errors import InputError
from ....backends.networks.training.names import PRECISIONS, WEIGHTINGS
from ....backends.schedule import load
from ....studies.config.reading import override
from ....studies.interruption import interruptible
from ...monitoring.progress import watching
from ..flags.database import json_flag, show
from ..flags.paths import OUTPUT_FOLDER
from ..flags.study import NETWORK_FLAGS, flags, study_config


def _exits(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Depths, none of them for all; None where the flag was not given."""
    if value is None or value == "all":
        return None if value is None else ()
    try:
        return tuple(int(each) for each in value.split(","))
    except ValueError:
        raise InputError(
            f"exits: must be `all` or depths with commas between, but got `{value}`. Give --exits 4,8."
        ) from None


@click.command("finetune")
@flags(NETWORK_FLAGS)
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="PATH", help="Images to train on.")
@click.option(
    "--schedule",
    "schedule_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Train the exits of this schedule, each at its times, as ASE does.",
)
@click.option(
    "--exits", metavar="all|LIST", callback=_exits, help="Train full depth and random exits, at all depths or at these."
)
@click.option("--num-steps", type=click.IntRange(1), default=5_000, show_default=True, metavar="N", help="Steps.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    metavar="N",
    help="Images of a step, over all processes.",
)
@click.option(
    "--accumulation",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Parts that a step's images are computed in, which takes less memory.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=1e-5,
    show_default=True,
    metavar="RATE",
    help="A tenth of the rate that the weights were trained at, or less.",
)
@click.option("--warmup", type=click.IntRange(0), default=100, show_default=True, metavar="N", help="Steps of warm-up.")
@click.option(
    "--decay",
    type=click.Choice(["constant", "cosine"]),
    default="constant",
    show_default=True,
    help="Whether the rate stays, or falls to zero at the last step.",
)
@click.option(
    "--ema-decay",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.9999,
    show_default=True,
    metavar="DECAY",
    help="Of the moving average of the weights, which is what is written.",
)
@click.option(
    "--weighting", type=click.Choice(WEIGHTINGS), default="constant", show_default=True, help="Weight of the loss at t."
)
@click.option(
    "--label-dropout",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="How often the null label takes a label's place, where there is one.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Take only the first N images of the data.")
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="no", show_default=True, help="Mixed precision; no: float32."
)
@click.option("--device", metavar="DEVICE", help="cpu, or auto: CUDA if it is available.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Of all that is drawn.")
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How often the checkpoint, and what a training goes on from, are written.",
)
@click.option(
    "--log-every",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    metavar="N",
    help="Steps a point of the loss.",
)
@click.option("-o", "--output", type=OUTPUT_FOLDER, required=True, metavar="FOLDER", help="The new checkpoint.")
@json_flag
def finetune_command(
    data: Path,
    schedule_file: Path | None,
    exits: tuple[int, ...] | None,
    output: Path,
    device: str | None,
    as_json: bool,
    precision: str,
    weighting: str,
    label_dropout: float,
    limit: int | None,
    network: tuple[str, ...],
    network_args: tuple[str, ...],
    checkpoint: str | None,
    weights_key: str | None,
    vae: str | None,
    **recipe: Any,
) -> None:
    """Train a checkpoint further, so that it can leave early.

    With --schedule the loss is on the output at the exit that the schedule has for each image's time, as in ASE, and
    only the blocks that run are computed. With --exits all every depth is trained beside the full one, so that the
    search stays free afterwards. The folder that is written is a checkpoint for every other command.

    Ctrl-C keeps what was done, and the same command goes on from there. Several GPUs or machines: start it with
    `accelerate launch`.

    \b
    Examples:
      exeunt finetune --checkpoint DiT-XL-2.pt --vae sd-vae-ft-ema --data photos/ --schedule fast.schedule.json -o tuned
      exeunt finetune --data /usr/share/datasets/fashion-mnist --exits all --learning-rate 1e-4 -o tuned
      exeunt optimize --checkpoint tuned
    """
    if (schedule_file is None) == (exits is None):
        got = "neither" if exits is None else "both"
        raise InputError(f"exits: give either --schedule FILE or --exits all, but got {got}.")
    from ....backends.networks.training.loop import make_accelerator
    from ...finetuning.run import Request, finetune
    from ...measuring.setup import load_one

    given = {
        "checkpoint": checkpoint,
        "network": network,
        "network_args": network_args,
        "weights_key": weights_key,
        "vae": vae,
    }
    config = study_config(given)
    schedule = None if schedule_file is None else load(schedule_file)
    accelerator = make_accelerator(precision, cpu=device == "cpu")
    loaded = load_one(override(config, {"throughput.device": str(accelerator.device)}))
    request = Request(
        data=data,
        output=output,
        schedule=schedule,
        depths=exits or (),
        recipe=_recipe(**recipe),
        weighting=weighting,
        precision=precision,
        label_dropout=label_dropout,
        limit=limit,
    )
    with watching(quiet=as_json or not accelerator.is_main_process) as watch, interruptible() as interruption:
        interruption.hint = f"what was trained is kept in {output}. Run the command again."
        card = finetune(loaded, request, accelerator, watch, interruption.check)
    if accelerator.is_main_process:
        show(card, _words(card, output), as_json)


def _recipe(
    num_steps: int,
    batch_size: int,
    accumulation: int,
    learning_rate: float,
    warmup: int,
    decay: str,
    ema_decay: float,
    seed: int,
    save_every: float,
    log_every: int,
) -> Any:
    from ....backends.networks.training.loop import Recipe

    return Recipe(
        num_steps=num_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup=warmup,
        ema_decay=ema_decay,
        seed=seed,
        cosine=decay == "cosine",
        weight_decay=0.0,
        betas=(0.9, 0.999),
        accumulation=accumulation,
        window=log_every,
        save_seconds=save_every,
    )


def _words(card: dict[str, Any], output: Path) -> str:
    return (
        f"{card['checkpoint']}, fine-tuned: {card['trained']['what']}. {card['steps']:,} steps in "
        f"{card['seconds']:,.0f} s.\nCheckpoint: {output}; what it is: {output / 'card.md'}\n"
        f"Search schedules for it: exeunt optimize --checkpoint {output}"
    )
