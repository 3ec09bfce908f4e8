"""Imported schedules against the runtimes whose files they are: the same images, not only the same masks.

Each foreign runtime is written here from its format's definition, as hooks on an unmodified network; diffusers' solver
samples around it.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from exeunt.backends.formats.branches import by_branch
from exeunt.backends.formats.registry import FORMATS
from exeunt.backends.networks.dit import DiT, DiTNetwork
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.networks.transformer.module import Rotary
from exeunt.backends.sampling.conditions import noises
from exeunt.backends.sampling.loop import sample_batch
from exeunt.backends.schedule import REUSE, RUN, Noise, Schedule, block_evaluations
from exeunt.backends.solvers.tables import make_schedule
from tiny_pipelines import tiny
from torch import Tensor, nn

LINEAR = Noise(kind="linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
TIMES = [999, 870, 700, 550, 400, 250, 130, 60]
GUIDANCE = 3.0
# diffusers hands torch tensors to NumPy in the way before NumPy 2.
pytestmark = [pytest.mark.cpu, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]
NUM_CLASSES, DEPTH = 7, 5
LABELS = torch.tensor([1, 5, 2])


@pytest.fixture(scope="module")
def network() -> DiTNetwork:
    """A DiT with random weights whose gates change with time. It predicts the data, so that images are its outputs."""
    torch.manual_seed(0)
    module = DiT(input_size=8, patch_size=2, channels=4, width=48, depth=DEPTH, num_heads=3, num_classes=NUM_CLASSES)
    for parameter in module.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.08)
    return DiTNetwork(
        module, name="small", weights_sha256=None, num_classes=NUM_CLASSES, prediction="sample", noise=LINEAR
    )


@pytest.fixture(scope="module")
def base(network: DiTNetwork) -> Schedule:
    return make_schedule(
        network.signature, LINEAR, "sample", solver="dpmsolver++", order=2, spacing=TIMES, guidance=GUIDANCE
    )


def foreign_images(module: DiT, times: list[int] = TIMES, before: Callable[[int], None] = lambda t: None) -> Tensor:
    """Latents (3, 4, 8, 8) as a pipeline makes them: diffusers' solver, both guidance branches in one batch."""
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, prediction_type="sample", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(timesteps=times)
    x = noises(0, range(3), (4, 8, 8), 1)[0]
    with torch.inference_mode():
        for t in scheduler.timesteps:
            before(int(t))
            both = module(torch.cat([x, x]), t.float().expand(6), torch.cat([LABELS, torch.full((3,), NUM_CLASSES)]))
            conditional, unconditional = both.chunk(2)
            x = scheduler.step(unconditional + GUIDANCE * (conditional - unconditional), t, x).prev_sample
    return x


def our_images(network: DiTNetwork, schedule: Schedule) -> Tensor:
    seen = network.at(schedule.networks[0].granularity)
    return sample_batch([seen], schedule, noises(0, range(3), (4, 8, 8), 1)[0], [], LABELS)


def assert_same(ours: Tensor, foreign: Tensor, full: Tensor) -> None:
    """Equal to rounding (1.5e-6 at most when this was written), and far from the full schedule's by comparison."""
    scale = float(full.abs().max())
    assert float((ours - foreign).abs().max()) < 5e-6 * scale
    assert float((foreign - full).abs().max()) > 1e-3 * scale


# ---- SmoothCache -----------------------------------------------------------------------------------------------------


@contextmanager
def smoothcached(module: DiT, lists: dict[str, list[int]]) -> Iterator[None]:
    """Each named component computes at the calls marked 1 and otherwise returns what it returned last."""
    components = {(name, j): getattr(block, name) for j, block in enumerate(module.blocks) for name in ("attn", "mlp")}
    for (name, j), component in components.items():
        marks = lists.get(f"{name}-{j}", lists.get(name))
        if marks is not None:
            component.forward = cached(component.forward, marks)
    try:
        yield
    finally:
        for component in components.values():
            component.__dict__.pop("forward", None)


def cached(compute: Callable[..., Tensor], marks: list[int]) -> Callable[..., Tensor]:
    calls, kept = iter(marks), []

    def forward(*arguments: Any, **named: Any) -> Tensor:
        if next(calls) == 1 or not kept:
            kept[:] = [compute(*arguments, **named)]
        return kept[0]

    return forward


