"""Schedules on live pipelines: images equal those of `exeunt.sample`, however the steps are guided."""

import warnings
from dataclasses import replace
from typing import Any

import exeunt
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from exeunt.backends.errors import InputError
from exeunt.backends.sampling.fitting.rows import with_rows as with_coefficient_rows
from exeunt.backends.schedule import Guidance
from exeunt.backends.solvers.tables import solver_rows, with_coefficients
from exeunt.searcher.spaces.frame import with_rows
from pipeline_runs import GUIDED, USUAL, Bench, difference, each, hooked, with_actions

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = [pytest.mark.cpu, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


class TestImages:
    @each(*USUAL)
    def test_equal_those_of_sample(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe, schedule)
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(schedule)) < 1e-4

    @each("dit", "pixart-alpha", "wan")
    def test_equal_those_of_sample_where_branches_of_blocks_are_left_out(self, bench: Bench) -> None:
        at_branches = replace(bench, network=bench.network.at("branch"))
        schedule = with_actions(at_branches.schedule(), seed=1)
        exeunt.apply(bench.pipe, schedule)
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(schedule)) < 1e-4

    @each(*USUAL)
    def test_full_depth_is_bit_equal_to_the_untouched_pipeline(self, bench: Bench) -> None:
        schedule = bench.schedule()
        exeunt.apply(bench.pipe, schedule)
        arguments = bench.arguments(schedule)
        under = bench.piped(**arguments)
        exeunt.remove(bench.pipe)
        assert torch.equal(under, bench.piped(**arguments))

    @each("pixart-alpha", "sd3")
    def test_unguided_schedules_run_in_one_branch(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule(guidance=None))
        exeunt.apply(bench.pipe, schedule)
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(schedule)) < 1e-4

    @each("pixart-alpha")
    def test_listed_times_are_passed_on(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule(spacing=[999.0, 950.0, 700.0, 320.0, 41.0]))
        exeunt.apply(bench.pipe, schedule)
        arguments = exeunt.call_arguments(schedule)
        assert arguments == {"timesteps": [999, 950, 700, 320, 41], "guidance_scale": 2.5}
        assert difference(bench.piped(**arguments), bench.sampled(schedule)) < 1e-4

    @each("sd3")
    def test_listed_flow_times_are_passed_on_before_the_scheduler_shifts_them(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule(spacing=[1.0, 0.83, 0.5, 0.21], spacing_parameters=None))
        exeunt.apply(bench.pipe, schedule)
        assert difference(bench.piped(**exeunt.call_arguments(schedule)), bench.sampled(schedule)) < 1e-4

    def test_flux_without_embedded_guidance_is_guided_by_a_second_pass(self) -> None:
        bench = Bench.of("flux", guidance_embeds=False)
        schedule = with_actions(bench.schedule(guidance=Guidance(2.0)))
        skipping = tuple(
            replace(step, unconditional="skip") if s == 4 else step for s, step in enumerate(schedule.steps)
        )
        for given in (schedule, replace(schedule, steps=skipping)):
            exeunt.apply(bench.pipe, given)
            arguments = bench.arguments(given)
            assert (arguments["true_cfg_scale"], arguments["negative_prompt"]) == (2.0, "")
            assert difference(bench.piped(count=1, **arguments), bench.sampled(given, count=1)) < 1e-4

    @each("flux")
    def test_embedded_guidance_follows_the_steps(self, bench: Bench) -> None:
        schedule = bench.schedule(5)
        steps = tuple(replace(step, guidance=1.0 + s) for s, step in enumerate(schedule.steps))
        schedule = with_actions(replace(schedule, steps=steps))
        exeunt.apply(bench.pipe, schedule)
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(schedule)) < 1e-4


class TestGuidance:
    """Steps that are guided differently, in one batch (DiT, PixArt, SD3) and in two calls (Wan)."""

    @each(*GUIDED)
    @pytest.mark.parametrize(
        "change", [{"unconditional": "skip"}, {"unconditional": "reuse"}, {"guidance": None}, {"guidance": 1.2}]
    )
    def test_images_equal_those_of_sample(self, bench: Bench, change: dict[str, Any]) -> None:
        schedule = with_actions(bench.schedule(7), seed=2)
        changed = {3, 4, 6}
        steps = tuple(replace(step, **change) if s in changed else step for s, step in enumerate(schedule.steps))
        schedule = replace(schedule, steps=steps)
        exeunt.apply(bench.pipe, schedule)
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(schedule)) < 1e-4

    @each("dit", "sd3", "wan")
    def test_skipped_passes_are_not_run(self, bench: Bench) -> None:
        schedule = bench.schedule(4)
        skipping = replace(schedule.steps[2], unconditional="skip")
        schedule = replace(schedule, steps=(*schedule.steps[:2], skipping, schedule.steps[3]))
        rows: list[int] = []
        block = (bench.pipe.transformer.blocks if bench.kind == "wan" else bench.pipe.transformer.transformer_blocks)[1]
        handle = block.register_forward_pre_hook(
            lambda _, args, kwargs: rows.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
        )
        exeunt.apply(bench.pipe, schedule)
        bench.piped(**bench.arguments(schedule))
        handle.remove()
        assert rows == ([2, 2, 2, 2, 2, 2, 2] if bench.kind == "wan" else [4, 4, 2, 4])

    @each("dit", "sd3", "wan")
    def test_guided_channels_are_the_schedule_s(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule(guidance=Guidance(2.5, channels=3)))
        exeunt.apply(bench.pipe, schedule)
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(schedule)) < 1e-4
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(bench.schedule())) > 1e-3


