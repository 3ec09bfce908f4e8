"""Samples images from this folder with NumPy and onnxruntime alone.

python sample.py --images 16 --seed 0 -o images.npy
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
MOST_BYTES, MOST_NUMBERS = 64_000_000, 2**28  # of a JSON file, and of the noises of an image


def noises(seed, image, shape, count):
    """The first noise of an image, then those of its steps: (count, *shape), the same on every machine."""
    key, counter = np.array([seed, image], dtype=np.uint64), np.zeros(4, dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).standard_normal((count, *shape), np.float32)


def read_json(path):
    """What a JSON file of the folder holds, unless it is far larger than any."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} has more than {MOST_BYTES:,} bytes")
    return json.loads(path.read_text(encoding="utf-8"))


class Sampler:
    """A folder's manifest, schedule and graphs."""

    def __init__(self, folder):
        self.folder, self.sessions = Path(folder), {}
        self.manifest = read_json(self.folder / "manifest.json")
        self.schedule = read_json(self.folder / self.manifest["schedule"])

    def run(self, file, **inputs):
        """The outputs of a graph by name; it takes of the inputs those that it has."""
        if file not in self.sessions:
            self.sessions[file] = onnxruntime.InferenceSession(self.folder / file, providers=["CPUExecutionProvider"])
        session = self.sessions[file]
        taken = {entry.name: inputs[entry.name] for entry in session.get_inputs()}
        names = [entry.name for entry in session.get_outputs()]
        return dict(zip(names, session.run(names, taken), strict=True))

    def call(self, planned, x, time, guidance, labels, slots):
        """One call of a step: the output of each guidance branch. `slots` holds what later steps read."""
        branches = planned["branches"]
        inputs = {
            "x": np.concatenate([x] * len(branches)),
            "time": np.full(len(x) * len(branches), time, np.float32),
            "guidance": np.full(len(x) * len(branches), guidance or 0, np.float32),
            "conditions": np.concatenate([labels[branch] for branch in branches]),
            "weights": np.array([read["weight"] for read in planned["reads"]], x.dtype),
        }
        for k, read in enumerate(planned["reads"]):
            for part, value in slots[read["slot"]].items():
                half = {"conditional": slice(len(x)), "unconditional": slice(len(x), None)}
                inputs[f"read_{k}{part}"] = value[half.get(read["rows"], slice(None))]
        outputs = self.run(self.manifest["graphs"][planned["graph"]]["file"], **inputs)
        for k, slot in enumerate(planned["stores"]):
            start = f"store_{k}"
            slots[slot] = {
                n.removeprefix(start): v for n, v in outputs.items() if n == start or n.startswith(start + "_")
            }
        for slot in planned["release"]:
            slots.pop(slot, None)
        return dict(zip(branches, np.split(outputs["output"], len(branches)), strict=True))

    def sample(self, noise, labels):
        """(draws, N, *sample_shape) standard normal and (N,) labels -> images (N, 3, H, W) uint8."""
        x = self.latents(noise, labels).astype(self.manifest["dtype"])
        return self.run(self.manifest["decoder"], x=x)["images"]

    def latents(self, noise, labels):
        """What the solver ends with, (N, *sample_shape) float32."""
        sampler, whole = self.schedule["sampler"], self.schedule.get("guidance") or {}
        slots, unconditional, history = {}, {}, []
        x, draws = noise[0] * np.float32(sampler.get("initial_scale", 1)), iter(noise[1:])
        channels = whole.get("channels", "all")
        channels = x.shape[1] if channels == "all" else channels
        for step, planned in zip(self.schedule["steps"], self.manifest["steps"], strict=True):
            row, index = step["coefficients"], planned["network"]
            null = self.manifest["networks"][index].get("null_condition")
            given = {"conditional": labels, "unconditional": np.full(len(x), null or 0, np.int64)}
            scale = step.get("guidance", whole.get("scale", whole.get("embedded")))
            time = step.get("network_time", step["time"])
            scaled = (x * np.float32(row["input_scale"])).astype(self.manifest["dtype"])
            outputs = {}
            for call in planned["calls"]:
                outputs |= self.call(call, scaled, time, scale, given, slots)
            unconditional[index] = outputs.get("unconditional", unconditional.get(index))
            f = full = outputs["conditional"].astype(np.float32)
            if "scale" in whole and scale is not None and step.get("unconditional", "run") != "skip":
                u = unconditional[index].astype(np.float32)
                f = np.concatenate([(u + np.float32(scale) * (f - u))[:, :channels], f[:, channels:]], axis=1)
            m = np.float32(row["model_x"]) * x + np.float32(row["model_f"]) * f[:, : x.shape[1]]
            clip = sampler.get("clip")
            history.insert(0, m if clip is None else np.clip(m, -clip, clip))
            x = np.float32(row["a"]) * x + sum(np.float32(b) * m for b, m in zip(row["b"], history, strict=False))
            if "log_variance" in row:
                w, (small, large) = (full[:, x.shape[1] :] + 1) / 2, np.float32(row["log_variance"])
                x = x + np.exp((w * large + (1 - w) * small) / 2) * next(draws)
            elif row.get("c"):
                x = x + np.float32(row["c"]) * next(draws)
        return x

    def draw(self, seed, images):
        """The noises of some images and, image i showing condition i mod their number, their labels."""
        random = [
            bool(s["coefficients"].get("c")) or "log_variance" in s["coefficients"] for s in self.schedule["steps"]
        ]
        shape, count = self.manifest["sample_shape"], 1 + sum(random)
        if count * math.prod(shape) > MOST_NUMBERS:
            raise ValueError(f"sample_shape {shape} is too large")
        number = self.manifest["networks"][0].get("num_conditions") or 1
        return np.stack([noises(seed, i, shape, count) for i in images], axis=1), np.array(images) % number


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16, metavar="N", help="number of images; default 16")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the noises; default 0")
    parser.add_argument(
        "-o", "--output", default="images.npy", metavar="FILE", help="file to write; default images.npy"
    )
    arguments = parser.parse_args()
    try:
        sampler = Sampler(HERE)
        images = sampler.sample(*sampler.draw(arguments.seed, range(arguments.images)))
    except Exception as error:  # files that the exporter did not write make anything fail
        raise SystemExit(f"Error: {HERE} is damaged ({type(error).__name__}: {error}). Export it again.") from error
    np.save(arguments.output, images)
    print(f"{arguments.output}: {images.dtype} of shape {images.shape}, from seed {arguments.seed}")


if __name__ == "__main__":
    main()
