"""The flags that describe a study or a network, and how groups of flags are added to a command."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import click

from ....backends.errors import InputError
from ....backends.solvers.spacings import SPACINGS
from ....backends.solvers.tables import SOLVER_TABLE
from ....studies.config.keywords import described
from ....studies.config.reading import from_toml, parse_assignment
from ....studies.config.study import SAMPLER_NAMES, StudyConfig
from ...spaces.base import SPACES

NetworkDecorated = TypeVar("NetworkDecorated", bound=Callable[..., Any])

_SMALL = "small="
NETWORK_FLAGS = (
    click.option(
        "--checkpoint", metavar="FILE|NAME", help="File or folder of weights, or a bundled name: fashion-dit-exits."
    ),
    click.option(
        "--network",
        metavar="NAME|small=FILE",
        multiple=True,
        help="Kind of network, or FILE.py:Class; recognised from the checkpoint by default. small=FILE: weights of a "
        "smaller network for the same samples, which may take the first steps.",
    ),
    click.option(
        "--network-arg",
        "network_args",
        metavar="KEY=VALUE",
        multiple=True,
        help="An argument of the network's constructor; small.KEY=VALUE is one of the small network's.",
    ),
    click.option("--weights-key", metavar="KEY", help="Which set of weights of a .pt file to use, such as ema."),
    click.option("--vae", metavar="FOLDER", help="A diffusers autoencoder that decodes the network's latents."),
)


def flags(
    *groups: tuple[Callable[[NetworkDecorated], NetworkDecorated], ...],
) -> Callable[[NetworkDecorated], NetworkDecorated]:
    """A decorator that adds groups of flags, in their order."""

    def add(command: NetworkDecorated) -> NetworkDecorated:
        for group in reversed(groups):
            for flag in reversed(group):
                command = flag(command)
        return command

    return add


def grouped(
    parameter: str, make: Callable[..., object], group: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds a group of flags, of whose values `make` makes one parameter of the command."""
    taken = list(signature(make).parameters)

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def gathered(**given: Any) -> Any:
            made = make(**{name: given.pop(name) for name in taken})
            return command(**{parameter: made}, **given)

        return flags(group)(gathered)

    return add


CHECKPOINT_FLAGS = (
    *NETWORK_FLAGS,
    click.option(
        "--pipeline", metavar="FILE.py:FUNCTION", help="Function that returns a diffusers pipeline to measure as it is."
    ),
    click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:N, or auto: CUDA if it is available."),
    click.option(
        "--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Data type in which blocks compute."
    ),
    click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Images per batch, sampled and timed."),
    click.option(
        "--conditions", metavar="FILE|NAME", help="What images show: uniform or reference labels, prompts, or a file."
    ),
)


class NumberOr(click.ParamType[float | str]):
    """A number, or one word instead of it."""

    name = "number"

    def __init__(self, number: type[int] | type[float], word: str) -> None:
        self._number, self._word = number, word

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        try:
            return value if value == self._word else self._number(value)
        except ValueError:
            what = "a whole number" if self._number is int else "a number"
            self.fail(f"must be {what} or `{self._word}`, but got {value!r}.", param, ctx)


