"""Our solver tables against diffusers' schedulers: the largest deviation over whole trajectories.

Run: python benchmarks/solver_tables.py

Both sample the same closed-form network (a mixture of three Gaussians) from the same noises, in float32 on the CPU. The
deviation is the largest |x_ours - x_diffusers| after any step over the largest |x|, the worst of several noise
schedules, predictions and step counts. Where diffusers counts x in units of alpha (Euler, Heun), its x is scaled back.
The limit is 1e-5 on each scheduler's default spacing, and 1e-4 elsewhere, where diffusers' own float32 arithmetic is
the larger part (1 - alpha_bar near the data, and near pure noise).

Cosine noise stands apart where sampling starts at train index 999 and the solver divides by alpha (an epsilon
prediction, or a history of it): alpha is 5e-5 there, so that one float32 rounding of x is 1e-3 of the predicted data.
Both are then compared with our trajectory in float64.
"""

import json
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler
from exeunt.backends.network import Network, NetworkInput
from exeunt.backends.networks import registry
from exeunt.backends.sampling import conditions as draws
from exeunt.backends.sampling import loop
from exeunt.backends.schedule import Noise, Schedule
from exeunt.backends.solvers import tables
from exeunt.backends.solvers.noise_schedules import time_at
from solver_cases import COSINE, FLOW, PREDICTIONS, SCALED_BY_ALPHA, Case, cases
from torch import Tensor

