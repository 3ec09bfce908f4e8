"""The schedule file: what is read, what is refused and how, and the one way it is written."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from exeunt.backends import schedule as schedules
from exeunt.backends.formats import ase
from exeunt.backends.schedule import DROP, REUSE, RUN, Coefficients, Guidance, Schedule, ScheduleError, Step, forecast
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BAD = sorted((Path(__file__).parent / "bad_schedules").glob("*.schedule.json"))
SCHEMA = json.loads((files("exeunt.backends") / "assets" / "schedule.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
# What a JSON Schema can see; the other rules compare values, or concern the text before it is JSON.
STRUCTURAL = {
    "blocks-entry",
    "blocks-or-exit",
    "forecast-order",
    "guidance-both",
    "kind-granularity",
    "missing-key",
    "noise-parameter",
    "not-a-schedule",
    "out-of-range",
    "requires-unknown",
    "unknown-key",
    "unknown-name",
    "version-newer",
    "weights-digest",
}

EXAMPLE = """
{"format": "exeunt.schedule", "version": 1, "requires": [], "name": "fashion-dit, knee",
 "networks": [{"architecture": "DiT", "granularity": "block", "kinds": [["residual", 12]], "weights_sha256": null}],
 "sampler": {"name": "dpmsolver++", "variant": "midpoint", "order": 2, "lower_order_final": true,
             "prediction": "epsilon", "time": "train-index",
             "noise": {"kind": "linear", "beta_start": 0.0001, "beta_end": 0.02, "num_train_timesteps": 1000},
             "final": "zero", "initial_scale": 1.0, "clip": null, "variance": "none"},
 "guidance": {"scale": 1.5, "channels": "all"},
 "steps": [
   {"time": 999.0, "blocks": [["run", 12]]},
   {"time": 946.0, "blocks": [["run", 6], ["reuse", 6]], "unconditional": "skip"},
   {"time": 880.0, "blocks": [["run", 6], ["forecast", 6, 1]]},
   {"time": 13.0,  "blocks": [["run", 10], ["drop", 2]], "guidance": 1.0}],
 "measured": [{"metric": "fd-efficientnet-lite0", "value": 41.2, "interval": [40.1, 42.4], "floor": 12.0,
               "num_images": 5000, "seeds": "final", "images_per_second": 310.0, "baseline_images_per_second": 191.0,
               "batch_size": 64, "dtype": "float32", "executor": "eager", "device": "a device"}],
 "provenance": {"study": "a study", "trial": 17, "exeunt": "0.1.0", "created": "2026-11-21T08:00:00Z"}}
"""


def changed(**changes: Any) -> dict[str, Any]:
    """The example's document with other values at its top."""
    return json.loads(EXAMPLE) | changed_steps(changes)


def changed_steps(changes: dict[str, Any]) -> dict[str, Any]:
    """`step1={...}` replaces step 1; other keys are the document's."""
    steps = json.loads(EXAMPLE)["steps"]
    for key in [key for key in changes if key.startswith("step") and key != "steps"]:
        steps[int(key[4:])] = changes.pop(key)
    return {"steps": steps} | changes


def parse(document: dict[str, Any]) -> Schedule:
    return schedules.parse(json.dumps(document))


def staircase(times: list[float], num_blocks: int = 12) -> Schedule:
    """Full depth on 1000 linear train timesteps."""
    noise = schedules.Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
    network = schedules.NetworkSignature("DiT", "block", (("residual", num_blocks),))
    steps = tuple(Step(t, (RUN,) * num_blocks) for t in times)
    return Schedule((network,), schedules.Sampler("ddim", "epsilon", "train-index", noise), steps)


# ---- reading and writing ---------------------------------------------------------------------------------------------


def test_the_example_is_read_whole() -> None:
    schedule = schedules.parse(EXAMPLE)
    assert schedule.num_steps == 4
    assert schedule.steps[2].blocks == (RUN,) * 6 + (forecast(1),) * 6
    assert schedules.depths(schedule) == [12, 6, 6, 10]
    assert [schedules.guidance_at(schedule, s) for s in range(4)] == [1.5, 1.5, 1.5, 1.0]
    assert schedules.block_evaluations(schedule) == 12 * 2 + 6 + 6 * 2 + 10 * 2
    assert schedule.measured[0].interval == (40.1, 42.4)
    assert schedule.provenance == schedules.Provenance("a study", 17, "0.1.0", "2026-11-21T08:00:00Z")
    assert schedules.parse(schedules.dumps(schedule)) == schedule


