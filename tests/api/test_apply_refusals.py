"""Schedules on live pipelines: what does not fit is refused before the first network call, with the way out."""

import subprocess
import sys
from dataclasses import replace

import exeunt
import pytest
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import Embedded, Guidance
from pipeline_runs import Bench, difference, each, hooked, with_actions
from torch import nn

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class TestRefusals:
    @each("dit", "pixart-alpha", "sd3", "flux", "wan")
    def test_another_number_of_steps_before_the_first_network_call(self, bench: Bench) -> None:
        schedule, calls = bench.schedule(), list[None]()
        handle = (
            bench.pipe.transformer.proj_out.register_forward_hook(lambda *_: calls.append(None))
            if bench.kind != "dit"
            else None
        )
        exeunt.apply(bench.pipe, schedule)
        with pytest.raises(InputError, match=r"the schedule has 6, but \w+Pipeline was called for 9.*call_arguments"):
            bench.piped(
                **{**bench.arguments(schedule), "num_inference_steps": 9, "sigmas": None}
                if bench.kind in ("sd3", "flux")
                else {**bench.arguments(schedule), "num_inference_steps": 9}
            )
        assert not calls
        if handle:
            handle.remove()

    @each("pixart-alpha")
    def test_other_times(self, bench: Bench) -> None:
        schedule = bench.schedule(spacing=[999.0, 950.0, 700.0])
        exeunt.apply(bench.pipe, schedule)
        with pytest.raises(InputError, match=r"the schedule's are 999, 950, 700, but .* goes to 999, 666, 333"):
            bench.piped(num_inference_steps=3, guidance_scale=2.5)

    @each("dit", "pixart-alpha", "sd3", "wan")
    @pytest.mark.parametrize("scale", [1.0, 7.5])
    def test_another_scale_of_guidance(self, bench: Bench, scale: float) -> None:
        schedule = bench.schedule()
        exeunt.apply(bench.pipe, schedule)
        with pytest.raises(InputError, match=rf"for guidance_scale=2.5, but \w+ was called with {scale:g}\."):
            bench.piped(**{**bench.arguments(schedule), "guidance_scale": scale})

    @each("dit", "sd3")
    def test_guidance_where_there_is_none(self, bench: Bench) -> None:
        schedule = bench.schedule(guidance=None)
        exeunt.apply(bench.pipe, schedule)
        with pytest.raises(InputError, match="called with 4"):
            bench.piped(**{**bench.arguments(schedule), "guidance_scale": 4.0})

    @each("flux")
    def test_a_second_pass_beside_embedded_guidance(self, bench: Bench) -> None:
        schedule = bench.schedule()
        exeunt.apply(bench.pipe, schedule)
        with pytest.raises(InputError, match="true_cfg_scale"):
            bench.piped(true_cfg_scale=2.0, negative_prompt=["", ""], **bench.arguments(schedule))

    @each("dit")
    def test_times_that_no_argument_brings_about_with_the_scheduler_that_does(self, bench: Bench) -> None:
        schedule = bench.schedule(spacing=[999.0, 799.0, 599.0, 399.0, 199.0])
        with pytest.raises(
            InputError, match=r"pipe.scheduler = DDIMScheduler.from_config\(.*timestep_spacing=.trailing.\)"
        ):
            exeunt.apply(bench.pipe, schedule)
        with pytest.raises(InputError, match=r"takes no list of times.*--solver ddim --spacing leading"):
            exeunt.apply(bench.pipe, bench.schedule(spacing=[999.0, 500.0, 20.0]))
        assert hooked(bench.pipe.transformer) == []

    @each("dit")
    def test_the_way_out_leads_out(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule(spacing=[999.0, 799.0, 599.0, 399.0, 199.0]))
        own = bench.pipe.scheduler
        bench.pipe.scheduler = DDIMScheduler.from_config(own.config, timestep_spacing="trailing")
        exeunt.apply(bench.pipe, schedule)
        found = bench.piped(**exeunt.call_arguments(schedule))
        bench.pipe.scheduler = own
        assert difference(found, bench.sampled(schedule)) < 1e-4

    @each("pixart-alpha")
    def test_a_list_of_times_for_ddim_names_the_scheduler_that_takes_it(self, bench: Bench) -> None:
        schedule = with_actions(
            bench.schedule(spacing=[999.0, 500.0, 20.0], solver="ddim", order=1, final="train-0"), first=1
        )
        own = bench.pipe.scheduler
        bench.pipe.scheduler = DDIMScheduler.from_config(own.config)
        with pytest.raises(
            InputError, match=r"DPMSolverMultistepScheduler.*solver_order=1, final_sigmas_type='sigma_min'"
        ):
            exeunt.apply(bench.pipe, schedule)
        bench.pipe.scheduler = DPMSolverMultistepScheduler.from_config(
            own.config, solver_order=1, final_sigmas_type="sigma_min"
        )
        exeunt.apply(bench.pipe, schedule)
        found = bench.piped(**exeunt.call_arguments(schedule))
        bench.pipe.scheduler = own
        assert difference(found, bench.sampled(schedule)) < 1e-4

    @each("wan")
    def test_another_shift_names_the_one_that_fits(self, bench: Bench) -> None:
        with pytest.raises(InputError, match=r"from_config\(pipe.scheduler.config, shift=5.0\)"):
            exeunt.apply(bench.pipe, bench.schedule(spacing_parameters={"shift": 5.0}))

    @each("dit")
    def test_another_network(self, bench: Bench, made: dict[str, Bench]) -> None:
        other = made.get("sd3") or Bench.of("sd3")
        with pytest.raises(InputError, match="for SD3Transformer2DModel, but the pipeline has DiT"):
            exeunt.apply(bench.pipe, other.schedule())

    @each("sd3")
    def test_branches_that_a_network_has_not(self, bench: Bench) -> None:
        schedule = bench.schedule()
        network = replace(schedule.networks[0], granularity="branch")
        with pytest.raises(InputError, match="has only block"):
            exeunt.apply(bench.pipe, replace(schedule, networks=(network,)))

    @each("sd3")
    def test_skip_layer_guidance(self, bench: Bench) -> None:
        schedule = bench.schedule()
        exeunt.apply(bench.pipe, schedule)
        with pytest.raises(InputError, match="skip-layer guidance"):
            bench.piped(skip_guidance_layers=[1], skip_layer_guidance_stop=1.0, **bench.arguments(schedule))

    @each("flux")
    def test_guidance_of_the_other_kind(self, bench: Bench) -> None:
        with pytest.raises(InputError, match="embedded"):
            exeunt.apply(bench.pipe, replace(bench.schedule(), guidance=Guidance(2.0)))

    @each("sd3")
    def test_guidance_of_the_wrong_kind(self, bench: Bench) -> None:
        with pytest.raises(InputError, match="scale"):
            exeunt.apply(bench.pipe, replace(bench.schedule(), guidance=Embedded(2.0)))

    @each("dit")
    def test_scales_that_diffusers_does_not_guide_with(self, bench: Bench) -> None:
        with pytest.raises(InputError, match="only with scales above 1"):
            exeunt.apply(bench.pipe, bench.schedule(guidance=0.5))

    def test_what_is_no_pipeline(self) -> None:
        with pytest.raises(InputError, match="must be a DiffusionPipeline"):
            exeunt.apply("pipe", None)
        with pytest.raises(InputError, match="Linear"):
            exeunt.remove(nn.Linear(1, 1)) or exeunt.apply(nn.Linear(1, 1), None)


def test_without_diffusers_the_extra_is_named() -> None:
    program = "import sys; sys.modules['diffusers'] = None; import exeunt; exeunt.apply(None, None)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "InputError: network: diffusers folders and pipelines need a package" in done.stderr
    assert "pip install 'exeunt[diffusers]'" in done.stderr
