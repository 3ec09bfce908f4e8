"""The closed-form network's real images, and the flags that search it in seconds."""

from pathlib import Path

import pytest
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from mixture import real_images


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 real images of the closed-form network's mixture."""
    return real_images(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="session")
def closed_form(reference: Path) -> list[str]:
    """Flags for the closed-form network: pixels as features, few images, two repeats of each timing."""
    return [
        *("--checkpoint", "closed-form", "--reference", str(reference), "--metric", "fd-pixels"),
        *("--num-steps", "8", "--num-images", "32", "--final-images", "64", "--batch-size", "32"),
        *("--set", "throughput.repeats=2", "--set", "run.chunk_images=16", "--device", "cpu"),
    ]


@pytest.fixture(scope="session")
def small(reference: Path) -> StudyConfig:
    """The same as a configuration, with three repeats, called "small" and without a report."""
    return override(
        StudyConfig(name="small"),
        {
            "checkpoint.path": "closed-form",
            "checkpoint.baseline_weights": (),
            "baseline.num_steps": 8,
            "quality.metric": "fd-pixels",
            "quality.reference": str(reference),
            "quality.num_images": 32,
            "quality.final_images": 64,
            "quality.batch_size": 32,
            "throughput.device": "cpu",
            "throughput.batch_size": 32,
            "throughput.repeats": 3,
            "run.report": None,
        },
    )
