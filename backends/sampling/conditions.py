"""What belongs to one image: its noises, and the class label or prompt that it is to show.

Image i of seed s draws from a Philox counter generator whose 128-bit key is (s, i) itself (Salmon et al. 2011), so that
no two images share a stream, any batch size and any worker draws the same bits, and so does any processor. (torch's CPU
generator would not do: it keeps 32 bits of its seed, and two of 50,000 images share a noise with probability 0.25.)

Labels and prompts are a value with a digest that is part of an evaluation's key.

`uniform` goes round the classes, `reference` draws labels from given probabilities, `file` reads one label a line, and
`prompts` goes round texts, from a file or from a small set of our own. A network that takes prompts has each of them
encoded once, by `Network.embed`, before anything is sampled.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.files import ASSETS, read_text
from ..errors import InputError

NOISE, LABEL = 0, 1  # streams of one image: the highest word of the generator's counter


def generator(seed: int, image: int, stream: int = NOISE) -> np.random.Generator:
    """The generator of one image, at the start of one of its streams.

    Args:
        seed: 0 … 2⁶⁴ − 1.
        image: the image's index, 0 … 2⁶⁴ − 1.
        stream: `NOISE` or `LABEL`.

    Raises:
        InputError: the seed or the index is out of range.
    """
    for name, value in (("seed", seed), ("image", image)):
        if not 0 <= value < 2**64:
            raise InputError(f"{name}: must be between 0 and 2^64 - 1, but got {value}. Use another.")
    key = np.array([seed, image], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, stream], dtype=np.uint64)))


def noises(seed: int, images: range, shape: Sequence[int], num_draws: int) -> Tensor:
    """(num_draws, N, *shape) standard normal float32 on the CPU: each image's first noise, then those of its steps.

    Entry (d, i) depends on the seed, the image and d alone, not on `num_draws` or on the other images.
    """
    result = torch.empty((num_draws, len(images), *shape))
    view = result.numpy()
    for row, image in enumerate(images):
        view[:, row] = generator(seed, image).standard_normal((num_draws, *shape), dtype=np.float32)
    return result


_MOST_LINES = 10_000_000
MAX_LABEL_BYTES = 100_000_000
OWN_PROMPTS = "prompts"  # the name of our own set on the command line
_OWN_PROMPTS_FILE = ASSETS / "prompts.txt"
MOST_PROMPTS = 100_000
MOST_CHARACTERS = 20_000
MAX_PROMPT_BYTES = 64_000_000
_PROMPT_FIX = 'Write a prompt a line, as text or as {"prompt": "a red bicycle"}.'


@dataclass(frozen=True)
class Conditions:
    """How images get their labels or prompts.

    Attributes:
        kind: "uniform" (image i has label i mod num_classes), "reference" (drawn per image from `probabilities`),
            "file" (image i has entry i mod the number of entries) or "prompts" (image i has prompt i mod their number).
        num_classes: how many labels there are; None for a network without labels.
        probabilities: of each label, for "reference"; they sum to 1.
        entries: the labels of a file.
        prompts: the texts, for "prompts".
    """

    kind: str
    num_classes: int | None
    probabilities: tuple[float, ...] = ()
    entries: tuple[int, ...] = ()
    prompts: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that decides the labels or prompts."""
        values = asdict(self)
        if not self.prompts:  # Labels keep the digest that they had before there were prompts.
            del values["prompts"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def uniform(num_classes: int | None) -> Conditions:
    """Image i has label i mod num_classes; no labels at all if that is None."""
    return Conditions("uniform", num_classes)


def from_prompts(prompts: Sequence[str]) -> Conditions:
    """Image i has prompt i mod their number.

    Raises:
        InputError: there are none, or one is blank.
    """
    if not prompts:
        raise InputError("conditions: there must be a prompt, but got none. Add one.")
    for index, prompt in enumerate(prompts):
        if not prompt.strip():
            raise InputError(f"conditions: prompt {index} must be text, but is blank. Remove it.")
    return Conditions("prompts", None, prompts=tuple(prompts))


def reference(probabilities: Sequence[float]) -> Conditions:
    """Labels drawn from a distribution, such as the reference images' own.

    Args:
        probabilities: one a class, not negative; they are scaled to sum to 1, so that counts will do.

    Raises:
        InputError: a value is negative or not finite, or all are 0.
    """
    total = math.fsum(probabilities)
    if not all(0 <= p < math.inf for p in probabilities) or not total > 0:
        raise InputError(
            f"conditions: probabilities must be finite, not negative and not all 0, but got {probabilities}. Fix them."
        )
    return Conditions("reference", len(probabilities), probabilities=tuple(p / total for p in probabilities))


def labels_from_file(path: str | Path, num_classes: int) -> Conditions:
    """Labels from a file: a line each, an integer or a JSON object `{"label": 3}`. Empty lines are left out.

    A file has at most 10,000,000 labels and 100,000,000 bytes.

    Raises:
        InputError: the file can't be read, is empty, or a line is not a label of 0 … num_classes − 1.
    """
    lines = read_text(Path(path), MAX_LABEL_BYTES, "conditions").splitlines()
    entries = tuple(
        _label(line, num_classes, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()
    )
    if not 0 < len(entries) <= _MOST_LINES:
        fix = "Split the file." if entries else "Add one."
        raise InputError(f"conditions: `{path}` must have 1 to {_MOST_LINES} labels, but has {len(entries)}. {fix}")
    return Conditions("file", num_classes, entries=entries)


def _label(line: str, num_classes: int, where: str) -> int:
    fix = f'Write a label from 0 to {num_classes - 1}, or {{"label": 0}}.'
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: must be an integer or a JSON object, but got `{line[:80]}`. {fix}") from error
    if isinstance(value, dict):
        keys = cast("dict[str, Any]", value)
        if set(keys) != {"label"}:
            raise InputError(
                f"{where}: a class-conditional network takes only `label`, but got {sorted(keys)[:5]}. {fix}"
            )
        value = keys["label"]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < num_classes:
        raise InputError(
            f"{where}: must be a label of this network's {num_classes} classes, but got `{line[:80]}`. {fix}"
        )
    return value


def load_prompts(spec: str | Path) -> Conditions:
    """Prompts as the command line names them: "prompts" for our own set, or a file's path.

    Raises:
        InputError: the file is not usable; see `prompts_from_file`.
    """
    return prompts_from_file(_OWN_PROMPTS_FILE if spec == OWN_PROMPTS else spec)


def prompts_from_file(path: str | Path) -> Conditions:
    """Prompts from a file: a line each, as text or as a JSON object `{"prompt": …}`. Empty lines are left out.

    A file has at most 100,000 prompts and 64,000,000 bytes, a prompt 20,000 characters.

    Raises:
        InputError: the file can't be read, has no prompts or too many, or a line is no prompt.
    """
    lines = read_text(Path(path), MAX_PROMPT_BYTES, "conditions").split("\n")
    prompts = [_prompt(line.strip(), f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not 0 < len(prompts) <= MOST_PROMPTS:
        raise InputError(
            f"conditions: `{path}` must have 1 to {MOST_PROMPTS} prompts, but has {len(prompts)}. {_PROMPT_FIX}"
        )
    return from_prompts(prompts)


def _prompt(line: str, where: str) -> str:
    """The prompt of a line. What starts with a brace is JSON, everything else is the prompt itself."""
    prompt = _of_object(line, where) if line.startswith("{") else line
    if not prompt.strip() or len(prompt) > MOST_CHARACTERS:
        raise InputError(
            f"{where}: a prompt must have 1 to {MOST_CHARACTERS} characters, but got {len(prompt)}. Shorten it."
        )
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise InputError(f"{where}: a prompt must be text, but has half of a surrogate pair. {_PROMPT_FIX}")
    return prompt


def _of_object(line: str, where: str) -> str:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: a line that starts with `{{` must be JSON, but {error}. {_PROMPT_FIX}") from error
    keys = cast("dict[str, Any]", value)
    if "negative" in keys or "negative_prompt" in keys:
        raise InputError(
            f"{where}: `negative` is not available, because the unconditional pass is the same for all images of a "
            "study and has the empty prompt. Omit it."
        )
    if set(keys) != {"prompt"}:
        raise InputError(
            f"{where}: must have only `prompt`, but has {', '.join(sorted(keys)[:5]) or 'nothing'}. {_PROMPT_FIX}"
        )
    if not isinstance(keys["prompt"], str):
        raise InputError(f"{where}: `prompt` must be text, but got `{line[:80]}`. {_PROMPT_FIX}")
    return keys["prompt"]


def load_conditions(
    spec: str | Path, num_classes: int | None, probabilities: Sequence[float] | None = None
) -> Conditions:
    """Conditions as the command line names them.

    Args:
        spec: "uniform", "reference" or a file's path.
        num_classes: of the network; None if it takes no conditions.
        probabilities: how often each label occurs in the reference, where that is known.

    Raises:
        InputError: the network takes no conditions or has another number of classes, or the reference's labels are not
            known, or the file is not usable.
    """
    if spec == "uniform":
        return uniform(num_classes)
    if num_classes is None:
        raise InputError(f"conditions: this network takes none, but got `{spec}`. Omit `--conditions`.")
    if spec != "reference":
        return labels_from_file(spec, num_classes)
    if probabilities is None:
        raise InputError("conditions: the reference has no labels to follow. Use `uniform` or a file.")
    if len(probabilities) != num_classes:
        got = f"the reference has {len(probabilities)} classes, but the network {num_classes}"
        raise InputError(f"conditions: {got}. Use `uniform` or a file.")
    return reference(probabilities)


def labels(conditions: Conditions, images: range, seed: int = 0) -> Tensor | None:
    """(N,) int64 labels, or indices of prompts, on the CPU; None for a network without conditions.

    Args:
        images: indices of the images; image i's label depends on i and, for "reference", on the seed alone.
        seed: the noises' seed.
    """
    if conditions.prompts:
        return torch.tensor([image % len(conditions.prompts) for image in images], dtype=torch.long)
    if conditions.num_classes is None:
        return None
    if conditions.kind == "uniform":
        values = [image % conditions.num_classes for image in images]
    elif conditions.kind == "file":
        values = [conditions.entries[image % len(conditions.entries)] for image in images]
    else:
        edges = np.cumsum(conditions.probabilities)[:-1]
        values = [int(np.searchsorted(edges, generator(seed, i, LABEL).random(), side="right")) for i in images]
    return torch.tensor(values, dtype=torch.long)


def shown_condition(conditions: Conditions, images: range, seed: int = 0) -> dict[str, list[str] | list[int]]:
    """What images were asked to show, by its kind: `{"prompts": …}` or `{"labels": …}`, one an image, or nothing."""
    if conditions.prompts:
        return {"prompts": [conditions.prompts[image % len(conditions.prompts)] for image in images]}
    found = labels(conditions, images, seed)
    return {} if found is None else {"labels": found.tolist()}