BETA_SCHEDULES = {"linear": "linear", "scaled-linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
STEP_COUNTS = (5, 10, 20, 50)
NUM_LISTS = 10


def random_times(count: int, source: random.Random) -> list[float]:
    """Falling train indices below 1,000, at least 5 apart and the last above 0."""
    gaps = sorted(source.sample(range(1, 1000 - 5 * count), count))
    return [float(value + 5 * index) for index, value in enumerate(gaps)][::-1]


@cache
def model_of(noise: Noise, prediction: str, dtype: torch.dtype = torch.float32) -> Network:
    return registry.load_network(
        "closed-form", components=3, num_blocks=2, prediction=prediction, noise=noise, dtype=dtype
    )


def schedule_of(case: Case, noise: Noise, prediction: str, steps: int | list[float]) -> Schedule:
    if isinstance(steps, int):
        chosen: dict[str, Any] = {"num_steps": steps}
    else:
        chosen = {"spacing": [time / 1000 for time in steps] if noise == FLOW else steps}
    if case.scheduler is ScoreSdeVpScheduler:  # 1000/N - 1 is the index of time 1/N
        chosen = {"spacing": [1000 - i * 1000 / steps - 1 for i in range(steps)]}
    if case.by_sigma:
        sigmas = dict.fromkeys(scheduler_of(case, noise, prediction, steps).sigmas[:-1].tolist())
        chosen = {"spacing": [time_at(noise, -math.log(sigma)) for sigma in sigmas]}
    return tables.make_schedule(model_of(noise, prediction).signature, noise, prediction, **case.arguments | chosen)


def scheduler_of(case: Case, noise: Noise, prediction: str, steps: int | list[float]) -> Any:
    betas: dict[str, Any] = {}
    if noise.kind in BETA_SCHEDULES:
        betas = {"beta_schedule": BETA_SCHEDULES[noise.kind], "prediction_type": PREDICTIONS[prediction]}
    if noise.beta_start is not None:
        betas |= {"beta_start": noise.beta_start, "beta_end": noise.beta_end}
    if case.scheduler is ScoreSdeVpScheduler:
        betas = {"sampling_eps": 1 / steps}
    scheduler = case.scheduler(**betas | case.options)
    if isinstance(steps, int):
        scheduler.set_timesteps(steps)
    elif noise == FLOW:
        scheduler.set_timesteps(sigmas=[time / 1000 for time in steps])
    else:
        scheduler.set_timesteps(timesteps=[int(time) for time in steps])
    return scheduler


def trajectories(
    case: Case, noise: Noise, prediction: str, steps: int | list[float], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """(S, N, C, H, W) x after each step, ours and diffusers'; `dtype` is ours."""
    model, schedule = model_of(noise, prediction), schedule_of(case, noise, prediction, steps)
    scheduler = scheduler_of(case, noise, prediction, steps)
    if case.scheduler is not ScoreSdeVpScheduler:
        schedule = with_their_network_times(schedule, scheduler.timesteps)
    noises = draws.noises(0, range(8), model.sample_shape, len(schedule.steps) + 1)
    theirs = their_trajectory(model, scheduler, noises, case.step_options)
    if case.scheduler in SCALED_BY_ALPHA:
        points = tables.path(schedule.sampler, [step.time for step in schedule.steps]).points
        theirs = theirs * torch.tensor([point.alpha for point in points[1:]])[:, None, None, None, None]
    return our_trajectory(model_of(noise, prediction, dtype), schedule, noises), theirs


def deviation(case: Case, noise: Noise, prediction: str, steps: int | list[float]) -> float:
    """The largest difference after any step over the largest |x|."""
    ours, theirs = trajectories(case, noise, prediction, steps)
    return relative(ours, theirs)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


def with_their_network_times(schedule: Schedule, timesteps: Tensor) -> Schedule:
    """diffusers shows the network rounded times on some spacings, and the solver unrounded ones."""
    pairs = zip(schedule.steps, timesteps.tolist(), strict=True)
    return replace(schedule, steps=tuple(replace(step, network_time=float(time)) for step, time in pairs))


def our_trajectory(model: Network, schedule: Schedule, noises: Tensor) -> Tensor:
    found: list[Tensor] = []
    labels = torch.arange(noises.shape[1]) % 4  # 3 is the null label
    needed = noises[1 : loop.num_draws(schedule)]
    loop.sample_batch(
        [model], schedule, noises[0], needed, labels, observe=lambda s, values: found.append(values.x_next)
    )
    return torch.stack(found)


def their_trajectory(model: Network, scheduler: Any, noises: Tensor, options: dict[str, Any]) -> Tensor:
    """A loop over diffusers' scheduler. It draws its steps' noises by `randn_tensor`, which here gives ours."""
    x, found, labels = noises[0] * getattr(scheduler, "init_noise_sigma", 1.0), [], torch.arange(noises.shape[1]) % 4
    module = sys.modules[type(scheduler).__module__]
    queue, original = iter(noises[1:]), getattr(module, "randn_tensor", None)
    module.randn_tensor = lambda *args, **kwargs: next(queue)
    try:
        for time in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
            shown = 1000 * time - 1 if isinstance(scheduler, ScoreSdeVpScheduler) else time
            output = model.evaluate(NetworkInput(scaled, shown.expand(len(x)).float(), labels), None, [])
            x, mean = their_step(scheduler, output, time, x, options)
            found.append(x)
        return torch.stack([*found[:-1], found[-1] if mean is None else mean])
    finally:
        module.randn_tensor = original


def their_step(
    scheduler: Any, output: Tensor, time: Tensor, x: Tensor, options: dict[str, Any]
) -> tuple[Tensor, Tensor | None]:
    """x after a step, and without its noise where the scheduler says."""
    if isinstance(scheduler, ScoreSdeVpScheduler):
        return scheduler.step_pred(output, x, time)
    return scheduler.step(output, time, x, **options).prev_sample, None


def settings(case: Case) -> Iterator[tuple[Noise, str]]:
    """Noise schedules and predictions to hold a case on. diffusers' Karras sigmas raise IndexError on cosine noise."""
    for noise in case.noises:
        for prediction in case.predictions:
            if noise != COSINE or (case.spacing != "karras" and not stands_apart(case, prediction)):
                yield noise, prediction


def stands_apart(case: Case, prediction: str) -> bool:
    """Whether float32 alone sets a case apart on cosine noise; see the module's text."""
    return case.spacing != "leading" and (prediction == "epsilon" or case.scheduler in SCALED_BY_ALPHA)


def measure(case: Case) -> float:
    """The largest deviation over noise schedules, predictions and step counts (or random lists)."""
    source = random.Random(0)
    return max(
        deviation(case, noise, prediction, steps)
        for noise, prediction in settings(case)
        for steps in (
            [random_times(10, source) for _ in range(NUM_LISTS)] if case.spacing == "random list" else STEP_COUNTS
        )
    )


def measure_cosine_epsilon(case: Case) -> tuple[float, float]:
    """Our float32 deviation, and diffusers', from our trajectory in float64, over 20 steps."""
    exact, theirs = trajectories(case, COSINE, "epsilon", 20, torch.float64)
    ours, _ = trajectories(case, COSINE, "epsilon", 20)
    return relative(exact, ours), relative(exact, theirs)


def main() -> None:
    figures: dict[str, float] = {}
    for case in cases():
        worst = measure(case)
        figures[f"{case.solver}, {case.spacing}"] = worst
        verdict = "ok" if worst <= case.limit else "MISSED"
        print(f"{case.solver:32} {case.spacing:14} {worst:9.1e}  limit {case.limit:.0e}  {verdict}", flush=True)
    for case in cases():
        if case.spacing == "linspace" and COSINE in case.noises and case.solver.split()[0] != "ddpm":
            ours, theirs = measure_cosine_epsilon(case)
            figures[f"{case.solver}, cosine epsilon, ours"] = ours
            figures[f"{case.solver}, cosine epsilon, diffusers"] = theirs
            print(
                f"{case.solver:32} cosine, epsilon: from float64, ours {ours:.1e}, diffusers {theirs:.1e}", flush=True
            )
    conditions = {"step_counts": STEP_COUNTS, "random_lists": NUM_LISTS, "network": "closed-form, 3 components, dim 16"}
    print(json.dumps({"benchmark": "solver_tables", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
