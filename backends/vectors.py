"""Test vectors of the schedule format: small samplings whose every intermediate value is on file.

A reader in any language replays `assets/vectors/*.schedule.json` with the weights and noises of the `.safetensors` file
beside it and must get every m, residual and x to 1e-6 relative, in float64. `refused.json` holds texts that must be
refused, each with its error's identifier. `docs/schedule-format.md` describes the little network and the tensors.

The interpreter here follows the format's definitions word for word: it keeps every value of every step and knows
nothing of plans, fused residuals or joint calls, which are held against it. To write the files again:
`python -m exeunt.backends.vectors DIRECTORY CORPUS`.
"""

import base64
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import numpy as safetensors

from . import schedule as schedules
from .schedule import (
    DROP,
    RUN,
    SUFFIX,
    Action,
    Branch,
    Coefficients,
    Guidance,
    Schedule,
    Step,
    guidance_at,
)
from .vector_cases import CASES

DIRECTORY = Path(__file__).parent / "assets" / "vectors"
TOLERANCE = 1e-6  # relative to the largest absolute value of a tensor
CHANNELS = WIDTH = 8
NUM_IMAGES = 2
NUM_CLASSES = 3

Array: TypeAlias = npt.NDArray[Any]
Tensors: TypeAlias = dict[str, Array]
Stored: TypeAlias = list[tuple[int, Array]]  # (step, value) of the steps at which a block ran, newest first


# ---- the little network ----------------------------------------------------------------------------------------------


class LittleNetwork:
    """Tanh layers of width 8 on one vector an image. `weights` holds the tensors `network.{index}.…` without prefix."""

    def __init__(self, kinds: tuple[str, ...], weights: Tensors) -> None:
        self.kinds, self.weights = kinds, weights

    def embed(self, x: Array, time: float, labels: Array, guidance: float) -> Array:
        """(N, 8) samples, already scaled -> (N, 8) hidden states."""
        h = x @ self.weights["embed"].T + self.weights["label"][labels]
        return h + time / 1000 * self.weights["time"] + guidance * self.weights["guidance"]

    def stored(self, j: int, h: Array) -> Array:
        """What block j stores when it runs on `h`: its residual, branch output, residual part or output."""
        inner = self.linear(j, h) if self.kinds[j] == "merge" else h
        return np.tanh(inner @ self.weights[f"block.{j}.weight"].T + self.weights[f"block.{j}.bias"])

    def apply(self, j: int, h: Array, value: Array | float, time: float) -> Array:
        """The output of block j when it adds `value`, which is 0 where the block is dropped."""
        if self.kinds[j] == "replace":
            return np.asarray(value)
        if self.kinds[j] == "merge":
            return self.linear(j, h) + value
        if self.kinds[j] == "branch":
            return h + self.weights[f"block.{j}.gate"] * (1 + time / 1000) * value
        return h + value

    def linear(self, j: int, h: Array) -> Array:
        """The linear layer of a merge block, which stays when its residual part is left out."""
        return h @ self.weights[f"block.{j}.linear"].T

    def head(self, h: Array) -> Array:
        """(N, 8) hidden states -> (N, 8) outputs, or (N, 16) with a learned variance."""
        return h @ self.weights["head"].T


def random_weights(kinds: tuple[str, ...], outputs: int, rng: np.random.Generator) -> Tensors:
    """Weights that keep hidden states near 1, whatever stands in for a block."""

    def matrix(rows: int) -> Array:
        return rng.normal(size=(rows, WIDTH)) / np.sqrt(WIDTH)

    weights = {"embed": matrix(WIDTH), "head": matrix(outputs), "label": matrix(NUM_CLASSES + 1)}
    weights |= {"time": rng.normal(size=WIDTH), "guidance": rng.normal(size=WIDTH) / 10}
    for j, kind in enumerate(kinds):
        weights |= {f"block.{j}.weight": matrix(WIDTH), f"block.{j}.bias": rng.normal(size=WIDTH) / 10}
        if kind == "merge":
            weights[f"block.{j}.linear"] = matrix(WIDTH)
        if kind == "branch":
            weights[f"block.{j}.gate"] = rng.normal(size=WIDTH) / 2
    return weights


