"""Schedules on live pipelines: images equal those of `exeunt.sample`, requests never meet, nothing stays behind."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import exeunt
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from diffusers.hooks import HookRegistry, ModelHook
from exeunt.backends import sampling
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import Embedded, Guidance, Schedule
from greenlet import greenlet
from pipeline_runs import GUIDED, PROMPTS, USUAL, Bench, difference, with_actions
from torch import Tensor, nn
from torch._dynamo.utils import counters

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def made() -> dict[str, Bench]:
    return {}


@pytest.fixture
def bench(request: pytest.FixtureRequest, made: dict[str, Bench]) -> Any:
    """A pipeline of the kind that the test asks for, without a schedule."""
    kind = request.param
    if kind not in made:
        made[kind] = Bench.of(kind)
    yield made[kind]
    exeunt.remove(made[kind].pipe)


def each(*kinds: str) -> Any:
    return pytest.mark.parametrize("bench", kinds, indirect=True)


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


def sharing(bench: Bench) -> Any:
    """Another pipeline around the same networks, with a scheduler of its own, as servers make for each request."""
    parts = dict(bench.pipe.components)
    parts["scheduler"] = type(parts["scheduler"]).from_config(parts["scheduler"].config)
    pipe = type(bench.pipe)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def after_steps(bench: Bench, act: Callable[[int], None]) -> dict[str, Any]:
    """The pipeline's own way to be called back after each step, with its index."""
    if bench.kind.startswith("pixart"):
        return {"callback": lambda step, time, latents: act(step), "callback_steps": 1}

    def called_back(pipe: Any, step: int, time: Any, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        act(step)
        return kwargs

    return {"callback_on_step_end": called_back}


class Stopped(Exception):
    """A request was broken off."""


def stop(step: int) -> None:
    if step == 2:
        raise Stopped


class TestRequests:
    @each("pixart-alpha", "sd3", "wan", "flux")
    def test_two_in_one_thread_never_meet(self, bench: Bench) -> None:
        """Two pipelines around one model, which make a step each by turns."""
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe, schedule)
        arguments, found = bench.arguments(schedule), dict[int, Tensor]()

        def request(seed: int, pipe: Any) -> greenlet:
            def run() -> None:
                back = after_steps(bench, lambda step: other[seed].switch() if not other[seed].dead else None)
                found[seed] = bench.piped(seed, 1 + seed, pipe, **back, **arguments)
                if not other[seed].dead:
                    other[seed].switch()

            return greenlet(run)

        runs = [request(0, bench.pipe), request(1, sharing(bench))]
        other = runs[::-1]
        runs[0].switch()
        for seed in (0, 1):
            assert torch.equal(found[seed], bench.piped(seed, 1 + seed, **arguments))

    @each("pixart-alpha", "sd3", "wan")
    def test_two_in_two_threads_never_meet(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe, schedule)
        arguments, found, turns = bench.arguments(schedule), dict[int, Tensor](), threading.Barrier(2, timeout=60)

        def run(seed: int, pipe: Any) -> None:
            back = after_steps(bench, lambda step: turns.wait() and None)
            found[seed] = bench.piped(seed, 1 + seed, pipe, **back, **arguments)

        threads = [threading.Thread(target=run, args=pair) for pair in ((0, bench.pipe), (1, sharing(bench)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seed in (0, 1):
            assert torch.equal(found[seed], bench.piped(seed, 1 + seed, **arguments))

    @each("sd3", "wan")
    def test_two_that_skip_passes_never_meet(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule())
        steps = tuple(
            replace(step, unconditional="skip") if s in (3, 5) else step for s, step in enumerate(schedule.steps)
        )
        schedule = replace(schedule, steps=steps)
        exeunt.apply(bench.pipe, schedule)
        arguments, second, seen = bench.arguments(schedule), sharing(bench), list[Tensor]()
        whole = after_steps(
            bench, lambda step: seen.append(bench.piped(1, 1, second, **arguments)) if step == 3 else None
        )
        found = bench.piped(0, 2, **whole, **arguments)
        assert torch.equal(found, bench.piped(0, 2, **arguments))
        assert torch.equal(seen[0], bench.piped(1, 1, **arguments))

    @each("pixart-alpha", "sd3", "wan", "flux")
    def test_one_that_was_broken_off_leaves_nothing_to_the_next(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe, schedule)
        arguments = bench.arguments(schedule)
        wanted = bench.piped(**arguments)
        for _ in range(2):
            with pytest.raises(Stopped):
                bench.piped(seed=7, **after_steps(bench, stop), **arguments)
        assert torch.equal(bench.piped(**arguments), wanted)

    @each("sd3")
    def test_one_with_the_same_tensor_as_one_that_was_broken_off_starts_anew(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule(guidance=None))
        exeunt.apply(bench.pipe, schedule)
        arguments = bench.arguments(schedule)
        text = bench.pipe.encode_prompt(PROMPTS[0], None, None, do_classifier_free_guidance=False)
        given = {"prompt_embeds": text[0], "pooled_prompt_embeds": text[2], "output_type": "latent"}
        given |= {"latents": bench.noise(count=1), **arguments}
        wanted = bench.pipe(**given).images
        with pytest.raises(Stopped):
            bench.pipe(**given, **after_steps(bench, stop))
        assert torch.equal(bench.pipe(**given).images, wanted)

    @each("dit", "sd3", "flux")
    def test_batch_sizes_may_change(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe, schedule)
        for count in (2, 3, 1):
            found = bench.piped(seed=count, count=count, **bench.arguments(schedule))
            assert difference(found, bench.sampled(schedule, seed=count, count=count)) < 1e-4

    @each("sd3", "wan")
    def test_nothing_is_kept_after_the_last_step(self, bench: Bench) -> None:
        from exeunt.backends.hf_apply import _application_on

        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe, schedule)
        bench.piped(**bench.arguments(schedule))
        application = _application_on(bench.pipe.transformer)
        assert application is not None
        assert len(application.requests) == 0

    @each("sd3")
    def test_conditions_may_be_replaced_on_the_way(self, bench: Bench) -> None:
        """As callbacks do that change the prompt in the middle."""
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe, schedule)

        def changed(pipe: Any, step: int, time: Any, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.clone() for name, value in kwargs.items()}

        back = {
            "callback_on_step_end": changed,
            "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds", "pooled_prompt_embeds"],
        }
        arguments = bench.arguments(schedule)
        assert torch.equal(bench.piped(**back, **arguments), bench.piped(**arguments))


