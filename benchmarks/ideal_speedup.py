"""Does leaving early give what it promises?  A scheduled trajectory beside a loop written by hand over networks that
are really shorter: a transformer with its block list cut at each depth and, for `reuse`, stored tensors added by hand.

    python benchmarks/ideal_speedup.py                        # the bundled checkpoint, batch 64
    python benchmarks/ideal_speedup.py --network dit-xl-2     # full size, random weights, batch 1: 4 GB, 6 minutes
    python benchmarks/ideal_speedup.py --network dit-xl-2 --device cuda --batch-size 8 --num-steps 20

Targets: at most 1.03 × the hand-written loop for `drop` and 1.06 × for `reuse`; for DiT-XL/2 a speed-up of at least
0.97 of the ideal one, which is blocks ÷ mean depth, though every step also runs the embedding and the head. Decoding,
the same for all, is left out.

In every round each case takes full, ours, by hand, by hand, ours, full (ours and by hand swapped every second round):
a steady drift cancels within a round, and neighbours in time are compared. Cases come in random order. A round's ratio
is of sums; a figure is the median over rounds, with its interval. Eleven single pairs of trajectories twice as long,
each pair scattering by some 4 %, moved the medians by 2 % from run to run.
"""

import argparse
import copy
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

import torch
from exeunt.backends.networks import registry
from exeunt.backends.networks.dit import DiT, DiTNetwork
from exeunt.backends.networks.transformer.reading import DIT_SIZES, PUBLIC_NOISE
from exeunt.backends.sampling.loop import sample_batch
from exeunt.backends.schedule import DROP, REUSE, Coefficients, Schedule, depths, with_exits
from exeunt.backends.solvers.tables import make_schedule, solver_rows
from exeunt.backends.timing.device import environment, keep_freed_memory
from exeunt.backends.timing.pieces import inputs
from exeunt.backends.timing.samples import Ratio, paired_ratio
from exeunt.backends.timing.throughput import device_alone, room_for_another, time_run
from torch import Tensor

TAILS = {"drop": DROP, "reuse": REUSE}
OVER_HAND = {"drop": 1.03, "reuse": 1.06}  # targets: at most
OF_IDEAL = 0.97  # target: at least
LEAST_ROUNDS = 5  # fewer have no interval of 90 %


@dataclass(frozen=True)
class Setting:
    """What is compared unless flags say otherwise; without `mean_depths`, a quarter, a half and three quarters."""

    batch_size: int = 64
    num_steps: int = 10
    rounds: int = 15
    mean_depths: tuple[int, ...] | None = None
    tails: tuple[str, ...] = ("drop", "reuse")


SETTINGS = {"dit-xl-2": Setting(batch_size=1, num_steps=3, rounds=11, mean_depths=(14, 20), tails=("drop",))}


def load(name: str, device: str, dtype: torch.dtype) -> DiTNetwork:
    """A checkpoint, or random weights of a paper's shape: "dit-s-8" is DiT-S, patches of 8 on 32 × 32 × 4 latents."""
    size, _, patch = name.rpartition("-")
    shapes = {key.lower(): shape for key, shape in DIT_SIZES.items()}
    if size not in shapes:
        loaded = registry.load_network(name, device, dtype)
        assert isinstance(loaded, DiTNetwork), "the hand-written loop is a DiT's"
        return loaded
    depth, width, num_heads = shapes[size]
    with torch.device("meta"):
        module = DiT(
            input_size=32, patch_size=int(patch), channels=4, width=width, depth=depth, num_heads=num_heads,
            num_classes=1000, learned_range=True,
        ).to(dtype)  # fmt: skip
    module = module.to_empty(device=registry.check_device(device))
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(std=0.02)
    return DiTNetwork(
        module, name=name, weights_sha256=None, num_classes=1000, prediction="epsilon", noise=PUBLIC_NOISE
    )


def staircase(mean: int, num_steps: int) -> list[int]:
    """Depths that rise from mean − 2 to mean + 2, deepest at the data; their mean is exact."""
    return [mean + round(4 * step / (num_steps - 1) - 2) for step in range(num_steps)]


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
    for step, (moment, row) in enumerate(zip(start.times, start.table, strict=True)):
        output = evaluate(step, x.to(start.dtype), moment, start.labels)[:, : x.shape[1]].to(x.dtype)
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
    """One comparison: our loop on a schedule, the loop by hand that does the same, and our loop at full depth.

    `mean` is the mean number of blocks that run.
    """

    tail: str
    name: str
    mean: float
    ours: Callable[[], Tensor]
    by_hand: Callable[[], Tensor]
    full: Callable[[], Tensor]


def cases(network: DiTNetwork, full: Schedule, start: Trajectory, setting: Setting) -> list[Case]:
    """Every tail action at every mean depth, or as near to it as whole depths come."""

    def ours(schedule: Schedule) -> Callable[[], Tensor]:
        return lambda: sample_batch([network], schedule, start.noise, (), start.labels)

    def case(tail: str, mean: int, exits: Sequence[int], evaluate: Evaluate) -> Case:
        schedule = with_exits(full, exits, TAILS[tail])
        return Case(
            tail,
            f"{tail}_{mean}",
            fmean(depths(schedule)),
            ours(schedule),
            lambda: by_hand(start, evaluate),
            ours(full),
        )

    blocks = network.num_blocks
    found: list[Case] = []
    for mean in setting.mean_depths or [round(blocks * quarter / 4) for quarter in (1, 2, 3)]:
        if "drop" in setting.tails:
            exits = staircase(mean, full.num_steps)
            found.append(case("drop", mean, exits, dropping(network.module, exits)))
        if "reuse" in setting.tails:
            exits = refreshed(mean, blocks, full.num_steps)
            found.append(case("reuse", mean, exits, reusing(network.module, exits)))
    return found


