"""Free spaces of several networks, and walks through them."""

from collections.abc import Callable
from random import Random

from exeunt.backends.schedule import NetworkSignature, Noise
from exeunt.backends.solvers.spacings import default_spacing
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.proposals.variation import Variation, is_even
from exeunt.searcher.spaces.base import make_space
from exeunt.searcher.spaces.frame import FullSchedule
from exeunt.searcher.spaces.free import Free, Point, require_free

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
SMALL = NetworkSignature("DiT", "block", (("residual", 3),), "a" * 64)
# Exits; guidance; stages of a U-Net; a solver that visits the end; one that evaluates twice; times that can't move; a
# small network for the first steps.
FRAMES: dict[str, Callable[[], FullSchedule]] = {
    "exits": lambda: made(LINEAR),
    "guided": lambda: made(LINEAR, guidance=4.0),
    "stages": lambda: made(LINEAR, kind="replace", blocks=9),
    "ends": lambda: made(Noise("flow"), prediction="flow"),
    "twice": lambda: made(LINEAR, solver="heun", num_steps=11),
    "fixed": lambda: made(LINEAR, warps=False),
    "small": lambda: made(LINEAR, guidance=4.0, small=SMALL),
    "small stages": lambda: made(LINEAR, kind="replace", blocks=9, small=SMALL),
}


def made(
    noise: Noise,
    *,
    kind: str = "residual",
    blocks: int = 6,
    prediction: str = "epsilon",
    warps: bool = True,
    small: NetworkSignature | None = None,
    **options,
) -> FullSchedule:
    signature = NetworkSignature("DiT", "block", ((kind, blocks),), None)
    full = make_schedule(signature, noise, prediction, **{"num_steps": 12, **options})
    return FullSchedule(full, default_spacing(noise), warps=warps, small=small)


def free_space(name: str) -> Free:
    """The free space of one of them."""
    return require_free(make_space("free", FRAMES[name]()), "front")


def varied(space: Free, count: int, seed: int = 0) -> list[Point]:
    """A walk of variations."""
    variation = Variation(space, Random(seed))
    points = [space.point(each) for each in space.warm_starts()]
    for step in range(count):
        found = variation.vary(points[step % len(points)], points[-1])
        if found is not None and is_even(found):
            points.append(found)
    return points
