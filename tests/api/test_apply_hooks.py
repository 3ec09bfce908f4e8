"""Schedules on live pipelines: what others put around a model stays, nothing of ours does, nothing is recompiled."""

from typing import Any

import exeunt
import pytest
import torch
from diffusers.hooks import HookRegistry, ModelHook
from exeunt.backends.errors import InputError
from pipeline_runs import USUAL, Bench, difference, each, hooked, with_actions
from torch import nn
from torch._dynamo.utils import counters

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = [pytest.mark.cpu, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


class Counting(ModelHook):
    """Another runtime's hook: counts, and changes what a module returns a little."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        output = self.fn_ref.original_forward(*args, **kwargs)
        return tuple(each * 1.001 for each in output) if isinstance(output, tuple) else output * 1.001


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
        with pytest.raises(InputError, match="to none"):
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


class TestOffloading:
    """accelerate's and diffusers' offloading, which put wrappers of their own around the same forwards."""

    @each("sd3", "wan")
    @pytest.mark.parametrize("first", [True, False])
    def test_of_whole_models_keeps_the_schedule(self, bench: Bench, first: bool) -> None:
        """Each run of the pipeline ends with accelerate's wrapper taken off and put on again."""
        untouched, bench = bench.piped(num_inference_steps=3), Bench.of(bench.kind)
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
        assert torch.equal(bench.piped(num_inference_steps=3), untouched)

    @each("sd3")
    def test_of_single_layers_keeps_the_schedule(self, bench: Bench) -> None:
        from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_module

        untouched, bench = bench.piped(num_inference_steps=3), Bench.of(bench.kind)
        model, schedule = bench.pipe.transformer, with_actions(bench.schedule())
        for block in model.transformer_blocks:
            add_hook_to_module(block, AlignDevicesHook("cpu", offload=False))
        exeunt.apply(bench.pipe, schedule)
        assert difference(bench.piped(**bench.arguments(schedule)), bench.sampled(schedule)) < 1e-4
        exeunt.remove(bench.pipe)
        remove_hook_from_module(model, recurse=True)
        assert torch.equal(bench.piped(num_inference_steps=3), untouched)

    @each("sd3", "flux")
    @pytest.mark.parametrize("first", [True, False])
    def test_of_groups_of_blocks_keeps_the_schedule(self, bench: Bench, first: bool) -> None:
        from diffusers.hooks import apply_group_offloading

        untouched, bench = bench.piped(num_inference_steps=3), Bench.of(bench.kind)
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
        assert torch.equal(bench.piped(num_inference_steps=3), untouched)

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
