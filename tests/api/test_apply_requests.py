"""Schedules on live pipelines: requests never meet, and leave nothing to the next."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import exeunt
import pytest
import torch
from diffusers import DDIMScheduler
from exeunt.backends.errors import InputError
from exeunt.backends.sampling import loop as sampling
from exeunt.backends.schedule import Schedule
from greenlet import greenlet
from pipeline_runs import PROMPTS, Bench, after_steps, difference, each, sharing, with_actions
from torch import Tensor

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = [pytest.mark.cpu, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


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
        with torch.no_grad():  # which both would otherwise turn on and off, each for the other
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
        from exeunt.backends.networks.hf.live.apply import _application_on

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
        return sampling.sample_batch(
            [self.bench.network], self.schedule, self.bench.noise(seed), [], torch.tensor([0, 1])
        )


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
        with pytest.raises(InputError, match="to none"):
            exeunt.call_arguments(schedule)
        assert exeunt.call_arguments(schedule, bench.pipe) == {"num_inference_steps": 6, "guidance_scale": 2.5}
