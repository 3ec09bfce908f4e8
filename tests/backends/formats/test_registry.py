"""The files of other runtimes: read back as they were written, refused by name where they can't say a schedule."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml
from exeunt.backends.errors import InputError
from exeunt.backends.formats.branches import by_branch
from exeunt.backends.formats.parsing import numbers
from exeunt.backends.formats.registry import FORMATS, find_format, left_out, named_by_suffix, sniff
from exeunt.backends.schedule import (
    DROP,
    REUSE,
    RUN,
    Action,
    Embedded,
    ExeuntError,
    Guidance,
    NetworkSignature,
    Noise,
    Schedule,
    ScheduleError,
    forecast,
    parse,
)
from exeunt.backends.solvers.tables import make_schedule, solver_rows
from hypothesis import given, settings
from hypothesis import strategies as st

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
TIMES = [999.0, 700.5, 400.0, 12.0]


def full(
    architecture: str = "DiT", blocks: int = 4, times: list[float] = TIMES, guidance: float | None = None
) -> Schedule:
    signature = NetworkSignature(architecture, "block", (("residual", blocks),))
    return make_schedule(signature, LINEAR, "epsilon", solver="ddim", spacing=times, guidance=guidance)


def with_rows(base: Schedule, actions: list[list[Action]]) -> Schedule:
    steps = tuple(replace(step, blocks=tuple(row)) for step, row in zip(base.steps, actions, strict=True))
    return replace(base, steps=steps)


def refused(act: Callable[[], Any]) -> str:
    """The message; every refusal is one line, with what was found and a fix in a sentence of its own."""
    with pytest.raises(ExeuntError) as caught:
        act()
    message = str(caught.value)
    assert isinstance(caught.value, InputError | ScheduleError)
    assert "but got" in message
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def actions(num_steps: int, width: int, *, per_block: int = 1) -> st.SearchStrategy[list[list[Action]]]:
    """A first step that runs and later ones that run or reuse."""
    row = st.lists(st.sampled_from([RUN, REUSE]), min_size=width, max_size=width)
    later = st.lists(row, min_size=num_steps - 1, max_size=num_steps - 1)
    return later.map(lambda rows: [[a for a in row for _ in range(per_block)] for row in ([[RUN] * width, *rows])])


# ---- what is written reads back --------------------------------------------------------------------------------------


@given(st.sampled_from([("DiT", 2), ("DiTTransformer2DModel", 2), ("PixArtTransformer2DModel", 3)]), st.data())
@settings(max_examples=60, deadline=None)
def test_smoothcache_reads_back(network: tuple[str, int], data: st.DataObject) -> None:
    base = by_branch(full(network[0]))
    schedule = with_rows(base, data.draw(actions(4, 4 * network[1])))
    text = FORMATS["smoothcache"].write(schedule)
    assert sniff(text) == "smoothcache"
    assert FORMATS["smoothcache"].read(text, base) == schedule
    assert FORMATS["smoothcache"].read(text, full(network[0])) == schedule


@given(actions(4, 12), st.sampled_from([None, 4.5]), st.text(min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_ecad_reads_back(rows: list[list[Action]], guidance: float | None, name: str) -> None:
    base = by_branch(full("PixArtTransformer2DModel", guidance=guidance))
    schedule = replace(with_rows(base, rows), name=name)
    text = FORMATS["ecad"].write(schedule)
    assert sniff(text) == "ecad"
    read = FORMATS["ecad"].read(text, base)
    assert (read.digest, read.name) == (schedule.digest, schedule.name)


@given(st.lists(st.booleans(), min_size=3, max_size=3), st.integers(1, 6), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_cache_dit_reads_back(mask: list[bool], first: int, last: int) -> None:
    base = full(blocks=7)
    last = min(last, 7 - first)
    cached = [RUN] * first + [REUSE] * (7 - first - last) + [RUN] * last
    schedule = with_rows(base, [[RUN] * 7, *([RUN] * 7 if run else cached for run in mask)])
    text = FORMATS["cache-dit"].write(schedule)
    assert sniff(text) == "cache-dit"
    assert FORMATS["cache-dit"].read(text, base) == schedule


@given(st.lists(st.floats(0, 900), max_size=12, unique=True))
@settings(max_examples=60, deadline=None)
def test_times_read_back(times: list[float]) -> None:
    schedule = full(times=[999.0, *sorted(times, reverse=True)])
    text = FORMATS["timesteps"].write(schedule)
    assert sniff(text) == "timesteps"
    assert FORMATS["timesteps"].read(text, full()) == schedule


@given(st.lists(st.integers(0, 28), min_size=10, max_size=10))
@settings(max_examples=40, deadline=None)
def test_ten_depths_read_back(depths: list[int]) -> None:
    base = full(blocks=28, times=[float(100 * k + 50) for k in range(9, -1, -1)])
    text = ",".join(map(str, depths))
    assert json.loads(FORMATS["ase"].write(FORMATS["ase"].read(text, base))) == depths


@given(actions(4, 4), st.sampled_from(["exeunt", "schedule"]))
@settings(max_examples=30, deadline=None)
def test_our_own_files_read_back(rows_: list[list[Action]], name: str) -> None:
    schedule = with_rows(full(guidance=1.5), rows_)
    read = FORMATS[name].read(FORMATS[name].write(schedule), None)
    bare = replace(read, steps=tuple(replace(step, coefficients=None) for step in read.steps))
    assert bare == schedule
    carried = [step.coefficients for step in read.steps]
    assert carried == (solver_rows(schedule) if name == "exeunt" else [None] * 4)


# ---- SmoothCache -----------------------------------------------------------------------------------------------------


def test_smoothcache_lists_are_general_where_blocks_agree() -> None:
    """As the schedules of FORA that come with it."""
    base = by_branch(full())
    schedule = with_rows(base, [[RUN] * 8, [REUSE, RUN] * 4, [REUSE] * 8, [RUN] * 8])
    assert json.loads(FORMATS["smoothcache"].write(schedule)) == {"attn": [1, 0, 0, 1], "mlp": [1, 1, 0, 1]}


def test_smoothcache_own_lists_overrule_general_ones_and_what_has_no_list_is_computed() -> None:
    text = '{"attn": [1, 0, 0, 1], "attn-2": [1, 1, 1, 0], "mlp-3": [1, 1, 0, 1]}'
    read = FORMATS["smoothcache"].read(text, full())
    runs = [[action == RUN for action in step.blocks] for step in read.steps]
    attention, mlp = [list(column) for column in zip(*runs, strict=True)][::2], [row[1::2] for row in runs]
    assert attention == [[True, False, False, True]] * 2 + [[True, True, True, False], [True, False, False, True]]
    assert mlp == [[True] * 4, [True] * 4, [True, True, True, False], [True] * 4]


def test_smoothcache_computes_what_was_never_stored() -> None:
    read = FORMATS["smoothcache"].read('{"attn": [0, 0, 1, 0]}', full())
    assert [step.blocks[0] for step in read.steps] == [RUN, REUSE, RUN, REUSE]


def test_files_for_the_original_dit_fit_the_same_network_of_diffusers() -> None:
    text = '{"attn-1": [1, 0, 1, 1], "mlp": [1, 1, 0, 1]}'
    diffusers = FORMATS["smoothcache"].read(text, full("DiTTransformer2DModel"))
    original = FORMATS["smoothcache"].read(text, full())
    assert [step.blocks for step in diffusers.steps] == [step.blocks for step in original.steps]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"attn-4": [1, 1, 1, 1]}', "from 0 to 3"),
        ('{"attn-x": [1, 1, 1, 1]}', "from 0 to 3"),
        ('{"attn2-0": [1, 1, 1, 1]}', 'Write such as "attn-0"'),
        ('{"attn-0": [1, 1, 1]}', "Give --base a schedule of 3 steps"),
        ('{"attn-0": [1, 2, 1, 1]}', "step 1 must be 0 (reuse) or 1 (compute)"),
        ('{"attn-0": [true, false, true, true]}', "step 0 must be 0"),
        ('{"attn-0": 1}', "must be a list"),
        ('{"attn-0": [1, 1, 1, 1], "attn-0": [1, 0, 1, 1]}', "must be unique"),
        ('{"attn-0": [1, 1, 1, 1], "attn-00": [1, 0, 1, 1]}', "one list"),
        ("[1, 0, 1, 1]", "must be an object"),
        ('{"attn-0": [1, NaN]}', "finite"),
        ('{"attn-0"', "must be JSON"),
        ("[" * 100_000, "must be JSON"),
    ],
)
def test_smoothcache_files_that_are_refused(text: str, said: str) -> None:
    assert said in refused(lambda: FORMATS["smoothcache"].read(text, full()))


def test_reuse_of_whole_blocks_is_no_reuse_of_branches() -> None:
    """The stored residual has the old gates in it; with an explicit change of granularity there are new actions."""
    schedule = with_rows(full(), [[RUN] * 4, [RUN, REUSE, REUSE, RUN], [RUN] * 4, [RUN] * 4])
    for name, each in (("smoothcache", schedule), ("ecad", pixart(schedule))):
        assert "--granularity branch" in refused(lambda name=name, each=each: FORMATS[name].write(each))
    written = json.loads(FORMATS["smoothcache"].write(by_branch(schedule)))
    assert written["attn-1"] == written["mlp-2"] == [1, 0, 1, 1]
    assert json.loads(FORMATS["smoothcache"].write(full())) == {"attn": [1] * 4, "mlp": [1] * 4}


def pixart(schedule: Schedule) -> Schedule:
    (network,) = schedule.networks
    return replace(schedule, networks=(replace(network, architecture="PixArtTransformer2DModel"),))


def test_smoothcache_is_for_networks_that_are_called_once_a_step() -> None:
    wan = by_branch(full("WanTransformer3DModel"))
    assert wan.networks[0].kinds == (("branch", 12),)
    assert "`WanTransformer3DModel`" in refused(lambda: FORMATS["smoothcache"].write(wan))
    assert "`WanTransformer3DModel`" in refused(lambda: FORMATS["smoothcache"].read("{}", wan))


def test_networks_whose_branches_are_not_known_stay_at_blocks() -> None:
    assert "Use whole blocks" in refused(lambda: by_branch(full("FluxTransformer2DModel")))
    stages = replace(full(), networks=(NetworkSignature("DiT", "block", (("residual", 3), ("merge", 1))),))
    assert 'got "merge"' in refused(lambda: by_branch(stages))
    odd = replace(full(), networks=(NetworkSignature("DiT", "branch", (("branch", 5),)),))
    assert "2 branches a block" in refused(lambda: FORMATS["smoothcache"].read("{}", odd))


# ---- ECAD ------------------------------------------------------------------------------------------------------------


def ecad(**changes: Any) -> str:
    """A file for one block and two steps, as ECAD's `to_json` lays it out."""
    component = {"attn1": True, "attn2": False, "ff": True}
    content = {
        "num_blocks": 1,
        "num_inference_steps": 2,
        "name": "ours_fast",
        "attributes": {"num_affected_steps": 1},
        "schedule": {"000": {"0": dict.fromkeys(component, True)}, "001": {"0": component}},
    }
    config = {"height": 256, "guidance_scale": 4.5}
    return json.dumps({"cache_schedule": content | changes, "config": config, "metrics": {"total_macs": 1}})


