"""Configurations: read from TOML, overridden by flags, stored as JSON, compared on resuming, refused with the fix."""

import contextlib
import json
import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
from exeunt.backends.errors import InputError
from exeunt.studies.config.reading import (
    config_difference,
    config_from_dict,
    config_to_dict,
    from_toml,
    override,
    parse_assignment,
    refuse_difference,
    settings,
)
from exeunt.studies.config.study import FREE_SETTINGS, SECTIONS, QualityConfig, StudyConfig
from hypothesis import given
from hypothesis import strategies as st

GOOD = """
name = "xl"
[checkpoint]
path = "dit-xl-2.safetensors"
network = "dit"
options = { image_size = 256, learn_sigma = true }
dtype = "bfloat16"
baseline_weights = []
[baseline]
solver = "ddim"
order = 1
eta = 1
guidance = 1.5
guidance_channels = 3
[quality]
num_images = 512
[search]
sampler = "gp"
baselines = "full"
[run]
budget = "1h"
"""

# Each bad study file with words that its error must have: the key, the rule or value, and the fix.
BAD = {
    "unknown key": ("[quality]\nnum_image = 5", ["quality.num_image ", "Did you mean `num_images`?", "batch_size"]),
    "unknown table": ("[qualty]\nnum_images = 5", ["`qualty`", "Did you mean `quality`?", "checkpoint"]),
    "key outside its table": ("num_images = 5", ["`num_images`", "[quality]"]),
    "key of two tables": ("batch_size = 5", ["[quality] or [throughput]"]),
    "table that is a value": ("quality = 5", ["quality must be a table", "got 5", "[quality]"]),
    "text for a number": ('[quality]\nnum_images = "many"', ["quality.num_images", "whole number", '"many"', "Write"]),
    "decimal for a whole number": ("[quality]\nnum_images = 2.5", ["whole number", "2.5"]),
    "flag for a number": ("[quality]\nnum_images = true", ["whole number", "true"]),
    "too few images": ("[quality]\nnum_images = 1", ["from 2 to", "got 1", "nearest is 2"]),
    "negative seed": ("[quality]\nsearch_seed = -1", ["quality.search_seed", "nearest is 0"]),
    "same seeds": ("[quality]\nsearch_seed = 1", ["final_seed must differ", "both are 1", "Write final_seed = 2"]),
    "not a number": ("[baseline]\nguidance = nan", ["baseline.guidance", "a number from 0", "NaN"]),
    "infinite": ("[baseline]\nclip = inf", ["baseline.clip", "Infinity"]),
    "eta beyond 1": ('[baseline]\nsolver = "ddim"\neta = 1.5', ["baseline.eta", "nearest is 1"]),
    "unknown dtype": ('[checkpoint]\ndtype = "float31"', ["checkpoint.dtype", "bfloat16", "Did you mean"]),
    "unknown sampler": ('[search]\nsampler = "tpes"', ["search.sampler", 'Did you mean "tpe"?']),
    "unknown executor": ('[throughput]\nexecutor = "compiled"', ["throughput.executor", '"eager"']),
    "name with a space": ('name = "my study"', ["name must be", "my study"]),
    "name that is no text": ("name = 7", ["name must be", "got 7"]),
    "empty path": ('[checkpoint]\npath = ""', ["checkpoint.path", "not empty"]),
    "options that are no table": ("[checkpoint]\noptions = 3", ["checkpoint.options", "a table"]),
    "options inside options": ("[checkpoint]\noptions = { a = [1] }", ["checkpoint.options.a", "got [1]"]),
    "no baselines": ("[search]\nbaselines = []", ["search.baselines", "at least 1"]),
    "a baseline twice": ('[search]\nbaselines = ["full", "full"]', ["without repeats", "Omit one"]),
    "a date": ("[quality]\nreference = 1979-05-27", ["quality.reference", "text"]),
    "bad budget": ('[run]\nbudget = "4 minutes"', ["4 minutes", "Write 4m"]),
    "no TOML": ("[quality\nnum_images = 5", ["must be TOML", "line 1"]),
    "deep nesting": ("a = " + "[" * 50_000, ["must not nest"]),
    "a number of thousands of digits": ("a = " + "1" * 5_000, ["must be TOML"]),
    "a key twice": ("[quality]\nnum_images = 5\nnum_images = 6", ["must be TOML", "cannot overwrite a value"]),
}


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@pytest.mark.parametrize("case", BAD)
def test_refuses_a_bad_study_file_with_the_fix(case: str, tmp_path: Path) -> None:
    content, words = BAD[case]
    path = tmp_path / "study.toml"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        from_toml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert all(word in message for word in words), message


