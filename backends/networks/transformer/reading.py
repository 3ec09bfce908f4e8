"""How a DiT is read: what its file says of its training, what its shapes say, and what is open where nothing does.

DiT (Peebles & Xie 2023, arXiv 2212.09748), SiT (Ma et al. 2024, arXiv 2401.08740), REPA (Yu et al. 2025, arXiv
2410.06940) and LightningDiT (Yao et al. 2025, arXiv 2501.01423) have the same names of tensors. They differ in what the
output means, in which way time is counted, and on which path samples lie between data and noise.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor

from ...checkpoints.weights import Checkpoint
from ...errors import InputError, nearest
from ...schedule import PREDICTIONS, Noise, noise_of
from ..readings import heads_for, readings

# Table 1 of the paper and its public code: depth, width, heads; the number behind the slash is the patch size.
DIT_SIZES = {"DiT-S": (12, 384, 6), "DiT-B": (12, 768, 12), "DiT-L": (24, 1024, 16), "DiT-XL": (28, 1152, 16)}
_LARGER = {"DiT-1p0B": (24, 1536, 24), "DiT-1p6B": (28, 1792, 28)}  # LightningDiT's
PUBLIC_NOISE = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)


@dataclass(frozen=True)
class FlowConvention:
    """How a network of flow matching counts time, from 0 to 1, and where its samples lie. Exeunt's own time is from 0
    (data) to 1000 (noise), with x = (1 - t) · data + t · noise and the output noise - data.

    Attributes:
        from_noise: whether its time is 1 at the data and its output points there.
        circle: whether its path is the generalised variance-preserving one, x = cos(πt/2) · data + sin(πt/2) · noise,
            and its output that path's derivative (Ma et al. 2024, section 2 and table 1; "cosine" in REPA).
        words: what it is, for people to read.
    """

    words: str
    from_noise: bool = False
    circle: bool = False

    def inputs(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """What the network receives for x (N, C, H, W) at Exeunt's times (N,) from 0 to 1000."""
        t = time / 1000
        if self.circle:
            x = x / torch.hypot(1 - t, t).to(x.dtype).view(-1, 1, 1, 1)
            t = torch.atan2(t, 1 - t) * (2 / math.pi)
        return x, 1 - t if self.from_noise else t

    def velocity(self, out: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """noise - data of the network's output, of samples x (N, C, H, W) as the network received them."""
        out = -out if self.from_noise else out
        if not self.circle:
            return out
        t = (time / 1000).view(-1, 1, 1, 1)
        length = torch.hypot(1 - t, t)
        alpha, sigma = (1 - t) / length, t / length
        # out is π/2 · (alpha · noise - sigma · data), from which and x both noise and data follow.
        return ((sigma - alpha) * x + (alpha + sigma) * (2 / math.pi) * out).to(out.dtype)


FLOWS = {
    "sit": FlowConvention("SiT's velocity on its linear path, time 1 at the data", from_noise=True),
    "sit-gvp": FlowConvention("SiT's velocity on its GVP path, time 1 at the data", from_noise=True, circle=True),
    "repa": FlowConvention("REPA's velocity on its linear path, time 1 at the noise"),
    "repa-cosine": FlowConvention("REPA's velocity on its cosine path, time 1 at the noise", circle=True),
}
# The noise schedules that a DiT may be told to have.
DIT_NOISES = {
    "linear": PUBLIC_NOISE,
    "scaled-linear": Noise("scaled-linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000),
    "cosine": Noise("cosine", num_train_timesteps=1000),
    **dict.fromkeys(("flow", *FLOWS), Noise("flow")),
}
DIT_READINGS = (
    *product(("linear", "scaled-linear", "cosine"), ("epsilon", "v", "sample")),
    *((noise, "flow") for noise in ("flow", *FLOWS)),
)
# Words of training programs, by the names of their arguments.
_SAID_PREDICTIONS = {
    **dict.fromkeys(("epsilon", "eps", "noise", "pred_noise"), "epsilon"),
    **dict.fromkeys(("v", "velocity", "v_prediction", "pred_v"), "v"),
    **dict.fromkeys(("sample", "x0", "x_start", "xstart", "start_x", "pred_x0"), "sample"),
    **dict.fromkeys(("flow", "flow_matching", "rectified_flow"), "flow"),
}
_SAID_NOISES = {
    "linear": "linear",
    **dict.fromkeys(("scaled_linear", "scaled-linear"), "scaled-linear"),
    **dict.fromkeys(("cosine", "squaredcos_cap_v2"), "cosine"),
}
_PREDICTION_NAMES = ("prediction", "prediction_type", "parameterization", "objective")
_NOISE_NAMES = ("noise_schedule", "beta_schedule")
_HEADS_NAMES = ("num_heads", "n_heads", "num_attention_heads")


@dataclass(frozen=True)
class Reading:
    """The settings of a DiT that the shapes don't show, given, said or assumed.

    Attributes:
        noise_name: in `DIT_NOISES`; "file" where the file's metadata describes the noise.
        guidance_channels: how many leading channels its code guides.
        notes: what its file was seen to say, for people to read.
        assumptions, open_readings: see `Network`.
    """

    num_heads: int
    noise_name: str
    noise: Noise
    prediction: str
    guidance_channels: int | Literal["all"]
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]
    open_readings: tuple[dict[str, Any], ...]

    @property
    def flow(self) -> FlowConvention | None:
        """How it counts time, where that isn't Exeunt's way."""
        return FLOWS.get(self.noise_name)


@dataclass(frozen=True)
class Seen:
    """What the tensors of a file show of its origin.

    Attributes:
        width, depth, channels: of the network.
        learned_range: whether it gives back its channels twice.
        num_heads: which rotary tables and normalisations of queries and keys tell; None without them.
        is_lightning: whether it has a part that only LightningDiT's code has.
        is_repa: whether it has REPA's projectors.
    """

    width: int
    depth: int
    channels: int
    learned_range: bool
    num_heads: int | None
    is_lightning: bool
    is_repa: bool


def heads_of(width: int, given: Any) -> int:
    """The number of attention heads, which shapes don't tell; if not given, as in the paper, else 64 channels each.

    Raises:
        InputError: it is no whole number that divides the width.
    """
    paper = {wide: heads for _, wide, heads in {**DIT_SIZES, **_LARGER}.values()}
    heads = paper.get(width, max(1, width // 64)) if given is None else given
    if type(heads) is not int or heads < 1 or width % heads:
        raise InputError(
            f"num_heads: must divide the width {width}, but got {heads}. Give `--network-arg num_heads=N`."
        )
    return heads


def read(found: Checkpoint, seen: Seen, given: Mapping[str, Any]) -> Reading:
    """What the user gives, then what the file says, then what the public code does; the last is open.

    Raises:
        InputError: a value is not known, two contradict each other, or the file says what is not known here.
    """
    by_file, source = _said(found, seen)
    said = by_file | {name: value for name, value in given.items() if value is not None}
    heads = heads_of(seen.width, said.get("num_heads"))
    if seen.num_heads not in (None, heads):
        raise InputError(
            f"num_heads: the tensors of `{found.path}` have {seen.num_heads} heads, but got {heads}. Omit it."
        )
    pairs = [
        (noise, prediction)
        for noise, prediction in _likely_first(seen)
        if said.get("noise", noise) in (noise, "file") and said.get("prediction", prediction) == prediction
    ]
    if said.get("noise") == "file":
        pairs = [("file", said.get("prediction", "epsilon"))]
    if not pairs:
        pairs = [_contradiction(said)]
    noise, prediction = pairs[0]
    in_paper = (seen.depth, seen.width, heads) in (*DIT_SIZES.values(), *_LARGER.values())
    open_heads = {} if "num_heads" in said or in_paper else {"num_heads": heads_for(seen.width, heads)}
    described = noise_of(found.metadata["noise"], str(found.path)) if noise == "file" else DIT_NOISES[noise]
    taken = {"num_heads": heads, "noise": noise, "prediction": prediction}
    why = {"num_heads": "as in the paper" if in_paper else f"{seen.width // heads} channels a head"}
    for name in ("noise", "prediction"):
        why[name] = "as in the public code" if len(pairs) > 1 else "to match the other setting"
    assumptions = [assumed(name, taken[name], why[name]) for name in taken if name not in said]
    if assumptions:
        assumptions.append("patches: the pixels are assumed in the order of the public code (row, column, channel)")
        if seen.learned_range and prediction != "flow":
            assumptions.append(
                "learned sigma: the second half of the outputs is assumed to be the variance, as in the public code"
            )
    notes = _note(taken, by_file, given, source)
    guided = _guided(found, seen)
    return Reading(heads, noise, described, prediction, guided, notes, tuple(assumptions), readings(open_heads, pairs))


def _guided(found: Checkpoint, seen: Seen) -> int | Literal["all"]:
    """The public codes of DiT, SiT and LightningDiT guide three of the channels of latents; REPA's guides them all."""
    is_latent = seen.channels == 4 or (seen.is_lightning and seen.channels > 3)
    usual = 3 if is_latent and not found.metadata and not seen.is_repa else "all"
    said = found.metadata.get("guidance_channels", usual)
    return said if type(said) is int and 0 < said <= seen.channels else "all"


def _note(
    taken: Mapping[str, Any], by_file: Mapping[str, Any], given: Mapping[str, Any], source: str
) -> tuple[str, ...]:
    """What was taken from the file, with what says so, and what a convention of flow matching means."""
    used = {name: taken[name] for name in taken if name in by_file and given.get(name) is None}
    notes = [f"reading: {', '.join(f'{name}={value}' for name, value in used.items())}, as {source}"]
    flow = FLOWS.get(taken["noise"])
    return (*(notes if used and source else []), *([f"reading: {taken['noise']} is {flow.words}"] if flow else []))


def _likely_first(seen: Seen) -> list[tuple[str, str]]:
    """The readings that a file may have, the likeliest first: REPA's code trains on its two paths alone."""
    if seen.is_repa:
        return [("repa", "flow"), ("repa-cosine", "flow")]
    if seen.is_lightning:
        return sorted(DIT_READINGS, key=lambda pair: pair[0] not in ("sit", "sit-gvp"))
    return list(DIT_READINGS)


def assumed(name: str, value: object, why: str) -> str:
    return (
        f"{name}: {value} is assumed, {why}, since the file doesn't state it; `--network-arg {name}=VALUE` changes it"
    )


def _contradiction(said: Mapping[str, Any]) -> NoReturn:
    """Names the value that no DiT has, or the two that no network has both."""
    known = {"noise": list(DIT_NOISES), "prediction": list(PREDICTIONS[:4])}
    for name, values in known.items():
        if name in said and said[name] not in values:
            raise InputError(f"{name}: `{said[name]}` is not known of a DiT. {nearest(str(said[name]), values)}")
    raise InputError(
        f"prediction: a DiT with noise {said.get('noise')} can't predict {said.get('prediction')}. Flow matching ("
        f"flow, {', '.join(FLOWS)}) goes with prediction flow, and no other noise does; REPA's "
        "networks predict nothing else."
    )


def _said(found: Checkpoint, seen: Seen) -> tuple[dict[str, Any], str]:
    """What the file says itself, in its metadata, its shapes or the arguments of its training program; and which of
    them says it, for people to read.

    Raises:
        InputError: it says what is not known here.
    """
    by_shape = {} if seen.num_heads is None else {"num_heads": seen.num_heads}
    if found.metadata:  # a file of ours says what differs from the public code
        return by_shape | _said_by_metadata(found), ""
    arguments = found.arguments
    said, model = dict(by_shape), str(arguments.get("model", arguments.get("model_type", "")))
    family, size = _family(model)
    if size is not None and size[:2] == (seen.depth, seen.width):
        said["num_heads"] = size[2]
    heads = next((arguments[name] for name in _HEADS_NAMES if type(arguments.get(name)) is int), None)
    said |= {} if heads is None else {"num_heads": heads}
    if "path_type" in arguments or family in ("SiT", "LightningDiT"):
        said |= _said_of_path(found, seen)
    else:
        words = _words(arguments)
        flow = words.get("prediction") == "flow"
        own = {"prediction": "epsilon"} | ({} if flow else {"noise": "linear"})
        said |= (own if family == "DiT" else {}) | words
    told = ("model", "model_type", "path_type", *_PREDICTION_NAMES, *_NOISE_NAMES, *_HEADS_NAMES)
    listed = ", ".join(f"{name}={arguments[name]}" for name in told if name in arguments)
    source = f"its training program's arguments say ({listed})" if listed else "the shapes of its tensors say"
    return said, source


def _said_by_metadata(found: Checkpoint) -> dict[str, Any]:
    said = {name: found.metadata[name] for name in ("num_heads", "prediction") if name in found.metadata}
    if "prediction" in said and said["prediction"] not in PREDICTIONS:
        known = ", ".join(PREDICTIONS)
        raise InputError(
            f"checkpoint: `{found.path}` must predict one of {known}, but says {said['prediction']}. Fix it."
        )
    if "noise" in found.metadata:
        noise = found.metadata["noise"]
        said["noise"] = noise if isinstance(noise, str) and noise in FLOWS else "file"
    return {"noise": "linear", "prediction": "epsilon"} | said


def _family(model: str) -> tuple[str, tuple[int, int, int] | None]:
    """The code that a model's name belongs to, such as SiT of "SiT-XL/2", and its size; "" for other names."""
    parts = re.match(r"(LightningDiT|DiT|SiT)-([^/]+)", model)
    return (parts[1], {**DIT_SIZES, **_LARGER}.get(f"DiT-{parts[2]}")) if parts else ("", None)


def _words(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Noise and prediction where a training program's arguments name them in words of the field."""
    said: dict[str, Any] = {}
    for name, names, words in (
        ("prediction", _PREDICTION_NAMES, _SAID_PREDICTIONS),
        ("noise", _NOISE_NAMES, _SAID_NOISES),
    ):
        word = next((str(arguments[each]).lower() for each in names if each in arguments), None)
        said |= {name: words[word]} if word in words else {}
    if arguments.get("predict_xstart") is True:
        said["prediction"] = "sample"
    return said


def _said_of_path(found: Checkpoint, seen: Seen) -> dict[str, Any]:
    """The reading of SiT's, REPA's or LightningDiT's arguments. Raises InputError for their other paths and outputs."""
    path, prediction = found.arguments.get("path_type", "Linear"), found.arguments.get("prediction", "velocity")
    known = {
        ("Linear", "velocity"): "repa" if seen.is_repa else "sit",
        ("GVP", "velocity"): "sit-gvp",
        ("linear", "v"): "repa",
        ("cosine", "v"): "repa-cosine",
    }
    noise = known.get((path, prediction))
    if noise is None:
        raise InputError(
            f"checkpoint: `{found.path}` has path {path} and predicts {prediction}, by its training program's "
            "arguments; known are SiT's paths Linear and GVP with velocity, and REPA's linear and cosine with v. "
            "Describe it in a file of your own and give `--network FILE.py:Class`."
        )
    return {"noise": noise, "prediction": "flow"}
