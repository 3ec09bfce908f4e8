"""What the report's words mean, printed with it so that nobody has to guess."""

from .style import plain
from .view import BEST_RATIO_LEVEL, EXCESS_LIMIT, StudyView

BEST_RATIO = (
    "Among the searched points of the front on final seeds whose excess distance is at most "
    f"{EXCESS_LIMIT:g} × the full schedule's on the normal weights: the largest ratio of a point's speed to the speed "
    "of the fastest baseline of equal or better quality, at equal counts. best_ratio_lower is that point's lower bound "
    f"at {BEST_RATIO_LEVEL:.0%}: the lowest lower bound of its speed ratio, from repeats that are neighbours in time, "
    "over that baseline and every other one that is not significantly worse than the point (paired interval of the "
    "difference on the same noises). Where every baseline is worse, the comparison is with the baseline of the best "
    "quality."
)


def definitions(view: StudyView) -> list[tuple[str, str]]:
    """(word, meaning) pairs."""
    found = [
        (
            "Excess distance",
            "The distance to the reference minus the floor, which is the distance between real images and real images "
            "at the same count. Small counts make distances large; the floor takes most of that away. Loss is stated "
            "on it.",
        ),
        (
            "Speed-up and acceleration",
            "t₀ / t and 1 − t/t₀, where t₀ is the full schedule's time for the same batch. Both are end to end "
            "(network, solver, decoder), and the speed-up is the median ratio of repeats that were measured side by "
            "side. Images per second are the speed-up times the full schedule's median.",
        ),
        (
            "Search and final values",
            "The search compared schedules on its own noises; the values of the front come from other noises, which no "
            "selection saw. They are never mixed.",
        ),
        (
            "Knee",
            "The front's point farthest from the line between its ends, in the logarithms of distance and time.",
        ),
        ("best_ratio and best_ratio_lower", BEST_RATIO),
    ]
    if reference := view.reference_point:
        corner = f"a distance of {plain(reference.quality)} at {plain(reference.speed)} images per second"
        text = (
            f"The area (distance × images per second) that the search's front dominates, from {corner}: the full "
            "schedule's speed, at its floor plus four times its excess distance, on search seeds."
        )
        found.append(("Hypervolume", text))
    return found
