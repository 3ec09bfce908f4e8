"""Where a process answers: an address of this machine and a port. Job descriptions hold one, so it imports little."""

from __future__ import annotations

import socket
from typing import NamedTuple

from ...backends.errors import InputError

LOCAL = "127.0.0.1"


class Endpoint(NamedTuple):
    """Where figures are served: an address of this machine, and a port; 0 takes a free one."""

    address: str
    port: int

    def of_worker(self, number: int) -> Endpoint:
        """That of one of several workers here, from 1: each has the port after the one before."""
        return self if self.port == 0 else Endpoint(self.address, self.port + number - 1)

    def require_free(self, count: int) -> None:
        """Raises InputError if one of the ports of so many workers is not available."""
        for number in range(1, count + 1):
            self.of_worker(number)._listening().close()

    def _listening(self) -> socket.socket:
        try:
            family = socket.getaddrinfo(self.address, self.port, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((self.address, self.port), family=family)
        except (OSError, OverflowError) as error:
            raise self.taken(error) from None

    def taken(self, error: Exception) -> InputError:
        """What a user is told when there can be no server here."""
        fix = "Choose another with --metrics-port, or 0 for any free one."
        return InputError(f"metrics-port: {self} is not available ({error}). {fix}")

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"
