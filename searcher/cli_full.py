"""`exeunt schedule full`: the schedule of a checkpoint that leaves nothing out, for foreign files to be put on."""

from pathlib import Path
from typing import Any

import click

from ..backends.schedule import dumps
from ..reports.files.whole import write_whole
from .full_schedule import make_frame
from .laboratory import load_one, resolve_device
from .study_options import BASELINE_FLAGS, CHECKPOINT_FLAGS, CONFIG_FLAGS, GRANULARITY_FLAGS, flags, study_config


@click.command()
@flags(CHECKPOINT_FLAGS, BASELINE_FLAGS, GRANULARITY_FLAGS, CONFIG_FLAGS)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where it goes.")
def full(config_file: Path | None, assignments: tuple[str, ...], output: Path | None, **given: Any) -> None:
    """Write the full schedule of a checkpoint: every block at every step.

    It has what the files of other runtimes leave out (solver, times, guidance), so it is what
    `exeunt schedule convert --base` takes.

    \b
    Examples:
      exeunt schedule full -o full.schedule.json
      exeunt schedule full --checkpoint DiT-XL-2.pt --solver ddim --num-steps 50 --guidance 1.5 -o full.schedule.json
    """
    config = resolve_device(study_config({**given, "reference": "none"}, config_file, assignments))
    schedule = make_frame(load_one(config), config.baseline).full
    if output is None:
        click.echo(dumps(schedule), nl=False)
        return
    write_whole(output, dumps(schedule).encode())
    evaluations = f"{schedule.num_steps} steps of {schedule.sampler.name}, {schedule.networks[0].num_blocks} blocks"
    click.echo(f"{output}: {evaluations}", err=True)
