# SPDX-License-Identifier: Apache-2.0
"""Free TCP ports of the loopback interface."""

from __future__ import annotations

import contextlib
import random
import socket
from types import TracebackType

from hybrid_messaging.engines import HOST

#: Ports that the system gives to no connection unless it is told to: an engine that
#: restarts finds its port free (Linux, ip_local_port_range).
LASTING = range(20_000, 32_768)
#: Not `random` itself, which others may have seeded.
_CHANCE = random.SystemRandom()


class Ports:
    """Hands out free ports, each once, and keeps them taken until it is closed."""

    def __init__(self) -> None:
        self._sockets = contextlib.ExitStack()

    def __enter__(self) -> Ports:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sockets.close()

    def take(self, preferred: int | None = None) -> int:
        """Return a free port: the preferred one if it is free."""
        first = [] if preferred is None else [preferred]
        for port in (*first, *_CHANCE.sample(LASTING, 100)):
            with contextlib.suppress(OSError):
                return self._listen(port)
        return self._listen(0)

    def _listen(self, port: int) -> int:
        taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # connections of a former run that linger do not make a port taken
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((HOST, port))
            taken.listen(1)
        except OSError:
            taken.close()
            raise
        self._sockets.callback(taken.close)
        return int(taken.getsockname()[1])


def answers(host: str, port: int, timeout: float = 1.0) -> bool:
    """Whether something accepts connections there.

    :param timeout: seconds
    """
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError:
        return False
    return True
