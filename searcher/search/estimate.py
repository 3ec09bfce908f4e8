"""What a study will do and what its budget buys, in words. It is printed before anything is spent."""

import math
from dataclasses import dataclass

from ...backends.sampling.conditions import OWN_PROMPTS
from ...backends.schedule import Embedded, Guidance, Schedule
from ...studies.config.budget import Budget
from ..measuring.chunks import ChunkSampler
from ..measuring.setup import StudySetup
from ..spaces.candidates import first_baselines, list_baselines
from .budget import FRONT_SHARE, LEAST_COMPARED, MARGIN, REPORT_SECONDS

# Proposals cost less than the full schedule; on the bundled checkpoint they came to a half on average.
TYPICAL_COST = 0.5


@dataclass(frozen=True)
class BudgetEstimate:
    """What a budget buys.

    Attributes:
        images_per_second: of the full schedule, features included.
        baselines: how many are measured first.
        proposals: how many schedules the search measures beside them, about.
        final_images: images for each of the compared schedules on final seeds, about.
        seconds: the whole command, about.
    """

    images_per_second: float
    baselines: int
    proposals: int
    final_images: int
    seconds: float


def statement(study_setup: StudySetup) -> str:
    """The baseline in one paragraph: network, steps, guidance, size, batch size, dtype, executor, device, metric."""
    config, network, schedule = study_setup.config, study_setup.network, study_setup.frame.full
    counted = "blocks" if network.signature.granularity == "block" else "branches"
    weights = " and ".join(study_setup.networks)
    is_usual = network.usual_guidance is not None and network.usual_guidance == config.baseline.guidance
    usual = ", its pipeline's default" if is_usual else ""
    _, height, width = network.image_shape
    timed = config.throughput
    latency = f"latency of a batch of {timed.batch_size}, sampled in batches of {config.quality.batch_size}"
    batch = latency if timed.objective == "latency" else f"batch {timed.batch_size}"
    against = config.quality.reference or "the full schedule's images of the same noises"
    return (
        f"Baseline: every one of {network.num_blocks} {counted} at each of {schedule.num_steps} steps of "
        f"{schedule.sampler.name} (order {schedule.sampler.order}, {config.baseline.spacing_words} spacing), "
        f"{_guidance(schedule)}{usual}.\n"
        f"Weights:  {weights} ({network.signature.architecture}){_small(study_setup)}, {height} × {width} images.\n"
        f"{_prompts(study_setup)}"
        f"Measured: {study_setup.metric.name} against {against}; {batch}, "
        f"{config.checkpoint.dtype}, {config.throughput.executor}, on {study_setup.environment['device']}."
    )


def _guidance(schedule: Schedule) -> str:
    match schedule.guidance:
        case None:
            return "no guidance"
        case Embedded(scale):
            return f"guidance {scale:g} as an input"
        case Guidance(scale, "all"):
            return f"guidance {scale:g}"
        case Guidance(scale, channels):
            return f"guidance {scale:g} on {channels} channels"


def _small(study_setup: StudySetup) -> str:
    """The network that may take the first steps; nothing without one."""
    small = study_setup.small
    if small is None:
        return ""
    kind = small.signature.architecture
    which = "may take the first steps" if study_setup.network.successor is None else "takes the later steps"
    return f", and {small.name} ({kind}, {small.num_blocks} blocks) that {which}"


def _prompts(study_setup: StudySetup) -> str:
    """What images show and what encoding it took, as a line; nothing without prompts."""
    count, seconds = len(study_setup.conditions.prompts), study_setup.network.text_seconds
    if not count:
        return ""
    encoding = "" if seconds is None else f", encoded once in {1000 * seconds:.3g} ms each"
    given = study_setup.config.quality.conditions
    name = "the bundled set" if given == OWN_PROMPTS else given
    return f"Prompts:  {count} ({name}){encoding}.\n"


def estimate_budget(study_setup: StudySetup, budget: Budget) -> BudgetEstimate:
    """Samples one batch of the full schedule, with features, and says what the budget buys at that pace."""
    per_image = _seconds_per_image(study_setup)
    quality, typical = study_setup.config.quality, per_image * TYPICAL_COST
    baselines = first_baselines(list_baselines(study_setup.frames, study_setup.config.search.baselines))
    whole_work = study_setup.baseline.stored.block_evaluations
    first = quality.num_images * per_image * sum(each.stored.block_evaluations / whole_work for each in baselines)
    one = quality.num_images * typical
    seconds = min(budget.seconds or math.inf, (budget.images or math.inf) * typical)
    if math.isinf(seconds):
        trials, final_images = budget.trials or 0, quality.final_images
        whole = first + trials * one + 2 * LEAST_COMPARED * final_images * typical
        return BudgetEstimate(1 / per_image, len(baselines), trials, final_images, whole)
    front = FRONT_SHARE * seconds - REPORT_SECONDS - MARGIN * seconds
    proposals = max(0, math.floor(((1 - FRONT_SHARE) * seconds - first) / one))
    # Timing takes a good quarter of the front's share.
    final_images = max(0, math.floor(0.7 * front / (1.5 * LEAST_COMPARED * typical)))
    return BudgetEstimate(
        images_per_second=1 / per_image,
        baselines=len(baselines),
        proposals=min(proposals, budget.trials or proposals),
        final_images=min(quality.final_images, final_images),
        seconds=seconds,
    )


def _seconds_per_image(study_setup: StudySetup) -> float:
    """Of the full schedule, features included, from the second of two batches: the first one warms up."""
    quality, sampler = study_setup.config.quality, ChunkSampler(study_setup, lambda: None, lambda _text: None)
    images = range(quality.batch_size)
    chunks = [sampler.chunk(study_setup.baseline, quality.search_seed, images) for _ in range(2)]
    return chunks[-1].seconds / len(images)
