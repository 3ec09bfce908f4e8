"""Schedule files: whole, readable, with coefficients and what was measured; refused where a format can't say it."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from exeunt import __version__
from exeunt.backends.errors import InputError
from exeunt.backends.formats.ase import read_ase
from exeunt.backends.formats.registry import FORMATS
from exeunt.backends.schedule import RUN, ScheduleError, dumps, parse
from exeunt.backends.solvers import tables
from exeunt.reports.files.export import default_path, export_text, file_stem, portable_schedule, write_whole
from exeunt.reports.report import write_report
from exeunt.reports.view.view import Point, StudyView
from exeunt.studies.store.records import summarized

SCHEMA = Path(tables.__file__).parents[1] / "assets" / "schedule.schema.json"


@pytest.fixture(scope="module")
def knee(view: StudyView) -> Point:
    found = view.knee("final")
    assert found is not None
    return found


def test_a_file_reads_back_as_the_schedule_with_its_coefficients(view: StudyView, knee: Point) -> None:
    found = parse(export_text(view, knee))
    assert [step.coefficients for step in found.steps] == tables.solver_rows(knee.schedule)
    bare = replace(found, steps=tuple(replace(step, coefficients=None) for step in found.steps))
    assert bare.digest == knee.schedule.digest
    assert dumps(parse(dumps(found))) == dumps(found)


def test_every_point_of_the_front_makes_a_file_that_keeps_the_schema(view: StudyView) -> None:
    schema = json.loads(SCHEMA.read_text())
    for point in view.front("final"):
        jsonschema.validate(json.loads(export_text(view, point)), schema)


def test_what_was_measured_and_where_it_came_from_stand_in_the_file(view: StudyView, knee: Point) -> None:
    found = portable_schedule(view, knee)
    final, search = found.measured
    assert (final.seeds, search.seeds) == ("final", "search")
    assert knee.final is not None
    assert final.value == knee.final.distance.value
    assert final.interval == (knee.final.distance.lower, knee.final.distance.upper)
    assert (final.floor, final.num_images) == (knee.final.floor, knee.final.num_images)
    speedup = view.speedup(knee)
    assert speedup is not None
    assert final.images_per_second is not None
    assert final.baseline_images_per_second is not None
    assert final.images_per_second / final.baseline_images_per_second == pytest.approx(speedup.value, rel=0.01)
    assert (final.dtype, final.executor, final.device) == ("float32", "eager", "two cores")
    assert (search.images_per_second, search.batch_size) == (None, None)
    assert found.provenance is not None
    assert (found.provenance.study, found.provenance.trial) == ("fashion", knee.trial)
    assert found.provenance.exeunt == __version__


def test_what_the_network_s_constructor_was_given_stands_in_the_file(view: StudyView, knee: Point) -> None:
    given = replace(view, conditions={**view.conditions, "network_args": "num_heads=4"})
    origin = parse(export_text(given, knee)).provenance
    assert origin is not None
    assert origin.extras == (("x-network-args", '"num_heads=4"'),)
    assert portable_schedule(given, knee).digest == portable_schedule(view, knee).digest


def test_ten_depths_convert_both_ways(view: StudyView) -> None:
    ten = [12, 12, 10, 10, 8, 8, 6, 6, 5, 5]
    assert view.full is not None
    point = replace(view.full, stored=summarized(read_ase(str(ten), view.full.schedule)))
    assert json.loads(export_text(view, point, "ase")) == ten


def test_a_format_that_cannot_say_a_schedule_refuses_it_by_name(view: StudyView) -> None:
    cached = next(point for point in view.points if point.family == "interval-reuse")
    with pytest.raises(ScheduleError, match='ASE can only run leading blocks and drop the rest, but got "reuse"'):
        export_text(view, cached, "ase")


def test_an_unknown_format_names_the_nearest(view: StudyView, knee: Point) -> None:
    with pytest.raises(InputError, match="Use --format exeunt"):
        export_text(view, knee, "exunt")


def test_default_names_are_plain_and_say_the_format(view: StudyView, knee: Point) -> None:
    assert default_path(view, knee, "exeunt") == Path(f"fashion-trial-{knee.trial}.schedule.json")
    assert default_path(view, knee, "ase").name.endswith(".ase.txt")
    assert file_stem(replace(view, name="../x y"), knee) == f"x-y-trial-{knee.trial}"
    assert {default_path(view, knee, name).name.partition(".")[0] for name in FORMATS} == {file_stem(view, knee)}


def test_every_other_format_says_a_point_or_names_what_it_cannot_say(view: StudyView) -> None:
    assert view.full is not None
    assert json.loads(export_text(view, view.full, "timesteps")) == [step.time for step in view.full.schedule.steps]
    cached = next(point for point in view.points if point.family == "interval-reuse")
    config = yaml.safe_load(export_text(view, cached, "cache-dit"))["cache_config"]
    depths = [sum(action == RUN for action in step.blocks) for step in cached.schedule.steps]
    assert config["steps_computation_mask"] == [int(depth == max(depths)) for depth in depths]
    assert config["Fn_compute_blocks"] == min(depths)
    with pytest.raises(InputError, match="--granularity branch"):
        export_text(view, cached, "smoothcache")


def test_the_schedule_file_without_coefficients_is_the_study_s_own(view: StudyView, knee: Point) -> None:
    assert parse(export_text(view, knee, "schedule")).digest == knee.schedule.digest


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_whole(path, b"first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").touch()
    with pytest.raises(InputError, match="must be writable"):
        write_whole(tmp_path / "taken", b"content")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]
    with pytest.raises(InputError, match="Give another path"):
        write_whole(tmp_path / "taken" / "inside" / "file.txt", b"content")


def test_a_report_is_a_folder_of_files_and_old_plots_go(view: StudyView, tmp_path: Path) -> None:
    (tmp_path / "samples.png").touch()
    (tmp_path / "notes.txt").touch()
    few = replace(view, points=tuple(view.front("final")[:4]), spent=view.spent[:4])
    files = write_report(few, tmp_path, "There are no samples.")
    assert files[0] == tmp_path / "index.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(path.name for path in files), "notes.txt"])
    assert {"front.png", "front.pdf", "report.csv", "report.json"} <= {path.name for path in files}
