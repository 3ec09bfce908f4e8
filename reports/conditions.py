"""What a study's figures hold for, as names and texts."""

from collections.abc import Mapping

from exeunt import __version__

from ..studies.config.study import QualityConfig, StudyConfig

ENVIRONMENT = ("processor", "torch", "torch_threads", "cuda", "cudnn", "driver", "python")


def conditions(
    config: StudyConfig, environment: Mapping[str, object], text_seconds: float | None = None
) -> dict[str, str]:
    """Device, types, versions, sampler, metric, reference, seeds and counts; what isn't known is left out."""
    quality, baseline, throughput = config.quality, config.baseline, config.throughput
    order = f" of order {baseline.order}" if baseline.order else ""
    steps = f"{baseline.num_steps} steps, {baseline.spacing_words} spacing"
    sampler = f"{baseline.solver}{order}, {steps}, {baseline.guidance_words}"
    known: dict[str, object] = {
        "checkpoint": config.checkpoint.path,
        "network_args": config.checkpoint.option_words or None,
        "full_schedule": sampler,
        "conditions": quality.conditions,
        "metric": quality.metric,
        "reference": _reference(quality),
        "search_seed": f"{quality.search_seed}, {quality.num_images} images a schedule",
        "final_seed": f"{quality.final_seed}, up to {quality.final_images} images a schedule",
        "device": environment.get("device", throughput.device),
        "dtype": config.checkpoint.dtype,
        "executor": throughput.executor,
        "batch_size": throughput.batch_size,
        "text_encoding": None if text_seconds is None else f"{1000 * text_seconds:.3g} ms a prompt, not in images/s",
        "timing_repeats": f"{throughput.repeats} rounds, interleaved with the full schedule",
        **{name: environment.get(name) for name in ENVIRONMENT},
        "search": f"{config.search.sampler} in the space {config.search.space}, seed {config.search.seed}",
        "exeunt": __version__,
    }
    return {name: str(value) for name, value in known.items() if value is not None}


def _reference(quality: QualityConfig) -> str:
    if quality.reference is None:
        return "the full schedule's images of the same noises"
    return f"{quality.reference}, crop {quality.crop}, resize {quality.resize_filter}"
