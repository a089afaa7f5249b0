# SPDX-License-Identifier: Apache-2.0
"""The addresses behind the names of hosts, found out while nobody waits.

A name server that is away takes seconds to fail, for each name. So names are looked
up in threads that do nothing else, and what was found is used on until something newer
is known.
"""

from __future__ import annotations

import collections
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from hybrid_messaging.drivers import reentry

#: Names that are looked up at once.
THREADS = 4
#: Seconds after which addresses are looked up again, and after which a name is that
#: has had none.
FRESH, FRESH_FAILURE = 60.0, 2.0
#: Hosts that are remembered; the one that was looked up first is forgotten first.
MOST = 20_000


class Found(NamedTuple):
    """What has become of an endpoint's name."""

    #: tcp://ip:port, the best first
    addresses: tuple[str, ...]
    #: why there are none
    failure: str = ""


class _Host(NamedTuple):
    ips: tuple[str, ...]
    failure: str
    #: monotonic time until which this is not asked again
    until: float


Then = Callable[[Found], None]


def parse(endpoint: str) -> tuple[str, int]:
    """The host and the port of an endpoint.

    :param endpoint: tcp://host:port
    :raises ValueError: it is none
    """
    parts = urlsplit(endpoint)
    if parts.scheme != "tcp" or not parts.hostname or not parts.port:
        raise ValueError(f"{endpoint} is not of the form tcp://host:port")
    return parts.hostname, parts.port


def endpoint(host: str, port: int) -> str:
    """The endpoint of a host, which is a name or an address, and a port."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def look_up(host: str) -> tuple[str, ...]:
    """The IP addresses of a host, the best first. It may take seconds.

    :raises OSError: it has none
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"this is not a valid name: {error}") from error
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class Names:
    """The names of one client's servers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        #: who waits for a host that is being looked up, with its port
        self._wanted: dict[str, list[tuple[int, Then]]] = {}
        self._queue: collections.deque[str] = collections.deque()
        self._threads = 0

    def find(self, endpoint: str, then: Then) -> None:
        """Report the addresses of an endpoint: now if they are known, or later.

        :param endpoint: tcp://host:port
        :param then: called in this thread, or in one that looks up names
        """
        try:
            host, port = parse(endpoint)
        except ValueError as error:
            then(Found((), str(error)))
            return
        if _is_address(host):
            then(_found((host,), port))
            return
        with self._lock:
            known = self._hosts.get(host)
            if known is None or time.monotonic() >= known.until:
                waiting = self._want(host)
                if known is None or not known.ips:
                    waiting.append((port, then))
                    return
        then(_found(known.ips, port, known.failure))

    def _want(self, host: str) -> list[tuple[int, Then]]:
        waiting = self._wanted.get(host)
        if waiting is None:
            waiting = self._wanted[host] = []
            self._queue.append(host)
            if self._threads < THREADS:
                self._threads += 1
                threading.Thread(
                    target=self._run, name="zmq-names", daemon=True
                ).start()
        return waiting

    @reentry.works
    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                host = self._queue.popleft()
            try:
                self._tell(host, look_up(host), "", FRESH)
            except OSError as error:
                self._tell(
                    host, (), f"{host}: {error.strerror or error}", FRESH_FAILURE
                )

    def _tell(
        self, host: str, ips: tuple[str, ...], failure: str, fresh: float
    ) -> None:
        with self._lock:
            known = self._hosts.pop(host, None)
            if not ips and known is not None:
                ips = known.ips  # better than none
            self._hosts[host] = _Host(ips, failure, time.monotonic() + fresh)
            if len(self._hosts) > MOST:
                del self._hosts[next(iter(self._hosts))]
            waiting = self._wanted.pop(host)
        for port, then in waiting:
            then(_found(ips, port, failure))


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is for processes of this one only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _found(ips: tuple[str, ...], port: int, failure: str = "") -> Found:
    return Found(tuple(endpoint(ip, port) for ip in ips), failure)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
