"""What hooks cost: a diffusers pipeline under a schedule in which every block runs, beside the same pipeline untouched.

    python benchmarks/hook_overhead.py
    python benchmarks/hook_overhead.py --device cuda --dtype float16 --batch-size 8 --num-steps 20

Target: at most 1.01 × the untouched pipeline's time, and the same images bit for bit.

Three pipelines with random weights, from noise to images: a DiT-S/2 for 256 pixels, an SD3 of the same width and
depth with two streams, and a FLUX.1 of half as many blocks with two streams as with one. Prompts are embedded
beforehand. The autoencoder is a small one, so that decoding hides
nothing. In every round each takes untouched, under, under, untouched (the two swapped every second round): a steady
drift cancels within a round. A round's ratio is of sums; the figure is the median over rounds, with its interval.
"""

import argparse
import json
import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import exeunt
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.schedule import Embedded, Schedule
from exeunt.backends.solvers.tables import make_schedule
from exeunt.backends.timing.device import environment, keep_freed_memory
from exeunt.backends.timing.samples import paired_ratio
from exeunt.backends.timing.throughput import device_alone, room_for_another, time_run
from torch import Tensor

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)

LIMIT = 1.01
GUIDANCE = 4.0
WIDTH, HEADS, DEPTH, SIDE = 384, 6, 12, 32  # DiT-S; latents a side
TEXT, TOKENS = 256, 77  # width and length of SD3's prompts


@dataclass(frozen=True)
class Case:
    """A pipeline, the schedule in which every block runs, and what makes its images."""

    name: str
    pipe: Any
    schedule: Schedule
    run: Callable[[], Tensor]


def autoencoder() -> AutoencoderKL:
    """Eight pixels a latent, and little work."""
    stages = 4
    return AutoencoderKL(
        block_out_channels=(8,) * stages, norm_num_groups=4, latent_channels=4, shift_factor=0.0,
        down_block_types=("DownEncoderBlock2D",) * stages, up_block_types=("UpDecoderBlock2D",) * stages,
    )  # fmt: skip


def dit(options: argparse.Namespace) -> Case:
    """DiTPipeline with classifier-free guidance."""
    model = DiTTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, num_layers=DEPTH, sample_size=SIDE, out_channels=8
    )
    pipe = placed(DiTPipeline(model, autoencoder(), DDIMScheduler(clip_sample=False)), options)
    network = DiffusersNetwork.from_pipeline(pipe)
    schedule = full(network, options.num_steps, solver="ddim", spacing="leading")
    labels = list(range(options.batch_size))

    def run() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipe(labels, generator=generator, output_type="pt", **arguments(schedule)).images

    return Case("dit", pipe, schedule, run)


