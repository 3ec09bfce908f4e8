"""What the report's words mean, printed with it."""

from .interval import spelled_number
from .standard import QualityKind
from .view import BEST_RATIO_LEVEL, StudyView

LOSSES: dict[QualityKind, str] = {
    "reference": "excess distance",
    "baseline": "distance to the full schedule's images",
    "score": "loss of score",
}
_NOISE = (
    "the same measure between two images that the full schedule makes of one prompt or label, one from search seeds "
    "and one from final seeds. 0% is the full schedule's own image, 100% is as different as another noise makes it."
)
CORNERS: dict[QualityKind, str] = {
    "reference": "its floor plus four times its excess distance",
    "baseline": "the distance between noises",
    "score": "its own value made worse by the difference between noises (scores of which more is better have a minus)",
}
_QUALITIES: dict[QualityKind, tuple[str, str]] = {
    "reference": (
        "Excess distance",
        "The distance to the reference minus the floor, which is the distance between real images and real images "
        "at the same count. Small counts make distances large; subtracting the floor removes most of that. Loss is "
        "stated on the excess distance.",
    ),
    "baseline": (
        "Distance to the full schedule's images",
        "The mean over images of the squared distance between the features of an image and of the full schedule's "
        f"image of the same noise. Loss is stated in parts of the distance between noises: {_NOISE}",
    ),
    "score": (
        "Score, and score lost",
        "The mean of the study's own score, and how much worse it is than the full schedule's on the same noises, with "
        f"a paired interval. Loss is stated in parts of the difference between noises: {_NOISE}",
    ),
}


def best_ratio(view: StudyView) -> str:
    """What `best_ratio` and `best_ratio_lower` are."""
    normal = " on the normal weights" if view.standard.kind == "reference" else ""
    return (
        f"Among the searched points of the front on final seeds whose {LOSSES[view.standard.kind]} is at most "
        f"{view.standard.limit_words}{normal}, for the one with the largest best_ratio_lower: the ratio of its speed "
        "to the speed of the fastest baseline of equal or better quality, at equal counts. best_ratio_lower is its "
        "lower bound at "
        f"{BEST_RATIO_LEVEL:.0%}: the lowest lower bound of its speed ratio, from repeats that are neighbours in "
        "time, over that baseline and every other one that is not significantly worse than the point (paired interval "
        "of the difference on the same noises). Where every baseline is worse, the comparison is with the baseline of "
        "the best quality."
    )


def definitions(view: StudyView) -> list[tuple[str, str]]:
    """(word, meaning) pairs."""
    found = [
        _QUALITIES[view.standard.kind],
        (
            "Speed-up and acceleration",
            "t₀ / t and 1 − t/t₀, where t₀ is the full schedule's time for the same batch. Both are end to end "
            "(network, solver, decoder), and the speed-up is the median ratio of repeats that were measured side by "
            "side. Images per second are the speed-up times the full schedule's median.",
        ),
        (
            "Search and final values",
            "The search compared schedules on the noises of search seeds. The values of the front come from final "
            "seeds, whose noises no selection saw. The two are never mixed.",
        ),
        ("Knee", "The front's point farthest from the line between its ends, in log distance and log time."),
        ("best_ratio and best_ratio_lower", best_ratio(view)),
    ]
    if reference := view.reference_point:
        quality, speed = spelled_number(reference.quality), spelled_number(reference.speed)
        text = (
            "The area (distance × images per second) that the search's front dominates, from a distance of "
            f"{quality} at {speed} images per second: the full schedule's speed, at {CORNERS[view.standard.kind]}, "
            "on search seeds."
        )
        found.append(("Hypervolume", text))
    return found
