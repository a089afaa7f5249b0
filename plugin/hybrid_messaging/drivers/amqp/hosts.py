# SPDX-License-Identifier: Apache-2.0
"""Which host of the transport URL is tried next, and how long to pause before."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hybrid_messaging.drivers.waiter import Waiter

DEFAULT_PORT = 5672


class Host(NamedTuple):
    name: str
    port: int
    username: str | None
    password: str | None

    def __str__(self) -> str:  # never with the password
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"amqp://{name}:{self.port}"

    def addresses(self) -> list[tuple[socket.AddressFamily, Any]]:
        """All addresses of the name, as the resolver orders them.

        :raises OSError: it has none
        """
        found = socket.getaddrinfo(self.name, self.port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]


def parse(url: Any, default_realm: str) -> list[Host]:
    """The hosts of a transport URL, in an order of their own in every process.

    :param url: oslo_messaging.TransportURL
    :param default_realm: SASL realm of user names without one
    """
    hosts = []
    for host in url.hosts:
        username = host.username or None
        if username and default_realm and "@" not in username:
            username = f"{username}@{default_realm}"
        hosts.append(
            Host(
                host.hostname or "localhost",
                host.port or DEFAULT_PORT,
                username,
                host.password or None,
            )
        )
    random.shuffle(hosts)
    return hosts or [Host("localhost", DEFAULT_PORT, None, None)]


def delays(interval: float, factor: float, longest: float) -> Iterator[float]:
    """Seconds to pause before each further attempt: exponential, with jitter.

    Half of each delay is random, so that a thousand clients that lost the same
    router do not come back in the same instant.
    """
    delay = interval
    while True:
        yield delay * random.uniform(0.5, 1)
        delay = min(delay * max(factor, 1), longest)


class Pace:
    """The pauses between two attempts to connect.

    They grow while nobody waits for the bus. Somebody who does is not kept waiting
    for longer than `interval`; the jitter keeps a thousand such clients apart.

    :param interval: the first and the shortest pause, in seconds
    :param factor: by which each pause is longer than the one before
    :param longest: the longest pause, in seconds
    """

    def __init__(self, interval: float, factor: float, longest: float) -> None:
        self._settings = interval, factor, longest
        self._bell = Waiter()
        self._hurried = False
        self._stopped = False
        self.reset()

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._delays = delays(*self._settings)

    def hurry(self) -> None:
        """Cut the present pause short: somebody waits for the bus."""
        if not self._hurried:
            self._hurried = True
            self._bell.wake()

    def stop(self) -> None:
        """Pause no more."""
        self._stopped = True
        self._bell.wake()

    def pause(self, awaited: Callable[[], bool]) -> None:
        """Pause before the next attempt.

        :param awaited: whether somebody waits for the bus already
        """
        begun = time.monotonic()
        shortest, delay = next(delays(*self._settings)), next(self._delays)
        self._hurried = self._hurried or awaited()
        while not self._stopped:
            pause = min(shortest, delay) if self._hurried else delay
            left = begun + pause - time.monotonic()
            if left <= 0:
                break
            self._bell.wait(left)
        self._hurried = False
