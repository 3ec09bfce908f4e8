"""`exeunt schedule` as a user calls it."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import vectors
from click.testing import CliRunner, Result
from exeunt.backends import schedule as schedules
from exeunt.backends.formats.registry import FORMATS
from exeunt.reports.plots.schedule_map import schedule_map, terminal
from exeunt.searcher.cli.main import cli

BAD = Path(__file__).parents[2] / "backends" / "bad_schedules" / "blocks-sum.one-short.schedule.json"
GOOD = str(vectors.DIRECTORY / "guided.schedule.json")
PUBLISHED = "28,28,24,24,20,20,16,16,12,12"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["schedule", *arguments])


@pytest.fixture
def full(tmp_path: Path) -> str:
    """A full schedule of 28 blocks at every 50th of 1000 train timesteps."""
    noise = schedules.Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
    network = schedules.NetworkSignature("DiT", "block", (("residual", 28),))
    steps = tuple(schedules.Step(float(t), (schedules.RUN,) * 28) for t in range(975, 0, -50))
    sampler = schedules.Sampler("ddim", "epsilon", "train-index", noise)
    path = tmp_path / "full.schedule.json"
    schedules.save(schedules.Schedule((network,), sampler, steps), path)
    return str(path)


def test_show_draws_the_matrix() -> None:
    result = run("show", GOOD)
    assert result.exit_code == 0
    assert "10 steps of ddim" in result.output
    assert "RRuu" in result.output


def test_showing_takes_time_in_proportion_to_the_steps() -> None:
    """20,000 steps took 37 s of CPU when each cell looked for its column's width, and take 2 s."""
    good = schedules.load(GOOD)
    steps = [replace(good.steps[0], time=999.0 - 0.04 * s) for s in range(20_000)]
    shown, began = schedule_map(replace(good, steps=tuple(steps))), time.process_time()
    lines = [str(line) for line in terminal(shown).renderables]
    assert time.process_time() - began < 10
    assert len(lines) > 20_000


def test_show_writes_pictures(tmp_path: Path) -> None:
    result = run("show", GOOD, "--png", str(tmp_path / "a.png"), "--pdf", str(tmp_path / "a.pdf"))
    assert result.exit_code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_show_speaks_json() -> None:
    shown = json.loads(run("show", GOOD, "--json").output)
    assert shown["digest"] == schedules.load(GOOD).digest
    assert len(shown["depths"]) == shown["num_steps"] == 10
    assert schedules.parse(json.dumps(shown["schedule"])) == schedules.load(GOOD)


