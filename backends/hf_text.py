"""What the libraries say while text encoders run, gathered: each would repeat it for every batch of prompts."""

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager

from .errors import ExeuntError, InputError
from .out_of_memory import is_broken_device, is_out_of_memory

LIBRARIES = ("diffusers", "transformers")
_CUT = re.compile(r"input was truncated because .*up to (\d+) tokens")
_ABOUT_THE_SAME = "sequence length is longer than the specified maximum"  # before a prompt is cut
_LONGEST = 300  # characters
RUST_PANIC = "PanicException"  # of tokenizers, which is no Exception, and has no module that it could be imported from


class _Gatherer(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = _in_short(" ".join(record.getMessage().split()))
        if text is not None and text not in self.said:
            self.said.append(text)


@contextmanager
def gathered() -> Generator[list[str]]:
    """Keeps the libraries' warnings off standard error; yields the list that they go to, each once and short."""
    gatherer, loggers = _Gatherer(), [logging.getLogger(name) for name in LIBRARIES]
    kept = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [gatherer], False
    try:
        yield gatherer.said
    finally:
        for logger, handlers, propagate in kept:
            logger.handlers, logger.propagate = handlers, propagate


@contextmanager
def refusing(name: str) -> Generator[None]:
    """Within this block, which runs text encoders, what fails raises InputError: their files don't fit each other."""
    try:
        yield
    except ExeuntError:
        raise
    except BaseException as error:  # files that no program wrote make transformers raise anything
        if not isinstance(error, Exception) and type(error).__name__ != RUST_PANIC:
            raise
        if is_out_of_memory(error) or is_broken_device(error):
            raise
        reason = next(iter(str(error).splitlines()), "no reason given")
        raise InputError(
            f"conditions: the text encoders of `{name}` can't encode prompts ({type(error).__name__}: {reason}). "
            "Download the whole folder again."
        ) from error


def _in_short(text: str) -> str | None:
    """None for what another warning says better."""
    cut = _CUT.search(text)
    if cut:
        return f"a text encoder takes {cut[1]} tokens; what prompts have beyond them is cut, as in the pipeline"
    if _ABOUT_THE_SAME in text:
        return None
    return text[:_LONGEST].rstrip(".")