@given(st.text(max_size=40), st.dictionaries(st.sampled_from(settings()), scalars | st.lists(scalars, max_size=3)))
def test_nothing_but_input_errors_whatever_is_given(text: str, values: dict[str, object]) -> None:
    for attempt in (lambda: config_from_dict({text: text}), lambda: override(StudyConfig(), values)):
        with contextlib.suppress(InputError):
            attempt()


def test_refuses_what_is_no_file_of_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: the study file cannot be read .*No such file"):
        from_toml(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"cannot be read .*directory"):
        from_toml(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="must be UTF-8, but byte 0"):
        from_toml(tmp_path / "binary.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(InputError, match="at most 1000000 bytes"):
        from_toml(tmp_path / "large.toml")


def test_a_study_file_fills_in_defaults(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(GOOD)
    config = from_toml(path)
    assert config.name == "xl"
    assert dict(config.checkpoint.options) == {"image_size": 256, "learn_sigma": True}
    assert config.checkpoint.baseline_weights == ()
    assert (config.baseline.eta, config.baseline.guidance_channels) == (1.0, 3)
    assert isinstance(config.baseline.eta, float)
    assert config.search.baselines == ("full",)
    assert config.quality == QualityConfig(num_images=512)
    assert config.throughput == StudyConfig().throughput


def test_none_can_be_written_in_a_study_file() -> None:
    assert config_from_dict({"baseline": {"guidance": "none"}}).baseline.guidance is None
    assert override(StudyConfig(), {"baseline.guidance": 2}).baseline.guidance == 2.0


def test_json_and_pickle_give_the_same_configuration_back(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(GOOD)
    for config in (StudyConfig(), from_toml(path)):
        assert config_from_dict(json.loads(json.dumps(config_to_dict(config), allow_nan=False))) == config
        assert pickle.loads(pickle.dumps(config)) == config
        assert hash(config) == hash(config_from_dict(config_to_dict(config)))


def test_what_is_stored_is_whole() -> None:
    stored = config_to_dict(StudyConfig())
    for section, kind in SECTIONS.items():
        assert list(stored[section]) == [each.name for each in fields(kind)]


def test_every_setting_says_what_it_is() -> None:
    for kind in SECTIONS.values():
        assert all(len(each.metadata["about"]) > 10 for each in fields(kind))


def test_flags_go_over_the_file() -> None:
    config = override(StudyConfig(), {"name": "other", "quality.num_images": 512, "run.budget": "60s"})
    assert (config.name, config.quality.num_images, config.run.budget) == ("other", 512, "1m")
    assert config.quality.final_images == StudyConfig().quality.final_images


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_images", 5, "Did you mean `quality.num_images`?"),
        ("quality.num_imags", 5, "Did you mean `quality.num_images`?"),
        ("quality", 5, "is not a setting"),
        ("quality.num_images", 0, "quality.num_images must be"),
        ("quality.final_seed", 0, "must differ"),
    ],
)
def test_bad_flags_are_refused(key: str, value: int, words: str) -> None:
    with pytest.raises(InputError) as caught:
        override(StudyConfig(), {key: value})
    assert words in str(caught.value)


def test_assignments_are_toml_or_text() -> None:
    assert parse_assignment("quality.num_images=512") == ("quality.num_images", 512)
    assert parse_assignment("search.baselines=['full']") == ("search.baselines", ["full"])
    assert parse_assignment("checkpoint.path = a=b.pt") == ("checkpoint.path", "a=b.pt")
    with pytest.raises(InputError, match="KEY=VALUE"):
        parse_assignment("quality.num_images")


def test_sections_made_in_python_are_checked_too() -> None:
    with pytest.raises(InputError, match=r"quality\.num_images"):
        QualityConfig(num_images=-1)
    with pytest.raises(InputError, match=r"quality\.num_images"):
        replace(QualityConfig(), num_images=-1)


def test_difference_names_what_changes_a_number_first() -> None:
    old = StudyConfig()
    new = override(old, {"run.budget": "1h", "quality.num_images": 512, "checkpoint.path": "moved.pt"})
    changed = config_difference(old, new)
    assert [(each.key, each.free) for each in changed] == [
        ("checkpoint.path", False),
        ("quality.num_images", False),
        ("run.budget", True),
    ]
    assert (changed[1].old, changed[1].new) == (256, 512)
    assert config_difference(old, new, same=["checkpoint.path"])[0].key == "quality.num_images"
    assert config_difference(old, old) == []


def test_resuming_is_refused_only_where_a_number_would_change() -> None:
    old = StudyConfig()
    free = {"run.budget": "1h", "run.chunk_images": 3, "run.report": "elsewhere", "search.max_trials": 7}
    refuse_difference(old, override(old, free))
    with pytest.raises(InputError, match=r"quality.num_images: stored 256, given 512") as caught:
        refuse_difference(old, override(old, {**free, "quality.num_images": 512}))
    assert "budget" not in str(caught.value)


def test_free_settings_exist() -> None:
    assert set(settings()) > FREE_SETTINGS