def trajectory(network: DiTNetwork, full: Schedule, batch_size: int) -> Trajectory:
    """The first images' noises and labels, and the steps' times, all on the device."""
    first, _, conditions = inputs(network, full, batch_size)
    assert conditions is not None
    noise = first.to(network.device)
    times = [torch.full((batch_size,), step.time, device=network.device) for step in full.steps]
    return Trajectory(noise, network.dtype, conditions.to(network.device), times, solver_rows(full))


@dataclass(frozen=True)
class Times:
    """Seconds of both runs of each kind in one case and round."""

    ours: float
    by_hand: float
    full: float


def measure(pairs: Sequence[Case], device: torch.device, rounds: int, max_seconds: float) -> list[list[Times]]:
    """Each case's times, one a round; no round starts that would probably end later than `max_seconds`."""
    found: list[list[Times]] = [[] for _ in pairs]
    order, begin = random.Random(0), time.perf_counter()
    for number in range(rounds):
        start = time.perf_counter()
        for index in order.sample(range(len(pairs)), len(pairs)):
            found[index].append(take(pairs[index], device, swapped=number % 2 == 1))
        if number + 1 >= LEAST_ROUNDS and not room_for_another(begin, start, max_seconds):
            break
    return found


def take(case: Case, device: torch.device, *, swapped: bool) -> Times:
    """One case's runs in an order that reads the same backwards, so that a steady drift adds as much to each kind."""
    inner = ["by_hand", "ours"] if swapped else ["ours", "by_hand"]
    order = ["full", *inner, *inner[::-1], "full"]
    seconds = dict.fromkeys(order, 0.0)
    for name in order:
        seconds[name] += time_run(getattr(case, name), device)
    return Times(**seconds)


def figures(pairs: Sequence[Case], found: Sequence[Sequence[Times]], num_blocks: int) -> dict[str, float]:
    """Each case's time over the hand-written loop's and its speed-up over the ideal one; prints them as a table."""
    table: dict[str, float] = {}
    print(f"{'case':<9} {'÷ by hand':>9}  {'90 % interval':<15} {'speed-up':>8} {'÷ ideal':>7}  {'90 % interval':<15}")
    for case, times in zip(pairs, found, strict=True):
        name, share = case.name, case.mean / num_blocks
        over_hand = paired_ratio([each.ours for each in times], [each.by_hand for each in times])
        of_ideal = paired_ratio([each.full * share for each in times], [each.ours for each in times])
        table |= as_figures(f"{name}_over_hand", over_hand) | as_figures(f"{name}_speedup_over_ideal", of_ideal)
        table[f"{name}_mean_depth"] = case.mean
        table[f"{name}_milliseconds"] = 500 * median(each.ours for each in times)
        print(
            f"{name:<9} {over_hand.value:9.3f}  {shown(over_hand):<15} {of_ideal.value / share:8.3f} "
            f"{of_ideal.value:7.3f}  {shown(of_ideal):<15}"
        )
    for tail in dict.fromkeys(case.tail for case in pairs):
        names = [case.name for case in pairs if case.tail == tail]
        table[f"worst_{tail}_over_hand"] = max(table[f"{name}_over_hand"] for name in names)
        table[f"worst_{tail}_speedup_over_ideal"] = min(table[f"{name}_speedup_over_ideal"] for name in names)
        print(
            f"{tail}: at worst {table[f'worst_{tail}_over_hand']:.3f} × by hand (target {OVER_HAND[tail]}), and "
            f"{table[f'worst_{tail}_speedup_over_ideal']:.3f} of the ideal speed-up (target for DiT-XL/2 {OF_IDEAL})"
        )
    return {name: round(value, 4) for name, value in table.items()}


def as_figures(name: str, ratio: Ratio) -> dict[str, float]:
    return {name: ratio.value, f"{name}_lower": ratio.lower, f"{name}_upper": ratio.upper}


def shown(ratio: Ratio) -> str:
    return f"{ratio.lower:.3f} … {ratio.upper:.3f}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--network", default="fashion-dit", help="a checkpoint, or dit-{s,b,l,xl}-PATCH for random weights"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--mean-depths", type=int, nargs="+", metavar="N")
    parser.add_argument("--tails", nargs="+", choices=tuple(TAILS))
    parser.add_argument("--max-seconds", type=float, default=300.0, help="no round starts that would end later")
    return parser.parse_args()


def setting_of(options: argparse.Namespace) -> Setting:
    """The network's setting, with what flags say in its place."""
    names = ("batch_size", "num_steps", "rounds", "mean_depths", "tails")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    return replace(SETTINGS.get(options.network, Setting()), **given)


def main() -> None:
    options = arguments()
    setting = setting_of(options)
    keep_freed_memory()
    network = load(options.network, options.device, getattr(torch, options.dtype))
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=setting.num_steps)
    start = trajectory(network, full, setting.batch_size)
    pairs = cases(network, full, start, setting)
    tolerance = 1e-3 if network.dtype == torch.float32 else 0.1  # halves round differently in another order
    with device_alone(network.device):
        for case in pairs:  # which also warms up
            torch.testing.assert_close(case.ours(), case.by_hand(), rtol=tolerance, atol=tolerance)
        pairs[0].full()
        found = measure(pairs, network.device, setting.rounds, options.max_seconds)
    conditions = vars(options) | vars(setting) | {"rounds": len(found[0])} | environment(network.device)
    print(
        json.dumps(
            {
                "benchmark": "ideal_speedup",
                "figures": figures(pairs, found, network.num_blocks),
                "conditions": conditions,
            }
        )
    )


if __name__ == "__main__":
    main()