def test_defaults_are_left_out() -> None:
    written = json.loads(schedules.canonical(schedules.parse(EXAMPLE)))
    assert "requires" not in written
    assert written["guidance"] == {"scale": 1.5}
    assert written["networks"] == [{"architecture": "DiT", "granularity": "block", "kinds": [["residual", 12]]}]
    assert sorted(written["sampler"]) == ["name", "noise", "order", "prediction", "time", "variant"]


def test_what_a_step_inherits_is_left_out() -> None:
    step = {"time": 500, "exit": 12, "network_time": 500, "guidance": 1.5, "network": 0, "unconditional": "run"}
    written = json.loads(schedules.canonical(parse(changed(step2=step))))
    assert written["steps"][2] == {"time": 500.0, "blocks": [["run", 12]]}


def test_exit_and_split_runs_become_merged_blocks() -> None:
    split = [["run", 2], ["run", 4], ["drop", 5], ["drop", 1]]
    written = json.loads(
        schedules.canonical(parse(changed(step2={"time": 500, "exit": 6}, step3={"time": 1, "blocks": split})))
    )
    assert written["steps"][2]["blocks"] == written["steps"][3]["blocks"] == [["run", 6], ["drop", 6]]


def test_kinds_are_merged() -> None:
    networks = [{"architecture": "DiT", "granularity": "block", "kinds": [["residual", 5], ["residual", 7]]}]
    assert parse(changed(networks=networks)).networks[0].kinds == (("residual", 12),)


def test_canonical_text_is_pinned() -> None:
    """The digest is what stores and other languages depend on: it may never change."""
    schedule = replace(staircase([999, 0.5]), guidance=Guidance(1e-5), name="ignored")
    text = (
        b'{"format":"exeunt.schedule","guidance":{"scale":1e-05},"name":"ignored","networks":[{"architecture":"DiT",'
        b'"granularity":"block","kinds":[["residual",12]]}],"sampler":{"name":"ddim","noise":{"beta_end":0.02,'
        b'"beta_start":0.0001,"kind":"linear","num_train_timesteps":1000},"prediction":"epsilon","time":"train-index"},'
        b'"steps":[{"blocks":[["run",12]],"time":999.0},{"blocks":[["run",12]],"time":0.5}],"version":1}'
    )
    assert schedules.canonical(schedule) == text
    assert schedule.digest == hashlib.sha256(text.replace(b'"name":"ignored",', b"")).hexdigest()


def test_the_digest_ignores_what_only_describes() -> None:
    plain = schedules.parse(EXAMPLE)
    noted = json.loads(EXAMPLE) | {"x-note": [1, 2], "name": "another", "measured": [], "provenance": None}
    noted["sampler"]["noise"]["x-source"] = "card"
    assert parse(noted).digest == plain.digest
    assert parse(changed(step1={"time": 946, "exit": 6})).digest != plain.digest
    assert replace(plain, guidance=Guidance(1.6)).digest != plain.digest


def test_numbers_have_one_spelling() -> None:
    whole, point = staircase([999, 0]), staircase([999.0, -0.0])
    assert schedules.canonical(whole) == schedules.canonical(point)
    assert whole.digest == schedules.parse(schedules.dumps(point)).digest


def test_own_keys_are_kept_everywhere() -> None:
    document = json.loads(EXAMPLE) | {"x-a": {"b": [1, None, "é"], "a": 1e-7}}
    for part in (document["networks"][0], document["sampler"], document["sampler"]["noise"], document["guidance"]):
        part["x-b"] = True
    for part in (document["steps"][0], document["measured"][0], document["provenance"]):
        part["x-c"] = "kept"
    document["guidance"] = {"embedded": 3.5, "x-b": True}
    document["steps"][1].pop("unconditional")
    written = json.loads(schedules.dumps(parse(document)))
    assert written["x-a"] == document["x-a"]
    assert written["sampler"]["noise"]["x-b"] is True
    assert written["guidance"] == document["guidance"]
    assert written["steps"][0]["x-c"] == written["measured"][0]["x-c"] == written["provenance"]["x-c"] == "kept"