class Counting(ModelHook):
    """Another runtime's hook: counts, and changes what a module returns a little."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        output = self.fn_ref.original_forward(*args, **kwargs)
        return tuple(each * 1.001 for each in output) if isinstance(output, tuple) else output * 1.001


def hooked(model: nn.Module) -> list[str]:
    """Modules with a registry of hooks, or with a forward of their own."""
    return [name for name, each in model.named_modules() if {"_diffusers_hook", "forward"} & each.__dict__.keys()]


class TestRemoval:
    @each(*USUAL)
    def test_leaves_the_model_as_it_was(self, bench: Bench) -> None:
        model, schedule = bench.pipe.transformer, with_actions(bench.schedule())
        before = {name: value.clone() for name, value in model.state_dict().items()}
        attributes = {name: set(each.__dict__) for name, each in model.named_modules()}
        untouched = bench.piped(num_inference_steps=4)
        exeunt.apply(bench.pipe, schedule)
        assert hooked(model)
        bench.piped(**bench.arguments(schedule))
        exeunt.remove(bench.pipe)
        assert hooked(model) == []
        assert {name: set(each.__dict__) for name, each in model.named_modules()} == attributes
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert torch.equal(bench.piped(num_inference_steps=4), untouched)

    @each("dit")
    def test_without_a_schedule_does_nothing(self, bench: Bench) -> None:
        exeunt.remove(bench.pipe)
        exeunt.remove(bench.pipe.transformer)
        assert hooked(bench.pipe.transformer) == []

    @each("dit")
    def test_another_schedule_takes_the_place_of_the_first(self, bench: Bench) -> None:
        first, second = with_actions(bench.schedule()), with_actions(bench.schedule(5), seed=3)
        exeunt.apply(bench.pipe, first)
        exeunt.apply(bench.pipe, second)
        found = bench.piped(**exeunt.call_arguments(second))
        assert difference(found, bench.sampled(second)) < 1e-4
        with pytest.raises(InputError, match="on none"):
            exeunt.call_arguments(first)
        exeunt.remove(bench.pipe)
        assert hooked(bench.pipe.transformer) == []

    @each("dit", "sd3")
    @pytest.mark.parametrize("first", [True, False])
    def test_keeps_the_hooks_of_other_runtimes(self, bench: Bench, first: bool) -> None:
        """Put on before the schedule, or after it; on the model and on a block."""
        model, schedule = bench.pipe.transformer, bench.schedule()
        modules, other = (model, model.transformer_blocks[1]), Counting()
        arguments = {"num_inference_steps": 6, "guidance_scale": 2.5}

        def put() -> None:
            HookRegistry.check_if_exists_or_initialize(modules[1]).register_hook(other, "other")
            HookRegistry.check_if_exists_or_initialize(modules[0]).register_hook(ModelHook(), "other")

        if first:
            put()
        exeunt.apply(bench.pipe, schedule)
        if not first:
            put()
        with_both = bench.piped(**arguments)
        assert other.calls == 6
        exeunt.remove(bench.pipe)
        assert torch.equal(bench.piped(**arguments), with_both)
        assert other.calls == 12
        assert sorted(hooked(model)) == ["", "transformer_blocks.1"]
        for module in modules:
            HookRegistry.check_if_exists_or_initialize(module).remove_hook("other", recurse=False)
            del module._diffusers_hook, module.forward

    @each("dit")
    def test_a_network_made_of_the_pipeline_is_left_alone(self, bench: Bench) -> None:
        network = type(bench.network).from_pipeline(bench.pipe)
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe, schedule)
        found = Bench("dit", bench.pipe, network).sampled(schedule)
        assert difference(found, bench.sampled(schedule)) < 1e-6
        exeunt.remove(bench.pipe)
        assert torch.equal(Bench("dit", bench.pipe, network).sampled(schedule), found)
        del network
        assert hooked(bench.pipe.transformer) == []


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
        with pytest.raises(InputError, match="takes no list of times"):
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
        with pytest.raises(InputError, match="block alone"):
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
        with pytest.raises(InputError, match="above 1 alone"):
            exeunt.apply(bench.pipe, bench.schedule(guidance=0.5))

    def test_what_is_no_pipeline(self) -> None:
        with pytest.raises(InputError, match="must be a DiffusionPipeline"):
            exeunt.apply("pipe", None)
        with pytest.raises(InputError, match="Linear"):
            exeunt.remove(nn.Linear(1, 1)) or exeunt.apply(nn.Linear(1, 1), None)


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

    @each("pixart-alpha")
    def test_rounded_times_are_said(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule(spacing=[999.0, 700.4, 320.0, 41.3]))
        with pytest.warns(UserWarning, match="rounded by up to 0.4"):
            exeunt.apply(bench.pipe, schedule)
        found = bench.piped(**exeunt.call_arguments(schedule))
        assert 0 < difference(found, bench.sampled(schedule)) < 0.01


class TestOffloading:
    """accelerate's and diffusers' offloading, which put wrappers of their own around the same forwards."""

    @each("sd3", "wan")
    @pytest.mark.parametrize("first", [True, False])
    def test_of_whole_models_keeps_the_schedule(self, bench: Bench, first: bool) -> None:
        """Each run of the pipeline ends with accelerate's wrapper taken off and put on again."""
        bench = Bench.of(bench.kind)
        schedule = with_actions(bench.schedule())
        if first:
            bench.pipe.enable_model_cpu_offload(device="cpu")
        exeunt.apply(bench.pipe, schedule)
        if not first:
            bench.pipe.enable_model_cpu_offload(device="cpu")
        wanted = bench.sampled(schedule)
        for _ in range(3):
            assert difference(bench.piped(**bench.arguments(schedule)), wanted) < 1e-4
        wrapper = bench.pipe.transformer.forward
        exeunt.remove(bench.pipe)
        assert bench.pipe.transformer.forward is wrapper
        assert hooked(bench.pipe.transformer) == [""]
        bench.pipe.remove_all_hooks()
        assert torch.equal(bench.piped(num_inference_steps=3), Bench.of(bench.kind).piped(num_inference_steps=3))

    @each("sd3")
    def test_of_single_layers_keeps_the_schedule(self, bench: Bench) -> None:
        from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_module

        bench = Bench.of(bench.kind)
        model, schedule = bench.pipe.transformer, with_actions(bench.schedule())
        for block in model.transformer_blocks:
            add_hook_to_module(block, AlignDevicesHook("cpu", offload=False))
        exeunt.apply(bench.pipe, schedule)
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(schedule)) < 1e-4
        exeunt.remove(bench.pipe)
        remove_hook_from_module(model, recurse=True)
        assert torch.equal(bench.piped(num_inference_steps=3), Bench.of(bench.kind).piped(num_inference_steps=3))

    @each("sd3", "flux")
    @pytest.mark.parametrize("first", [True, False])
    def test_of_groups_of_blocks_keeps_the_schedule(self, bench: Bench, first: bool) -> None:
        from diffusers.hooks import apply_group_offloading

        bench = Bench.of(bench.kind)
        model, schedule, cpu = bench.pipe.transformer, with_actions(bench.schedule()), torch.device("cpu")
        options = {
            "onload_device": cpu,
            "offload_device": cpu,
            "offload_type": "block_level",
            "num_blocks_per_group": 2,
        }
        if first:
            apply_group_offloading(model, **options)
        exeunt.apply(bench.pipe, schedule)
        if not first:
            apply_group_offloading(model, **options)
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(schedule)) < 1e-4
        exeunt.remove(bench.pipe)
        assert torch.equal(bench.piped(num_inference_steps=3), Bench.of(bench.kind).piped(num_inference_steps=3))

    @pytest.mark.gpu
    @each("sd3", "wan")
    def test_on_a_gpu(self, bench: Bench) -> None:
        bench = Bench.of(bench.kind)
        schedule = with_actions(bench.schedule())
        bench.pipe.enable_model_cpu_offload()
        exeunt.apply(bench.pipe, schedule)
        for _ in range(2):
            found = bench.piped(**bench.arguments(schedule)).cpu()
            assert difference(found, bench.sampled(schedule)) < 1e-3


