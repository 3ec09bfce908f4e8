"""Budgets: `4m`, `100-trials`, `20k-images`, or several with a comma; the first to be reached ends the search."""

import re
from dataclasses import dataclass
from typing import Any

from ...backends.errors import InputError

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
THOUSANDS = {"": 1, "k": 1000, "M": 1_000_000}
EXAMPLES = "Write 4m, 1h30m, 100-trials, 20k-images, or several with a comma: 1h,100-trials."


@dataclass(frozen=True)
class Budget:
    """Limits of which any that is not None ends the search; `seconds` is wall-clock time, `images` sampled images."""

    seconds: float | None = None
    trials: int | None = None
    images: int | None = None

    def left(self, *, seconds: float, trials: int, images: int) -> float:
        """The share of the budget that is left, in [0, 1], after spending this much; 0 ends the search."""
        pairs = ((self.seconds, seconds), (self.trials, trials), (self.images, images))
        shares = [1.0 - spent / limit if limit else 0.0 for limit, spent in pairs if limit is not None]
        return max(0.0, min(shares, default=1.0))

    def __str__(self) -> str:
        """The shortest text that parses to this budget."""
        parts = [
            None if self.seconds is None else _duration(self.seconds),
            None if self.trials is None else f"{_short(self.trials)}-trials",
            None if self.images is None else f"{_short(self.images)}-images",
        ]
        return ",".join(part for part in parts if part is not None)


def parse_budget(text: str, *, rest: bool = False) -> Budget:
    """The budget that a text states; as the `rest` of one, its limits may be 0.

    Raises:
        InputError: it is not a budget, names a limit twice, or has a limit that is not above 0.
    """
    found: dict[str, Any] = {}
    for part in text.split(","):
        kind, amount = _limit(part.strip(), text)
        if kind in found:
            raise InputError(f"budget: {kind} must be limited once, but `{text}` does it twice. Omit one.")
        if amount <= 0 and not rest:
            raise InputError(f"budget: a limit must be above 0, but got `{part.strip()}`. {EXAMPLES}")
        found[kind] = amount
    return Budget(**found)


def _limit(part: str, text: str) -> tuple[str, float | int]:
    counted = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([kM]?)-(trials|images)", part)
    if counted:
        return counted[3], round(float(counted[1]) * THOUSANDS[counted[2]])
    timed = re.fullmatch(r"(?:\d{1,9}(?:\.\d{1,6})?[smhd])+", part)
    if timed:
        pieces = re.findall(r"([\d.]+)([smhd])", part)
        return "seconds", sum(float(amount) * SECONDS[unit] for amount, unit in pieces)
    raise InputError(f"budget: `{text}` is not a time, a number of trials or a number of images. {EXAMPLES}")


def _duration(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if seconds >= SECONDS[unit] and seconds % SECONDS[unit] == 0:
            return f"{seconds / SECONDS[unit]:g}{unit}"
    return f"{seconds:.12g}s"


def _short(count: int) -> str:
    for unit in ("M", "k"):
        if count and count % THOUSANDS[unit] == 0:
            return f"{count // THOUSANDS[unit]}{unit}"
    return str(count)


def budget_text(key: str, value: Any) -> str:
    """The rule of a budget in a configuration: text that `parse_budget` takes."""
    if not isinstance(value, str):
        raise InputError(f"{key} must be text, but got {value!r}. {EXAMPLES}")
    return str(parse_budget(value))
