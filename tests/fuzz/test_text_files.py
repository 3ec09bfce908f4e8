"""Hostile and broken files of text: schedules, other runtimes' formats, studies, labels, prompts."""

import json
from pathlib import Path
from typing import Any

import pytest
from exeunt.backends import schedule
from exeunt.backends.formats.registry import FORMATS, sniff
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling import conditions
from exeunt.backends.sampling import conditions as prompts
from exeunt.backends.solvers.tables import make_schedule
from exeunt.studies.config.reading import config_from_dict, config_to_dict, from_toml
from exeunt.studies.config.study import StudyConfig
from hostile import ODD, damaged, mutated, quick, refuses, survives, thorough
from hypothesis import given
from hypothesis import strategies as st

NETWORK = load_network("closed-form")
BASE = make_schedule(NETWORK.signature, NETWORK.noise, NETWORK.prediction, num_steps=4)
BLOCKS, STEPS = NETWORK.num_blocks, BASE.num_steps
SCHEDULE = schedule.dumps(BASE)
RUNTIME_TEXTS = {
    "ase": str([BLOCKS] * 10),
    "smoothcache": json.dumps({"block": [1, 0, 1, 0]}),
    "ecad": json.dumps({"cache_schedule": {str(s): {"block": [True] * BLOCKS} for s in range(STEPS)}}),
    "cache-dit": "cache_config:\n  num_inference_steps: 4\n  steps_computation_mask: [1, 0, 1, 0]\n"
    "  steps_computation_policy: static\n  Fn_compute_blocks: 1\n  Bn_compute_blocks: 0\n",
    "timesteps": "[999, 600, 300, 10]",
    "schedule": SCHEDULE,
    "exeunt": FORMATS["exeunt"].write(BASE),
}
# A megabyte of each, more than any reader may stumble over.
DEEP = ("[" * 500_000, '{"a":' * 200_000, "{" * 500_000, "- " * 300_000, "a: &a [*a, *a]\n" * 1000, "9" * 1_000_000)
LAUGHS = (
    "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)) + "cache_config: *a59"
)


def read_schedule(text: str) -> None:
    schedule.dumps(schedule.parse(text))


def read_format(name: str, text: str) -> None:
    read = FORMATS[name].read
    assert read is not None
    read(text, None if name in ("schedule", "exeunt") else BASE)


def read_any_format(text: str) -> None:
    for name in FORMATS:
        survives(lambda name=name: read_format(name, text))
    survives(lambda: sniff(text, BASE))


def read_study(data: bytes, folder: Path) -> None:
    path = folder / "study.toml"
    path.write_bytes(data)
    config_to_dict(from_toml(path))


def read_lines(data: bytes, folder: Path) -> None:
    path = folder / "lines.txt"
    path.write_bytes(data)
    survives(lambda: conditions.labels_from_file(path, 10).digest)
    survives(lambda: prompts.prompts_from_file(path).digest)