class OwnLoop:
    """DDIM on a bare DiT, as people write it themselves."""

    def __init__(self, bench: Bench, schedule: Schedule) -> None:
        self.model, self.bench, self.schedule = bench.pipe.transformer, bench, schedule
        self.scheduler = DDIMScheduler(clip_sample=False)
        self.scheduler.set_timesteps(schedule.num_steps)

    @torch.no_grad()
    def steps(self, seed: int, *, in_two_calls: bool = False, same_tensor: bool = True) -> Iterator[Tensor]:
        """The latents after each step."""
        x, labels, null = self.bench.noise(seed), torch.tensor([0, 1]), torch.tensor([1000, 1000])
        both = torch.cat([labels, null])
        for when in self.scheduler.timesteps:
            if in_two_calls:
                outputs = [self.model(x, when.expand(2), each, return_dict=False)[0] for each in (labels, null)]
            else:
                given = both if same_tensor else both.clone()
                outputs = self.model(torch.cat([x, x]), when.expand(4), given, return_dict=False)[0].chunk(2)
            conditional, unconditional = (output[:, :4] for output in outputs)
            guided = unconditional + 2.5 * (conditional - unconditional)
            x = self.scheduler.step(guided, when, x, return_dict=False)[0]
            yield x

    def sampled(self, seed: int) -> Tensor:
        return sampling.run([self.bench.network], self.schedule, self.bench.noise(seed), [], torch.tensor([0, 1]))