def test_a_bad_file_is_one_line_and_exit_code_2() -> None:
    for arguments in (["show", str(BAD)], ["convert", str(BAD)], ["validate", str(BAD)]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert (
            result.stderr == f'Error: {BAD}: step 1: blocks must sum to num_blocks=4, but got 3. Add [["drop", 1]].\n'
        )


def test_validate_goes_on_after_a_bad_file() -> None:
    result = run("validate", str(BAD), GOOD)
    assert result.exit_code == 2
    assert result.stdout.startswith(f"{GOOD}: valid, 10 steps")
    assert run("validate", GOOD).exit_code == 0


def test_validate_speaks_json() -> None:
    bad, good = json.loads(run("validate", "--json", str(BAD), GOOD).stdout)
    assert (bad["valid"], bad["identifier"]) == (False, "blocks-sum")
    assert (good["valid"], good["digest"]) == (True, schedules.load(GOOD).digest)


def test_ten_depths_convert_both_ways(full: str, tmp_path: Path) -> None:
    path = tmp_path / "ase.schedule.json"
    made = run("convert", PUBLISHED, "--base", full, "-o", str(path), "--json")
    assert json.loads(made.stdout)["digest"] == schedules.load(path).digest
    back = run("convert", str(path), "--to", "ase")
    assert json.loads(back.stdout) == [int(depth) for depth in PUBLISHED.split(",")]
    (tmp_path / "ten.json").write_text(back.stdout)
    assert run("convert", str(tmp_path / "ten.json"), "--base", full).stdout == path.read_text()


def test_convert_writes_the_canonical_form(tmp_path: Path, full: str) -> None:
    text = json.loads(Path(full).read_text())
    text["steps"] = [{"time": 500, "exit": 20}]
    short = tmp_path / "short.schedule.json"
    short.write_text(json.dumps(text))
    written = json.loads(run("convert", str(short)).stdout)
    assert written["steps"] == [{"time": 500.0, "blocks": [["run", 20], ["drop", 8]]}]


@pytest.mark.parametrize("depths", ["28,28", "[28]", "28,28,24,24,20,20,16,16,12,12.5"])
def test_depths_that_are_no_ten_integers_are_refused(depths: str, full: str) -> None:
    result = run("convert", depths, "--base", full, "--from", "ase")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {depths}: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("source", ["28,x", "absent.json", "{}", ""])
def test_what_is_neither_file_nor_numbers_is_refused(source: str, full: str) -> None:
    result = run("convert", source, "--base", full)
    assert result.exit_code == 2
    assert "must be a readable file, or numbers with commas" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def cached(full: str, tmp_path: Path) -> str:
    """The full schedule with blocks 4 to 26 reused at every second step."""
    base = schedules.load(full)
    row = (schedules.RUN,) * 4 + (schedules.REUSE,) * 23 + (schedules.RUN,)
    steps = [replace(step, blocks=row) if s % 2 else step for s, step in enumerate(base.steps)]
    path = tmp_path / "cached.schedule.json"
    schedules.save(replace(base, steps=tuple(steps)), path)
    return str(path)


@pytest.mark.parametrize(
    ("to", "arguments", "fields"),
    [
        ("cache-dit", [], "the solver (ddim, order 1), the 20 times (975 to 25) and guidance (none)"),
        ("smoothcache", ["--granularity", "branch"], "the solver (ddim, order 1)"),
    ],
)
def test_files_of_other_runtimes_go_out_and_come_back(
    to: str, arguments: list[str], fields: str, cached: str, full: str, tmp_path: Path
) -> None:
    path = tmp_path / "foreign"
    made = run("convert", cached, *arguments, "--to", to, "-o", str(path))
    assert made.exit_code == 0
    assert f"A file of format {to} does not contain {fields}" in made.stderr
    back = run("convert", str(path), "--base", full)
    assert f"{path} is read as {to}" in back.stderr
    wanted = run("convert", cached, *arguments)
    assert back.stdout == wanted.stdout


def test_times_come_as_numbers(full: str) -> None:
    written = json.loads(run("convert", "999,500,10", "--base", full, "--to", "timesteps").stdout)
    assert written == [999, 500, 10]


def test_coefficients_are_written_on_demand(full: str, tmp_path: Path) -> None:
    path = tmp_path / "portable.schedule.json"
    said = json.loads(run("convert", full, "--to", "exeunt", "-o", str(path), "--json").stdout)
    read = schedules.load(path)
    assert read.steps[0].coefficients is not None
    assert said == {"written": str(path), "from": "schedule", "to": "exeunt", "digest": read.digest}


def test_refusals_name_the_file_the_step_and_the_way_out(cached: str, full: str) -> None:
    for arguments, said in (
        (["--to", "smoothcache"], "step 1, block 4: the format reuses the outputs of branches"),
        (["--to", "ase"], "ASE can only run leading blocks"),
        (["--to", "timesteps"], "every block must run"),
        (["--to", "ecad"], "PixArtTransformer2DModel"),
        (["--to", "yaml"], "--to: must be one of"),
        (["--from", "ecad", "--base", full], f"{cached}: ecad: the format has names for"),
        (["--base", full], f"{cached}: --base: is for files of other runtimes"),
    ):
        result = run("convert", cached, *arguments)
        assert result.exit_code == 2
        assert said in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, full: str) -> None:
    result = run("convert", full, "-o", str(tmp_path / "absent" / "a.schedule.json"))
    assert result.exit_code == 2
    assert "Give another path." in result.stderr