# ---- the interpreter -------------------------------------------------------------------------------------------------


def stand_in(action: Action, s: int, stored: Stored) -> Array:
    """The format's definition: y0 for reuse, y0 + k d for order 1, and + k^2/2 (d - d')/(r0 - r1) for order 2."""
    (r0, y0), *older = stored
    k, order = s - r0, min(action.order, len(older))
    if order == 0:
        return y0
    r1, y1 = older[0]
    d = (y0 - y1) / (r0 - r1)
    if order == 1:
        return y0 + k * d
    r2, y2 = older[1]
    return y0 + k * d + k**2 / 2 * (d - (y1 - y2) / (r1 - r2)) / (r0 - r1)


class Interpreter:
    """Samples the images of a test vector step by step; `found` collects every m, x and residual by its name."""

    def __init__(self, schedule: Schedule, given: Mapping[str, Array]) -> None:
        self.schedule, self.given = schedule, given
        self.networks = [
            LittleNetwork(signature.block_kinds, _without_prefix(given, f"network.{n}."))
            for n, signature in enumerate(schedule.networks)
        ]
        self.stored: dict[tuple[int, Branch, int], Stored] = {}
        self.unconditional: dict[int, Array] = {}
        self.history: list[Array] = []  # of m, newest first
        self.found: Tensors = {}

    def sample(self) -> Tensors:
        x = self.schedule.sampler.initial_scale * self.given["first_noise"]
        for s, step in enumerate(self.schedule.steps):
            assert step.coefficients is not None, "test vectors carry coefficients"
            x = self.advance(s, x, step.coefficients, *self.guided(s, step, x))
            self.found |= {f"x.{s}": x, f"m.{s}": self.history[0]}
        return self.found

    def advance(self, s: int, x: Array, row: Coefficients, output: Array, variance: Array) -> Array:
        """x <- a x + sum_j b_j m_(newest - j) + c xi."""
        m = row.model_x * x + row.model_f * output
        clip = self.schedule.sampler.clip
        self.history.insert(0, m if clip is None else np.clip(m, -clip, clip))
        c: Array | float = row.c
        if row.log_variance is not None:
            low, high = row.log_variance
            w = (variance + 1) / 2
            c = np.exp((w * high + (1 - w) * low) / 2)
        past = zip(row.b, self.history, strict=False)
        return row.a * x + sum(b * value for b, value in past) + c * self.given["step_noise"][s]

    def guided(self, s: int, step: Step, x: Array) -> tuple[Array, Array]:
        """u + g (c - u) on the guided channels, c on the others, and c's channels after those of the sample."""
        c, scale = self.evaluate(s, step, "conditional", x), guidance_at(self.schedule, s)
        if scale is None or step.unconditional == "skip":
            return c[:, :CHANNELS], c[:, CHANNELS:]
        if step.unconditional == "run":
            self.unconditional[step.network] = self.evaluate(s, step, "unconditional", x)
        assert isinstance(self.schedule.guidance, Guidance)
        channels = CHANNELS if self.schedule.guidance.channels == "all" else self.schedule.guidance.channels
        u, output = self.unconditional[step.network], c[:, :CHANNELS].copy()
        output[:, :channels] = u[:, :channels] + scale * (c[:, :channels] - u[:, :channels])
        return output, c[:, CHANNELS:]

    def evaluate(self, s: int, step: Step, branch: Branch, x: Array) -> Array:
        assert step.coefficients is not None
        network = self.networks[step.network]
        time = step.time if step.network_time is None else step.network_time
        labels = self.given["labels"] if branch == "conditional" else np.full(NUM_IMAGES, NUM_CLASSES)
        embedded = schedules.embedded_guidance_at(self.schedule, s) or 0.0
        h = network.embed(step.coefficients.input_scale * x, time, labels, embedded)
        residuals: list[Array] = []
        for j, action in enumerate(step.blocks):
            before, h = h, self.block(s, step, branch, j, action, h, time)
            residuals.append(h - before)
        self.found[f"residual.{s}.{branch}"] = np.stack(residuals)
        return network.head(h)

    def block(self, s: int, step: Step, branch: Branch, j: int, action: Action, h: Array, time: float) -> Array:
        network, stored = self.networks[step.network], self.stored.setdefault((step.network, branch, j), [])
        if action == RUN:
            stored.insert(0, (s, network.stored(j, h)))
            return network.apply(j, h, stored[0][1], time)
        return network.apply(j, h, 0.0 if action == DROP else stand_in(action, s, stored), time)


