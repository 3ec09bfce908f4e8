"""The shipped test vectors, replayed through plans and through the real sampling loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import vectors
from exeunt.backends import schedule
from exeunt.backends.network import Chain, ChainNetwork, Pass
from exeunt.backends.plan import Add, Call, Read, Run, StepPlan, compile_plan
from exeunt.backends.sampling import loop
from exeunt.backends.schedule import Embedded, Guidance, Schedule, ScheduleError
from torch import Tensor
from vectors import NUM_CLASSES, NUM_IMAGES, VECTOR_CHANNELS, LittleNetwork

CORPUS = Path(__file__).parents[1] / "bad_schedules"


def assert_close(got: np.ndarray, wanted: np.ndarray, name: str) -> None:
    error = np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-300)
    assert error <= vectors.VECTOR_TOLERANCE, f"{name}: relative error {error:.2e}"


# ---- plans, on every kind of block -----------------------------------------------------------------------------------


class PlanReplay:
    """Samples a test vector as an executor of plans would: fused residuals, joint calls, slots."""

    def __init__(self, name: str) -> None:
        self.schedule, self.file = vectors.read_vector(name)
        self.plan = compile_plan(self.schedule)
        self.slots: list[np.ndarray | None] = [None] * self.plan.num_slots
        self.networks = [self.network(n) for n in range(len(self.schedule.networks))]
        self.unconditional: dict[int, np.ndarray] = {}

    def network(self, n: int) -> LittleNetwork:
        prefix = f"network.{n}."
        weights = {key.removeprefix(prefix): tensor for key, tensor in self.file.items() if key.startswith(prefix)}
        return LittleNetwork(self.schedule.networks[n].block_kinds, weights)

    def run(self) -> None:
        x, history = self.schedule.sampler.initial_scale * self.file["first_noise"], deque[np.ndarray]()
        for s, planned in enumerate(self.plan.steps):
            row, clip = self.schedule.steps[s].coefficients, self.schedule.sampler.clip
            assert row is not None
            output, variance = self.output(s, planned, row.input_scale * x)
            m = row.model_x * x + row.model_f * output
            history.appendleft(m if clip is None else np.clip(m, -clip, clip))
            c = row.c
            if row.log_variance is not None:
                w = (variance + 1) / 2
                c = np.exp(0.5 * (w * row.log_variance[1] + (1 - w) * row.log_variance[0]))
            x = row.a * x + sum(b * m for b, m in zip(row.b, history, strict=False)) + c * self.file["step_noise"][s]
            assert_close(history[0], self.file[f"m.{s}"], f"m.{s}")
            assert_close(x, self.file[f"x.{s}"], f"x.{s}")
        assert self.slots == [None] * self.plan.num_slots

    def output(self, s: int, planned: StepPlan, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs: dict[str, np.ndarray] = {}
        for call in planned.calls:
            parts = np.split(self.call(s, planned.network, call, x), len(call.branches))
            outputs |= dict(zip(call.branches, parts, strict=True))
        if "unconditional" in outputs:
            self.unconditional[planned.network] = outputs["unconditional"]
        c, scale = outputs["conditional"], schedule.guidance_at(self.schedule, s)
        if scale is None or self.schedule.steps[s].unconditional == "skip":
            return c[:, :VECTOR_CHANNELS], c[:, VECTOR_CHANNELS:]
        assert isinstance(self.schedule.guidance, Guidance)
        channels = self.schedule.guidance.channels
        guided = np.arange(VECTOR_CHANNELS) < (VECTOR_CHANNELS if channels == "all" else channels)
        u, f = self.unconditional[planned.network][:, :VECTOR_CHANNELS], c[:, :VECTOR_CHANNELS]
        return np.where(guided, u + scale * (f - u), f), c[:, VECTOR_CHANNELS:]

    def call(self, s: int, index: int, call: Call, x: np.ndarray) -> np.ndarray:
        step, network = self.schedule.steps[s], self.networks[index]
        time = step.time if step.network_time is None else step.network_time
        labels = {"conditional": self.file["labels"], "unconditional": np.full(NUM_IMAGES, NUM_CLASSES)}
        rows = np.concatenate([labels[branch] for branch in call.branches])
        embedded = schedule.embedded_guidance_at(self.schedule, s) or 0.0
        h = network.embed(np.concatenate([x] * len(call.branches)), time, rows, embedded)
        residuals = np.concatenate([self.file[f"residual.{s}.{branch}"] for branch in call.branches], axis=1)
        for op in call.ops:
            before = h
            if isinstance(op, Run):
                for j in range(op.start, op.stop):
                    value = network.stored(j, h)
                    h = network.apply(j, h, value, time)
                if op.store is not None:
                    self.slots[op.store] = h - before if network.kinds[op.start] == "residual" else value
            else:
                total = sum(self.read(read) for read in op.reads) if isinstance(op, Add) else 0.0
                for j in range(op.start, op.stop) if not isinstance(op, Add) else [op.start]:
                    h = network.apply(j, h, total, time)
            assert_close(h - before, residuals[op.start : op.stop].sum(axis=0), f"residual.{s}, {op}")
        for slot in call.release:
            self.slots[slot] = None
        return network.head(h)

    def read(self, read: Read) -> np.ndarray:
        value = self.slots[read.slot]
        assert value is not None
        rows = {"all": slice(None), "conditional": slice(NUM_IMAGES), "unconditional": slice(NUM_IMAGES, None)}
        return read.weight * value[rows[read.rows]]


@pytest.mark.parametrize("name", vectors.CASES)
def test_plans_replay_the_vectors(name: str) -> None:
    PlanReplay(name).run()


# ---- the real loop, on every kind of block ---------------------------------------------------------------------------


class LittleChain(Chain):
    """Blocks of every kind, by the format's table of kinds."""

    def __init__(self, kinds: Sequence[str], weights: dict[str, Tensor], time: Tensor) -> None:
        self.kinds, self.weights, self.time = kinds, weights, time

    def run(self, index: int, h: Tensor) -> Tensor:
        return self.apply(index, h, self.compute(index, h))

    def compute(self, index: int, h: Tensor) -> Tensor:
        inner = self.linear(index, h) if self.kinds[index] == "merge" else h
        return torch.tanh(inner @ self.weights[f"block.{index}.weight"].T + self.weights[f"block.{index}.bias"])

    def apply(self, index: int, h: Tensor, value: Tensor) -> Tensor:
        match self.kinds[index]:
            case "replace":
                return value
            case "merge":
                return self.linear(index, h) + value
            case "branch":
                return h + self.weights[f"block.{index}.gate"] * (1 + self.time / 1000) * value
            case _:
                return h + value

    def skip(self, index: int, h: Tensor) -> Tensor:
        return self.linear(index, h) if self.kinds[index] == "merge" else h

    def linear(self, index: int, h: Tensor) -> Tensor:
        return h @ self.weights[f"block.{index}.linear"].T


