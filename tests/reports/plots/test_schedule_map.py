"""The step × block matrix in the terminal and as a picture."""

from dataclasses import replace
from io import BytesIO, StringIO

import numpy as np
import pytest
from exeunt.backends import schedule as schedules
from exeunt.backends.schedule import DROP, REUSE, RUN, Guidance, Schedule, Step, forecast, with_exits
from exeunt.reports.plots import maps as schedule_plot
from exeunt.reports.plots import schedule_map as maps
from exeunt.reports.plots import style
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

pytestmark = pytest.mark.cpu

NOISE = schedules.Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)


def full(num_steps: int, num_blocks: int, guidance: Guidance | None = None) -> Schedule:
    network = schedules.NetworkSignature("DiT", "block", (("residual", num_blocks),))
    steps = tuple(Step(999 * (1 - s / num_steps), (RUN,) * num_blocks) for s in range(num_steps))
    return Schedule((network,), schedules.Sampler("ddim", "epsilon", "train-index", NOISE), steps, guidance)


def mixed() -> Schedule:
    """Every action and every treatment of the unconditional branch, 6 steps of 4 blocks."""
    base = full(6, 4, Guidance(1.5))
    rows = [
        (RUN,) * 4,
        (RUN, REUSE, REUSE, DROP),
        (RUN,) * 4,
        (RUN, forecast(1), forecast(2), RUN),
        (RUN,) * 4,
        (RUN,) * 4,
    ]
    changes = {1: {"unconditional": "skip"}, 4: {"unconditional": "reuse"}, 5: {"guidance": None}}
    pairs = enumerate(zip(base.steps, rows, strict=True))
    steps = (replace(step, blocks=row, **changes.get(s, {})) for s, (step, row) in pairs)
    measured = (schedules.Measurement("fd", 41.25, 5000, (40.0, 42.5), seeds="final", images_per_second=310.0),)
    schedule = replace(base, steps=tuple(steps), name="a [bold]name\x1b[2J", measured=measured)
    schedules.validate(schedule)
    return schedule


def printed(schedule: Schedule) -> list[str]:
    """The map's lines without colour, as through a pipe."""
    text = StringIO()
    Console(file=text, width=80, highlight=False).print(maps.terminal(maps.schedule_map(schedule)), soft_wrap=True)
    return text.getvalue().splitlines()


def test_the_map_counts_what_runs() -> None:
    info = maps.schedule_map(mixed())
    assert list(info.depths) == [4, 1, 4, 2, 4, 4]
    assert list(info.branches) == [2, 1, 2, 2, 1, 1]
    assert info.block_evaluations == schedules.block_evaluations(mixed()) == 8 + 1 + 8 + 4 + 4 + 4
    assert info.full_block_evaluations == 5 * 8 + 4
    assert "29 of 44 block evaluations (66%)" in info.words
    assert "guidance 1.5 at 3 of 6 steps" in info.words


def test_letters_tell_actions_without_colour() -> None:
    lines = printed(mixed())
    assert [line.split()[-1] for line in lines if line.strip()[:1].isdigit() and "steps of" not in line] == [
        "RRRR",
        "Ruud",
        "RRRR",
        "R12R",
        "RRRR",
        "RRRR",
    ]
    assert lines[-1].startswith("steps go down from noise to data")
    assert all(f"{look.letter} {look.name}" in lines[-1] for look in maps.LOOKS.values())


def test_the_table_says_time_depth_and_guidance() -> None:
    lines = [line.split() for line in printed(mixed())]
    assert ["step", "time", "depth", "guidance", "0"] in lines
    assert ["1", "832.5", "1", "skipped", "Ruud"] in lines
    assert ["4", "333", "4", "1.5", "reused", "RRRR"] in lines
    assert ["5", "166.5", "4", "none", "RRRR"] in lines


def test_a_file_cannot_steer_the_terminal() -> None:
    assert printed(mixed())[0] == "a [bold]name?[2J"


def test_measurements_are_shown_with_their_conditions() -> None:
    assert "measured: fd 41.25 (40 to 42.5) on 5000 images of final seeds, 310 images/s" in printed(mixed())


def test_lines_are_never_cut() -> None:
    rows = [line for line in printed(full(3, 114)) if line.rstrip().endswith("R" * 114)]
    assert len(rows) == 3


def test_several_networks_have_a_column() -> None:
    base = full(2, 4)
    small = schedules.NetworkSignature("DiT-S", "block", (("residual", 2),))
    steps = (base.steps[0], replace(base.steps[1], network=1, blocks=(RUN, RUN)))
    lines = [line.split() for line in printed(replace(base, networks=(*base.networks, small), steps=steps))]
    assert ["1", "499.5", "2", "1", "RR"] in lines


def pixels(schedule: Schedule) -> np.ndarray:
    picture = style.png(schedule_plot.draw(maps.schedule_map(schedule)), dpi=100)
    return np.asarray(Image.open(BytesIO(picture)).convert("RGB"))


@pytest.mark.parametrize(("num_steps", "num_blocks"), [(20, 12), (250, 28), (1, 1), (3, 114)])
def test_pictures_of_every_size_show_each_action(num_steps: int, num_blocks: int) -> None:
    schedule = with_exits(full(num_steps, num_blocks), [num_blocks] + [num_blocks // 2] * (num_steps - 1), REUSE)
    image = pixels(schedule)
    assert image.shape[0] < 900
    assert image.shape[1] < 1400
    colours = {look.color for look in maps.schedule_map(schedule).looks}
    for colour in colours:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(image.astype(int) - wanted).max(axis=-1) <= 2).sum() > 100, colour


def test_cells_stand_where_their_step_and_block_are() -> None:
    """Steps go right and blocks up: in a falling staircase the top right corner is dropped, the bottom left runs."""
    info = maps.schedule_map(with_exits(full(8, 8), [8, 7, 6, 5, 4, 3, 2, 1]))
    figure = Figure(figsize=(4, 4), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    schedule_plot.draw_matrix(axes, info)
    image = np.asarray(Image.open(BytesIO(style.png(figure, dpi=80))).convert("RGB"))
    height, width = image.shape[:2]

    def colour(s: int, j: int) -> str:
        red, green, blue = image[round(height * (1 - (j + 0.5) / 8)), round(width * (s + 0.5) / 8)]
        return f"#{red:02x}{green:02x}{blue:02x}"

    assert [colour(0, 7), colour(7, 0), colour(7, 7), colour(3, 4), colour(3, 5)] == [
        maps.LOOKS[kind, 0].color for kind in ("run", "run", "drop", "run", "drop")
    ]


def test_every_action_of_the_format_has_a_look() -> None:
    actions = [RUN, DROP, REUSE, forecast(1), forecast(2)]
    looks = [maps.LOOKS[action.kind, action.order] for action in actions]
    assert len({look.letter for look in looks}) == len({look.color for look in looks}) == len(actions)


def test_a_pdf_is_a_pdf() -> None:
    assert style.pdf(schedule_plot.draw(maps.schedule_map(mixed()))).startswith(b"%PDF")
