"""`exeunt calibrate`: what each step can do without, and a front made of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ....backends.errors import InputError, nearest
from ....reports.files.export import write_whole
from ....studies.interruption import interruptible
from ...monitoring.progress import watching
from ...spaces.base import TAILS
from ..flags.database import json_flag, show
from ..flags.paths import OUTPUT_FOLDER
from ..flags.study import (
    BASELINE_FLAGS,
    CHECKPOINT_FLAGS,
    CONFIG_FLAGS,
    GRANULARITY_FLAGS,
    METRIC_FLAGS,
    flags,
    study_config,
)

if TYPE_CHECKING:
    from ....studies.config.study import StudyConfig
    from ...sensitivity.results import Calibration, Price, Request


def _whole_numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """The numbers in a list with commas between; empty where the flag was not given."""
    try:
        return () if value is None else tuple(int(each) for each in value.split(","))
    except ValueError:
        raise InputError(
            f"{param.opts[0]}: must be whole numbers with commas between, but got `{value}`. Use {param.opts[0]} 10,5."
        ) from None


def _stand_ins(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(each.strip() for each in value.split(",")))
    for name in names:
        if name not in TAILS:
            raise InputError(f"stand-ins: `{name}` is not known. {nearest(name, TAILS)}")
    return names


@click.command("calibrate")
@flags(CHECKPOINT_FLAGS, GRANULARITY_FLAGS, BASELINE_FLAGS, METRIC_FLAGS, CONFIG_FLAGS)
@click.option(
    "--num-images", type=click.IntRange(1), default=32, show_default=True, metavar="N", help="How many trajectories."
)
@click.option("--seed", type=click.IntRange(0), default=3, show_default=True, metavar="N", help="Seed of their noises.")
@click.option(
    "--objective",
    type=click.Choice(["full", "metric"]),
    default="full",
    show_default=True,
    help="What the front is to be near: the full schedule's images, or by the metric, which takes more images.",
)
@click.option(
    "--step-counts",
    metavar="LIST",
    callback=_whole_numbers,
    help="Numbers of steps beside the full schedule's, such as 10,5. Default: halved again and again, down to 3.",
)
@click.option(
    "--depths",
    metavar="LIST",
    callback=_whole_numbers,
    help="How many blocks run, such as 1,4,8. Default: five depths.",
)
@click.option(
    "--stand-ins",
    metavar="LIST",
    default="drop,reuse",
    show_default=True,
    callback=_stand_ins,
    help=f"What may stand in for the others: {', '.join(TAILS)}.",
)
@click.option(
    "--oldest", type=click.IntRange(1, 8), default=2, show_default=True, metavar="N", help="Steps in a row that reuse."
)
@click.option(
    "--pairs-up-to",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="Measure exits at two steps in a row where there are no more steps than this; 0: nowhere.",
)
@click.option(
    "--members", type=click.IntRange(1), default=24, show_default=True, metavar="N", help="Front schedules to sample."
)
@click.option("--dry-run", is_flag=True, help="Print what it would cost, and measure nothing.")
@click.option(
    "-o",
    "--output",
    type=OUTPUT_FOLDER,
    default=Path("exeunt-calibration"),
    show_default=True,
    metavar="FOLDER",
    help="Where results go, and parts from which an interrupted calibration goes on.",
)
@json_flag
def calibrate_command(
    config_file: Path | None,
    assignments: tuple[str, ...],
    num_images: int,
    seed: int,
    objective: Literal["full", "metric"],
    step_counts: tuple[int, ...],
    depths: tuple[int, ...],
    stand_ins: tuple[str, ...],
    oldest: int,
    pairs_up_to: int,
    members: int,
    dry_run: bool,
    output: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Measure what each step can do without, and make a front of it without a search.

    From a few dozen full trajectories, every step in turn runs fewer blocks; what that does to the network's output and
    to the finished images is drawn as heat maps. Dynamic programming makes a front of whole schedules from it. Its
    members are really sampled, and a search can begin with them.

    \b
    Examples:
      exeunt calibrate
      exeunt calibrate --dry-run
      exeunt calibrate --checkpoint DiT-XL-2.pt --vae sd-vae-ft-ema --reference photos/ --num-images 16 --depths 7,14,21
      exeunt optimize --warm-start exeunt-calibration/front
    """
    from ...measuring.setup import load_setup
    from ...sensitivity.calibration import RESULT, Calibrator, check_request
    from ...sensitivity.grid import Choices
    from ...sensitivity.results import Request, price

    config = study_config(given, config_file, assignments)
    choices = Choices(step_counts, depths, stand_ins, oldest=oldest, pairs_up_to=pairs_up_to)
    request = Request(choices, objective, num_images, seed, members)
    setup = load_setup(config)
    cost = price(check_request(setup, request))
    click.echo(_price_words(setup.weights, request, cost, setup.config.quality.num_images), err=True)
    if dry_run:
        return
    with watching(quiet=as_json) as watch, interruptible() as interruption:
        interruption.hint = f"what was measured is kept in {output}. Run the command again."
        found = Calibrator(setup, request, output, watch, interruption.check).run()
    pictures = _draw(found, output)
    command = _warm_start(config, given, config_file, assignments, output)
    values = {"result": str(output / RESULT), "pictures": list(map(str, pictures)), "warm_start": command}
    text = _words(found, setup.metric.name, cost)
    show(
        values | {mode: found.rank_correlation(mode) for mode in ("additive", "vector", "path")},
        f"{text}\nHeat maps: {', '.join(map(str, pictures[:-1]))}\nFront: {output}/front, {pictures[-1]}\n"
        f"A search that begins with it: {command}",
        as_json,
    )


