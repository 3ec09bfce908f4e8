"""What a user wants of a search: `fastest within 5% of full quality`, or `best at 2x`."""

import re
from dataclasses import dataclass
from typing import Any

from ...backends.errors import InputError

FORMS = "`fastest within 5% of full quality`, or `best at 2x`"


@dataclass(frozen=True)
class Goal:
    """What is looked for; one of the two is given.

    Attributes:
        most_loss: the fastest schedule is wanted that loses at most this share.
        speedup: the schedule of the best quality is wanted that is this many times as fast as the full one.
    """

    most_loss: float | None = None
    speedup: float | None = None

    def __str__(self) -> str:
        if self.most_loss is not None:
            return f"fastest within {100 * self.most_loss:g}% of full quality"
        return f"best at {self.speedup:g}x"


def parse_goal(text: str) -> Goal:
    """The goal that a text states. Raises InputError, with the forms that there are, for any other text."""
    words = " ".join(text.lower().replace("×", "x").split())
    if found := re.fullmatch(r"fastest within (\d+\.?\d*|\.\d+) ?%( of (the )?full (quality|schedule))?", words):
        share = float(found[1]) / 100
        if 0 < share <= 1:
            return Goal(most_loss=share)
        raise InputError(f"goal: must lose above 0% and at most 100%, but got `{text}`. Write 5%.")
    if found := re.fullmatch(r"best( quality)? at (\d+\.?\d*|\.\d+) ?x", words):
        if float(found[2]) > 1:
            return Goal(speedup=float(found[2]))
        raise InputError(f"goal: must be faster than the full schedule, above 1x, but got `{text}`. Write 2x.")
    raise InputError(f"goal: must be {FORMS}, but got `{text}`. Use one of these.")


def goal_text(key: str, value: Any) -> str:
    """The rule of the setting: a goal's text in its one spelling."""
    if not isinstance(value, str):
        raise InputError(f"{key} must be {FORMS}, but got {value!r}. Use one of these.")
    return str(parse_goal(value))