ECAD_BASE = full("PixArtTransformer2DModel", blocks=1, times=[900.0, 100.0], guidance=4.5)


def test_ecad_keeps_what_else_a_file_carries() -> None:
    read = FORMATS["ecad"].read(ecad(), ECAD_BASE)
    assert [step.blocks for step in read.steps] == [(RUN, RUN, RUN), (RUN, REUSE, RUN)]
    assert read.name == "ours_fast"
    assert parse(FORMATS["schedule"].write(read)) == read
    assert json.loads(FORMATS["ecad"].write(read)) == json.loads(ecad())


def test_ecad_files_name_steps_blocks_and_components() -> None:
    written = json.loads(FORMATS["ecad"].write(by_branch(ECAD_BASE)))
    assert written["cache_schedule"]["schedule"]["001"]["0"] == {"attn1": True, "attn2": True, "ff": True}
    assert written["config"] == {"guidance_scale": 4.5}
    assert written == json.loads(FORMATS["ecad"].write(ECAD_BASE)) | {"cache_schedule": written["cache_schedule"]}


FULL_BLOCK = {"0": {"attn1": True, "attn2": True, "ff": True}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_inference_steps": 20}, "Give --base a schedule of 20 steps"),
        ({"num_blocks": 28}, "the network that the file is for"),
        ({"num_single_blocks": 38}, "which is for FluxTransformer2DModel"),
        ({"schedule": {"000": FULL_BLOCK}}, '"000" to "001"'),
        ({"schedule": {"000": FULL_BLOCK, "0": FULL_BLOCK}}, '"000" to "001"'),
        ({"schedule": {"000": FULL_BLOCK, "001": {"1": FULL_BLOCK["0"]}}}, 'must be "0" to "0"'),
        ({"schedule": {"000": FULL_BLOCK, "001": {"0": {"attn1": True, "ff": True}}}}, '"attn2" must be given'),
        ({"schedule": {"000": FULL_BLOCK, "001": {"0": FULL_BLOCK["0"] | {"mlp": True}}}}, "must be known"),
        ({"schedule": {"000": FULL_BLOCK, "001": {"0": FULL_BLOCK["0"] | {"ff": 1}}}}, "must be true"),
        (
            {
                "schedule": {
                    "000": FULL_BLOCK,
                    "001": {"0": FULL_BLOCK["0"] | {"custom_compute_attn": {"name": "compute_attn_tgate"}}},
                }
            },
            "custom_compute_attn",
        ),
        ({"name": 3}, "must be a text"),
        ({"schedule": []}, "must be an object"),
    ],
)
def test_ecad_files_that_are_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refused(lambda: FORMATS["ecad"].read(ecad(**changes), ECAD_BASE))


