"""Test vectors of the schedule format: small samplings whose every intermediate value is on file.

A reader in any language replays `assets/vectors/*.schedule.json` with the weights and noises of the `.safetensors` file
beside it and must get every m, residual and x to 1e-6 relative, in float64. `refused.json` holds texts that must be
refused, each with its error's identifier. `docs/schedule-format.md` describes the little network and the tensors.

The interpreter here follows the format's definitions word for word: it keeps every value of every step and knows
nothing of plans, fused residuals or joint calls, which are held against it. To write the files again:
`python tests/support/vectors.py DIRECTORY CORPUS`.

The schedules of the test vectors: together they use every action, kind of block, guidance and form of row.
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
from exeunt.backends import schedule as schedules
from exeunt.backends.checkpoints.files import ASSETS
from exeunt.backends.schedule import (
    DROP,
    REUSE,
    RUN,
    SUFFIX,
    Action,
    Branch,
    Coefficients,
    Guidance,
    NetworkSignature,
    Schedule,
    Step,
    forecast,
    guidance_at,
)
from exeunt.backends.solvers.tables import make_schedule, with_coefficients
from safetensors import numpy as safetensors

RESIDUAL = NetworkSignature("little", "block", (("residual", 4),))
_LINEAR = schedules.Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
F1, F2 = forecast(1), forecast(2)


def _with(schedule: Schedule, rows: list[tuple[Action, ...]], changes: Mapping[int, Mapping[str, Any]]) -> Schedule:
    """The schedule with an action matrix, other fields for some steps, and its solver's coefficients."""
    steps = (replace(step, blocks=row) for step, row in zip(schedule.steps, rows, strict=True))
    changed = (replace(step, **changes.get(s, {})) for s, step in enumerate(steps))
    return with_coefficients(replace(schedule, steps=tuple(changed)))


def guided() -> Schedule:
    """Every action, and every way to treat the unconditional branch, under DDIM."""
    base = make_schedule(RESIDUAL, _LINEAR, "v", solver="ddim", num_steps=10, guidance=Guidance(1.5, 5))
    rows = [(RUN,) * 4, (RUN, RUN, REUSE, REUSE), (RUN,) * 4, (RUN, F1, F1, DROP), (RUN, F2, RUN, RUN), (RUN,) * 4]
    rows += [(RUN, RUN, REUSE, F1), (REUSE, F2, F2, F2), (RUN, F2, F2, F1), (RUN, DROP, RUN, REUSE)]
    changes = {2: {"unconditional": "skip"}, 5: {"unconditional": "reuse"}, 6: {"guidance": 3.0}, 8: {"guidance": None}}
    return _with(base, rows, changes)


def multistep() -> Schedule:
    """Exits with reused tails, and rows that look back one step, under DPM-Solver++ with clipping."""
    base = make_schedule(RESIDUAL, _LINEAR, "v", solver="dpmsolver++", num_steps=6, spacing="log-snr", clip=1.5)
    depths = [4, 2, 1, 4, 2, 3]
    return _with(base, [(RUN,) * d + (REUSE,) * (4 - d) for d in depths], {})


def stochastic() -> Schedule:
    """Noise in every step but the last, with two networks, under DDPM."""
    base = make_schedule(RESIDUAL, _LINEAR, "v", solver="ddpm", num_steps=6, guidance=2.0)
    second = NetworkSignature("little", "block", (("residual", 2),))
    rows = [(RUN,) * 4, (RUN, RUN), (RUN, REUSE, DROP, REUSE), (F1, RUN), (RUN, RUN, F2, F2), (REUSE, F1)]
    return _with(replace(base, networks=(RESIDUAL, second)), rows, {s: {"network": s % 2} for s in range(6)})


def learned() -> Schedule:
    """A learned variance, whose channels guidance leaves alone, under DDPM."""
    base = make_schedule(RESIDUAL, _LINEAR, "v", solver="ddpm", num_steps=5, variance="learned-range", guidance=1.5)
    rows = [(RUN,) * 4, (RUN, RUN, REUSE, REUSE), (RUN,) * 4, (RUN, RUN, F1, F1), (RUN, RUN, RUN, DROP)]
    return _with(base, rows, {1: {"unconditional": "skip"}})


def kinds() -> Schedule:
    """Branches with gates, a merge and a replace block, and embedded guidance, on an EDM-like Euler by hand."""
    network = NetworkSignature("little", "branch", (("branch", 2), ("merge", 1), ("replace", 1), ("residual", 1)))
    sampler = schedules.Sampler("by hand", "edm", "sigma", schedules.Noise("edm"), initial_scale=10.0, sigma_data=0.5)
    rows = [(RUN,) * 5, (REUSE, RUN, REUSE, REUSE, REUSE), (DROP, RUN, DROP, RUN, F1), (RUN,) * 5, (F1, F2, F1, F2, F2)]
    sigmas = [10.0, 3.0, 1.0, 0.3, 0.1, 0.0]
    steps = tuple(_edm_step(now, after, row) for now, after, row in zip(sigmas, sigmas[1:], rows, strict=False))
    return Schedule((network,), sampler, steps, schedules.Embedded(3.5))


