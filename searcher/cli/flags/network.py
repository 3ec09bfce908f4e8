"""The flags that name a network, and how groups of flags are added to a command."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeVar

import click

NetworkDecorated = TypeVar("NetworkDecorated", bound=Callable[..., Any])

NETWORK_FLAGS = (
    click.option("--checkpoint", metavar="FILE|NAME", help="Weights, or a bundled checkpoint: fashion-dit-exits."),
    click.option(
        "--network", metavar="NAME", help="Kind of network, or FILE.py:Class. Default: as the checkpoint says."
    ),
    click.option(
        "--network-arg",
        "network_args",
        metavar="KEY=VALUE",
        multiple=True,
        help="An argument of the network's constructor.",
    ),
    click.option("--weights-key", metavar="KEY", help="Which weights of a .pt file to take, such as ema."),
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