def _without_prefix(tensors: Mapping[str, Array], prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


# ---- files -----------------------------------------------------------------------------------------------------------


def names() -> list[str]:
    """The test vectors that ship with the package."""
    return sorted(path.name.removesuffix(SUFFIX) for path in DIRECTORY.glob(f"*{SUFFIX}"))


def read(name: str) -> tuple[Schedule, Tensors]:
    """A test vector: its schedule, and what is given and what must come out by name."""
    return schedules.load(DIRECTORY / f"{name}{SUFFIX}"), safetensors.load(
        (DIRECTORY / f"{name}.safetensors").read_bytes()
    )


def refused() -> Iterator[tuple[str, str, bytes]]:
    """(name, identifier, content) of every file that a reader must refuse."""
    for entry in json.loads((DIRECTORY / "refused.json").read_text(encoding="utf-8")):
        content = base64.b64decode(entry["base64"]) if "base64" in entry else entry["text"].encode()
        yield entry["name"], entry["identifier"], content


def given(schedule: Schedule, seed: int) -> Tensors:
    """Weights, labels and noises for a schedule."""
    rng = np.random.default_rng(seed)
    outputs = CHANNELS * (2 if schedule.sampler.variance == "learned-range" else 1)
    tensors: Tensors = {"labels": np.arange(NUM_IMAGES)}
    for n, signature in enumerate(schedule.networks):
        weights = random_weights(signature.block_kinds, outputs, rng)
        tensors |= {f"network.{n}.{name}": tensor for name, tensor in weights.items()}
    tensors["first_noise"] = rng.normal(size=(NUM_IMAGES, CHANNELS))
    tensors["step_noise"] = rng.normal(size=(schedule.num_steps, NUM_IMAGES, CHANNELS))
    return tensors


def write(directory: Path, corpus: Path) -> None:
    """Writes every test vector, and the files of a corpus of bad schedules, whose names start with the identifier."""
    directory.mkdir(parents=True, exist_ok=True)
    for seed, (name, case) in enumerate(CASES.items()):
        schedule = replace(case(), name=f"test vector: {name}")
        tensors = given(schedule, seed)
        schedules.save(schedule, directory / f"{name}{SUFFIX}")
        tensors |= Interpreter(schedule, tensors).sample()
        (directory / f"{name}.safetensors").write_bytes(safetensors.save(tensors))
    entries = [_entry(path) for path in sorted(corpus.glob(f"*{SUFFIX}"))]
    text = ",\n".join(json.dumps(entry) for entry in entries)
    (directory / "refused.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")


def _entry(path: Path) -> dict[str, str]:
    content, name = path.read_bytes(), path.name.removesuffix(SUFFIX)
    entry = {"name": name, "identifier": name.split(".")[0]}
    try:
        return entry | {"text": content.decode()}
    except UnicodeDecodeError:
        return entry | {"base64": base64.b64encode(content).decode()}


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