def _edm_step(now: float, after: float, blocks: tuple[Action, ...]) -> Step:
    """Euler on Karras et al. 2022, eq. 7 and 3: m is the denoised sample, and x <- x + (after/now - 1)(x - m)."""
    total = now**2 + 0.25
    row = Coefficients(total**-0.5, 0.25 / total, now * 0.5 * total**-0.5, after / now, (1 - after / now,))
    return Step(now, blocks, network_time=float(np.log(now)) / 4, coefficients=row)


def corrected() -> Schedule:
    """A predictor and its corrector in one row, which looks back three steps, under UniPC."""
    base = make_schedule(RESIDUAL, _LINEAR, "v", solver="unipc", order=3, num_steps=8, spacing="log-snr")
    depths = [4, 4, 1, 3, 4, 2, 2, 4]
    return _with(base, [(RUN,) * d + (REUSE,) * (4 - d) for d in depths], {})


def twice() -> Schedule:
    """Two evaluations at a time, scaled inputs and other network times, under EDM's sampler."""
    base = make_schedule(RESIDUAL, schedules.Noise("edm"), "edm", solver="edm", num_steps=4)
    rows = [(RUN,) * 4, (RUN, RUN, REUSE, REUSE), (RUN,) * 4, (RUN, F1, F1, F1), (RUN,) * 4, (RUN, F2, F2, F2)]
    return _with(base, [*rows, (RUN, RUN, DROP, DROP)], {})


def warmed_up() -> Schedule:
    """Rows that undo a step, and that look back twelve, under PNDM with its Runge-Kutta steps."""
    base = make_schedule(RESIDUAL, _LINEAR, "v", solver="pndm", variant="prk", num_steps=6, spacing="leading")
    return _with(base, [(RUN,) * 4 if s % 3 == 0 else (RUN, RUN, REUSE, REUSE) for s in range(base.num_steps)], {})


def flowing() -> Schedule:
    """Times from 1 to 0, of which the network receives 1000 each, with a shift, under Euler on flow matching."""
    base = make_schedule(
        RESIDUAL, schedules.Noise("flow"), "flow", num_steps=5, spacing_parameters={"shift": 3.0}, guidance=2.0
    )
    rows = [(RUN,) * 4, (RUN, RUN, REUSE, REUSE), (RUN,) * 4, (RUN, F1, F1, DROP), (RUN,) * 4]
    return _with(base, rows, {3: {"unconditional": "skip"}, 4: {"guidance": None}})


CASES = {
    "guided": guided,
    "multistep": multistep,
    "stochastic": stochastic,
    "learned": learned,
    "kinds": kinds,
    "corrected": corrected,
    "twice": twice,
    "warmed-up": warmed_up,
    "flowing": flowing,
}


DIRECTORY = ASSETS / "vectors"
VECTOR_TOLERANCE = 1e-6  # relative to the largest absolute value of a tensor
VECTOR_CHANNELS = WIDTH = 8
NUM_IMAGES = 2
NUM_CLASSES = 3

_Array: TypeAlias = npt.NDArray[Any]
Tensors: TypeAlias = dict[str, _Array]
StoredResiduals: TypeAlias = list[tuple[int, _Array]]  # (step, value) of the steps at which a block ran, newest first


# ---- the little network ----------------------------------------------------------------------------------------------


class LittleNetwork:
    """Tanh layers of width 8 on one vector an image. `weights` holds the tensors `network.{index}.…` without prefix."""

    def __init__(self, kinds: tuple[str, ...], weights: Tensors) -> None:
        self.kinds, self.weights = kinds, weights

    def embed(self, x: _Array, time: float, labels: _Array, guidance: float) -> _Array:
        """(N, 8) samples, already scaled -> (N, 8) hidden states."""
        h = x @ self.weights["embed"].T + self.weights["label"][labels]
        return h + time / 1000 * self.weights["time"] + guidance * self.weights["guidance"]

    def stored(self, j: int, h: _Array) -> _Array:
        """What block j stores when it runs on `h`: its residual, branch output, residual part or output."""
        inner = self.linear(j, h) if self.kinds[j] == "merge" else h
        return np.tanh(inner @ self.weights[f"block.{j}.weight"].T + self.weights[f"block.{j}.bias"])

    def apply(self, j: int, h: _Array, value: _Array | float, time: float) -> _Array:
        """The output of block j when it adds `value`, which is 0 where the block is dropped."""
        if self.kinds[j] == "replace":
            return np.asarray(value)
        if self.kinds[j] == "merge":
            return self.linear(j, h) + value
        if self.kinds[j] == "branch":
            return h + self.weights[f"block.{j}.gate"] * (1 + time / 1000) * value
        return h + value

    def linear(self, j: int, h: _Array) -> _Array:
        """The linear layer of a merge block, which stays when its residual part is left out."""
        return h @ self.weights[f"block.{j}.linear"].T

    def head(self, h: _Array) -> _Array:
        """(N, 8) hidden states -> (N, 8) outputs, or (N, 16) with a learned variance."""
        return h @ self.weights["head"].T


