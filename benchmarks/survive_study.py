"""The studies that `survive.py` runs: their settings, a fixed list of proposals, and the commands that begin them."""

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import SUFFIX, Schedule, save, with_exits
from exeunt.searcher.measuring.setup import load_frames
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.tables import TIMING_KEYS
from exeunt.studies.database.transactions import reading
from exeunt.studies.store.records import TimingKey
from exeunt.studies.store.store import open_store
from sqlalchemy import select
from survive_databases import Database

STUDY = "survive"
PROGRAM = [sys.executable, "-m", "exeunt"]
NETWORKS = ("closed-form", "bundled")
SECONDS_PER_BLOCK = 0.001
TRIAL_SECONDS = 5.0

# Chunks of about a second, so that a kill comes in the middle of one more often than not.
COMMON: dict[str, Any] = {
    "throughput.device": "cpu",
    "throughput.batch_size": 2,
    "throughput.repeats": 2,
    "search.baselines": ["full", "uniform-depth"],
    "search.sampler": "random",
    "run.report": "none",
}
CLOSED_FORM: dict[str, Any] = {
    "checkpoint.path": "closed-form",
    "checkpoint.baseline_weights": [],
    "checkpoint.options": {"seconds_per_block": SECONDS_PER_BLOCK},
    "baseline.num_steps": 8,
    "quality.metric": "fd-pixels",
    "quality.num_images": 64,
    "quality.final_images": 64,
    "quality.batch_size": 16,
    "run.chunk_images": 16,
}
BUNDLED: dict[str, Any] = {
    "checkpoint.baseline_weights": [],
    "baseline.num_steps": 8,
    "quality.num_images": 32,
    "quality.final_images": 32,
    "quality.batch_size": 8,
    "run.chunk_images": 8,
}


@dataclass(frozen=True)
class Study:
    """A study that is not in any database yet.

    Attributes:
        settings: by their dotted keys.
        proposals: the folder of its fixed list of schedules; None where a sampler proposes.
        trials: its budget.
    """

    settings: Mapping[str, Any]
    proposals: Path | None
    trials: int

    @property
    def images(self) -> int:
        """Images that its proposals take on the search's noises."""
        return self.trials * self.settings["quality.num_images"]

    @property
    def chunk(self) -> int:
        """Most images between two commits."""
        return self.settings["run.chunk_images"]

    def begin(self, database: Database, workers: int) -> None:
        """Makes it in a database, for workers that come by themselves (0) or with as many, to its end.

        Raises:
            subprocess.CalledProcessError: the command failed.
        """
        words = ["optimize", "--study", STUDY, "--budget", f"{self.trials}-trials", "--workers", str(workers)]
        words += [word for key, value in self.settings.items() for word in ("--set", f"{key}={toml(value)}")]
        words += ["--proposals", str(self.proposals)] if self.proposals else []
        run(database, [*words, "--quiet", "--json"])


def run(database: Database, words: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One of Exeunt's commands on a database, to its end."""
    done = subprocess.run(
        [*PROGRAM, *words], cwd=database.folder, env=database.environment, capture_output=True, text=True
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"`exeunt {words[0]}` ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done


def toml(value: Any) -> str:
    """A setting's value as `--set` takes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def fixed(network: str, trials: int, seed: int, folder: Path) -> Study:
    """A study with a fixed list of proposals, whose files are written to the folder."""
    settings = {**COMMON, **(CLOSED_FORM if network == "closed-form" else BUNDLED)}
    if network == "closed-form":
        settings["quality.reference"] = str(write_reference(folder))
    (proposals := folder / "proposals").mkdir()
    for number, schedule in enumerate(draw(settings, trials, random.Random(seed))):
        save(schedule, proposals / f"proposal-{number:04d}{SUFFIX}")
    return Study(settings, proposals, trials)


def searched(folder: Path, seconds: float) -> Study:
    """A study whose proposals are drawn by workers, each of which takes so many seconds that need no core.

    Two blocks make six kinds of calls, which are timed soon: timing keeps all others of a machine from sampling, and
    lets them all go on at once.
    """
    images = 16
    network = f"{Path(__file__).with_name('survive_network.py')}:Asleep"
    settings = {**COMMON, **CLOSED_FORM, "checkpoint.network": network}
    options = {"seconds_per_image": seconds / images, "num_blocks": 2}
    settings |= {"checkpoint.options": options}
    del settings["run.chunk_images"]
    settings |= {f"quality.{name}": images for name in ("num_images", "final_images", "batch_size")}
    settings |= {"quality.reference": str(write_reference(folder)), "search.space": "segments"}
    settings |= {"baseline.num_steps": 16}
    return Study(settings, None, 10_000)


def write_reference(folder: Path) -> Path:
    """Real images of the closed-form network's mixture."""
    network = load_network("closed-form")
    latents = torch.from_numpy(network.mixture.draw(1000, seed=1)).float().reshape(-1, *network.sample_shape)
    path = folder / "real.npz"
    np.savez(path, images=network.decode(latents).permute(0, 2, 3, 1).numpy())
    return path


def draw(settings: Mapping[str, Any], count: int, chance: random.Random) -> list[Schedule]:
    """Different schedules that exit in the second half of the blocks."""
    full = next(iter(load_frames(override(StudyConfig(name=STUDY), dict(settings))).values())).full
    found = dict[str, Schedule]()
    blocks = full.networks[0].num_blocks
    while len(found) < count:
        depths = [chance.randint(blocks // 2, blocks) for _ in full.steps]
        schedule = with_exits(full, depths)
        found[schedule.digest] = schedule
    return list(found.values())


def copy_timings(source: Database, target: Database) -> None:
    """What schedules take is measured, and decides what is compared in the end: two runs agree with equal timings."""
    with open_store(source.url, read_only=True) as old, open_store(target.url) as new:
        with reading(old.engine) as connection:
            names = list(TimingKey.__dataclass_fields__)
            rows = connection.execute(select(*(TIMING_KEYS.c[name] for name in names))).all()
        for row in rows:
            key = TimingKey(*row)
            new.measurements.put_call_timings(key, old.measurements.call_timings(key))