def _price_words(weights: str, request: Request, cost: Price, search_images: int) -> str:
    images = request.num_images
    worth = cost.work * images / (cost.full_work * search_images)
    return (
        f"{weights}: {cost.chains:,} changes of {images} trajectories, {cost.chains * images:,} images. They take "
        f"{cost.work * images:,} block evaluations, as much as {worth:.1f} full schedules of a search with "
        f"{search_images} images each; the front takes up to {request.num_members * images:,} images more."
    )


def _draw(found: Calibration, output: Path) -> list[Path]:
    """Writes the pictures as PNG and PDF; the PNGs, the front's last."""
    from ....reports.plots import sensitivity, style
    from ...sensitivity.results import heat_map, predictions

    drawn = {
        f"steps-{level.grid.num_steps}": sensitivity.draw_heat_map(heat_map(level, found.another))
        for level in found.levels
    }
    if found.members:
        drawn["front"] = sensitivity.draw_predictions(predictions(found))
    for name, figure in drawn.items():
        write_whole(output / f"{name}.png", style.png(figure))
        write_whole(output / f"{name}.pdf", style.pdf(figure))
    return [output / f"{name}.png" for name in drawn]


def _words(found: Calibration, metric: str, cost: Price) -> str:
    """The front as a table, and how well it was predicted."""
    if not found.members:
        return "No schedule that costs less is predicted to be any good. Give more --depths, or fewer --step-counts."
    lines = [f"{'steps':>5}  {'blocks':>6}  {'cost':>5}  {'predicted':>9}  {'measured':>9}  {metric}"]
    unit, sign = (found.another / 100, "%") if found.request.objective == "full" else (1.0, "")
    for each in found.members:
        losses = [f"{loss / unit:.3g}{sign}" for loss in (each.predicted["path"], each.measured)]
        share = each.cost / cost.full_work
        columns = f"{losses[0]:>9}  {losses[1]:>9}  {each.quality:.5g}"
        lines.append(f"{each.schedule.num_steps:>5}  {each.cost:>6}  {share:>5.0%}  {columns}")
    of = (
        "Distances from the full schedule's images, of the distance to another image"
        if found.request.objective == "full"
        else f"Losses: {metric} in the directions in which the reference varies most"
    )
    tau = {mode: found.rank_correlation(mode) for mode in ("path", "vector", "additive")}
    return "\n".join(
        [
            *lines,
            f"{of}; {metric} of the full schedule: {found.quality:.5g}.",
            f"Kendall's τ of predicted and measured: {tau['path']:.2f}; without interactions of neighbouring steps "
            f"{tau['vector']:.2f}, with additive sensitivities {tau['additive']:.2f}.",
        ]
    )


def _warm_start(
    config: StudyConfig, given: Mapping[str, Any], config_file: Path | None, assignments: tuple[str, ...], output: Path
) -> str:
    """The command of a search with the same flags."""
    words = ["exeunt", "optimize"]
    everything = {**given, "config": config_file, "set": assignments}
    for name, value in everything.items():
        flag = f"--{name.replace('_', '-')}"
        if name == "network_args":
            flag = "--network-arg"
        for each in value if isinstance(value, tuple) else [] if value is None else [value]:
            words += [flag, str(each)]
    return shlex.join([*words, "--warm-start", str(output / "front")])