def random_lists(seed: int) -> dict[str, list[int]]:
    rng = np.random.default_rng(seed)
    names = [f"{name}-{j}" for j in range(DEPTH) for name in ("attn", "mlp")]
    return {name: [1, *(int(bit) for bit in rng.integers(2, size=len(TIMES) - 1))] for name in names}


FORA = {"attn": [1, 0, 1, 0, 1, 0, 1, 1], "mlp": [1, 0, 1, 0, 1, 0, 1, 1]}
MIXED = {"attn": [0, 0, 1, 0, 0, 1, 0, 1], "attn-3": [1, 1, 0, 0, 0, 0, 0, 0], "mlp-1": [1, 0, 0, 0, 0, 0, 0, 0]}


@pytest.mark.parametrize("lists", [FORA, MIXED, random_lists(1), random_lists(2)])
def test_smoothcache(network: DiTNetwork, base: Schedule, lists: dict[str, list[int]]) -> None:
    schedule = FORMATS["smoothcache"].read(json.dumps(lists), base)
    full = foreign_images(network.module)
    with smoothcached(network.module, lists):
        foreign = foreign_images(network.module)
    assert_same(our_images(network, schedule), foreign, full)


def test_smoothcache_out(network: DiTNetwork, base: Schedule) -> None:
    """What is written makes the same images there as here."""
    schedule = FORMATS["smoothcache"].read(json.dumps(random_lists(3)), base)
    with smoothcached(network.module, json.loads(FORMATS["smoothcache"].write(schedule))):
        foreign = foreign_images(network.module)
    assert_same(our_images(network, schedule), foreign, foreign_images(network.module))


def test_reuse_of_whole_blocks_makes_other_images(network: DiTNetwork, base: Schedule) -> None:
    """Why it is not written as reuse of both branches: the same mask, but the gates of an older step."""
    blocks = tuple(replace(step, blocks=(REUSE if s % 2 else RUN,) * DEPTH) for s, step in enumerate(base.steps))
    schedule = replace(base, steps=blocks)
    with smoothcached(network.module, json.loads(FORMATS["smoothcache"].write(by_branch(schedule)))):
        foreign = foreign_images(network.module)
    assert_same(our_images(network, by_branch(schedule)), foreign, foreign_images(network.module))
    assert float((our_images(network, schedule) - foreign).abs().max()) > 1e-3 * float(foreign.abs().max())


# ---- ECAD ------------------------------------------------------------------------------------------------------------


PROMPTS = ["a boat", "two apples", "rain"]


def test_ecad() -> None:
    """PixArt's components return what they computed last where the file says false."""
    rng = np.random.default_rng(0)
    names, depth = ("attn1", "attn2", "ff"), 4
    rows = [{str(j): {name: bool(rng.integers(2)) for name in names} for j in range(depth)} for _ in TIMES]
    content = {"num_blocks": depth, "num_inference_steps": len(TIMES), "name": "random", "attributes": {}}
    content["schedule"] = {f"{s:03}": row for s, row in enumerate(rows)}
    text = json.dumps({"cache_schedule": content, "config": {"guidance_scale": GUIDANCE}, "metrics": {}})

    pipe, network = pixart(), DiffusersNetwork.from_pipeline(pixart())
    network.embed(PROMPTS)
    base = make_schedule(
        network.signature, network.noise, "epsilon", solver="dpmsolver++", order=2, spacing=TIMES, guidance=GUIDANCE
    )
    schedule = FORMATS["ecad"].read(text, base)
    ours = sample_batch(
        [network.at("branch")], schedule, noises(0, range(3), network.sample_shape, 1)[0], [], torch.arange(3)
    )

    full = pixart_images(pipe)
    for j, block in enumerate(pipe.transformer.transformer_blocks):
        for name in names:
            component = getattr(block, name)
            component.forward = cached(component.forward, [int(row[str(j)][name]) for row in rows])
    assert_same(ours, pixart_images(pipe), full)
    assert json.loads(FORMATS["ecad"].write(schedule))["cache_schedule"]["name"] == "random"


def pixart() -> Any:
    pipe = tiny("pixart-alpha", num_layers=4)
    torch.manual_seed(1)
    for parameter in pipe.transformer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return pipe