class TorchLittleNetwork(ChainNetwork):
    """The little network as a native one."""

    image_shape, sample_shape, num_classes, name = (3, 1, 1), (VECTOR_CHANNELS, 1, 1), NUM_CLASSES, "little"

    def __init__(self, whole: Schedule, n: int, tensors: dict[str, np.ndarray]) -> None:
        prefix = f"network.{n}."
        self.signature, self.noise = whole.networks[n], whole.sampler.noise
        self.prediction, self.learned_range = whole.sampler.prediction, whole.sampler.variance == "learned-range"
        self.takes_guidance = isinstance(whole.guidance, Embedded)
        self.weights = {
            key.removeprefix(prefix): torch.from_numpy(tensor)
            for key, tensor in tensors.items()
            if key.startswith(prefix)
        }

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        w = self.weights
        h = x.flatten(1) @ w["embed"].T + w["label"][conditions] + time[:, None] / 1000 * w["time"]
        if guidance is not None:
            h = h + guidance[:, None] * w["guidance"]
        chain = LittleChain(self.signature.block_kinds, w, time[:, None])
        return Pass(h, chain, lambda h: (h @ w["head"].T)[:, :, None, None])

    def null_conditions(self, num_images: int) -> Tensor:
        return torch.full((num_images,), NUM_CLASSES)

    def decode(self, x: Tensor) -> Tensor:
        return x[:, :3].to(torch.uint8)

    def flops(self, blocks: Sequence[int]) -> int:
        return 2 * VECTOR_CHANNELS * VECTOR_CHANNELS * len(blocks)

    def decode_flops(self) -> int:
        return 0