def test_full_is_the_base_that_foreign_files_need(tmp_path: Path) -> None:
    path = tmp_path / "full.schedule.json"
    arguments = ["--checkpoint", "closed-form", "--solver", "ddim", "--num-steps", "5", "--device", "cpu"]
    assert run("full", *arguments, "-o", str(path)).exit_code == 0
    base = schedules.load(path)
    assert (base.num_steps, base.sampler.name) == (5, "ddim")
    assert schedules.block_evaluations(base) == 5 * base.networks[0].num_blocks
    assert run("full", *arguments).stdout == path.read_text()
    times = json.loads(run("convert", str(path), "--to", "timesteps").stdout)
    assert times == [step.time for step in base.steps]


@pytest.mark.parametrize("command", [[], ["show"], ["validate"], ["convert"], ["full"]])
def test_every_help_has_an_example(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "exeunt schedule" in result.output.partition("Examples:")[2]


def test_convert_shows_every_format() -> None:
    shown = run("convert", "--help").output
    for name in FORMATS:
        assert f"\n    {name} " in shown
        assert f"--to {name}" in shown or name == "schedule"


def few_steps(folder: Path, *extra: str) -> str:
    path = str(folder / "few.schedule.json")
    assert run("full", "--checkpoint", "closed-form", "--num-steps", "4", "-o", path, *extra).exit_code == 0
    return path


QUICK = ["--checkpoint", "closed-form", "--objective", "trajectory", "--images", "16", "--full-steps", "30"]


def test_fit_writes_a_file_that_is_valid_sampled_and_says_what_it_is(tmp_path: Path) -> None:
    few, fitted = few_steps(tmp_path), str(tmp_path / "fitted.schedule.json")
    result = run("fit", few, *QUICK, "-o", fitted, "--json")
    assert result.exit_code == 0, result.output
    told, made = json.loads(result.stdout), schedules.load(fitted)
    assert told["written"] == fitted
    assert told["digest"] == made.digest != told["from"] == schedules.load(few).digest
    assert told["after"] < 0.5 * told["before"]
    assert (told["loss"], told["images"], told["seed"]) == ("distance from the full trajectories", 16, 2)
    assert all(step.coefficients is not None for step in made.steps)
    assert run("validate", fitted).exit_code == 0
    sampled = CliRunner().invoke(
        cli, ["sample", fitted, "--checkpoint", "closed-form", "--num-images", "4", "-o", str(tmp_path / "grid.png")]
    )
    assert sampled.exit_code == 0, sampled.output
    times = run("convert", fitted, "--to", "timesteps")
    assert "with coefficients of its own" in times.stderr
    carried = run("convert", fitted, "--to", "exeunt")
    assert schedules.parse(carried.stdout).digest == made.digest


def test_fit_moves_times_if_wanted_and_writes_to_standard_output(tmp_path: Path) -> None:
    few = few_steps(tmp_path)
    result = run("fit", few, *QUICK, "--times", "--tries", "8")
    assert result.exit_code == 0, result.output
    made, before = schedules.parse(result.stdout), schedules.load(few)
    assert [step.time for step in made.steps] != [step.time for step in before.steps]
    assert f"{few}: distance from the full trajectories" in result.stderr


def test_fit_refuses_steps_that_add_noise(tmp_path: Path) -> None:
    noisy = few_steps(tmp_path, "--solver", "ddpm")
    result = run("fit", noisy, *QUICK)
    assert result.exit_code == 2
    assert "step 0: rows are fitted to steps that add no noise, but `ddpm` has c = " in result.stderr
    assert "Use a deterministic solver, such as `dpmsolver++`." in result.stderr
