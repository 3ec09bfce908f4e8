"""The errors that users can cause, each with the exit code of the command line.

Every message names the rule, the value and the fix, because it is all that a user sees.
"""

from collections.abc import Collection
from difflib import get_close_matches

from .schedule import ExeuntError


def nearest(name: str, known: Collection[str], otherwise: str | None = None) -> str:
    """The sentence that ends an error about an unknown name: the close one, else `otherwise` or all that are known."""
    near = get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean `{near[0]}`?"
    return otherwise or f"Known: {', '.join(known) or 'none'}."


class InputError(ExeuntError):
    """A flag, file or value is not usable; nothing was started."""

    exit_code = 2
    identifier = "input"


class DeviceError(ExeuntError):
    """The device is absent, wrong or out of memory."""

    exit_code = 70
    identifier = "device"


class StorageError(ExeuntError):
    """The database is out of reach or locked; trying again later may work."""

    exit_code = 75
    identifier = "storage"


class Interrupted(ExeuntError):
    """Work was stopped by the user or the system; what was committed stays, and `exeunt resume` goes on."""

    exit_code = 75
    identifier = "interrupted"
