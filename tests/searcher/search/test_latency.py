"""A study whose speed is latency: one image at a time is timed, and milliseconds are shown."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from exeunt.reports.plots.front import draw_front, front_info
from exeunt.searcher import runner
from exeunt.searcher.cli.main import cli
from exeunt.studies.config.keywords import described
from exeunt.studies.config.reading import config_from_dict, config_to_dict, from_toml, override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.store.store import open_store, stored_config


def test_one_image_at_a_time_is_timed_and_shown_in_milliseconds(small: StudyConfig, tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    config = override(small, {"run.budget": "4-trials", "run.goal": "best at 2x"})
    view = runner.optimize(config, url, objective="latency")
    assert (view.batch_size, view.objective) == (1, "latency")
    with open_store(url, read_only=True) as store:
        timed = store.measurements.throughputs("small")
    assert {each.key.batch_size for each in timed} == {1}
    assert all(each.latency_seconds == each.seconds for each in timed)
    info = front_info(view, "final")
    assert info is not None
    axes = draw_front(info).axes[0]
    assert axes.get_xlabel() == "ms per image (lower is better)"
    ticks = [float(each.get_text()) for each in axes.get_xticklabels()]
    assert ticks == pytest.approx([1000 / place for place in axes.get_xticks()], rel=0.01)
    assert front_info(view, "search").unit == info.unit  # type: ignore[union-attr]
    run = CliRunner().invoke
    report = run(cli, ["report", "--storage", url, "--json"])
    found = json.loads(report.stdout)
    assert (found["objective"], found["conditions"]["batch_size"]) == ("latency", "1")
    row = found["front"][0]
    assert row["milliseconds_per_batch"] == pytest.approx(1000 / row["images_per_second"])
    page = tmp_path / "report"
    assert run(cli, ["report", "--storage", url, "-o", str(page), "--no-samples"]).exit_code == 0
    assert "ms<br><small>per image</small>" in (page / "index.html").read_text()
    assert "ms" in run(cli, ["resume", "--storage", url]).stdout
    fastest = max(each["speedup"] for each in found["front"])
    made = run(cli, ["export", "--storage", url, "--at", f"{(1 + fastest) / 2:.2f}x", "-o", str(tmp_path / "at.json")])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "at.json").exists()
    stored = stored_config(url, "small")
    assert stored is not None
    assert stored.throughput.objective == "latency"


def test_latency_is_of_one_image_unless_a_batch_size_is_given(tmp_path: Path):
    def sizes(config: StudyConfig) -> tuple[int, int]:
        return config.throughput.batch_size, config.quality.batch_size

    usual = StudyConfig()
    assert sizes(described(usual, {"objective": "latency"}, {})) == (1, 64)
    assert sizes(described(usual, {"objective": "latency", "batch_size": 4}, {})) == (4, 4)
    assert sizes(described(usual, {}, {"throughput.objective": "latency", "throughput.batch_size": 8})) == (8, 64)
    assert sizes(described(usual, {"objective": "throughput"}, {})) == (64, 64)
    file = tmp_path / "study.toml"
    file.write_text('[throughput]\nobjective = "latency"\n')
    assert sizes(from_toml(file)) == (1, 64)
    file.write_text('[throughput]\nobjective = "latency"\nbatch_size = 2\n')
    assert sizes(described(from_toml(file), {"objective": "latency"}, {})) == (2, 64)
    config = from_toml(file)
    assert config_from_dict(config_to_dict(config)) == config
