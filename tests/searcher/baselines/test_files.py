"""Baselines from schedule files and from those of other runtimes."""

import json
from pathlib import Path

import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import ExeuntError, depths, dumps
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.baselines.files import read_files


def test_files_stand_under_their_names_on_the_full_schedules_times(tmp_path: Path):
    network = load_network("fashion-dit-exits").at("branch")
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=4)
    router = tmp_path / "4-l2c.json"
    router.write_text(json.dumps({"attn": [1, 0, 1, 1], "mlp": [1, 1, 0, 1]}))
    own = tmp_path / "own.schedule.json"
    own.write_text(dumps(full))
    found = dict(read_files([router, own], [network], full))
    assert list(found) == ["4-l2c", "own"]
    assert depths(found["4-l2c"]) == [24, 12, 12, 24]
    assert found["own"].digest == full.digest


def test_errors_name_the_file(tmp_path: Path):
    network = load_network("closed-form", num_blocks=3)
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=4)
    for name, data in {"a.json": b"\xff\xfe", "b.json": b"{}", "c.schedule.json": b"{}"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ExeuntError, match=name):
            read_files([tmp_path / name], [network], full)
    with pytest.raises(InputError, match="UTF-8"):
        read_files([tmp_path / "a.json"], [network], full)
