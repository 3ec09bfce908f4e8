"""The sampling loop: against diffusers' loop, against hand-written guidance, and across batch sizes and devices."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler
from exeunt.backends.errors import InputError
from exeunt.backends.network import Network, NetworkInput
from exeunt.backends.networks.closed_form import ClosedFormNetwork
from exeunt.backends.networks.dit import DiT, DiTNetwork
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling import conditions, loop
from exeunt.backends.sampling import conditions as draws
from exeunt.backends.schedule import DROP, REUSE, RUN, Embedded, Guidance, Noise, Schedule, forecast, validate
from exeunt.backends.solvers.tables import make_schedule, solver_rows
from torch import Tensor

pytestmark = pytest.mark.cpu

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)


def small_dit(*, learned_range: bool = False, has_null: bool = True) -> DiTNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = DiT(
            input_size=8, patch_size=2, channels=3, width=32, depth=4, num_heads=2, num_classes=5,
            learned_range=learned_range, has_null=has_null,
        )  # fmt: skip
        for parameter in module.parameters():
            parameter.data.normal_(std=0.1)
    return DiTNetwork(module, name="small", weights_sha256=None, num_classes=5, prediction="v", noise=LINEAR)


def schedule_of(network: Network, **arguments: object) -> Schedule:
    return make_schedule(network.signature, network.noise, network.prediction, **{"num_steps": 6, **arguments})


def latents(network: Network, schedule: Schedule, batch_size: int, **arguments: object) -> Tensor:
    options = {"seed": 3, "images": range(40, 50), "conditions": conditions.uniform(network.num_classes), **arguments}
    batches = list(loop.sample([network], schedule, batch_size=batch_size, **options))
    assert [batch.first for batch in batches] == list(range(40, 50, batch_size))
    assert all(batch.images.dtype == torch.uint8 for batch in batches)
    assert [tuple(batch.images.shape[1:]) for batch in batches] == [network.image_shape] * len(batches)
    return torch.cat([batch.latents for batch in batches])


def staircase(schedule: Schedule) -> Schedule:
    """Every action, and steps that leave the unconditional pass out or reuse it."""
    tails = [(RUN, RUN), (RUN, REUSE), (RUN, RUN), (REUSE, DROP), (RUN, forecast(1)), (RUN, RUN)]
    passes = ["run", "run", "skip", "run", "reuse", "run"]
    steps = [
        replace(step, blocks=(RUN, RUN, *tail), unconditional=unconditional if schedule.guidance else "run")
        for step, tail, unconditional in zip(schedule.steps, tails, passes, strict=True)
    ]
    validate(made := replace(schedule, steps=tuple(steps)))
    return made


# ---- the loop against loops that we did not write, or wrote by hand --------------------------------------------------


def test_learned_variance_equals_diffusers() -> None:
    network = small_dit(learned_range=True)
    schedule = schedule_of(network, solver="ddpm", variance="learned-range", num_steps=10, spacing="leading")
    noises = draws.noises(0, range(4), network.sample_shape, loop.num_draws(schedule))
    labels, found = torch.tensor([0, 1, 2, 5]), []
    loop.sample_batch([network], schedule, noises[0], noises[1:], labels, observe=lambda s, v: found.append(v.x_next))
    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False, prediction_type="v_prediction")
    # In its own float32, 1 - 0.9999 at train index 0 has an error of 3e-4, and ln β̃ with it.
    scheduler.alphas_cumprod = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(dim=0)
    scheduler.set_timesteps(10)
    x = noises[0]
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        queue = iter(noises[1:])
        patch.setattr(sys.modules[DDPMScheduler.__module__], "randn_tensor", lambda *args, **kwargs: next(queue))
        for s, time in enumerate(scheduler.timesteps):
            output = network.evaluate(NetworkInput(x, time.expand(4).float(), labels), None, [])
            x = scheduler.step(output, time, x).prev_sample
            assert (found[s] - x).abs().max() <= 1e-5 * noises.abs().max()


@pytest.mark.parametrize("channels", ["all", 2])
@pytest.mark.parametrize("learned_range", [False, True])
def test_guidance_equals_two_evaluations_by_hand(channels: int | str, learned_range: bool) -> None:
    network = small_dit(learned_range=learned_range)
    schedule = schedule_of(network, guidance=Guidance(2.5, channels), num_steps=4)
    schedule = replace(schedule, steps=(replace(schedule.steps[0], guidance=0.5), *schedule.steps[1:]))
    noise, labels = draws.noises(0, range(3), network.sample_shape, 1)[0], torch.tensor([0, 2, 4])
    found: list[Tensor] = []
    loop.sample_batch([network], schedule, noise, [], labels, observe=lambda s, v: found.append(v.output))
    x, history = noise, []
    with torch.inference_mode():
        for s, (step, row) in enumerate(zip(schedule.steps, solver_rows(schedule), strict=True)):
            time, null = torch.full((3,), step.time), torch.full((3,), 5)
            c, u = (network.evaluate(NetworkInput(x, time, y), None, [])[:, :3] for y in (labels, null))
            scale, count = 0.5 if s == 0 else 2.5, 3 if channels == "all" else 2
            output = torch.cat([(u + scale * (c - u))[:, :count], c[:, count:]], dim=1)
            assert torch.allclose(found[s], output, atol=1e-5)
            history.insert(0, row.model_x * x + row.model_f * output)
            x = row.a * x + sum(b * m for b, m in zip(row.b, history, strict=False))


def test_a_step_without_guidance_is_conditional_alone() -> None:
    network = small_dit()
    guided = schedule_of(network, guidance=4.0)
    bare = replace(guided, steps=tuple(replace(step, guidance=None) for step in guided.steps))
    skipped = replace(guided, steps=tuple(replace(step, unconditional="skip") for step in guided.steps))
    wanted = latents(network, schedule_of(network), 5)
    assert torch.equal(latents(network, bare, 5), wanted)
    assert torch.equal(latents(network, skipped, 5), wanted)
    assert not torch.allclose(latents(network, guided, 5), wanted, atol=1e-2)


def test_clip_bounds_the_prediction() -> None:
    network = small_dit()
    seen: list[float] = []
    latents(
        network, schedule_of(network, clip=0.5), 5, observe=lambda s, values: seen.append(float(values.m.abs().max()))
    )
    assert max(seen) == 0.5
    assert len(seen) == 2 * 6


def test_the_scales_of_a_schedule_are_applied() -> None:
    """input_scale and initial_scale: sampling sigma-scaled samples with folded coefficients gives the same data."""
    network = small_dit()
    schedule = schedule_of(network, order=1)
    table = solver_rows(schedule)
    scale = 7.0
    steps = tuple(
        replace(
            step, coefficients=replace(row, input_scale=1 / scale, model_x=row.model_x / scale, b=(scale * row.b[0],))
        )
        for step, row in zip(schedule.steps, table, strict=True)
    )
    scaled = replace(schedule, steps=steps, sampler=replace(schedule.sampler, initial_scale=scale))
    assert torch.allclose(latents(network, scaled, 5), scale * latents(network, schedule, 5), atol=1e-4 * scale)


# ---- promises --------------------------------------------------------------------------------------------------------


def every_kind() -> Iterator[tuple[str, Network, Schedule]]:
    plain, learned = small_dit(), small_dit(learned_range=True)
    mixture = load_network("closed-form", components=3, num_blocks=4)
    for name, network in (("dit", plain), ("mixture", mixture)):
        yield f"{name}, plain", network, schedule_of(network)
        yield f"{name}, every action", network, staircase(schedule_of(network, guidance=1.5))
        yield f"{name}, ddpm", network, schedule_of(network, solver="ddpm")
        yield f"{name}, eta", network, staircase(schedule_of(network, solver="ddim", eta=0.5, guidance=1.5))
    yield "dit, learned", learned, schedule_of(learned, solver="ddpm", variance="learned-range", guidance=1.5)


@pytest.mark.parametrize(("network", "schedule"), [pytest.param(n, s, id=name) for name, n, s in every_kind()])
def test_images_agree_across_batch_sizes(network: Network, schedule: Schedule) -> None:
    whole = latents(network, schedule, 10)
    for batch_size in (1, 3):
        assert (latents(network, schedule, batch_size) - whole).abs().max() <= 1e-4


def test_bundled_images_agree_across_batch_sizes() -> None:
    network = load_network("fashion-dit-exits")
    schedule = schedule_of(network, num_steps=4)
    whole, parts = latents(network, schedule, 10), latents(network, schedule, 4)
    assert (parts - whole).abs().max() <= 1e-4


def test_the_loop_leaves_its_inputs_alone() -> None:
    network = small_dit()
    noise = draws.noises(0, range(2), network.sample_shape, 1)[0]
    before = noise.clone()
    loop.sample_batch([network], schedule_of(network), noise, [], torch.tensor([0, 1]))
    assert torch.equal(noise, before)


def test_half_precision_keeps_its_state_in_float32() -> None:
    network = load_network("closed-form", dtype=torch.bfloat16, num_blocks=4)
    exact = load_network("closed-form", num_blocks=4)
    found = latents(network, schedule_of(network), 5)
    assert found.dtype == torch.float32
    assert (found - latents(exact, schedule_of(exact), 5)).abs().max() < 0.1


def test_observing_changes_nothing_and_sees_every_step() -> None:
    network = small_dit()
    schedule = staircase(schedule_of(network, guidance=1.5))
    seen: list[tuple[int, loop.StepValues]] = []
    found = latents(network, schedule, 10, observe=lambda s, values: seen.append((s, values)))
    assert torch.equal(found, latents(network, schedule, 10))
    assert [s for s, _ in seen] == list(range(6))
    for (_, earlier), (_, later) in pairwise(seen):
        assert torch.equal(earlier.x_next, later.x)
    assert torch.equal(seen[-1][1].x_next, found)
    assert all(slot is None for slot in seen[-1][1].slots)


def test_several_networks_take_turns() -> None:
    first, second = small_dit(), load_network("closed-form", components=5, num_blocks=2, dim=3 * 8 * 8)
    second.sample_shape = (3, 8, 8)
    schedule = schedule_of(first)
    steps = [step if s < 3 else replace(step, network=1, blocks=(RUN,) * 2) for s, step in enumerate(schedule.steps)]
    mixed = replace(schedule, networks=(first.signature, second.signature), steps=tuple(steps))
    found = list(
        loop.sample([first, second], mixed, seed=0, images=range(2), conditions=conditions.uniform(5), batch_size=2)
    )
    assert bool(torch.isfinite(found[0].latents).all())


# ---- refusals, before any sampling -----------------------------------------------------------------------------------


def other_weights(network: Network) -> Network:
    return ClosedFormNetwork.from_checkpoint(
        None, device=network.device, dtype=network.dtype, name="other", num_blocks=4, seed=1
    )


def test_other_weights_are_allowed() -> None:
    network = load_network("closed-form", num_blocks=4)
    other = other_weights(network)
    assert other.signature.weights_sha256 != network.signature.weights_sha256
    latents(other, schedule_of(network), 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": "epsilon"}, "prediction: `small` predicts v"),
        ({"noise": Noise("cosine", num_train_timesteps=1000)}, "noise: `small` has"),
        ({"variance": "learned-range", "name": "ddpm"}, "predicts no variance"),
    ],
)
def test_a_sampler_that_does_not_fit_is_told(change: dict[str, object], message: str) -> None:
    network = small_dit()
    schedule = schedule_of(network)
    with pytest.raises(InputError, match=message):
        loop.check_schedule([network], replace(schedule, sampler=replace(schedule.sampler, **change)))


def test_what_does_not_fit_is_told_before_sampling() -> None:
    network, other = small_dit(), load_network("closed-form", num_blocks=4)
    schedule = schedule_of(network)
    deep = schedule_of(load_network("closed-form", num_blocks=5))
    without_null = small_dit(has_null=False)
    options = {"seed": 0, "images": range(4), "conditions": conditions.uniform(5), "batch_size": 2}
    for networks, given, changes, message in (
        ([network, network], schedule, {}, "the schedule names 1, but got 2"),
        ([other], schedule, {}, "is for DiT with 4 blocks"),
        ([other], deep, {}, "is for closed-form with 5 blocks"),
        ([network], schedule, {"batch_size": 0}, "batch_size: must be at least 1"),
        ([network], schedule, {"images": range(0, 8, 2)}, "consecutive"),
        ([network], replace(schedule, guidance=Guidance(2.0, 4)), {}, "channels must be at most 3"),
        ([network], replace(schedule, guidance=Embedded(3.5)), {}, "embedded"),
        ([without_null], replace(schedule, guidance=Guidance(2.0)), {}, "without a null label"),
    ):
        with pytest.raises(InputError, match=message):
            loop.sample(networks, given, **options | changes)


class WithoutLabels(ClosedFormNetwork):
    """An unconditional network: every image is of the whole mixture."""

    def evaluate(self, inputs: NetworkInput, *rest: object) -> Tensor:
        raise AssertionError("sampled, with labels that should have been refused")


def unconditional() -> Network:
    network = WithoutLabels.from_checkpoint(
        None, device=torch.device("cpu"), dtype=torch.float32, name="free", num_blocks=4
    )
    network.num_classes = None
    return network


Labels = conditions.Conditions


@pytest.mark.parametrize(
    ("network", "given", "message"),
    [
        (unconditional(), conditions.uniform(5), "`free` takes none, but got labels of 5 classes. Use `uniform"),
        (small_dit(), conditions.uniform(None), "`small` takes labels of 5 classes, but got none. Use `uniform\\(5"),
        (small_dit(), conditions.uniform(6), "`small` takes labels of 5 classes, but got those of 6"),
        (small_dit(), conditions.reference([1, 1]), "`small` takes labels of 5 classes, but got those of 2"),
        (small_dit(), Labels("file", 5, entries=(0, 4, 5)), "from 0 to 4, but entry 2 is 5. Fix it"),
        (small_dit(), Labels("file", 5, entries=(-1,)), "from 0 to 4, but entry 0 is -1. Fix it"),
        (small_dit(), Labels("file", 5), "at least one, but got none. Add one"),
        (small_dit(), Labels("reference", 5, (0.5, 0.5)), "one probability for each of 5 classes, but got 2. Use"),
    ],
)
def test_labels_that_do_not_fit_are_told_before_sampling(network: Network, given: Labels, message: str) -> None:
    with pytest.raises(InputError, match=f"^conditions: .*{message}"):
        loop.sample([network], schedule_of(network), seed=0, images=range(4), conditions=given, batch_size=2)


def test_every_network_of_a_schedule_must_take_the_labels() -> None:
    first, second = small_dit(), load_network("closed-form", components=4, num_blocks=2, dim=3 * 8 * 8)
    schedule = schedule_of(first)
    last = replace(schedule.steps[-1], network=1, blocks=(RUN,) * 2)
    mixed = replace(schedule, networks=(first.signature, second.signature), steps=(*schedule.steps[:-1], last))
    with pytest.raises(InputError, match="`closed-form` takes labels of 4 classes"):
        loop.sample([first, second], mixed, seed=0, images=range(2), conditions=conditions.uniform(5), batch_size=2)


def test_samples_that_are_not_finite_are_told() -> None:
    network = small_dit()
    network.module.final_layer.linear.bias.data.fill_(float("nan"))
    with pytest.raises(loop.NonFiniteSamples, match="images 40 to 44 have NaN"):
        latents(network, schedule_of(network), 5)


# ---- on a GPU --------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("solver", ["dpmsolver++", "ddpm"])
def test_nothing_synchronises_inside_the_loop(solver: str) -> None:
    network = small_dit()
    network = DiTNetwork(
        network.module.cuda(), name="small", weights_sha256=None, num_classes=5, prediction="v", noise=LINEAR
    )
    schedule = staircase(schedule_of(network, guidance=1.5, solver=solver))
    noises = draws.noises(0, range(4), network.sample_shape, loop.num_draws(schedule)).cuda()
    labels = torch.tensor([0, 1, 2, 3]).cuda()
    # Times and null labels are uploaded before the first step; from there on a synchronisation is an error.
    loop.sample_batch([network], schedule, noises[0], noises[1:], labels)
    try:
        whole = loop.sample_batch(
            [network],
            schedule,
            noises[0],
            noises[1:],
            labels,
            observe=lambda s, v: torch.cuda.set_sync_debug_mode("error"),
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(torch.isfinite(whole).all())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_images() -> None:
    on_cpu, on_gpu = load_network("fashion-dit"), load_network("fashion-dit", "cuda")
    schedule = schedule_of(on_cpu, guidance=1.5)
    assert (latents(on_gpu, schedule, 10).cpu() - latents(on_cpu, schedule, 10)).abs().max() < 5e-3
