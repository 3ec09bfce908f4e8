"""Exported files in the real cache-dit, on diffusers' own pipelines: they load, compute the blocks they say at the
steps they say, and make the schedule's images."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from exeunt.backends.formats import FORMATS
from exeunt.backends.schedule import REUSE, RUN, NetworkSignature, Noise, Schedule
from exeunt.backends.solvers import make_schedule
from torch import Tensor, nn

DEPTH, STEPS = 5, 7
Pipeline = tuple[Any, dict[str, Any], list[nn.Module], int]  # pipeline, arguments, blocks, calls a step


def embeddings(*shape: int) -> dict[str, Tensor]:
    return {name: torch.randn(1, *shape) for name in ("prompt_embeds", "negative_prompt_embeds")}


def dit() -> Pipeline:
    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=DEPTH, sample_size=8,
        patch_size=2,
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    arguments = {"class_labels": [1, 2], "guidance_scale": 3.0, "output_type": "np"}
    return DiTPipeline(transformer, vae, DDIMScheduler()), arguments, list(transformer.transformer_blocks), 1


def pixart() -> Pipeline:
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=DEPTH, sample_size=8,
        cross_attention_dim=16, caption_channels=12,
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    masks = {name: torch.ones(1, 6) for name in ("prompt_attention_mask", "negative_prompt_attention_mask")}
    arguments = embeddings(6, 12) | masks | {"negative_prompt": None, "guidance_scale": 4.5}
    arguments |= {"height": 8, "width": 8, "use_resolution_binning": False}
    pipe = PixArtAlphaPipeline(None, None, vae, transformer, DDIMScheduler())
    return pipe, arguments, list(transformer.transformer_blocks), 1


def stable_diffusion_3() -> Pipeline:
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=DEPTH, attention_head_dim=8, num_attention_heads=2,
        caption_projection_dim=16, joint_attention_dim=12, pooled_projection_dim=10, out_channels=4,
        pos_embed_max_size=8,
    )  # fmt: skip
    pooled = {name: torch.randn(1, 10) for name in ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")}
    arguments = embeddings(6, 12) | pooled | {"guidance_scale": 4.5, "height": 64, "width": 64}
    pipe = StableDiffusion3Pipeline(transformer, FlowMatchEulerDiscreteScheduler(), *[None] * 8)
    return pipe, arguments, list(transformer.transformer_blocks), 1


def flux() -> Pipeline:
    """Two double-stream blocks and three single-stream ones as one chain."""
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=DEPTH - 2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )  # fmt: skip
    arguments = {"prompt_embeds": torch.randn(1, 7, 32), "pooled_prompt_embeds": torch.randn(1, 32)}
    pipe = FluxPipeline(FlowMatchEulerDiscreteScheduler(), None, None, None, None, None, transformer)
    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    return pipe, arguments | {"height": 64, "width": 64}, blocks, 1


def wan() -> Pipeline:
    """Guidance in two calls."""
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=32, ffn_dim=32, num_layers=DEPTH, rope_max_seq_len=32,
    )  # fmt: skip
    arguments = embeddings(6, 16) | {"guidance_scale": 4.5, "height": 64, "width": 64, "num_frames": 5}
    pipe = WanPipeline(None, None, None, FlowMatchEulerDiscreteScheduler(), transformer)
    return pipe, arguments, list(transformer.blocks), 2


MAKERS = [dit, pixart, stable_diffusion_3, flux, wan]


@pytest.fixture(params=MAKERS, ids=[make.__name__ for make in MAKERS])
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    torch.manual_seed(0)
    pipe, arguments, blocks, calls = request.param()
    for parameter in pipe.transformer.eval().parameters():
        nn.init.normal_(parameter, std=0.2)
    pipe.set_progress_bar_config(disable=True)
    return pipe, {"output_type": "latent"} | arguments, blocks, calls


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """cache-dit reports every pipeline that it takes."""
    logger = logging.getLogger("CACHE_DIT")
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(logging.NOTSET)


def cached_schedule(first: int, last: int) -> Schedule:
    """Steps 0, 3 and 4 run; the others reuse the blocks between."""
    noise = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
    network = NetworkSignature("a transformer", "block", (("residual", DEPTH),))
    base = make_schedule(network, noise, "epsilon", solver="ddim", num_steps=STEPS)
    cached = (RUN,) * first + (REUSE,) * (DEPTH - first - last) + (RUN,) * last
    steps = tuple(replace(s, blocks=s.blocks if k in (0, 3, 4) else cached) for k, s in enumerate(base.steps))
    return replace(base, steps=steps)


def sampled(pipe: Any, arguments: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        output = pipe(num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0), **arguments)
    images = output.frames if hasattr(output, "frames") else output.images
    return torch.as_tensor(images)


@pytest.mark.parametrize(("first", "last"), [(1, 0), (2, 1), (1, 3)])
def test_the_package_computes_the_blocks_that_the_file_says(
    pipeline: Pipeline, first: int, last: int, tmp_path: Path
) -> None:
    pipe, arguments, blocks, calls = pipeline
    schedule = cached_schedule(first, last)
    path = tmp_path / "fast.cache-dit.yaml"
    path.write_text(FORMATS["cache-dit"].write(schedule))
    with obeying(blocks, schedule, calls):
        ours = sampled(pipe, arguments)
    seen: list[int] = []
    hooks = [block.register_forward_hook(lambda *_, j=j: seen.append(j)) for j, block in enumerate(blocks)]
    full = sampled(pipe, arguments)
    cache_dit.enable_cache(pipe, **cache_dit.load_configs(str(path)))
    wanted = [
        j for step in schedule.steps for _ in range(calls) for j, action in enumerate(step.blocks) if action == RUN
    ]
    for _ in range(2):  # the second images start anew
        seen.clear()
        images = sampled(pipe, arguments)
        assert seen == wanted
        scale = float(full.abs().max())
        assert float((images - ours).abs().max()) < 5e-5 * scale
        assert float((images - full).abs().max()) > 1e-3 * scale
    cache_dit.disable_cache(pipe)
    for hook in hooks:
        hook.remove()


@contextmanager
def obeying(blocks: list[nn.Module], schedule: Schedule, calls: int) -> Iterator[None]:
    """Runs a pipeline's blocks as the schedule file defines `run` and `reuse`, each guidance branch by itself."""
    for j, block in enumerate(blocks):
        kinds = [step.blocks[j].kind for step in schedule.steps for _ in range(calls)]
        block.forward = reusing(block.forward, kinds, calls)
    yield
    for block in blocks:
        del block.forward


def reusing(compute: Callable[..., Any], kinds: list[str], calls: int) -> Callable[..., Any]:
    """A block whose nth call runs, or adds what it added the last time it ran in that guidance branch.

    Blocks with two streams take (hidden, encoder) and return (encoder, hidden); the last of SD3 returns no encoder.
    """
    stored: dict[int, list[Tensor | None]] = {}
    count = iter(range(len(kinds)))

    def forward(*arguments: Any, **named: Any) -> Any:
        n = next(count)
        given = [*arguments, *(named[name] for name in ("hidden_states", "encoder_hidden_states") if name in named)]
        if kinds[n] == "run":
            output = compute(*arguments, **named)
            parts = [output] if isinstance(output, Tensor) else list(output)
            before = reversed(given[: len(parts)])
            stored[n % calls] = [None if a is None else a - b for a, b in zip(parts, before, strict=True)]
            return output
        kept = stored[n % calls]
        parts = [None if a is None else b + a for a, b in zip(kept, reversed(given[: len(kept)]), strict=True)]
        return parts[0] if len(parts) == 1 else tuple(parts)

    return forward
