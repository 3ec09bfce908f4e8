"""Does leaving early give what it promises?  A scheduled trajectory beside a loop written by hand over networks that
are really shorter: a transformer with its block list cut at each depth and, for `reuse`, stored tensors added by hand.

    python benchmarks/ideal_speedup.py                                        # the bundled checkpoint
    python benchmarks/ideal_speedup.py --network dit-xl-2 --device cuda       # random weights of that shape

Target: ≤ 1.03 × the hand-written loop for `drop`, ≤ 1.06 × for `reuse`. Beside it stands measured ÷ ideal, where ideal
is the full schedule's time × mean depth ÷ blocks: we also pay for the embedding and the head, which every step runs.
Decoding, the same for all, is left out. Rounds are interleaved; figures are medians of ratios within a round.
"""

import argparse
import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import torch
from exeunt.backends import network as networks
from exeunt.backends.allocator import keep_freed_memory
from exeunt.backends.dit import SIZES, DiT, DiTNetwork
from exeunt.backends.environment import environment
from exeunt.backends.pieces import inputs
from exeunt.backends.ratio import paired_ratio
from exeunt.backends.sampling import run
from exeunt.backends.schedule import DROP, REUSE, Coefficients, Noise, Schedule, depths, with_exits
from exeunt.backends.solvers import make_schedule, rows
from exeunt.backends.stopwatch import alone, seconds_of
from torch import Tensor

FRACTIONS = (0.25, 0.5, 0.75)  # mean depths, of the number of blocks
LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)


def load(name: str, device: str, dtype: torch.dtype) -> DiTNetwork:
    """A checkpoint, or random weights of a paper's shape: "dit-s-8" is DiT-S, patches of 8 on 32 × 32 × 4 latents."""
    size, _, patch = name.rpartition("-")
    shapes = {key.lower(): shape for key, shape in SIZES.items()}
    if size not in shapes:
        loaded = networks.load(name, device, dtype)
        assert isinstance(loaded, DiTNetwork), "the hand-written loop is a DiT's"
        return loaded
    depth, width, num_heads = shapes[size]
    torch.manual_seed(0)
    module = DiT(
        input_size=32,
        patch_size=int(patch),
        channels=4,
        width=width,
        depth=depth,
        num_heads=num_heads,
        num_classes=1000,
    ).to(networks.check_device(device), dtype)
    return DiTNetwork(module, name=name, weights_sha256=None, num_classes=1000, prediction="epsilon", noise=LINEAR)


