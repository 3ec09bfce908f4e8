"""What the sampling loop costs beside the network: against the bare network calls, and against a diffusers loop.

Run: python benchmarks/sampler_overhead.py [--repeats 24] [--device cpu]

Three ways through the same trajectory take turns within one run, in every order: `sample_batch`, the network calls
alone on the inputs recorded from it, and a loop over diffusers' DPMSolverMultistepScheduler with the same network. A
ratio is between the means of the fastest quarters, since other work on the machine only ever adds time; the quartiles
of the ratios of neighbours stand beside it. Then the network is replaced by one that returns a stored tensor, which
leaves the loop itself, in microseconds a step. Freed memory is kept, or else each way's own page faults are compared.
"""

import argparse
import itertools
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers import DPMSolverMultistepScheduler
from exeunt.backends.network import Network, NetworkInput
from exeunt.backends.networks.registry import load_network
from exeunt.backends.plan import Call
from exeunt.backends.sampling import conditions as draws
from exeunt.backends.sampling import loop as sampling
from exeunt.backends.schedule import Schedule
from exeunt.backends.solvers import tables
from exeunt.backends.timing.device import keep_freed_memory
from torch import Tensor

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)

LIMIT = 1.03
BATCH_SIZE = 64
NUM_STEPS = 4
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}


class Still:
    """A network whose output is a stored tensor; all else is the given network's."""

    def __init__(self, network: Network) -> None:
        self.network = network
        channels, height, width = network.sample_shape
        channels *= 1 + network.learned_range
        sizes = (BATCH_SIZE, 2 * BATCH_SIZE)
        self.outputs = {n: torch.randn(n, channels, height, width, device=network.device) for n in sizes}

    def __getattr__(self, name: str) -> object:
        return getattr(self.network, name)

    def evaluate(self, inputs: NetworkInput, *_: object) -> Tensor:
        return self.outputs[len(inputs.x)]


def record(network: Network, schedule: Schedule, noise: Tensor, labels: Tensor) -> list[NetworkInput]:
    """What the network is given in every network call of the trajectory."""
    found: list[NetworkInput] = []

    class Recorder(Still):
        def evaluate(self, inputs: NetworkInput, call: Call | None, slots: list[Tensor]) -> Tensor:
            found.append(replace(inputs, x=inputs.x.clone()))
            return self.network.evaluate(inputs, call, slots)

    sampling.sample_batch([Recorder(network)], schedule, noise, [], labels)  # type: ignore[list-item]
    return found


@torch.inference_mode()
def bare(network: Network, calls: list[NetworkInput]) -> None:
    for inputs in calls:
        network.evaluate(inputs, None, [])