GRANULARITY_FLAGS = (
    click.option(
        "--granularity",
        type=click.Choice(["block", "branch"]),
        help="Schedule whole blocks, or attention and MLP separately.",
    ),
)
BASELINE_FLAGS = (
    click.option("--solver", metavar="NAME", help=f"Solver of the full schedule: {', '.join(SOLVER_TABLE)}."),
    click.option("--spacing", metavar="NAME", help=f"Spacing of the full schedule's steps: {', '.join(SPACINGS)}."),
    click.option("--num-steps", type=click.IntRange(2), metavar="N", help="Steps of the full schedule."),
    click.option(
        "--guidance",
        type=NumberOr(float, "none"),
        metavar="SCALE|none",
        help="Guidance scale. Default: the pipeline's own, or none.",
    ),
    click.option(
        "--guidance-channels",
        type=NumberOr(int, "all"),
        metavar="N|all",
        help="How many leading channels are guided. Default: the network's own.",
    ),
)
METRIC_FLAGS = (
    click.option(
        "--metric",
        metavar="NAME",
        help="Quality metric: fid, fd-efficientnet-lite0, mind-…, …-to-baseline, or FILE.py:FUNCTION.",
    ),
    click.option(
        "--reference", metavar="PATH|NAME", help="Real images to compare with: a folder, an .npz, or a bundled name."
    ),
    click.option("--extractor-weights", metavar="FILE", help="Local file with the feature extractor's weights."),
)
QUALITY_FLAGS = (
    *METRIC_FLAGS,
    click.option("--num-images", type=click.IntRange(2), metavar="N", help="Images sampled for each schedule."),
)
CONFIG_FLAGS = (
    click.option(
        "--config", "config_file", type=click.Path(path_type=Path), help="A study file (TOML). Flags override it."
    ),
    click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        help="Any setting of a study file, by its dotted name.",
    ),
)
SEARCH_FLAGS = (
    click.option("--space", metavar="NAME", help=f"Space of schedules: {', '.join(SPACES)}."),
    click.option(
        "--lever",
        "levers",
        metavar="NAME=VALUES",
        multiple=True,
        help="Fix or bound a lever of space free: steps=8..12, depth=4,8,12, stand-in=drop,reuse, times=fixed.",
    ),
    click.option(
        "--objective",
        type=click.Choice(["throughput", "latency"]),
        help="What speed means: images a second, or the time of one image (or of one batch, with --batch-size).",
    ),
    click.option(
        "--fit",
        is_flag=True,
        default=None,
        help="Fit the solver's rows of promising proposals to full trajectories; kept where they are better.",
    ),
    click.option(
        "--max-memory",
        metavar="SIZE",
        help="Measure no schedule that needs more memory, such as 8GB: weights, and values that stand in for blocks.",
    ),
    click.option("--sampler", type=click.Choice(SAMPLER_NAMES), help="Optuna sampler that proposes schedules."),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="The sampler's seed."),
)


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """The names in a list with commas between."""
    return None if value is None else tuple(name.strip() for name in value.split(","))


FAMILY_FLAGS = (
    click.option(
        "--baselines",
        metavar="NAMES",
        callback=_names,
        help="Families of baselines, with commas between; docs/baselines.md lists them.",
    ),
)


def read_networks(words: Sequence[str]) -> dict[str, str | None]:
    """The kind of network and the weights of the small one, of `--network NAME` and `--network small=FILE`.

    Raises InputError: one of them was given twice.
    """
    small = [word.removeprefix(_SMALL) for word in words if word.startswith(_SMALL)]
    kinds = [word for word in words if not word.startswith(_SMALL)]
    for found in (small, kinds):
        if len(found) > 1:
            raise InputError(f"network: give it once, and beside it `{_SMALL}FILE`, but got {' and '.join(found)}.")
    return {"network": next(iter(kinds), None), "small": next(iter(small), None)}


def study_config(
    given: Mapping[str, Any], config_file: Path | None = None, assignments: tuple[str, ...] = ()
) -> StudyConfig:
    """The configuration that a command line describes: defaults, then the study file, then `--set`, then flags.

    Args:
        given: values of flags by their names in `KEYWORDS`, `network_args` and `levers`; None where none was given, and
            of `network` all that were.

    Raises:
        InputError: a file, key or value is wrong, or two of them contradict each other.
    """
    config = from_toml(config_file) if config_file else StudyConfig()
    given = {**given, **read_networks(given.get("network") or ())}
    if "levers" in given:
        given = {**given, "levers": dict(map(parse_assignment, given["levers"])) or None}
    return described(config, given, dict(map(parse_assignment, assignments)))