def last(steps: Iterator[Tensor]) -> Tensor:
    return deque(steps, maxlen=1)[0]


class TestBareModels:
    @each("dit")
    @pytest.mark.parametrize("manner", [{}, {"in_two_calls": True}, {"same_tensor": False}])
    def test_images_equal_those_of_sample(self, bench: Bench, manner: dict[str, bool]) -> None:
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe.transformer, schedule)
        loop = OwnLoop(bench, schedule)
        assert difference(last(loop.steps(0, **manner)), loop.sampled(0)) < 1e-4

    @each("dit")
    @pytest.mark.parametrize("in_two_calls", [True, False])
    def test_requests_that_make_steps_by_turns_never_meet(self, bench: Bench, in_two_calls: bool) -> None:
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe.transformer, schedule)
        loop = OwnLoop(bench, schedule)
        # The scheduler's DDIM keeps nothing from step to step, so that both can use it.
        pairs = list(zip(*(loop.steps(seed, in_two_calls=in_two_calls) for seed in (0, 1)), strict=True))
        for seed in (0, 1):
            assert difference(pairs[-1][seed], loop.sampled(seed)) < 1e-4

    @each("dit")
    @pytest.mark.parametrize("same_tensor", [True, False])
    def test_a_request_that_was_broken_off_leaves_nothing(self, bench: Bench, same_tensor: bool) -> None:
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe.transformer, schedule)
        loop = OwnLoop(bench, schedule)
        for broken in range(1, 4):
            list(islice(loop.steps(7, same_tensor=same_tensor), broken))
            assert difference(last(loop.steps(0, same_tensor=same_tensor)), loop.sampled(0)) < 1e-4

    @each("dit")
    def test_by_turns_with_new_tensors_are_refused(self, bench: Bench) -> None:
        schedule = with_actions(bench.schedule())
        exeunt.apply(bench.pipe.transformer, schedule)
        loop = OwnLoop(bench, schedule)
        with pytest.raises(InputError, match="Pass the same tensor"):
            list(zip(*(loop.steps(seed, same_tensor=False) for seed in (0, 1)), strict=True))

    @each("dit")
    def test_times_out_of_turn_are_refused(self, bench: Bench) -> None:
        schedule = bench.schedule()
        exeunt.apply(bench.pipe.transformer, schedule)
        with pytest.raises(InputError, match="next time is 830, but the model was called at 800"):
            last(OwnLoop(bench, replace(schedule, steps=schedule.steps[1:])).steps(0)) and None
        labels, x = torch.tensor([0, 1]), bench.noise()
        bench.pipe.transformer(x, torch.tensor([830, 830]), labels)
        with pytest.raises(InputError, match="next time is 664, of its step 1, but the model was called at 498"):
            bench.pipe.transformer(x, torch.tensor([498, 498]), labels)

    @each("dit")
    def test_steps_that_are_guided_differently_need_a_pipeline(self, bench: Bench) -> None:
        schedule = bench.schedule()
        skipping = replace(schedule.steps[1], unconditional="skip")
        exeunt.apply(
            bench.pipe.transformer, replace(schedule, steps=(schedule.steps[0], skipping, *schedule.steps[2:]))
        )
        with pytest.raises(InputError, match="only a pipeline's calls tell"):
            last(OwnLoop(bench, schedule).steps(0))

    @each("dit")
    def test_call_arguments_are_a_pipeline_s(self, bench: Bench) -> None:
        schedule = bench.schedule()
        exeunt.apply(bench.pipe.transformer, schedule)
        with pytest.raises(InputError, match="on none"):
            exeunt.call_arguments(schedule)
        assert exeunt.call_arguments(schedule, bench.pipe) == {"num_inference_steps": 6, "guidance_scale": 2.5}


