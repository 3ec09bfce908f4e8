"""What a study is about to do, in words, and what its budget buys: said before anything is spent."""

from dataclasses import asdict, dataclass

from ..backends.environment import device_name
from ..backends.plan import compile_plan
from ..backends.sampling import sample
from ..backends.throughput import predict_seconds, time_calls
from ..studies.budget import Budget
from .finals import FRONT_SHARE, LEAST_COMPARED, REPORT_SECONDS
from .laboratory import Laboratory
from .pace import Pace
from .search import FIRST_BASELINES
from .stopwatch import stopwatch

# Proposals cost less than the full schedule; on the bundled checkpoint they came to a half on average.
TYPICAL_COST = 0.5


@dataclass(frozen=True)
class Estimate:
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


def statement(laboratory: Laboratory) -> str:
    """The baseline in one paragraph: network, steps, guidance, size, batch size, dtype, executor, device, metric."""
    config, network, schedule = laboratory.config, laboratory.network, laboratory.frame.full
    guidance = "no guidance" if config.baseline.guidance is None else f"guidance {config.baseline.guidance:g}"
    weights = f"{laboratory.weights}" + "".join(f", beside {name}" for name in list(laboratory.networks)[1:])
    _, height, width = network.image_shape
    return (
        f"Baseline: every one of {network.num_blocks} blocks at each of {schedule.num_steps} steps of "
        f"{schedule.sampler.name} (order {schedule.sampler.order}, {config.baseline.spacing} spacing), {guidance}.\n"
        f"Weights:  {weights} ({network.signature.architecture}), {height} × {width} images.\n"
        f"Measured: {laboratory.metric.name} against {config.quality.reference}; batch {config.throughput.batch_size}, "
        f"{config.checkpoint.dtype}, {config.throughput.executor}, on {device_name(network.device)}."
    )
