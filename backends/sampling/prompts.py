"""Prompts: what images are to show, in words, from a file or from a small set of our own.

A network that takes prompts has each of them encoded once, by `Network.embed`, before anything is sampled.
"""

import json
from pathlib import Path
from typing import Any, cast

from ..checkpoints.files import ASSETS, read_text
from ..errors import InputError
from .conditions import Conditions, from_prompts

OWN = "prompts"  # the name of our own set on the command line
OWN_FILE = ASSETS / "prompts.txt"
MOST_PROMPTS = 100_000
MOST_CHARACTERS = 20_000
MAX_PROMPT_BYTES = 64_000_000
FIX = 'Write a prompt a line, as text or as {"prompt": "a red bicycle"}.'


def load_prompts(spec: str | Path) -> Conditions:
    """Prompts as the command line names them: "prompts" for our own set, or a file's path.

    Raises:
        InputError: the file is not usable; see `prompts_from_file`.
    """
    return prompts_from_file(OWN_FILE if spec == OWN else spec)


def prompts_from_file(path: str | Path) -> Conditions:
    """Prompts from a file: a line each, as text or as a JSON object `{"prompt": …}`. Empty lines are left out.

    A file has at most 100,000 prompts and 64,000,000 bytes, a prompt 20,000 characters.

    Raises:
        InputError: the file can't be read, has no prompts or too many, or a line is no prompt.
    """
    lines = read_text(Path(path), MAX_PROMPT_BYTES, "conditions").split("\n")
    prompts = [_prompt(line.strip(), f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not 0 < len(prompts) <= MOST_PROMPTS:
        raise InputError(f"conditions: `{path}` must have 1 to {MOST_PROMPTS} prompts, but has {len(prompts)}. {FIX}")
    return from_prompts(prompts)


def _prompt(line: str, where: str) -> str:
    """The prompt of a line. What starts with a brace is JSON, everything else is the prompt itself."""
    prompt = _of_object(line, where) if line.startswith("{") else line
    if not prompt.strip() or len(prompt) > MOST_CHARACTERS:
        raise InputError(
            f"{where}: a prompt must have 1 to {MOST_CHARACTERS} characters, but got {len(prompt)}. Shorten it."
        )
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise InputError(f"{where}: a prompt must be text, but has half of a surrogate pair. {FIX}")
    return prompt


def _of_object(line: str, where: str) -> str:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: a line that starts with `{{` must be JSON, but {error}. {FIX}") from error
    keys = cast("dict[str, Any]", value)
    if "negative" in keys or "negative_prompt" in keys:
        raise InputError(
            f"{where}: `negative` is not available, because the unconditional pass is the same for all images of a "
            "study and has the empty prompt. Leave it out."
        )
    if set(keys) != {"prompt"}:
        raise InputError(
            f"{where}: must have `prompt` alone, but has {', '.join(sorted(keys)[:5]) or 'nothing'}. {FIX}"
        )
    if not isinstance(keys["prompt"], str):
        raise InputError(f"{where}: `prompt` must be text, but got `{line[:80]}`. {FIX}")
    return keys["prompt"]