def test_save_writes_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a.schedule.json"
    schedule = schedules.parse(EXAMPLE)
    schedules.save(schedule, path)
    assert schedules.load(path) == schedule
    assert [step for step in path.read_text().splitlines() if '"time": 946.0' in step], "one line a step"
    with pytest.raises(ScheduleError, match="must be finite"):
        schedules.save(replace(schedule, guidance=Guidance(float("nan"))), path)
    assert schedules.load(path) == schedule
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_that_cannot_be_written_says_where() -> None:
    schedule = replace(staircase([999, 0]), guidance=Guidance(float("inf")))
    for use in (schedules.canonical, schedules.dumps, schedules.validate, lambda value: value.digest):
        with pytest.raises(ScheduleError, match="guidance: scale must be finite, but got inf"):
            use(schedule)


def test_an_absent_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"none.*No such file.*Give the path") as refusal:
        schedules.load(tmp_path / "none.schedule.json")
    assert refusal.value.identifier == "unreadable"
    assert refusal.value.exit_code == 2


# ---- what is legal ---------------------------------------------------------------------------------------------------

ROW = {"input_scale": 1.0, "model_x": 0.0, "model_f": 1.0, "a": 0.9, "b": [0.1]}


def test_solvers_that_evaluate_twice_may_repeat_a_time() -> None:
    document = changed(step1={"time": 999, "exit": 12}, sampler=json.loads(EXAMPLE)["sampler"] | {"name": "heun"})
    assert parse(document).steps[1].time == 999.0


def test_coefficients_allow_any_solver_and_equal_times() -> None:
    document = json.loads(EXAMPLE)
    document["sampler"]["name"] = "a solver of tomorrow"
    for step in document["steps"]:
        step |= {"time": 500.0, "coefficients": ROW}
    document["steps"][0]["coefficients"] = ROW | {"b": [0.1, 0.0]}  # a fixed width, with nothing to look back at
    schedule = parse(document)
    assert schedule.steps[1].coefficients == Coefficients(1.0, 0.0, 1.0, 0.9, (0.1,))


def test_learned_variance_stands_in_place_of_c() -> None:
    document = json.loads(EXAMPLE)
    document["sampler"]["variance"] = "learned-range"
    for step in document["steps"][:-1]:
        step["coefficients"] = ROW | {"log_variance": [-3.0, -2.0]}
    document["steps"][-1]["coefficients"] = ROW
    assert parse(document).steps[0].coefficients == Coefficients(1.0, 0.0, 1.0, 0.9, (0.1,), 0.0, (-3.0, -2.0))


def test_caches_belong_to_a_network_and_a_branch() -> None:
    network = json.loads(EXAMPLE)["networks"][0]
    steps = [{"time": 900, "exit": 12}, {"time": 800, "exit": 12, "network": 1}]
    last = {"time": 700, "blocks": [["reuse", 12]], "network": 1}
    assert parse(changed(networks=[network, network], steps=[*steps, last])).num_steps == 3
    skipped = [steps[0], steps[1] | {"unconditional": "skip"}, last]
    with pytest.raises(ScheduleError, match="unconditional branch"):
        parse(changed(networks=[network, network], steps=skipped))
    assert parse(changed(networks=[network, network], steps=[*skipped[:2], last | {"unconditional": "skip"}]))


def test_embedded_guidance_is_one_evaluation() -> None:
    document = changed(guidance={"embedded": 3.5})
    del document["steps"][1]["unconditional"]
    schedule = parse(document)
    assert [schedules.embedded_guidance_at(schedule, s) for s in (0, 3)] == [3.5, 1.0]
    assert schedules.guidance_at(schedule, 0) is None
    assert schedules.branches_at(schedule, 0) == ("conditional",)