def toml(value: Any) -> str:
    """TOML of any value, right or wrong."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value)


STUDY = json.loads(json.dumps(config_to_dict(StudyConfig())))
STUDY_TEXT = "\n".join(
    [f"name = {toml(STUDY['name'])}"]
    + [f"[{key}]\n" + "\n".join(f"{name} = {toml(each)}" for name, each in table.items() if each is not None)
       for key, table in STUDY.items() if key != "name"]
)  # fmt: skip


@quick(100)
@given(mutated(json.loads(SCHEDULE)))
def test_a_mutated_schedule_is_read_or_refused(document: Any) -> None:
    survives(lambda: read_schedule(json.dumps(document)))


@quick(60)
@given(damaged(SCHEDULE.encode()))
def test_a_damaged_schedule_is_read_or_refused(data: bytes) -> None:
    survives(lambda: schedule.parse(data))


@pytest.mark.parametrize("name", [name for name in RUNTIME_TEXTS if name != "cache-dit"])
@quick(40)
@given(data=st.data())
def test_mutated_files_of_other_runtimes_are_read_or_refused(name: str, data: st.DataObject) -> None:
    document = data.draw(mutated(json.loads(RUNTIME_TEXTS[name])))
    text = json.dumps(document)
    survives(lambda: read_format(name, text))
    survives(lambda: sniff(text, BASE))


@pytest.mark.parametrize("name", RUNTIME_TEXTS)
@quick(25)
@given(data=st.data())
def test_damaged_files_of_other_runtimes_are_read_or_refused(name: str, data: st.DataObject) -> None:
    read_any_format(data.draw(damaged(RUNTIME_TEXTS[name].encode())).decode(errors="replace"))


@quick(40)
@given(st.dictionaries(st.sampled_from(["cache_config", "steps_computation_mask", "Fn_compute_blocks"]), ODD))
def test_odd_yaml_is_read_or_refused(document: dict[str, Any]) -> None:
    read_any_format("\n".join(f"{key}: {json.dumps(value)}" for key, value in document.items()))


@pytest.mark.parametrize("text", [*DEEP, LAUGHS], ids=lambda text: text[:12])
def test_deep_and_long_texts_are_refused_by_all(text: str, tmp_path: Path) -> None:
    read_any_format(text)
    survives(lambda: schedule.parse(text))
    survives(lambda: read_study(f"a = {text}".encode(), tmp_path))
    survives(lambda: read_study(text.encode()[:999_999], tmp_path))
    read_lines(text.encode(), tmp_path)


@pytest.mark.parametrize("text", [".".join("a" * 20_000) + " = 1", "[" + ".".join("a" * 5_000) + "]\nb = 1"])
def test_deeply_dotted_keys_of_a_study_are_refused(text: str, tmp_path: Path) -> None:
    refuses(lambda: read_study(text.encode(), tmp_path))


def test_a_good_study_is_read(tmp_path: Path) -> None:
    read_study(STUDY_TEXT.encode(), tmp_path)


@quick(100)
@given(mutated(STUDY))
def test_a_mutated_study_is_read_or_refused(document: Any) -> None:
    if isinstance(document, dict):
        survives(lambda: config_to_dict(config_from_dict(document)))


@quick(60)
@given(data=damaged(STUDY_TEXT.encode()))
def test_a_damaged_study_file_is_read_or_refused(data: bytes, tmp_path: Path) -> None:
    survives(lambda: read_study(data, tmp_path))


@quick(60)
@given(section=st.sampled_from(sorted(set(STUDY) - {"name"})), value=ODD, data=st.data())
def test_odd_settings_of_a_study_file_are_read_or_refused(
    section: str, value: Any, data: st.DataObject, tmp_path: Path
) -> None:
    key = data.draw(st.sampled_from(sorted(STUDY[section])))
    text = f"[{section}]\n{key} = {toml(value)}\n".encode(errors="surrogatepass")
    survives(lambda: read_study(text, tmp_path))


@quick(80)
@given(lines=st.lists(st.one_of(st.binary(max_size=12), ODD.map(lambda value: json.dumps(value).encode())), max_size=5))
def test_lines_of_conditions_are_read_or_refused(lines: list[bytes], tmp_path: Path) -> None:
    read_lines(b"\n".join(lines), tmp_path)


@quick(60)
@given(document=mutated({"prompt": "a red bicycle", "label": 3}))
def test_objects_of_conditions_are_read_or_refused(document: Any, tmp_path: Path) -> None:
    read_lines(json.dumps(document).encode(), tmp_path)


def sparse(path: Path, size: int) -> Path:
    """A file of that many zero bytes, which takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_files_beyond_their_limit_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """The limits that docs/files.md states."""
    huge = sparse(tmp_path / "huge", 2**40)
    assert "at most 8000000 bytes" in refuses(lambda: schedule.load(huge))
    assert "at most 1000000 bytes" in refuses(lambda: from_toml(huge))
    assert "at most 100,000,000 bytes" in refuses(lambda: conditions.labels_from_file(huge, 10))
    assert "at most 64,000,000 bytes" in refuses(lambda: prompts.prompts_from_file(huge))


def test_files_without_an_end_are_refused() -> None:
    endless = Path("/dev/zero")
    refuses(lambda: schedule.load(endless))
    refuses(lambda: from_toml(endless))
    refuses(lambda: conditions.labels_from_file(endless, 10))
    refuses(lambda: prompts.prompts_from_file(endless))


@pytest.mark.slow
@thorough(3000)
@given(data=st.data())
def test_all_text_files_at_length(data: st.DataObject, tmp_path: Path) -> None:
    name = data.draw(st.sampled_from(sorted(RUNTIME_TEXTS)))
    read_any_format(data.draw(damaged(RUNTIME_TEXTS[name].encode())).decode(errors="replace"))
    document = data.draw(mutated(json.loads(SCHEDULE)))
    survives(lambda: read_schedule(json.dumps(document)))
    study = data.draw(damaged(STUDY_TEXT.encode()))
    survives(lambda: read_study(study, tmp_path))
    read_lines(data.draw(st.binary(max_size=60)), tmp_path)