def flux_base(double: int = 2, single: int = 3) -> Schedule:
    signature = NetworkSignature("FluxTransformer2DModel", "block", (("residual", double + single),))
    return make_schedule(signature, Noise("flow"), "flow", num_steps=2, guidance=Embedded(5.0))


def flux_ecad(single: dict[str, bool] | None = None, num_single: int = 3) -> str:
    """All computed, then all but what the prompt's MLP and the last linear layer give."""
    steps: dict[str, Any] = {}
    for name, run in (("000", True), ("001", False)):
        double = {"full_attn": run, "full_ff": run, "full_ff_context": True}
        one = {"single_attn": run, "single_proj_mlp": run, "single_proj_out": True}
        steps[name] = {"0": double, "1": double} | {f"single_{j}": one for j in range(num_single)}
    steps["001"]["single_1"] = single or steps["001"]["single_1"]
    counts = {"num_blocks": 2, "num_single_blocks": num_single, "num_inference_steps": 2}
    return json.dumps({"cache_schedule": counts | {"schedule": steps}, "config": {"guidance_scale": 5.0}})


def test_ecad_reads_flux_by_its_branches() -> None:
    read = FORMATS["ecad"].read(flux_ecad(), flux_base())
    assert read.networks[0].kinds == (("branch", 2 * 3 + 3),)
    assert read.steps[0].blocks == (RUN,) * 9
    assert read.steps[1].blocks == (REUSE, REUSE, RUN) * 2 + (REUSE,) * 3