def random_weights(kinds: tuple[str, ...], outputs: int, rng: np.random.Generator) -> Tensors:
    """Weights that keep hidden states near 1, whatever stands in for a block."""

    def matrix(rows: int) -> _Array:
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


def stand_in(action: Action, s: int, stored: StoredResiduals) -> _Array:
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

    def __init__(self, schedule: Schedule, given: Mapping[str, _Array]) -> None:
        self.schedule, self.given = schedule, given
        self.networks = [
            LittleNetwork(signature.block_kinds, _without_prefix(given, f"network.{n}."))
            for n, signature in enumerate(schedule.networks)
        ]
        self.stored: dict[tuple[int, Branch, int], StoredResiduals] = {}
        self.unconditional: dict[int, _Array] = {}
        self.history: list[_Array] = []  # of m, newest first
        self.found: Tensors = {}

    def sample(self) -> Tensors:
        x = self.schedule.sampler.initial_scale * self.given["first_noise"]
        for s, step in enumerate(self.schedule.steps):
            assert step.coefficients is not None, "test vectors carry coefficients"
            x = self.advance(s, x, step.coefficients, *self.guided(s, step, x))
            self.found |= {f"x.{s}": x, f"m.{s}": self.history[0]}
        return self.found

    def advance(self, s: int, x: _Array, row: Coefficients, output: _Array, variance: _Array) -> _Array:
        """x <- a x + sum_j b_j m_(newest - j) + c xi."""
        m = row.model_x * x + row.model_f * output
        clip = self.schedule.sampler.clip
        self.history.insert(0, m if clip is None else np.clip(m, -clip, clip))
        c: _Array | float = row.c
        if row.log_variance is not None:
            low, high = row.log_variance
            w = (variance + 1) / 2
            c = np.exp((w * high + (1 - w) * low) / 2)
        past = zip(row.b, self.history, strict=False)
        return row.a * x + sum(b * value for b, value in past) + c * self.given["step_noise"][s]

    def guided(self, s: int, step: Step, x: _Array) -> tuple[_Array, _Array]:
        """u + g (c - u) on the guided channels, c on the others, and c's channels after those of the sample."""
        c, scale = self.evaluate(s, step, "conditional", x), guidance_at(self.schedule, s)
        if scale is None or step.unconditional == "skip":
            return c[:, :VECTOR_CHANNELS], c[:, VECTOR_CHANNELS:]
        if step.unconditional == "run":
            self.unconditional[step.network] = self.evaluate(s, step, "unconditional", x)
        assert isinstance(self.schedule.guidance, Guidance)
        channels = VECTOR_CHANNELS if self.schedule.guidance.channels == "all" else self.schedule.guidance.channels
        u, output = self.unconditional[step.network], c[:, :VECTOR_CHANNELS].copy()
        output[:, :channels] = u[:, :channels] + scale * (c[:, :channels] - u[:, :channels])
        return output, c[:, VECTOR_CHANNELS:]

    def evaluate(self, s: int, step: Step, branch: Branch, x: _Array) -> _Array:
        assert step.coefficients is not None
        network = self.networks[step.network]
        time = step.time if step.network_time is None else step.network_time
        labels = self.given["labels"] if branch == "conditional" else np.full(NUM_IMAGES, NUM_CLASSES)
        embedded = schedules.embedded_guidance_at(self.schedule, s) or 0.0
        h = network.embed(step.coefficients.input_scale * x, time, labels, embedded)
        residuals: list[_Array] = []
        for j, action in enumerate(step.blocks):
            before, h = h, self.block(s, step, branch, j, action, h, time)
            residuals.append(h - before)
        self.found[f"residual.{s}.{branch}"] = np.stack(residuals)
        return network.head(h)

    def block(self, s: int, step: Step, branch: Branch, j: int, action: Action, h: _Array, time: float) -> _Array:
        network, stored = self.networks[step.network], self.stored.setdefault((step.network, branch, j), [])
        if action == RUN:
            stored.insert(0, (s, network.stored(j, h)))
            return network.apply(j, h, stored[0][1], time)
        return network.apply(j, h, 0.0 if action == DROP else stand_in(action, s, stored), time)


def _without_prefix(tensors: Mapping[str, _Array], prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


# ---- files -----------------------------------------------------------------------------------------------------------


def vector_names() -> list[str]:
    """The test vectors that ship with the package."""
    return sorted(path.name.removesuffix(SUFFIX) for path in DIRECTORY.glob(f"*{SUFFIX}"))


def read_vector(name: str) -> tuple[Schedule, Tensors]:
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
    outputs = VECTOR_CHANNELS * (2 if schedule.sampler.variance == "learned-range" else 1)
    tensors: Tensors = {"labels": np.arange(NUM_IMAGES)}
    for n, signature in enumerate(schedule.networks):
        weights = random_weights(signature.block_kinds, outputs, rng)
        tensors |= {f"network.{n}.{name}": tensor for name, tensor in weights.items()}
    tensors["first_noise"] = rng.normal(size=(NUM_IMAGES, VECTOR_CHANNELS))
    tensors["step_noise"] = rng.normal(size=(schedule.num_steps, NUM_IMAGES, VECTOR_CHANNELS))
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