def sd3(options: argparse.Namespace) -> Case:
    """StableDiffusion3Pipeline with classifier-free guidance, on prompts that are embedded already."""
    model = SD3Transformer2DModel(
        sample_size=SIDE, in_channels=4, out_channels=4, num_layers=DEPTH, attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS, joint_attention_dim=TEXT, caption_projection_dim=WIDTH, pooled_projection_dim=TEXT,
        pos_embed_max_size=SIDE, qk_norm="rms_norm",
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = placed(StableDiffusion3Pipeline(model, scheduler, autoencoder(), *(None,) * 6), options)
    network = DiffusersNetwork.from_pipeline(pipe)
    schedule = full(network, options.num_steps, spacing="flow", spacing_parameters={"shift": 3.0})
    rows, given = options.batch_size, dict[str, Tensor]()
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        given[name] = torch.randn(rows, TOKENS, TEXT).to(pipe.device, pipe.dtype)
        given[name.replace("prompt", "pooled_prompt")] = torch.randn(rows, TEXT).to(pipe.device, pipe.dtype)

    def run() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipe(generator=generator, output_type="pt", **given, **arguments(schedule)).images

    return Case("sd3", pipe, schedule, run)


def flux(options: argparse.Namespace) -> Case:
    """FluxPipeline on prompts that are embedded already; its model takes guidance as an input."""
    model = FluxTransformer2DModel(
        in_channels=16, num_layers=DEPTH // 3, num_single_layers=DEPTH - DEPTH // 3, attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS, joint_attention_dim=TEXT, pooled_projection_dim=TEXT, guidance_embeds=True,
        axes_dims_rope=(16, 24, 24),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = placed(FluxPipeline(scheduler, autoencoder(), None, None, None, None, model), options)
    network = DiffusersNetwork.from_pipeline(pipe, height=8 * SIDE, width=8 * SIDE)
    sigmas = [1 - i / options.num_steps for i in range(options.num_steps)]  # of the pipeline, before the shift
    shifted = [3 * sigma / (1 + 2 * sigma) for sigma in sigmas]
    schedule = full(network, options.num_steps, spacing=shifted, guidance=Embedded(GUIDANCE))
    given = {
        "prompt_embeds": torch.randn(options.batch_size, TOKENS, TEXT).to(pipe.device, pipe.dtype),
        "pooled_prompt_embeds": torch.randn(options.batch_size, TEXT).to(pipe.device, pipe.dtype),
    }

    def run() -> Tensor:
        size = {"height": 8 * SIDE, "width": 8 * SIDE, "generator": torch.Generator().manual_seed(0)}
        return pipe(output_type="pt", **size, **given, **arguments(schedule)).images

    return Case("flux", pipe, schedule, run)


def placed(pipe: Any, options: argparse.Namespace) -> Any:
    """The pipeline ready to run; its networks were made here, so nobody has taken them out of training yet."""
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.transformer, pipe.vae):
        part.eval()
    return (
        pipe.to(options.device)
        if options.dtype == "float32"
        else pipe.to(options.device, getattr(torch, options.dtype))
    )


def full(network: DiffusersNetwork, num_steps: int, **options: Any) -> Schedule:
    """Every block at every step, at the times that the pipeline's scheduler goes to unasked."""
    options = {"guidance": GUIDANCE, **options}
    return make_schedule(network.signature, network.noise, network.prediction, num_steps=num_steps, **options)


def arguments(schedule: Schedule) -> dict[str, Any]:
    """What `exeunt.call_arguments` gives for it, the same for both ways."""
    return {"num_inference_steps": schedule.num_steps, "guidance_scale": GUIDANCE}


def untouched(case: Case) -> None:
    exeunt.remove(case.pipe)
    registries = [getattr(module, "_diffusers_hook", None) for module in case.pipe.transformer.modules()]
    hooked = [each for each in registries if each is not None and each.hooks]  # FluxPipeline itself makes an empty one
    assert not hooked, "the untouched pipeline has no hooks"


def under(case: Case) -> None:
    exeunt.apply(case.pipe, case.schedule)


def take(case: Case, device: torch.device, *, swapped: bool) -> dict[str, float]:
    """Seconds of two runs of each way, in an order that reads the same backwards."""
    ways = {"untouched": untouched, "under": under}
    first, second = list(ways)[:: -1 if swapped else 1]
    seconds = dict.fromkeys(ways, 0.0)
    for name in (first, second, second, first):
        ways[name](case)
        seconds[name] += time_run(case.run, device)
    return seconds


def equal_images(case: Case) -> bool:
    """Whether both ways make the same images bit for bit; warms up, too."""
    found: list[Tensor] = []
    for way in (untouched, under):
        way(case)
        found.append(case.run())
    return torch.equal(*found)


def measure(cases: list[Case], device: torch.device, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Each case's rounds, in random order."""
    found: dict[str, list[dict[str, float]]] = {case.name: [] for case in cases}
    order, begin = random.Random(0), time.perf_counter()
    for number in range(options.rounds):
        start = time.perf_counter()
        for case in order.sample(cases, len(cases)):
            found[case.name].append(take(case, device, swapped=number % 2 == 1))
        if not room_for_another(begin, start, options.max_seconds):
            break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--num-steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--max-seconds", type=float, default=300.0, help="no round starts that would end later")
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    device, figures = torch.device(options.device), dict[str, float | bool]()
    with device_alone(device):
        cases = [dit(options), sd3(options), flux(options)]
        equal = {case.name: equal_images(case) for case in cases}
        found = measure(cases, device, options)
    for name, rounds in found.items():
        ratio = paired_ratio([each["under"] for each in rounds], [each["untouched"] for each in rounds])
        missed = ratio.value > LIMIT or not equal[name]
        print(
            f"{name}: {ratio.value:.4f} ({ratio.lower:.4f} … {ratio.upper:.4f}) × the untouched pipeline's time, "
            f"images {'bit-equal' if equal[name] else 'DIFFERENT'}: {'MISSED' if missed else 'ok'}"
        )
        figures |= {
            f"{name}_over_untouched": round(ratio.value, 4),
            f"{name}_over_untouched_lower": round(ratio.lower, 4),
            f"{name}_over_untouched_upper": round(ratio.upper, 4),
            f"{name}_bit_equal": equal[name],
            f"{name}_milliseconds": round(500 * median(each["untouched"] for each in rounds), 1),
        }
    given = {key: getattr(options, key) for key in ("dtype", "batch_size", "num_steps")}
    conditions = {**given, "rounds": len(next(iter(found.values()))), **environment(device)}
    print(json.dumps({"benchmark": "hook_overhead", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