class TestTwoNetworksInTurn:
    """Wan 2.2's high-noise and low-noise experts."""

    @each("wan-2.2")
    def test_images_equal_those_of_sample(self, bench: Bench) -> None:
        for seed, granularity in enumerate(("block", "branch")):
            other = replace(bench, network=bench.network.at(granularity))
            full = other.schedule(8)
            assert [step.network for step in full.steps] == [0, 0, 0, 0, 1, 1, 1, 1]
            schedule = with_rows(full, [step.blocks for step in with_actions(full, seed, first=1).steps])
            exeunt.apply(bench.pipe, schedule)
            assert difference(bench.piped(**bench.arguments(schedule)), other.sampled(schedule)) < 1e-4

    @each("wan-2.2")
    def test_steps_may_be_guided_differently(self, bench: Bench) -> None:
        full = bench.schedule()
        guided = (*full.steps[:2], *(replace(step, unconditional="skip") for step in full.steps[2:4]), *full.steps[4:])
        schedule = replace(full, steps=guided)
        exeunt.apply(bench.pipe, schedule)
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(schedule)) < 1e-4

    @each("wan-2.2")
    def test_full_depth_is_bit_equal_and_removed_from_both(self, bench: Bench) -> None:
        schedule, models = bench.schedule(), (bench.pipe.transformer, bench.pipe.transformer_2)
        bare = bench.piped(num_inference_steps=6, guidance_scale=2.5)
        exeunt.apply(bench.pipe, schedule)
        assert all(len(hooked(model)) > 3 for model in models)
        assert torch.equal(bench.piped(**bench.arguments(schedule)), bare)
        exeunt.remove(bench.pipe)
        assert [hooked(model) for model in models] == [[], []]
        assert torch.equal(bench.piped(num_inference_steps=6, guidance_scale=2.5), bare)

    @each("wan-2.2")
    def test_what_the_pipeline_does_otherwise_is_refused(self, bench: Bench) -> None:
        schedule = bench.schedule()
        one = replace(schedule, networks=schedule.networks[:1], steps=[replace(s, network=0) for s in schedule.steps])
        with pytest.raises(InputError, match="has two that take turns, but the schedule has 1"):
            exeunt.apply(bench.pipe, one)
        late = replace(
            schedule, steps=(*schedule.steps[:3], replace(schedule.steps[3], network=0), *schedule.steps[4:])
        )
        with pytest.raises(InputError, match=r"step 3: .* below time 800, so at 668\.327 network must be 1, but is 0"):
            exeunt.apply(bench.pipe, late)
        exeunt.apply(bench.pipe, schedule)
        with pytest.raises(InputError, match=r"guidance_scale_2=2\.5, but WanPipeline was called with 4"):
            bench.piped(**bench.arguments(schedule), guidance_scale_2=4.0)


class TestWarnings:
    @each("wan")
    def test_times_that_a_scheduler_cuts_off_are_said(self, bench: Bench) -> None:
        """As the scheduler of Wan's own folders does."""
        options = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
        own, bench.pipe.scheduler = bench.pipe.scheduler, UniPCMultistepScheduler(**options)
        bench.pipe.scheduler.set_timesteps(6)
        times = [float(sigma) for sigma in bench.pipe.scheduler.sigmas[:-1]]
        schedule = with_actions(bench.schedule(solver="unipc", order=2, spacing=times, spacing_parameters=None))
        with pytest.warns(UserWarning, match="rounded by up to 1"):
            exeunt.apply(bench.pipe, schedule)
        found = bench.piped(**exeunt.call_arguments(schedule))
        bench.pipe.scheduler = own
        assert difference(found, bench.sampled(schedule)) < 0.02

    @each("dit")
    def test_another_solver_is_said(self, bench: Bench) -> None:
        schedule = bench.schedule(solver="dpmsolver++", include_zero=True)
        with pytest.warns(UserWarning, match=r"made for dpmsolver\+\+ of order 2, .* own DDIMScheduler runs"):
            exeunt.apply(bench.pipe, schedule)

    @each("dit")
    def test_coefficients_of_its_own_are_said(self, bench: Bench) -> None:
        schedule = with_coefficients(bench.schedule())
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            exeunt.apply(bench.pipe, schedule)
        rows = [replace(row, a=0.99 * row.a) for row in solver_rows(schedule)]
        with pytest.warns(
            UserWarning, match=r"carries coefficients of its own, and the pipeline's scheduler runs with"
        ):
            exeunt.apply(bench.pipe, with_coefficient_rows(schedule, rows))

    @each("pixart-alpha")
    def test_rounded_times_are_said(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule(spacing=[999.0, 700.4, 320.0, 41.3]))
        with pytest.warns(UserWarning, match="rounded by up to 0.4"):
            exeunt.apply(bench.pipe, schedule)
        found = bench.piped(**exeunt.call_arguments(schedule))
        assert 0 < difference(found, bench.sampled(schedule)) < 0.01
