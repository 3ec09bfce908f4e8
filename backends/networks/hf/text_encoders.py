"""Text encoders of diffusers' pipelines, checked against their weights before transformers makes them; and the warnings
of the libraries, collected, since each would be repeated for every batch of prompts.
"""

import logging
import math
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...checkpoints.containers import INDEX_SUFFIX, open_container
from ...checkpoints.files import is_file
from ...checkpoints.folders import MODEL, read_json
from ...errors import ExeuntError, InputError, first_line
from ...timing.device import is_broken_device, is_out_of_memory

# What is described may have twice the weights that are stored, such as embeddings that are tied, and some more.
MOST_TIMES, SPARE = 2, 2**20
_LAYERS = ("layers", "n_layer", "depth")  # how the names of settings end that count parts of a network
LABELS, MOST_LABELS = ("num_labels",), 10_000  # of each of which transformers makes a name


def refuse_enormous_encoders(path: Path, index: Mapping[str, Any]) -> None:
    """Refuses a pipeline with a text encoder whose configuration describes far more than its weights.

    What a configuration leaves out has the library's default, which may be of a gigabyte, and is made at random.

    Args:
        path: the pipeline's folder.
        index: its model_index.json.

    Raises:
        InputError: more layers than there are weights, or more than twice the numbers that are stored.
    """
    for part, named in index.items():
        if part.startswith("text_encoder") and isinstance(named, list) and named[:1] == ["transformers"]:
            _refuse_enormous(path / part, str(named[-1]))


def _refuse_enormous(folder: Path, name: str) -> None:
    import transformers  # seconds to import, and models without prompts need none

    kind: Any = getattr(transformers, name, None)
    if not hasattr(kind, "config_class") or not is_file(folder / MODEL):
        return  # which diffusers refuses
    contents = [open_container(file, shapes_only=True).content for file in _files(folder)]
    tensors = [each for content in contents if isinstance(content, dict) for each in content.values()]
    weights = [tuple(each.shape) for each in tensors if isinstance(each, torch.Tensor)]
    stated = read_json(folder / MODEL)
    _refuse_beyond(folder, _counts(stated, LABELS), MOST_LABELS)
    config: Any = kind.config_class.from_dict(stated)
    _refuse_beyond(folder, _counts(config.to_dict(), _LAYERS), len(weights))
    with torch.device("meta"):
        described = sum(each.numel() for each in kind(config).parameters())
    stored = sum(map(math.prod, weights))
    if described > MOST_TIMES * stored + SPARE:
        raise InputError(
            f"conditions: `{folder / MODEL}` describes {described:,} numbers, but the weights beside it hold "
            f"{stored:,}. Download the whole folder again."
        )


def _refuse_beyond(folder: Path, counts: Iterator[tuple[str, int | float]], most: int) -> None:
    for key, value in counts:
        if value > most:
            raise InputError(
                f"conditions: `{key}` of `{folder / MODEL}` must be at most {most:,}, but is {value:,}. Download the "
                "whole folder again."
            )


def _files(folder: Path) -> list[Path]:
    """All files of weights; of pickles where there are no others."""
    for suffix in (".safetensors", ".bin"):
        if found := [each for each in sorted(folder.glob(f"*{suffix}")) if not each.name.endswith(INDEX_SUFFIX)]:
            return found
    return []


def _counts(config: Mapping[str, Any], ends: tuple[str, ...]) -> Iterator[tuple[str, int | float]]:
    """The numbers under names that end in certain ways, in the configuration and in those inside it."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _counts(value, ends)
        elif str(key).endswith(ends) and isinstance(value, int | float):
            yield key, value


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
        raise InputError(
            f"conditions: the text encoders of `{name}` can't encode prompts ({type(error).__name__}: "
            f"{first_line(error)}). Download the whole folder again."
        ) from error


def _in_short(text: str) -> str | None:
    """None for what another warning says better."""
    cut = _CUT.search(text)
    if cut:
        return f"a text encoder takes {cut[1]} tokens; what prompts have beyond them is cut, as in the pipeline"
    if _ABOUT_THE_SAME in text:
        return None
    return text[:_LONGEST].rstrip(".")