@pytest.mark.parametrize(
    ("text", "base", "said"),
    [
        (flux_ecad(), full("PixArtTransformer2DModel"), "which is for FluxTransformer2DModel"),
        (flux_ecad(), full("DiT"), "every key must be known of DiT"),
        (flux_ecad(), flux_base(19, 38), "must be that of --base, 57, but got 5 (2 and 3 blocks)"),
        (ecad(), flux_base(), "a file for PixArtTransformer2DModel"),
        (flux_ecad({"single_attn": True, "single_proj_mlp": False, "single_proj_out": True}), flux_base(), "together"),
        (flux_ecad({"single_attn": True, "single_proj_mlp": True, "single_proj_out": False}), flux_base(), "with them"),
    ],
)
def test_ecad_files_of_flux_that_are_refused(text: str, base: Schedule, said: str) -> None:
    assert said in refused(lambda: FORMATS["ecad"].read(text, base))


def test_ecad_is_for_networks_whose_components_it_names_and_for_the_guidance_it_states() -> None:
    assert "PixArtTransformer2DModel" in refused(lambda: FORMATS["ecad"].write(by_branch(full())))
    other = replace(ECAD_BASE, guidance=Guidance(2.0))
    assert "guidance_scale must be that of --base, 2.0" in refused(lambda: FORMATS["ecad"].read(ecad(), other))


