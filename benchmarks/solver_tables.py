"""Our solver tables against diffusers' schedulers: the largest deviation over whole trajectories.

Run: python benchmarks/solver_tables.py

Both sample the same closed-form network (a mixture of three Gaussians) from the same noises, in float32 on the CPU. The
deviation is the largest |x_ours - x_diffusers| after any step over the largest |x|, the worst of three noise schedules,
three predictions and several step counts. The limit is 1e-5 on each scheduler's default spacing, and 1e-4 elsewhere,
where diffusers' own float32 arithmetic is the larger part (1 - alpha_bar near the data, and near pure noise).

Cosine noise with an epsilon prediction stands apart where sampling starts at train index 999: alpha is 5e-5 there, so
that one float32 rounding of x is 1e-3 of the predicted data. Both are then compared with our trajectory in float64.
"""

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from exeunt.backends import draws, network, sampling, solvers
from exeunt.backends.schedule import Noise, Schedule
from torch import Tensor

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
SCALED = Noise("scaled-linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000)
COSINE = Noise("cosine", num_train_timesteps=1000)
BETA_SCHEDULES = {"linear": "linear", "scaled-linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}
STEP_COUNTS = (5, 10, 20, 50)
NUM_LISTS = 10
DEFAULT_SPACINGS = {"DPMSolverMultistepScheduler": "linspace", "DDPMScheduler": "leading", "DDIMScheduler": "leading"}


@dataclass(frozen=True)
class Case:
    """One solver on one spacing: our schedule's arguments, and diffusers' scheduler with its own."""

    solver: str
    spacing: str
    arguments: dict[str, Any]
    scheduler: type
    options: dict[str, Any]
    step_options: dict[str, Any]

    @property
    def limit(self) -> float:
        return 1e-5 if self.spacing == DEFAULT_SPACINGS[self.scheduler.__name__] else 1e-4


def cases() -> Iterator[Case]:
    """Every solver on every spacing that diffusers has for it."""
    dpm = DPMSolverMultistepScheduler
    for spacing in ("linspace", "leading", "trailing"):
        options = {"timestep_spacing": spacing}
        for order in (1, 2):
            for final, theirs in (("zero", "zero"), ("train-0", "sigma_min")):
                arguments = {"solver": "dpmsolver++", "order": order, "spacing": spacing, "final": final}
                more = options | {"solver_order": order, "final_sigmas_type": theirs}
                yield Case(f"dpmsolver++ {order}, {final}", spacing, arguments, dpm, more, {})
        # In the last step diffusers adds the large variance's noise unless that starts at index 0; the format has none.
        for variance in ("fixed-small",) if spacing == "trailing" else ("fixed-small", "fixed-large"):
            arguments = {"solver": "ddpm", "spacing": spacing, "variance": variance}
            more = options | {"clip_sample": False, "variance_type": variance.replace("-", "_")}
            yield Case(f"ddpm {variance}", spacing, arguments, DDPMScheduler, more, {})
    clipped = {"clip_sample": True, "timestep_spacing": "leading"}
    yield Case(
        "ddpm clipped", "leading", {"solver": "ddpm", "spacing": "leading", "clip": 1.0}, DDPMScheduler, clipped, {}
    )
    for spacing in ("leading", "trailing"):
        for eta in (0.0, 0.5, 1.0):
            arguments = {"solver": "ddim", "spacing": spacing, "eta": eta}
            options = {"timestep_spacing": spacing, "clip_sample": False}
            yield Case(f"ddim eta {eta:g}", spacing, arguments, DDIMScheduler, options, {"eta": eta})
    arguments = {"solver": "ddim", "spacing": "leading", "clip": 1.0}
    yield Case("ddim clipped", "leading", arguments, DDIMScheduler, clipped, {"use_clipped_model_output": True})
    for order in (1, 2):
        for spacing, option in (("karras", "use_karras_sigmas"), ("log-snr", "use_lu_lambdas")):
            arguments = {"solver": "dpmsolver++", "order": order, "spacing": spacing, "include_zero": True}
            yield Case(f"dpmsolver++ {order}, zero", spacing, arguments, dpm, {"solver_order": order, option: True}, {})
        options = {"solver_order": order, "final_sigmas_type": "sigma_min"}
        arguments = {"solver": "dpmsolver++", "order": order, "final": "train-0"}
        yield Case(f"dpmsolver++ {order}, train-0", "random list", arguments, dpm, options, {})
    yield Case(
        "ddim (as DPM-Solver++ 1)",
        "random list",
        {"solver": "ddim", "final": "train-0"},
        dpm,
        {"solver_order": 1, "final_sigmas_type": "sigma_min"},
        {},
    )
    yield Case("ddpm fixed-small", "random list", {"solver": "ddpm"}, DDPMScheduler, {"clip_sample": False}, {})


def random_times(count: int, source: random.Random) -> list[float]:
    """Falling train indices below 1,000, at least 5 apart and the last above 0."""
    gaps = sorted(source.sample(range(1, 1000 - 5 * count), count))
    return [float(value + 5 * index) for index, value in enumerate(gaps)][::-1]


def trajectories(
    case: Case, noise: Noise, prediction: str, steps: int | list[float], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """(S, N, C, H, W) x after each step, ours and diffusers'; `dtype` is ours."""
    model = network.load("closed-form", components=3, num_blocks=2, prediction=prediction, noise=noise)
    spacing = {} if isinstance(steps, int) else {"spacing": steps}
    count = {"num_steps": steps} if isinstance(steps, int) else {}
    schedule = solvers.make_schedule(model.signature, noise, prediction, **case.arguments | spacing | count)
    scheduler = case.scheduler(
        beta_schedule=BETA_SCHEDULES[noise.kind],
        prediction_type=PREDICTIONS[prediction],
        **({} if noise.kind == "cosine" else {"beta_start": noise.beta_start, "beta_end": noise.beta_end}),
        **case.options,
    )
    scheduler.set_timesteps(
        **({"timesteps": [int(time) for time in steps]} if spacing else {"num_inference_steps": steps})
    )
    schedule = with_their_network_times(schedule, scheduler.timesteps)
    noises = draws.noises(0, range(8), model.sample_shape, len(schedule.steps) + 1)
    exact = network.load("closed-form", components=3, num_blocks=2, prediction=prediction, noise=noise, dtype=dtype)
    return our_trajectory(exact, schedule, noises), their_trajectory(model, scheduler, noises, case.step_options)


def deviation(case: Case, noise: Noise, prediction: str, steps: int | list[float]) -> float:
    """The largest difference after any step over the largest |x|."""
    ours, theirs = trajectories(case, noise, prediction, steps)
    return relative(ours, theirs)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


def with_their_network_times(schedule: Schedule, timesteps: Tensor) -> Schedule:
    """diffusers shows the network rounded times on log-SNR spacings, and the solver unrounded ones."""
    pairs = zip(schedule.steps, timesteps.tolist(), strict=True)
    return replace(schedule, steps=tuple(replace(step, network_time=float(time)) for step, time in pairs))


def our_trajectory(model: network.Network, schedule: Schedule, noises: Tensor) -> Tensor:
    found: list[Tensor] = []
    labels = torch.arange(noises.shape[1]) % 4  # 3 is the null label
    needed = noises[1 : sampling.num_draws(schedule)]
    sampling.run([model], schedule, noises[0], needed, labels, observe=lambda s, values: found.append(values.x_next))
    return torch.stack(found)


def their_trajectory(model: network.Network, scheduler: Any, noises: Tensor, options: dict[str, Any]) -> Tensor:
    """A loop over diffusers' scheduler. It draws its steps' noises by `randn_tensor`, which here gives ours."""
    x, found, labels = noises[0], [], torch.arange(noises.shape[1]) % 4
    module = sys.modules[type(scheduler).__module__]
    queue, original = iter(noises[1:]), module.randn_tensor
    module.randn_tensor = lambda *args, **kwargs: next(queue)
    try:
        for time in scheduler.timesteps:
            output = model.evaluate(x, time.expand(len(x)).float(), labels, None, [])
            x = scheduler.step(output, time, x, **options).prev_sample
            found.append(x)
    finally:
        module.randn_tensor = original
    return torch.stack(found)


def settings(case: Case) -> Iterator[tuple[Noise, str]]:
    """Noise schedules and predictions to hold a case on. diffusers' Karras sigmas raise IndexError on cosine noise."""
    for noise in (LINEAR, SCALED) if case.spacing == "karras" else (LINEAR, SCALED, COSINE):
        for prediction in PREDICTIONS:
            if (noise, prediction) != (COSINE, "epsilon") or case.spacing == "leading":
                yield noise, prediction


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
        print(f"{case.solver:24} {case.spacing:12} {worst:9.1e}  limit {case.limit:.0e}  {verdict}", flush=True)
    for case in cases():
        if case.spacing == "linspace" and case.solver.startswith("dpmsolver++"):
            ours, theirs = measure_cosine_epsilon(case)
            figures[f"{case.solver}, cosine epsilon, ours"] = ours
            figures[f"{case.solver}, cosine epsilon, diffusers"] = theirs
            print(
                f"{case.solver:24} cosine, epsilon: from float64, ours {ours:.1e}, diffusers {theirs:.1e}", flush=True
            )
    conditions = {"step_counts": STEP_COUNTS, "random_lists": NUM_LISTS, "network": "closed-form, 3 components, dim 16"}
    print(json.dumps({"benchmark": "solver_tables", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