def test_the_unconditional_output_may_be_reused() -> None:
    step = {"time": 946, "exit": 12, "unconditional": "reuse"}
    schedule = parse(changed(step1=step))
    assert schedules.branches_at(schedule, 1) == ("conditional",)


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_the_corpus_is_there() -> None:
    assert len(BAD) >= 30


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name.removesuffix(schedules.SUFFIX))
def test_bad_files_are_refused_by_name(path: Path) -> None:
    with pytest.raises(ScheduleError) as refusal:
        schedules.load(path)
    assert refusal.value.identifier == path.name.split(".")[0]
    rule, value = str(refusal.value).removeprefix(f"{path}: ").split(", but got ", 1)
    fix = value.rsplit(". ", 1)[-1] if ". " in value else ""
    assert rule
    assert fix, "a message ends with what to do"
    assert str(refusal.value).isascii()


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name.removesuffix(schedules.SUFFIX))
def test_the_schema_refuses_structural_errors_too(path: Path) -> None:
    if path.name.split(".")[0] in STRUCTURAL:
        assert not VALIDATOR.is_valid(json.loads(path.read_bytes()))


def test_the_schema_itself_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert VALIDATOR.is_valid(json.loads(EXAMPLE))


def test_a_wrong_action_is_refused_when_it_is_made() -> None:
    with pytest.raises(ScheduleError, match="order of a forecast must be 1 or 2"):
        forecast(3)
    with pytest.raises(ScheduleError, match="must be run, drop, reuse or forecast"):
        schedules.Action("skip")


def test_a_file_beyond_eight_megabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.schedule.json"
    path.write_text(EXAMPLE + " " * schedules.MAX_BYTES)
    for read in (lambda: schedules.load(path), lambda: schedules.parse(path.read_bytes())):
        with pytest.raises(ScheduleError, match="at most 8000000 bytes") as refusal:
            read()
        assert refusal.value.identifier == "too-large"


def test_short_text_cannot_make_a_large_schedule() -> None:
    networks = [{"architecture": "DiT", "granularity": "block", "kinds": [["residual", 10_000]]}]
    document = changed(networks=networks, steps=[{"time": 999, "exit": 1}] * 401)
    with pytest.raises(ScheduleError, match="steps x blocks must be at most"):
        parse(document)


@pytest.mark.parametrize("text", ["é", "\ud800", b"\xff"])
def test_text_that_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ScheduleError) as refusal:
        schedules.parse(text)
    assert refusal.value.identifier in ("not-json", "not-utf8")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_value_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    """Whatever stands in the place of any value of the example, the only error is ScheduleError."""
    document = json.loads(EXAMPLE)
    document["steps"][0]["coefficients"] = dict(ROW)
    parent: Any = document
    while True:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(parent[key], dict | list) and parent[key] and data.draw(st.booleans())):
            break
        parent = parent[key]
    parent[key] = data.draw(JSON_VALUES)
    try:
        schedule = schedules.parse(json.dumps(document))
    except ScheduleError:
        return
    assert schedules.parse(schedules.canonical(schedule)) == schedules.parse(schedules.dumps(schedule))


# ---- reading and writing is the identity -----------------------------------------------------------------------------

FLOATS = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-6, 1e6)
BETA = st.floats(1e-6, 0.5)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
EXTRAS = st.dictionaries(
    TEXT.map("x-{}".format), st.integers(-9, 9) | TEXT | st.lists(FLOATS, max_size=2), max_size=1
).map(lambda keys: tuple((key, json.dumps(value, ensure_ascii=False)) for key, value in keys.items()))
DISCRETE = st.one_of(
    st.builds(schedules.Noise, st.sampled_from(["linear", "scaled-linear"]), BETA, st.floats(0.5, 0.9), st.just(1000)),
    st.builds(schedules.Noise, st.just("cosine"), num_train_timesteps=st.just(1000)),
    st.builds(schedules.Noise, st.just("betas"), betas=st.just((0.25,) * 1000), extras=EXTRAS),
)
CONTINUOUS = st.one_of(
    st.builds(schedules.Noise, st.just("vp"), beta_min=st.floats(0.01, 0.1), beta_max=st.floats(1, 30)),
    st.builds(schedules.Noise, st.just("edm"), sigma_max=st.none() | POSITIVE),
)