# ---- cache-dit -------------------------------------------------------------------------------------------------------


def test_cache_dit_files_say_what_the_package_reads() -> None:
    cached = [RUN, REUSE, REUSE, RUN]
    schedule = with_rows(full(), [[RUN] * 4, cached, [RUN] * 4, cached])
    assert yaml.safe_load(FORMATS["cache-dit"].write(schedule)) == {
        "cache_config": {
            "num_inference_steps": 4,
            "steps_computation_mask": [1, 0, 1, 0],
            "steps_computation_policy": "static",
            "Fn_compute_blocks": 1,
            "Bn_compute_blocks": 1,
        }
    }


def test_keys_without_effect_under_a_static_mask_are_taken() -> None:
    text = """
        steps_computation_mask: [1, 0, 1, 0]
        steps_computation_policy: static
        Fn_compute_blocks: 2
        max_warmup_steps: 8
        residual_diff_threshold: 0.12
        enable_taylorseer: false
    """
    read = FORMATS["cache-dit"].read(text, full())
    assert read.steps[1].blocks == (RUN, RUN, REUSE, REUSE)


@pytest.mark.parametrize("section", ["parallelism_config: {ulysses_size: auto}", "attention_backend: native"])
def test_other_sections_are_named_and_left_out(section: str) -> None:
    flat = "steps_computation_mask: [1, 0, 1, 0]\nsteps_computation_policy: static\nFn_compute_blocks: 2\n"
    nested = "cache_config: {steps_computation_mask: [1, 0, 1, 0], steps_computation_policy: static, "
    nested += "Fn_compute_blocks: 2, taylorseer_order: 1}\n"
    for text, also in ((flat, []), (nested, ["taylorseer_order"])):
        read = FORMATS["cache-dit"].read(text + section, full())
        assert read.steps[1].blocks == (RUN, RUN, REUSE, REUSE)
        assert FORMATS["cache-dit"].unread(text + section) == [section.partition(":")[0], *also]


STATIC = "cache_config: {steps_computation_mask: [1, 0, 1, 0], steps_computation_policy: static, Fn_compute_blocks: 1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cache_config: {steps_computation_mask: [1, 0, 1, 0], Fn_compute_blocks: 1}", "static"),
        (STATIC.replace("static", "dynamic") + "}", "steps_computation_policy must be"),
        (STATIC.replace("[1, 0, 1, 0]", "fast") + "}", "cache_dit.steps_mask(total_steps=4, mask_policy="),
        (STATIC.replace("[1, 0, 1, 0]", "[0, 0, 1, 0]") + "}", "the first step must compute"),
        (STATIC.replace("[1, 0, 1, 0]", "[1, 0, 1]") + "}", "Give --base a schedule of 3 steps"),
        (STATIC + ", num_inference_steps: 28}", "Give --base a schedule of 28 steps"),
        (STATIC + ", enable_taylorseer: true}", "enable_taylorseer"),
        (STATIC + ", cache_type: DBPrune}", "cache_type"),
        (STATIC + ", force_refresh_step_hint: 2}", "force_refresh_step_hint"),
        (STATIC + ", Bn_compute_blocks: 4}", "at most 4"),
        (STATIC.replace("blocks: 1", "blocks: 0") + "}", "Fn_compute_blocks must be an integer of at least 1"),
        (STATIC + ", Bn_compute_block: 1}", 'Did you mean "Bn_compute_blocks"?'),
        (STATIC + "}\nparalelism_config: {}", 'Did you mean "parallelism_config"?'),
        (STATIC + ", Fn_compute_blocks: 2}", "must be unique"),
        ("cache_config: {steps_computation_policy: static}", '"steps_computation_mask" must be given'),
        ("cache_config: [", "must be YAML"),
        ("3", "must be an object"),
    ],
)
def test_cache_dit_files_that_are_refused(text: str, said: str) -> None:
    assert said in refused(lambda: FORMATS["cache-dit"].read(text, full()))


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ([[RUN, REUSE, RUN, REUSE], [RUN] * 4, [RUN] * 4], "block 2 running inside"),
        ([[RUN, REUSE, REUSE, RUN], [RUN, RUN, REUSE, RUN], [RUN] * 4], "Reuse 1 to 2 there too"),
        ([[REUSE] * 4, [RUN] * 4, [RUN] * 4], "the first block must run"),
        ([[RUN, DROP, DROP, DROP], [RUN] * 4, [RUN] * 4], '"drop"'),
        ([[RUN, forecast(1), RUN, RUN], [RUN] * 4, [RUN] * 4], '"forecast"'),
    ],
)
def test_what_a_static_mask_cannot_say(later: list[list[Action]], said: str) -> None:
    schedule = with_rows(full(), [[RUN] * 4, *later])
    assert said in refused(lambda: FORMATS["cache-dit"].write(schedule))