@pytest.mark.slow
class TestCompiled:
    """torch.compile: as many graphs as without a schedule, and no recompilation from step to step."""

    def graphs(self) -> tuple[int, int]:
        return counters["stats"]["unique_graphs"], sum(counters["recompiles"].values())

    @each("dit", "sd3", "flux")
    @pytest.mark.parametrize("manner", ["blocks", "blocks first", "model", "model first"])
    def test_is_not_recompiled_per_step(self, bench: Bench, manner: str) -> None:
        torch._dynamo.reset()
        bench = Bench.of(bench.kind)
        schedule = with_actions(bench.schedule(10))
        if "first" not in manner:
            exeunt.apply(bench.pipe, schedule)
        model = bench.pipe.transformer
        if manner.startswith("model"):
            bench.pipe.transformer = torch.compile(model, backend="eager")
        else:
            for block in [*model.transformer_blocks, *getattr(model, "single_transformer_blocks", [])]:
                block.compile(backend="eager")
        if "first" in manner:
            bench.piped(num_inference_steps=3)
            exeunt.apply(bench.pipe, schedule)
        wanted, arguments = bench.sampled(schedule), bench.arguments(schedule)
        assert difference(bench.piped(**arguments), wanted) < 1e-4
        counters.clear()
        other = with_actions(bench.schedule(10), seed=5)
        exeunt.apply(bench.pipe, other)
        assert difference(bench.piped(**arguments), bench.sampled(other)) < 1e-4
        assert counters["stats"]["unique_graphs"] == 0
        assert not counters["recompiles"]