@torch.inference_mode()
def with_diffusers(network: Network, schedule: Schedule, noise: Tensor, labels: Tensor, scale: float | None) -> Tensor:
    """The loop of a diffusers pipeline."""
    noise_options = {"beta_start": network.noise.beta_start, "beta_end": network.noise.beta_end}
    names = {"linear": "linear", "scaled-linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
    scheduler = DPMSolverMultistepScheduler(
        prediction_type=PREDICTIONS[network.prediction],
        beta_schedule=names[network.noise.kind],
        **{key: value for key, value in noise_options.items() if value is not None},
    )
    scheduler.set_timesteps(timesteps=[int(step.time) for step in schedule.steps])
    x, both = noise, labels if scale is None else torch.cat([labels, network.null_conditions(len(labels))])
    for when in scheduler.timesteps:
        rows = x if scale is None else torch.cat([x, x])
        output = network.evaluate(NetworkInput(rows, when.float().to(x.device).expand(len(rows)), both), None, [])
        if scale is not None:
            conditional, unconditional = output.chunk(2)
            output = unconditional + scale * (conditional - unconditional)
        x = scheduler.step(output, when, x, return_dict=False)[0]
    return x


def seconds(function: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def interleaved(ways: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each way, taking turns in every order; one unrecorded round first."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    orders = list(itertools.permutations(ways))
    for repeat in range(repeats + 1):
        for name in orders[repeat % len(orders)]:
            found[name].append(seconds(ways[name], device))
    return {name: values[1:] for name, values in found.items()}


def fastest(values: list[float]) -> float:
    """Mean of the fastest quarter."""
    return statistics.mean(sorted(values)[: max(1, len(values) // 4)])


def quartiles(above: list[float], below: list[float]) -> list[float]:
    """Lower quartile, median and upper quartile of the ratios of neighbours in time."""
    return statistics.quantiles((a / b for a, b in zip(above, below, strict=True)), n=4)


def measure(network: Network, scale: float | None, repeats: int) -> dict[str, float | list[float]]:
    schedule = tables.make_schedule(
        network.signature, network.noise, network.prediction, num_steps=NUM_STEPS, guidance=scale, spacing="linspace"
    )
    noise = draws.noises(0, range(BATCH_SIZE), network.sample_shape, 1)[0].to(network.device)
    labels = (torch.arange(BATCH_SIZE) % (network.num_classes or 1)).to(network.device)
    calls = record(network, schedule, noise, labels)
    ours = sampling.sample_batch([network], schedule, noise, [], labels)
    theirs = with_diffusers(network, schedule, noise, labels, scale)
    assert (ours - theirs).abs().max() < 1e-3 * ours.abs().max(), "both loops must sample the same images"
    still = Still(network)
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: sampling.sample_batch([network], schedule, noise, [], labels),
        "bare": lambda: bare(network, calls),
        "diffusers": lambda: with_diffusers(network, schedule, noise, labels, scale),
    }
    loops: dict[str, Callable[[], object]] = {
        "ours": lambda: sampling.sample_batch([still], schedule, noise, [], labels),  # type: ignore[list-item]
        "diffusers": lambda: with_diffusers(still, schedule, noise, labels, scale),  # type: ignore[arg-type]
    }
    found = interleaved(ways, repeats, network.device)
    loop = interleaved(loops, 40, network.device)
    step = fastest(found["bare"]) / NUM_STEPS
    steps = {name: fastest(values) / NUM_STEPS for name, values in loop.items()}
    return {
        "over_bare_calls": fastest(found["ours"]) / fastest(found["bare"]),
        "over_bare_calls_quartiles": quartiles(found["ours"], found["bare"]),
        "over_diffusers_loop": fastest(found["ours"]) / fastest(found["diffusers"]),
        "over_diffusers_loop_quartiles": quartiles(found["ours"], found["diffusers"]),
        "network_milliseconds_a_step": 1e3 * step,
        "loop_microseconds_a_step": 1e6 * steps["ours"],
        "diffusers_loop_microseconds_a_step": 1e6 * steps["diffusers"],
        "over_bare_calls_by_parts": 1 + steps["ours"] / step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=24)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpoint", default="fashion-dit")
    options = parser.parse_args()
    keep_freed_memory()
    network, figures = load_network(options.checkpoint, options.device), {}
    for name, scale in (("unguided", None), ("guided", 1.5)):
        found = measure(network, scale, options.repeats)
        figures |= {f"{name}_{key}": value for key, value in found.items()}
        missed = found["over_bare_calls"] > LIMIT or found["over_diffusers_loop"] > 1.01
        print(f"{name}: {'MISSED' if missed else 'ok'}", flush=True)
        for key, value in found.items():
            print(
                f"    {key:36} " + " to ".join(f"{v:.4g}" for v in (value if isinstance(value, list) else [value])),
                flush=True,
            )
    conditions = {
        "checkpoint": network.name,
        "batch_size": BATCH_SIZE,
        "num_steps": NUM_STEPS,
        "repeats": options.repeats,
        "device": str(network.device),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps({"benchmark": "sampler_overhead", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