# ---- times -----------------------------------------------------------------------------------------------------------


def test_times_keep_solver_and_guidance_and_count_anew() -> None:
    base = full(guidance=1.5)
    read = FORMATS["timesteps"].read("999, 500.5,\n20", base)
    assert [step.time for step in read.steps] == [999, 500.5, 20]
    assert (read.sampler, read.guidance, read.networks) == (base.sampler, base.guidance, base.networks)
    with_rows_of_the_solver = parse(FORMATS["exeunt"].write(base))
    again = FORMATS["timesteps"].read("[999, 500.5, 20]", with_rows_of_the_solver)
    assert [step.coefficients for step in again.steps] == solver_rows(read)


@pytest.mark.parametrize(
    "text",
    [
        "999 500.5\t20",
        "tensor([999.0000, 500.5000,  20.0000], device='cuda:0')",
        "# made by numpy\n9.990000000000000000e+02\n5.005e2\n2.0e+01\n",
        "[999.  500.5  20. ]",
        "np.array([999, 500.5, 20])",
        "(999; 500.5; 20,)",
    ],
)
def test_lists_are_read_as_people_have_them(text: str) -> None:
    assert sniff(text, full()) == "timesteps"
    assert [step.time for step in FORMATS["timesteps"].read(text, full()).steps] == [999, 500.5, 20]


@pytest.mark.parametrize("text", ["1,,2", "1 2 x", "tensor([[1, 2]])", "1 [2] 3", "12-3", "1e999", "tensor(", ", ,"])
def test_what_is_no_list_of_numbers_is_none(text: str) -> None:
    assert numbers(text) is None


def test_lists_are_told_in_one_pass() -> None:
    for text in (" " * 2_000_000, ", " * 1_000_000, "a." * 1_000_000, "tensor([" + "1, device=" * 200_000):
        began = time.monotonic()
        assert numbers(text) is None
        assert time.monotonic() - began < 5


AYS = "14.615,6.475,3.861,2.697,1.886,1.396,0.963,0.652,0.399,0.152,0.029"
SD = Noise("scaled-linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000)


def on(noise: Noise, prediction: str = "epsilon") -> Schedule:
    return make_schedule(full().networks[0], noise, prediction, num_steps=5)


def test_sigmas_are_refused_over_train_indices_with_what_to_type() -> None:
    """Align Your Steps publishes the same list both ways."""
    message = refused(lambda: FORMATS["timesteps"].read(AYS, on(SD)))
    assert "must be train indices" in message
    assert "look like σ" in message
    made = message.partition("they are ")[2].partition(":")[0]
    published = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24, 0]
    read = [step.time for step in FORMATS["timesteps"].read(made, on(SD)).steps]
    assert all(abs(one - other) < 1 for one, other in zip(read, published, strict=True))


@pytest.mark.parametrize(
    ("text", "base", "said"),
    [
        ("1.0,0.75,0.5,0.25", on(SD), "flow's times"),
        ("80,20,5,1,0.1", full(), "σ"),
        ("14.6,6,3,1,0", on(Noise("flow"), "flow"), "σ"),
        ("999,750,500,250", on(Noise("flow"), "flow"), "they are 0.999,0.75,0.5,0.25:"),
        ("999,750,500,1", on(Noise("edm"), "edm"), "σ of at most 80"),
    ],
)
def test_other_units_are_refused_by_name(text: str, base: Schedule, said: str) -> None:
    message = refused(lambda: FORMATS["timesteps"].read(text, base))
    assert said in message
    if "they are " in message:
        assert FORMATS["timesteps"].read(message.partition("they are ")[2].partition(":")[0], base).num_steps >= 4


