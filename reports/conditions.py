"""What a study's figures hold for, as names and texts."""

from collections.abc import Mapping

from exeunt import __version__

from ..studies.config import StudyConfig

ENVIRONMENT = ("processor", "torch", "torch_threads", "cuda", "cudnn", "driver", "python")


def conditions(config: StudyConfig, environment: Mapping[str, object]) -> dict[str, str]:
    """Device, types, versions, sampler, metric, reference, seeds and counts; what isn't known is left out."""
    quality, baseline, throughput = config.quality, config.baseline, config.throughput
    guidance = "no guidance" if baseline.guidance is None else f"guidance {baseline.guidance:g}"
    order = f" of order {baseline.order}" if baseline.order else ""
    sampler = f"{baseline.solver}{order}, {baseline.num_steps} steps, {baseline.spacing} spacing, {guidance}"
    known: dict[str, object] = {
        "checkpoint": config.checkpoint.path,
        "full_schedule": sampler,
        "labels": quality.conditions,
        "metric": quality.metric,
        "reference": f"{quality.reference}, crop {quality.crop}, resize {quality.resize_filter}",
        "search_seed": f"{quality.search_seed}, {quality.num_images} images a schedule",
        "final_seed": f"{quality.final_seed}, up to {quality.final_images} images a schedule",
        "device": environment.get("device", throughput.device),
        "dtype": config.checkpoint.dtype,
        "executor": throughput.executor,
        "batch_size": throughput.batch_size,
        "timing_repeats": f"{throughput.repeats} rounds, interleaved with the full schedule",
        **{name: environment.get(name) for name in ENVIRONMENT},
        "search": f"{config.search.sampler} in the space {config.search.space}, seed {config.search.seed}",
        "exeunt": __version__,
    }
    return {name: str(value) for name, value in known.items() if value is not None}