def staircase(mean: int, num_steps: int) -> list[int]:
    """Depths that rise by one a fifth of the steps from mean − 2 to mean + 2, deepest at the data."""
    return [mean - 2 + 5 * step // num_steps for step in range(num_steps)]


def refreshed(mean: int, num_blocks: int, num_steps: int) -> list[int]:
    """Full depth every few steps and one lesser depth between, as near to the mean as whole numbers allow."""
    choices = [
        [num_blocks if step % interval == 0 else depth for step in range(num_steps)]
        for interval in range(2, num_steps + 1)
        for depth in range(1, num_blocks)
    ]
    return min(choices, key=lambda choice: abs(fmean(choice) - mean))


def cut(module: DiT, depth: int) -> DiT:
    """The network with its block list cut, on the same weights: copies of them would be slower to reach than ours."""
    shorter = copy.copy(module)
    shorter._modules = {**module._modules, "blocks": module.blocks[:depth]}
    return shorter


@dataclass(frozen=True)
class Trajectory:
    """What both loops start from, on the device: (B, C, H, W) noise, (B,) labels, each step's times and row.

    The noise is float32 whatever the network's type, as in the sampling loop.
    """

    noise: Tensor
    dtype: torch.dtype
    labels: Tensor
    times: Sequence[Tensor]
    table: Sequence[Coefficients]


Evaluate = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def by_hand(start: Trajectory, evaluate: Evaluate) -> Tensor:
    """DPM-Solver++ of order 2, written down: m = model_x · x + model_f · F; x ← a · x + b₀ · m + b₁ · m₋₁."""
    x, before = start.noise, None
    for step, (time, row) in enumerate(zip(start.times, start.table, strict=True)):
        output = evaluate(step, x.to(start.dtype), time, start.labels)[:, : x.shape[1]].to(x.dtype)
        m = torch.add(row.model_f * output, x, alpha=row.model_x)
        x = torch.add(row.a * x, m, alpha=row.b[0])
        if len(row.b) == 2:
            x = torch.add(x, before, alpha=row.b[1])
        before = m
    return x


def dropping(module: DiT, exits: Sequence[int]) -> Evaluate:
    """Evaluates the network that is really as short as the step's depth."""
    shorter = {depth: cut(module, depth) for depth in set(exits)}
    return lambda step, x, time, labels: shorter[exits[step]](x, time, labels)


def reusing(module: DiT, exits: Sequence[int]) -> Evaluate:
    """Keeps, at full depth, what the blocks after the lesser depth add; adds it at the other steps."""
    lesser, stored = min(exits), torch.empty(0)
    first, last = list(module.blocks[:lesser]), list(module.blocks[lesser:])

    def evaluate(step: int, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        nonlocal stored
        h = module.x_embedder(x) + module.pos_embed
        c = module.t_embedder(time) + module.y_embedder(labels)
        for block in first:
            h = block(h, c)
        if exits[step] == lesser:
            h = h + stored
        else:
            middle = h
            for block in last:
                h = block(h, c)
            stored = h - middle
        return module.unpatchify(module.final_layer(h, c))

    return evaluate


@dataclass(frozen=True)
class Case:
    """One comparison: our loop on a schedule, and the loop by hand that does the same."""

    name: str
    target: float
    schedule: Schedule
    ours: Callable[[], Tensor]
    by_hand: Callable[[], Tensor]


def cases(network: DiTNetwork, full: Schedule, start: Trajectory) -> list[Case]:
    """`drop` and `reuse` at a quarter, a half and three quarters of the blocks."""

    def case(name: str, target: float, schedule: Schedule, evaluate: Evaluate) -> Case:
        return Case(
            name,
            target,
            schedule,
            lambda: run([network], schedule, start.noise, (), start.labels),
            lambda: by_hand(start, evaluate),
        )

    found: list[Case] = []
    for mean in (round(fraction * network.num_blocks) for fraction in FRACTIONS):
        exits = staircase(mean, full.num_steps)
        found.append(case(f"drop_{mean}", 1.03, with_exits(full, exits, DROP), dropping(network.module, exits)))
        exits = refreshed(mean, network.num_blocks, full.num_steps)
        found.append(case(f"reuse_{mean}", 1.06, with_exits(full, exits, REUSE), reusing(network.module, exits)))
    return found


def trajectory(network: DiTNetwork, full: Schedule, batch_size: int) -> Trajectory:
    """The first images' noises and labels, and the steps' times, all on the device."""
    given = inputs(network, full, batch_size)
    assert given.conditions is not None
    noise = given.noise.to(network.device)
    times = [torch.full((batch_size,), step.time, device=network.device) for step in full.steps]
    return Trajectory(noise, network.dtype, given.conditions.to(network.device), times, rows(full))


def measure(
    pairs: Sequence[Case], full: Callable[[], Tensor], device: torch.device, rounds: int
) -> dict[str, list[float]]:
    """Raw seconds by name. Ours and the loop by hand stand side by side and swap places every round."""
    seconds: dict[str, list[float]] = {}
    for number in range(-1, rounds):  # the first round warms up
        turns = [("full", full)]
        for case in pairs:
            both = [(case.name, case.ours), (f"{case.name} by hand", case.by_hand)]
            turns += both if number % 2 == 0 else both[::-1]
        for name, function in turns:
            taken = seconds_of(function, device)
            if number >= 0:
                seconds.setdefault(name, []).append(taken)
    return seconds


def figures(pairs: Sequence[Case], seconds: dict[str, list[float]], num_blocks: int) -> dict[str, float]:
    """Each case's median ratio to the loop by hand with its interval, and to the ideal; prints them as a table."""
    found: dict[str, float] = {}
    print(f"{'case':<10} {'÷ by hand':>9}  {'90 % interval':<15} {'target':>6}  {'÷ ideal':>7}  {'ms':>8}")
    for case in pairs:
        ratio = paired_ratio(seconds[case.name], seconds[f"{case.name} by hand"])
        share = fmean(depths(case.schedule)) / num_blocks
        ideal = median(own / (full * share) for own, full in zip(seconds[case.name], seconds["full"], strict=True))
        found |= {case.name: ratio.value, f"{case.name}_lower": ratio.lower, f"{case.name}_upper": ratio.upper}
        found |= {f"{case.name}_over_ideal": ideal, f"{case.name}_mean_depth": share * num_blocks}
        interval = f"{ratio.lower:.3f} … {ratio.upper:.3f}"
        milliseconds = 1000 * median(seconds[case.name])
        print(
            f"{case.name:<10} {ratio.value:9.3f}  {interval:<15} {case.target:6.2f}  {ideal:7.3f}  {milliseconds:8.1f}"
        )
    for tail in ("drop", "reuse"):
        found[f"worst_{tail}"] = max(found[case.name] for case in pairs if case.name.startswith(tail))
    return {name: round(value, 4) for name, value in found.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--network", default="fashion-dit", help="a checkpoint, or dit-{s,b,l,xl}-PATCH for random weights"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--num-steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=11)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    keep_freed_memory()
    network = load(options.network, options.device, getattr(torch, options.dtype))
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=options.num_steps)
    start = trajectory(network, full, options.batch_size)
    pairs = cases(network, full, start)
    tolerance = 1e-3 if network.dtype == torch.float32 else 0.1  # halves round differently in another order
    with alone(network.device):
        for case in pairs:
            torch.testing.assert_close(case.ours(), case.by_hand(), rtol=tolerance, atol=tolerance)
        seconds = measure(
            pairs, lambda: run([network], full, start.noise, (), start.labels), network.device, options.rounds
        )
    print(
        json.dumps(
            {
                "benchmark": "ideal_speedup",
                "figures": figures(pairs, seconds, network.num_blocks),
                "conditions": vars(options) | environment(network.device),
            }
        )
    )


if __name__ == "__main__":
    main()