def samplers(time: str, carried: bool, learned: bool) -> st.SearchStrategy[schedules.Sampler]:
    noise = {
        "train-index": DISCRETE,
        "sigma": st.one_of(DISCRETE, CONTINUOUS),
        "flow": st.just(schedules.Noise("flow")),
    }
    predictions = ["epsilon", "v", "sample", *{"flow": ["flow"], "sigma": ["edm"]}.get(time, [])]
    return st.builds(
        lambda prediction, **rest: schedules.Sampler(
            prediction=prediction, sigma_data=0.5 if prediction == "edm" else None, **rest
        ),
        prediction=st.sampled_from(predictions),
        name=TEXT if carried else st.sampled_from(["ddpm", "ddim", "dpmsolver++", "unipc"]),
        time=st.just(time),
        noise=noise[time],
        variant=st.none() | TEXT,
        order=st.integers(1, 4),
        lower_order_final=st.booleans(),
        final=st.just("zero"),
        initial_scale=POSITIVE,
        clip=st.none() | POSITIVE,
        variance=st.just("learned-range") if learned else st.sampled_from(["none", "fixed-small", "fixed-large"]),
        extras=EXTRAS,
    )


@st.composite
def any_schedules(draw: st.DrawFn) -> Schedule:
    """Valid schedules that use every key of the format."""
    kind, carried, learned = draw(st.sampled_from(schedules.TIMES)), draw(st.booleans()), draw(st.booleans())
    network = st.builds(
        schedules.NetworkSignature,
        architecture=TEXT,
        granularity=st.just("branch"),
        kinds=st.lists(st.tuples(st.sampled_from(schedules.KINDS), st.integers(1, 3)), min_size=1, max_size=3).map(
            tuple
        ),
        weights_sha256=st.none() | st.just("0123456789abcdef" * 4),
        extras=EXTRAS,
    )
    networks = tuple(draw(st.lists(network, min_size=1, max_size=2)))
    guidance = draw(
        st.none()
        | st.builds(Guidance, FLOATS, st.just("all") | st.integers(1, 4), EXTRAS)
        | st.builds(schedules.Embedded, FLOATS, EXTRAS)
    )
    count = draw(st.integers(1, 5))
    times = draw(st.lists(st.floats(1e-3, 1), min_size=count, max_size=count, unique=True))
    scale = {"train-index": 999, "sigma": 80, "flow": 1}[kind]
    steps = []
    for s, t in enumerate(sorted((scale * t for t in set(times)), reverse=True)):
        index = draw(st.integers(0, len(networks) - 1))
        own = draw(st.sampled_from(["inherit", None]) | (FLOATS if guidance else st.nothing()))
        guided = isinstance(guidance, Guidance) and own is not None
        row = Coefficients(*draw(st.tuples(*[FLOATS] * 4)), b=tuple(draw(st.lists(FLOATS, min_size=1, max_size=s + 1))))
        if learned and s < count - 1:
            row = replace(row, log_variance=(-3.0, draw(st.floats(-2, 0))))
        elif not learned:
            row = replace(row, c=draw(FLOATS))
        kinds = networks[index].block_kinds
        steps.append(
            Step(
                time=t,
                blocks=tuple(draw(st.sampled_from([RUN] if kind == "replace" else [RUN, DROP])) for kind in kinds),
                network=index,
                network_time=draw(st.none() | FLOATS),
                guidance=own,
                unconditional=draw(st.sampled_from(["run", "skip"])) if guided else "run",
                coefficients=row if carried else None,
                extras=draw(EXTRAS),
            )
        )
    measurement = st.builds(
        schedules.Measurement,
        TEXT,
        FLOATS,
        st.integers(1, 9),
        st.none() | st.just((1.0, 2.0)),
        st.none() | FLOATS,
        extras=EXTRAS,
    )
    return Schedule(
        networks=networks,
        sampler=draw(samplers(kind, carried, learned)),
        steps=tuple(steps),
        guidance=guidance,
        name=draw(st.none() | TEXT),
        measured=tuple(draw(st.lists(measurement, max_size=2))),
        provenance=draw(st.none() | st.builds(schedules.Provenance, st.none() | TEXT, st.none() | st.integers(0, 9))),
        extras=draw(EXTRAS),
    )


@given(any_schedules())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_reading_then_writing_is_the_identity(schedule: Schedule) -> None:
    canonical = schedules.canonical(schedule)
    assert schedules.canonical(schedules.parse(canonical)) == canonical
    read = schedules.parse(schedules.dumps(schedule))
    assert schedules.canonical(read) == canonical
    assert read.digest == schedule.digest
    VALIDATOR.validate(json.loads(canonical))