def pixart_images(pipe: Any) -> Tensor:
    """Latents as the pipeline makes them, sampled at our times and from our noises."""
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, final_sigmas_type="zero")
    scheduler, shape = pipe.scheduler, (4, 8, 8)
    scheduler.set_timesteps(timesteps=TIMES)
    embeds, mask, null, null_mask = pipe.encode_prompt(PROMPTS, negative_prompt="")
    given = {"encoder_hidden_states": torch.cat([null, embeds]), "encoder_attention_mask": torch.cat([null_mask, mask])}
    x = noises(0, range(3), shape, 1)[0]
    with torch.inference_mode():
        for t in scheduler.timesteps:
            both = pipe.transformer(
                torch.cat([x, x]), timestep=t.expand(6), added_cond_kwargs={"resolution": None, "aspect_ratio": None},
                **given,
            ).sample.chunk(2, dim=1)[0]  # fmt: skip
            unconditional, conditional = both.chunk(2)
            x = scheduler.step(unconditional + GUIDANCE * (conditional - unconditional), t, x).prev_sample
    return x


# ---- cache-dit -------------------------------------------------------------------------------------------------------


class MaskedBlocks(nn.Module):
    """All blocks, or the first and the last with what those between added last."""

    def __init__(self, blocks: nn.ModuleList, mask: list[int], first: int, last: int) -> None:
        super().__init__()
        self.steps, self.kept = iter(mask), torch.zeros(())
        stop = len(blocks) - last
        self.first, self.middle, self.last = blocks[:first], blocks[first:stop], blocks[stop:]

    def forward(self, h: Tensor, c: Tensor, rotary: Rotary | None = None) -> Tensor:
        for block in self.first:
            h = block(h, c, rotary)
        if next(self.steps):
            start = h
            for block in self.middle:
                h = block(h, c, rotary)
            self.kept = h - start
        else:
            h = h + self.kept
        for block in self.last:
            h = block(h, c, rotary)
        return h


@pytest.mark.parametrize(("first", "last"), [(1, 0), (2, 1), (1, 3)])
def test_cache_dit(network: DiTNetwork, base: Schedule, first: int, last: int) -> None:
    mask = [1, 0, 1, 0, 0, 0, 1, 0]
    text = (
        f"cache_config: {{num_inference_steps: 8, steps_computation_mask: {mask}, steps_computation_policy: static, "
        f"Fn_compute_blocks: {first}, Bn_compute_blocks: {last}}}"
    )
    schedule = FORMATS["cache-dit"].read(text, base)
    assert block_evaluations(schedule) == 2 * (3 * DEPTH + 5 * (first + last))
    full, blocks = foreign_images(network.module), network.module.blocks
    network.module.blocks = nn.ModuleList([MaskedBlocks(blocks, mask, first, last)])
    foreign = foreign_images(network.module)
    network.module.blocks = blocks
    assert_same(our_images(network, schedule), foreign, full)


# ---- ASE and times ---------------------------------------------------------------------------------------------------


def test_ase(network: DiTNetwork, base: Schedule) -> None:
    """blocks[:depth] at every call, by the tenth of the timestep."""
    ten, blocks = [5, 5, 4, 4, 4, 3, 3, 2, 2, 1], network.module.blocks
    schedule = FORMATS["ase"].read(json.dumps(ten), base)
    full = foreign_images(network.module)

    def cut(t: int) -> None:
        network.module.blocks = blocks[: ten[t // 100]]

    foreign = foreign_images(network.module, before=cut)
    network.module.blocks = blocks
    assert_same(our_images(network, schedule), foreign, full)


def test_times(network: DiTNetwork, base: Schedule) -> None:
    times = [999, 640, 350, 120, 9]
    schedule = FORMATS["timesteps"].read(json.dumps(times), base)
    foreign = foreign_images(network.module, json.loads(FORMATS["timesteps"].write(schedule)))
    assert_same(our_images(network, schedule), foreign, foreign_images(network.module))


def test_coefficients_stand_in_for_the_solver(network: DiTNetwork, base: Schedule) -> None:
    schedule = FORMATS["ase"].read("5,5,4,4,4,3,3,2,2,1", base)
    read = FORMATS["exeunt"].read(FORMATS["exeunt"].write(schedule), None)
    assert torch.equal(our_images(network, read), our_images(network, schedule))
