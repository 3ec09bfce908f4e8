"""Exported files in the real cache-dit, on diffusers' own pipelines: they load, compute the blocks they say at the
steps they say, and make the schedule's images."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cache_dit
import exeunt
import pytest
import torch
from exeunt.backends.formats.registry import FORMATS
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.schedule import REUSE, RUN, Embedded, Guidance, Schedule
from exeunt.backends.solvers.tables import make_schedule
from pipeline_runs import USUAL
from tiny_pipelines import tiny
from torch import Tensor, nn

# diffusers hands torch tensors to NumPy in the way before NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DEPTH, STEPS, SCALE = 5, 7, 3.0
SMALL = {"prompt": "a boat", "height": 16, "width": 16}
# Of each pipeline: its denoiser's size, what it is called with, and how often it calls the denoiser in a step.
KINDS: dict[str, tuple[dict[str, int], dict[str, Any], int]] = {
    "dit": ({"num_layers": DEPTH}, {"class_labels": [1, 2], "output_type": "np"}, 1),
    "pixart-alpha": ({"num_layers": DEPTH}, SMALL | {"use_resolution_binning": False}, 1),
    "sd3": ({"num_layers": DEPTH}, SMALL, 1),
    "flux": ({"num_layers": 2, "num_single_layers": DEPTH - 2}, SMALL, 1),
    "wan": ({"num_layers": DEPTH}, SMALL | {"num_frames": 5}, 2),
}


@dataclass(frozen=True)
class Case:
    """A pipeline with every block at every step of its own times, what it is called with, and its calls a step."""

    pipe: Any
    full: Schedule
    arguments: dict[str, Any]
    calls: int


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest) -> Case:
    size, arguments, calls = KINDS[request.param]
    pipe, network = tiny(request.param, **size), DiffusersNetwork.from_pipeline(tiny(request.param, **size))
    for parameter in pipe.transformer.parameters():
        nn.init.normal_(parameter, std=0.2)
    guidance = Embedded(SCALE) if network.takes_guidance else Guidance(SCALE)
    full = make_schedule(
        network.signature, network.noise, network.prediction, num_steps=STEPS, guidance=guidance, **USUAL[request.param]
    )
    sizes = {name: arguments[name] for name in ("height", "width") if name in arguments}
    followed = exeunt.call_arguments(full, pipe, **sizes)
    return Case(pipe, full, {"output_type": "latent"} | arguments | followed, calls)


def blocks_of(pipe: Any) -> list[nn.Module]:
    """In execution order; FLUX's blocks with two streams and with one as one chain."""
    names = ("blocks", "transformer_blocks", "single_transformer_blocks")
    return [block for name in names for block in getattr(pipe.transformer, name, ())]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """cache-dit reports every pipeline that it takes."""
    logger = logging.getLogger("CACHE_DIT")
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(logging.NOTSET)


def cached_schedule(full: Schedule, first: int, last: int) -> Schedule:
    """Steps 0, 3 and 4 run; the others reuse the blocks between."""
    cached = (RUN,) * first + (REUSE,) * (DEPTH - first - last) + (RUN,) * last
    steps = tuple(replace(s, blocks=s.blocks if k in (0, 3, 4) else cached) for k, s in enumerate(full.steps))
    return replace(full, steps=steps)


def sampled(case: Case) -> Tensor:
    with torch.no_grad():
        output = case.pipe(generator=torch.Generator().manual_seed(0), **case.arguments)
    images = output.frames if hasattr(output, "frames") else output.images
    return torch.as_tensor(images)


@pytest.mark.parametrize(("first", "last"), [(1, 0), (2, 1), (1, 3)])
def test_the_package_computes_the_blocks_that_the_file_says(case: Case, first: int, last: int, tmp_path: Path) -> None:
    """Its images are ours: those of the schedule's definition, and those of `exeunt.apply` on the same pipeline."""
    pipe, blocks = case.pipe, blocks_of(case.pipe)
    schedule = cached_schedule(case.full, first, last)
    path = tmp_path / "fast.cache-dit.yaml"
    path.write_text(FORMATS["cache-dit"].write(schedule))
    with obeying(blocks, schedule, case.calls):
        defined = sampled(case)
    exeunt.apply(pipe, schedule)
    applied = sampled(case)
    exeunt.remove(pipe)
    seen: list[int] = []
    hooks = [block.register_forward_hook(lambda *_, j=j: seen.append(j)) for j, block in enumerate(blocks)]
    full = sampled(case)
    cache_dit.enable_cache(pipe, **cache_dit.load_configs(str(path)))
    wanted = [
        j for step in schedule.steps for _ in range(case.calls) for j, action in enumerate(step.blocks) if action == RUN
    ]
    for _ in range(2):  # the second images start anew
        seen.clear()
        images = sampled(case)
        assert seen == wanted
        scale = float(full.abs().max())
        assert float((images - defined).abs().max()) < 5e-5 * scale
        assert float((images - applied).abs().max()) < 5e-5 * scale
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