# ---- versions, size, independence ------------------------------------------------------------------------------------


def test_an_older_version_goes_through_the_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_first(document: dict[str, Any]) -> dict[str, Any]:
        return document | {"version": 2, "name": document["name"] + ", migrated"}

    monkeypatch.setattr(schedules, "VERSION", 2)
    monkeypatch.setitem(schedules.MIGRATIONS, 1, from_first)
    assert schedules.parse(EXAMPLE).name == "fashion-dit, knee, migrated"


def test_the_work_of_reading_grows_with_the_file_alone() -> None:
    """Counted in calls, which no busy machine changes."""
    assert _calls_to_read(200) < 2.1 * _calls_to_read(100)


def _calls_to_read(steps: int) -> int:
    blocks = [["run", 1], ["reuse", 1]] * 57
    rows = [{"time": 999.0, "exit": 114}] + [{"time": 999.0 - 0.9 * s, "blocks": blocks} for s in range(1, steps)]
    networks = [{"architecture": "DiT", "granularity": "block", "kinds": [["residual", 114]]}]
    text = json.dumps(changed(networks=networks, steps=rows, guidance=None))
    calls = Counter[str]()
    previous = sys.getprofile()
    sys.setprofile(lambda _frame, event, _what: calls.update([event]))
    try:
        schedule = schedules.parse(text)
    finally:
        sys.setprofile(previous)
    assert schedules.block_evaluations(schedule) == 114 + (steps - 1) * 57
    return calls["call"] + calls["c_call"]


def test_the_file_can_be_vendored(tmp_path: Path) -> None:
    """It imports the standard library alone, and works as a lone file in a bare interpreter."""
    source = Path(schedules.__file__).read_text()
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all(not getattr(node, "level", 0) for node in nodes)
    names = {(node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or "" for node in nodes}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    (tmp_path / "vendored.py").write_text(source)
    (tmp_path / "a.schedule.json").write_text(EXAMPLE)
    script = "import sys; sys.path.insert(0, sys.argv[1]); import vendored; print(vendored.load(sys.argv[2]).digest)"
    command = [sys.executable, "-I", "-S", "-c", script, str(tmp_path), str(tmp_path / "a.schedule.json")]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == schedules.parse(EXAMPLE).digest


# ---- exits and ASE ---------------------------------------------------------------------------------------------------


def test_exits_replace_the_blocks_and_drop_what_describes() -> None:
    schedule = schedules.with_exits(schedules.parse(EXAMPLE), [12, 6, 6, 3], REUSE)
    assert schedules.depths(schedule) == [12, 6, 6, 3]
    assert schedule.steps[1].blocks == (RUN,) * 6 + (REUSE,) * 6
    assert (schedule.name, schedule.measured, schedule.provenance) == (None, (), None)
    assert schedule.steps[1].unconditional == "skip"


@pytest.mark.parametrize(("depths", "identifier"), [([12] * 3, "exit-count"), ([12, 12, 13, 12], "exit-range")])
def test_exits_must_fit(depths: list[int], identifier: str) -> None:
    with pytest.raises(ScheduleError) as refusal:
        schedules.with_exits(schedules.parse(EXAMPLE), depths)
    assert refusal.value.identifier == identifier


# ---- the documentation -----------------------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parents[2] / "docs" / "schedule-format.md"


def test_documented_schedules_are_valid() -> None:
    text = DOCUMENT.read_text()
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        schedules.parse(block)
        VALIDATOR.validate(json.loads(block))
    assert schedules.parse(blocks[0]).digest in text


def raised_by(module: ModuleType) -> set[str]:
    return set(re.findall(r'_(?:fail|refuse)\(\s*"([a-z0-9-]+)"', Path(str(module.__file__)).read_text()))


def test_every_identifier_is_documented() -> None:
    raised = {name for module in (schedules, ase) for name in raised_by(module)}
    assert raised <= set(re.findall(r"`([a-z0-9-]+)`", DOCUMENT.read_text()))


def test_every_identifier_of_a_file_is_in_the_corpus() -> None:
    raised = raised_by(schedules)
    of_programs = {"exit-count", "unreadable", "too-large"}
    found = {path.name.split(".")[0] for path in BAD}
    assert raised - of_programs == found
