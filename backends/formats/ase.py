"""ASE's ten depths (Moon et al. 2024, arXiv 2408.05927), next to the data first: how many leading blocks run in each
tenth of the 1,000 train timesteps.

Standard library only.
"""

from ..schedule import Schedule, from_ase, to_ase
from .masks import network_of
from .parsing import numbers, refuse, show

NAME = "ase"


def write_ase(schedule: Schedule) -> str:
    """Ten integers as a JSON list. Raises ScheduleError for what they cannot say."""
    return f"{to_ase(schedule)}\n"


def read_ase(text: str, base: Schedule | None) -> Schedule:
    """Ten integers, with commas or as a JSON list, on the solver, times and guidance of `base`.

    Raises:
        InputError: the text is not integers.
        ScheduleError: they are not ten, or do not fit the network or the times of `base`.
    """
    base, _ = network_of(base, NAME)
    depths = [depth for depth in numbers(text) or [] if isinstance(depth, int)]
    if not depths or len(depths) != len(numbers(text) or []):
        got = show(text.strip())
        refuse(NAME, "depths must be ten integers with commas, or a JSON list of them", got, "Write such as 28,28,24.")
    return from_ase(depths, base)