def test_times_of_networks_that_receive_something_else() -> None:
    network = NetworkSignature("FluxTransformer2DModel", "block", (("residual", 4),))
    base = replace(full(), networks=(network,))
    sampler = replace(base.sampler, name="flow-euler", time="flow", prediction="flow", noise=Noise("flow"))
    times = (1.0, 0.7, 0.4, 0.1)
    steps = tuple(replace(step, time=t, network_time=1000 * t) for step, t in zip(base.steps, times, strict=True))
    base = replace(base, sampler=sampler, steps=steps)
    assert json.loads(FORMATS["timesteps"].write(base)) == [1, 0.7, 0.4, 0.1]
    read = FORMATS["timesteps"].read("1, 0.5, 0.0", base)
    assert [(step.time, step.network_time) for step in read.steps] == [(1, 1000), (0.5, 500)]
    odd = replace(base, steps=tuple(replace(step, network_time=7.0) for step in steps))
    assert "network_time" in refused(lambda: FORMATS["timesteps"].write(odd))


@pytest.mark.parametrize("solver", ["heun", "pndm", "euler", "unipc", "ddpm"])
def test_times_are_those_that_a_solver_is_given(solver: str) -> None:
    """Each once, whatever the solver makes of them; the first noise is scaled for the first of them."""
    network = full().networks[0]
    base = make_schedule(network, LINEAR, "epsilon", solver=solver, spacing=TIMES)
    assert json.loads(FORMATS["timesteps"].write(base)) == TIMES
    times = [900.0, 500.0, 300.0, 20.0, 3.0]
    wanted = make_schedule(network, LINEAR, "epsilon", solver=solver, spacing=times)
    assert FORMATS["timesteps"].read(json.dumps(times), base) == wanted


def test_edm_s_times_are_sigmas() -> None:
    noise = Noise("edm", sigma_min=0.002, sigma_max=80.0)
    network = full().networks[0]
    base = make_schedule(network, noise, "edm", num_steps=4)
    read = FORMATS["timesteps"].read("50, 5, 0.5, 0", base)
    assert read == make_schedule(network, noise, "edm", spacing=[50.0, 5.0, 0.5])
    assert json.loads(FORMATS["timesteps"].write(read)) == [50, 5, 0.5]
    scaled = replace(base, sampler=replace(base.sampler, initial_scale=3.0))
    assert "Begin with 80" in refused(lambda: FORMATS["timesteps"].read("50, 5", scaled))


def test_times_that_no_list_makes_are_refused() -> None:
    heun = make_schedule(full().networks[0], LINEAR, "epsilon", solver="heun", spacing=TIMES)
    odd = replace(heun, steps=heun.steps[:-1])
    assert "`heun` makes from a list" in refused(lambda: FORMATS["timesteps"].write(odd))
    unknown = replace(parse(FORMATS["exeunt"].write(heun)), sampler=replace(heun.sampler, name="mine"))
    assert "named solver" in refused(lambda: FORMATS["timesteps"].read("999,0", unknown))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("999,x", "numbers with commas"),
        ("", "numbers with commas"),
        ("[true, false]", "numbers with commas"),
        ("1e999,1", "numbers with commas"),
        ("NaN,1", "numbers with commas"),
        (f"{10**400},1", "numbers with commas"),
        ("500,900", "900.0 after 500.0"),
        ("500,500", "500.0 after 500.0"),
        ("1000,500", "from 0 to 999"),
        ("500,-1", "from 0 to 999"),
    ],
)
def test_times_that_are_refused(text: str, said: str) -> None:
    assert said in refused(lambda: FORMATS["timesteps"].read(text, full()))


def test_a_list_of_times_says_nothing_of_blocks_and_own_coefficients_have_no_other_times() -> None:
    schedule = with_rows(full(), [[RUN] * 4, [RUN, RUN, RUN, DROP], [RUN] * 4, [RUN] * 4])
    assert 'step 1: every block must run, since the format has only times, but got "drop"' in refused(
        lambda: FORMATS["timesteps"].write(schedule)
    )
    own = make_schedule(full().networks[0], LINEAR, "epsilon", solver="ddim", spacing=TIMES, eta=0.5)
    assert "coefficients of its own" in refused(lambda: FORMATS["timesteps"].read("999,0", own))