@pytest.mark.parametrize("name", vectors.CASES)
def test_the_sampling_loop_replays_the_vectors(name: str) -> None:
    whole, tensors = vectors.read_vector(name)
    networks = [TorchLittleNetwork(whole, n, tensors) for n in range(len(whole.networks))]
    loop.check_schedule(networks, whole)
    noises = [torch.from_numpy(noise)[:, :, None, None] for noise in tensors["step_noise"]]
    random = [noise for noise, step in zip(noises, whole.steps, strict=True) if adds_noise(step)]
    seen: list[int] = []

    def observe(s: int, values: loop.StepValues) -> None:
        assert_close(values.m.flatten(1).numpy(), tensors[f"m.{s}"], f"m.{s}")
        assert_close(values.x_next.flatten(1).numpy(), tensors[f"x.{s}"], f"x.{s}")
        seen.append(s)

    first, labels = torch.from_numpy(tensors["first_noise"])[:, :, None, None], torch.from_numpy(tensors["labels"])
    loop.sample_batch(networks, whole, first, random, labels, observe=observe)
    assert seen == list(range(whole.num_steps))


def adds_noise(step: schedule.Step) -> bool:
    return step.coefficients is not None and (step.coefficients.c != 0 or step.coefficients.log_variance is not None)


# ---- the files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", vectors.CASES)
def test_the_interpreter_still_finds_what_is_on_file(name: str) -> None:
    whole, tensors = vectors.read_vector(name)
    found = vectors.Interpreter(whole, tensors).sample()
    assert {key for key in tensors if key.startswith(("m.", "x.", "residual."))} == found.keys()
    for key, value in found.items():
        assert_close(value, tensors[key], key)


def test_every_vector_ships_and_all_are_small() -> None:
    assert vectors.vector_names() == sorted(vectors.CASES)
    assert sum(path.stat().st_size for path in vectors.DIRECTORY.iterdir()) < 250_000


def test_the_vectors_cover_the_format() -> None:
    schedules = [vectors.read_vector(name)[0] for name in vectors.vector_names()]
    steps = [step for whole in schedules for step in whole.steps]
    assert {(action.kind, action.order) for step in steps for action in step.blocks} == {
        ("run", 0),
        ("drop", 0),
        ("reuse", 0),
        ("forecast", 1),
        ("forecast", 2),
    }
    assert {kind for whole in schedules for network in whole.networks for kind in network.block_kinds} == set(
        schedule.KINDS
    )
    assert {step.unconditional for step in steps} == set(schedule.UNCONDITIONALS)
    assert any(step.guidance is None for step in steps)
    assert {type(whole.guidance).__name__ for whole in schedules} == {"Guidance", "Embedded", "NoneType"}
    rows = [step.coefficients for step in steps if step.coefficients is not None]
    assert any(row.c for row in rows)
    assert any(row.log_variance for row in rows)
    assert {len(row.b) for row in rows} >= {1, 2, 4, 13}
    assert any(whole.sampler.clip for whole in schedules)
    assert {whole.sampler.time for whole in schedules} == set(schedule.TIMES)
    assert any(step.network_time for step in steps)
    assert any(before.time == after.time for whole in schedules for before, after in pairwise(whole.steps))


REFUSED = [pytest.param(identifier, content, id=name) for name, identifier, content in vectors.refused()]


@pytest.mark.parametrize(("identifier", "content"), REFUSED)
def test_refused_files_are_refused(identifier: str, content: bytes) -> None:
    with pytest.raises(ScheduleError) as refusal:
        schedule.parse(content)
    assert refusal.value.identifier == identifier


def test_the_refused_files_are_the_corpus() -> None:
    packed = {name: content for name, _, content in vectors.refused()}
    assert packed == {path.name.removesuffix(schedule.SUFFIX): path.read_bytes() for path in CORPUS.iterdir()}


def test_vectors_can_be_written_again(tmp_path: Path) -> None:
    vectors.write(tmp_path / "vectors", CORPUS)
    assert {path.name for path in (tmp_path / "vectors").iterdir()} == {
        path.name for path in vectors.DIRECTORY.iterdir()
    }
    assert (tmp_path / "vectors" / "refused.json").read_text() == (vectors.DIRECTORY / "refused.json").read_text()
    for name in vectors.vector_names():
        again, shipped = schedule.load(tmp_path / "vectors" / f"{name}{schedule.SUFFIX}"), vectors.read_vector(name)[0]
        assert [step.blocks for step in again.steps] == [step.blocks for step in shipped.steps]
