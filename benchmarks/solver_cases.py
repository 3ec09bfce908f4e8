"""What `solver_tables.py` compares: each of our solvers on each spacing that a scheduler of diffusers has for it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import diffusers
from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler
from exeunt.backends.schedule import Noise

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
SCALED = Noise("scaled-linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000)
COSINE = Noise("cosine", num_train_timesteps=1000)
VP, EDM, FLOW = Noise("vp", beta_min=0.1, beta_max=20.0), Noise("edm"), Noise("flow")
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}
# What diffusers calls x is ours over alpha.
SCALED_BY_ALPHA = (diffusers.EulerDiscreteScheduler, diffusers.HeunDiscreteScheduler)


@dataclass(frozen=True)
class Case:
    """One solver on one spacing: our schedule's arguments, and diffusers' scheduler with its own."""

    solver: str
    spacing: str
    scheduler: type
    arguments: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    step_options: dict[str, Any] = field(default_factory=dict)
    noises: tuple[Noise, ...] = (LINEAR, SCALED, COSINE)
    predictions: tuple[str, ...] = tuple(PREDICTIONS)
    by_sigma: bool = False  # our times are those of diffusers' sigmas
    default: bool = False

    @property
    def limit(self) -> float:
        return 1e-5 if self.default else 1e-4


def cases() -> Iterator[Case]:
    """Every solver on every spacing that diffusers has for it."""
    for each in (single_cases, multistep_cases, unipc_cases, pndm_cases, twice_cases, edm_cases, flow_cases):
        yield from each()


def single_cases() -> Iterator[Case]:
    ddpm, ddim = diffusers.DDPMScheduler, diffusers.DDIMScheduler
    for spacing in ("linspace", "leading", "trailing"):
        # In the last step diffusers adds the large variance's noise unless it starts at index 0; the format has none.
        for variance in ("fixed-small",) if spacing == "trailing" else ("fixed-small", "fixed-large"):
            ours = {"solver": "ddpm", "spacing": spacing, "variance": variance}
            theirs = {"timestep_spacing": spacing, "clip_sample": False, "variance_type": variance.replace("-", "_")}
            yield Case(f"ddpm {variance}", spacing, ddpm, ours, theirs, default=spacing == "leading")
    for spacing in ("leading", "trailing"):
        for eta in (0.0, 0.5, 1.0):
            ours = {"solver": "ddim", "spacing": spacing, "eta": eta}
            theirs = {"timestep_spacing": spacing, "clip_sample": False}
            yield Case(f"ddim eta {eta:g}", spacing, ddim, ours, theirs, {"eta": eta}, default=spacing == "leading")
    clipped = {"clip_sample": True, "timestep_spacing": "leading"}
    for name, scheduler, options in (("ddpm", ddpm, {}), ("ddim", ddim, {"use_clipped_model_output": True})):
        ours = {"solver": name, "spacing": "leading", "clip": 1.0}
        yield Case(f"{name} clipped", "leading", scheduler, ours, clipped, options, default=True)
    yield Case("ddpm fixed-small", "random list", ddpm, {"solver": "ddpm"}, {"clip_sample": False})
    theirs = {"solver_order": 1, "final_sigmas_type": "sigma_min"}
    ours = {"solver": "ddim", "final": "train-0"}
    yield Case("ddim (as DPM-Solver++ 1)", "random list", diffusers.DPMSolverMultistepScheduler, ours, theirs)
    # Its steps are all 1/N long, which is so where they end at 1/N.
    ours = {"solver": "euler-maruyama", "spacing": "power", "spacing_parameters": {"rho": 1.0}}
    yield Case(
        "euler-maruyama", "linspace", ScoreSdeVpScheduler, ours, noises=(VP,), predictions=("epsilon",), default=True
    )


def multistep_cases() -> Iterator[Case]:
    finals = (("zero", "zero"), ("train-0", "sigma_min"))
    for order, variant in ((1, "midpoint"), (2, "midpoint"), (2, "heun"), (3, "midpoint"), (3, "heun")):
        ours = {"solver": "dpmsolver++", "order": order, "variant": variant}
        theirs = {"solver_order": order, "solver_type": variant}
        name, scheduler = f"dpmsolver++ {order} {variant}", diffusers.DPMSolverMultistepScheduler
        for final, sigmas in finals:
            ended = theirs | {"final_sigmas_type": sigmas}
            for spacing in ("linspace", "leading", "trailing"):
                more = ours | {"spacing": spacing, "final": final}
                options = ended | {"timestep_spacing": spacing}
                custom = spacing == "linspace" and final == "zero"
                yield Case(f"{name}, {final}", spacing, scheduler, more, options, default=custom)
            if final == "train-0" or order > 1:
                yield Case(f"{name}, {final}", "random list", scheduler, ours | {"final": final}, ended)
        for spacing, option in (("karras", "use_karras_sigmas"), ("log-snr", "use_lu_lambdas")):
            more = ours | {"spacing": spacing, "include_zero": True}
            yield Case(f"{name}, zero", spacing, scheduler, more, theirs | {option: True})


def unipc_cases() -> Iterator[Case]:
    for order in (1, 2, 3):
        for variant in ("bh1", "bh2"):
            ours = {"solver": "unipc", "order": order, "variant": variant}
            theirs = {"solver_order": order, "solver_type": variant}
            name, scheduler = f"unipc {order} {variant}", diffusers.UniPCMultistepScheduler
            # diffusers' bh1 is NaN in the step to sigma = 0, where B(h) = h is infinite.
            for final, sigmas in (("zero", "zero"), ("train-0", "sigma_min"))[variant == "bh1" :]:
                for spacing in ("linspace", "leading", "trailing"):
                    more = ours | {"spacing": spacing, "final": final}
                    options = theirs | {"timestep_spacing": spacing, "final_sigmas_type": sigmas}
                    custom = spacing == "linspace" and final == "zero"
                    yield Case(f"{name}, {final}", spacing, scheduler, more, options, default=custom)
            if variant == "bh2":
                more = ours | {"spacing": "karras", "include_zero": True}
                yield Case(f"{name}, zero", "karras", scheduler, more, theirs | {"use_karras_sigmas": True})


def pndm_cases() -> Iterator[Case]:
    # With v, diffusers combines raw outputs of different times; ours are turned into the noise each at its own.
    for variant, skip in (("plms", True), ("prk", False)):
        for final, one in (("train-0", False), ("zero", True)):
            for spacing in ("leading", "trailing"):  # its linspace has other times than its steps are long
                ours = {"solver": "pndm", "variant": variant, "spacing": spacing, "final": final}
                theirs = {"skip_prk_steps": skip, "set_alpha_to_one": one, "timestep_spacing": spacing}
                yield Case(
                    f"pndm {variant}, {final}", spacing, diffusers.PNDMScheduler, ours, theirs,
                    predictions=("epsilon",), default=spacing == "leading",
                )  # fmt: skip


def twice_cases() -> Iterator[Case]:
    """Euler and Heun, which diffusers gives the same spacings.

    Its linspace is not rounded, and between train indices it interpolates sigma/alpha, where the format has
    log(alpha_bar) linear. So our times of its default are those of its sigmas; `power` has its times instead.
    """
    unrounded = {"spacing": "power", "spacing_parameters": {"rho": 1.0}}
    for name, scheduler in zip(("euler", "heun"), SCALED_BY_ALPHA, strict=True):
        ours = {"solver": name}
        yield Case(name, "linspace", scheduler, ours, by_sigma=True, default=True)
        yield Case(name, "power 1", scheduler, ours | unrounded)
        for spacing in ("leading", "trailing"):
            yield Case(name, spacing, scheduler, ours | {"spacing": spacing}, {"timestep_spacing": spacing})
        yield Case(name, "karras", scheduler, ours | {"spacing": "karras"}, {"use_karras_sigmas": True})
        yield Case(name, "random list", scheduler, ours)


def edm_cases() -> Iterator[Case]:
    edm = {"noises": (EDM,), "predictions": ("edm",), "default": True}
    start = {"initial_scale": (80.0**2 + 1) ** 0.5}  # diffusers' custom; EDM's own is 80
    yield Case("euler, edm", "karras", diffusers.EDMEulerScheduler, {"solver": "euler"} | start, **edm)
    for order in (1, 2, 3):
        ours = {"solver": "dpmsolver++", "order": order, "include_zero": True} | start
        scheduler = diffusers.EDMDPMSolverMultistepScheduler
        yield Case(f"dpmsolver++ {order}, edm", "karras", scheduler, ours, {"solver_order": order}, **edm)


def flow_cases() -> Iterator[Case]:
    flow: dict[str, Any] = {"noises": (FLOW,), "predictions": ("flow",)}
    for shift in (1.0, 3.0):
        named = f"flow, shift {shift:g}"
        ours = {"spacing": "flow", "spacing_parameters": {"shift": shift}}
        for name, scheduler in (
            ("flow-euler", diffusers.FlowMatchEulerDiscreteScheduler),
            ("heun", diffusers.FlowMatchHeunDiscreteScheduler),
        ):
            yield Case(name, named, scheduler, ours | {"solver": name}, {"shift": shift}, default=True, **flow)
        theirs = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
        for order in (1, 2, 3):
            bent = {"spacing_parameters": {"shift": shift, "start": 0.999, "end": 0.0}}
            more = ours | {"solver": "dpmsolver++", "order": order, "include_zero": False} | bent
            options = theirs | {"solver_order": order}
            yield Case(f"dpmsolver++ {order}", named, diffusers.DPMSolverMultistepScheduler, more, options, **flow)
            bent = {"spacing_parameters": {"shift": shift, "end": 0.001}}
            more = ours | {"solver": "unipc", "order": order, "include_zero": False} | bent
            yield Case(f"unipc {order} bh2", named, diffusers.UniPCMultistepScheduler, more, options, **flow)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler
    yield Case("flow-euler", "random list", scheduler, {"solver": "flow-euler"}, **flow)