# ---- every format ----------------------------------------------------------------------------------------------------

FOREIGN = ("ase", "smoothcache", "ecad", "cache-dit", "timesteps")


@pytest.mark.parametrize("name", FOREIGN)
def test_what_no_foreign_format_can_say_is_refused(name: str) -> None:
    base = pixart(full(guidance=2.0))
    first = base.steps[0]
    for change in ({"guidance": 3.0}, {"guidance": None}, {"unconditional": "skip"}):
        schedule = replace(base, steps=(replace(first, **change), *base.steps[1:]))
        assert "guidance per step" in refused(lambda schedule=schedule: FORMATS[name].write(schedule))
    two = replace(base, networks=base.networks * 2)
    assert "one network" in refused(lambda: FORMATS[name].write(two))
    assert "Give --base FILE" in refused(lambda: FORMATS[name].read("[1]", None))
    assert "one network" in refused(lambda: FORMATS[name].read("[1]", two))
    same = replace(base, steps=(replace(first, guidance=2.0), *base.steps[1:]))
    if name != "ase":
        assert FORMATS[name].write(same) == FORMATS[name].write(base)


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("action", [DROP, forecast(1)])
def test_actions_of_no_foreign_format(name: str, action: Action) -> None:
    rows_ = [[RUN] * 4, [RUN] * 4, [RUN, action, RUN, RUN], [RUN] * 4]
    message = refused(lambda: FORMATS[name].write(with_rows(pixart(full()), rows_)))
    assert "step 2" in message
    assert f'"{action.kind}"' in message


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(InputError, match="Use --to smoothcache"):
        find_format("smoothcach", "--to")
    with pytest.raises(InputError, match=r"timesteps, onnx, .* Use --format onnx"):
        find_format("onx", others=("onnx",))


def test_what_a_file_leaves_out_is_said() -> None:
    schedule = full(guidance=1.5)
    assert left_out("smoothcache", schedule) == (
        "A file of format smoothcache does not contain the solver (ddim, order 1), the 4 times (999 to 12) and "
        "guidance (1.5): set them in the runtime that reads it."
    )
    assert left_out("exeunt", schedule) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("28,28,24,24,20,20,16,16,12,12", "ase"),
        ("[28, 28, 24, 24, 20, 20, 16, 16, 12, 12]\n", "ase"),
        ("999,888,777,666,555,444,333,222,111,0", "timesteps"),
        ("999", "timesteps"),
        ('{"format": "exeunt.schedule"}', "schedule"),
        ('{"cache_config": {"num_inference_steps": 2}}', "cache-dit"),
        ("steps_computation_mask: [1, 0]", "cache-dit"),
    ],
)
def test_formats_are_told_by_content(text: str, name: str) -> None:
    assert sniff(text, full(blocks=28)) == name


@pytest.mark.parametrize("text", ["", "hello", "{}", '{"a": 1}', "[]", "\x00", "[[1]]", "a: b: c"])
def test_what_is_no_format_is_said_so(text: str) -> None:
    with pytest.raises(InputError, match="no known format"):
        sniff(text)


def test_ten_depths_of_a_deeper_network_are_depths() -> None:
    row = "28,28,24,24,20,20,16,16,12,12"
    assert sniff(row, full(blocks=12)) == "ase"
    assert "the 12 blocks of --base, but got a row for 28" in refused(lambda: FORMATS["ase"].read(row, full(blocks=12)))


def test_ten_small_falling_numbers_need_a_name() -> None:
    with pytest.raises(InputError, match="--from ase or --from timesteps"):
        sniff("10,9,8,7,6,5,4,3,2,1", full(blocks=28))


def test_ten_falling_depths_that_were_exported_are_read_back() -> None:
    depths = [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert sniff(f"{depths}\n", full(blocks=28)) == "ase"
    assert named_by_suffix("fast.ase.txt") == "ase"
    assert {named_by_suffix(f"a{kind.suffix}") for kind in FORMATS.values()} == FORMATS.keys() - {"exeunt"}
    assert named_by_suffix("fast.txt") is None


def test_formats_cost_no_torch() -> None:
    program = "import sys, exeunt.backends.formats.registry; print(*{'torch', 'numpy', 'yaml'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
