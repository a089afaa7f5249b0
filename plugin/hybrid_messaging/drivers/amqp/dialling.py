# SPDX-License-Identifier: Apache-2.0
"""Connecting to whichever host answers first.

A host that has vanished answers nothing, and an attempt to connect to it takes its
whole time. So the next address is tried a moment later, while the first attempt goes
on (RFC 8305, "Happy Eyeballs", section 5).
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hybrid_messaging.drivers import forks
from hybrid_messaging.drivers.amqp import failures
from hybrid_messaging.drivers.amqp.failures import ConnectionFailed
from hybrid_messaging.drivers.amqp.hosts import Host

#: Seconds before the next address is tried while nothing has answered.
DELAY = 0.25


class _Place(NamedTuple):
    """One address of a host."""

    host: Host
    family: socket.AddressFamily
    address: Any


def _socket(place: _Place) -> socket.socket:
    return forks.close_in_child(socket.socket(place.family, socket.SOCK_STREAM))


class Dialling:
    """One round of all hosts.

    :param hosts: in the order in which they are tried
    :param timeout: seconds that an attempt to connect to one address may take
    :param verify: has a host show its certificate, by means of a function that connects
        to it; raises OSError if it must not be used
    """

    def __init__(
        self,
        hosts: Iterable[Host],
        timeout: float,
        verify: Callable[[Host, Callable[[], socket.socket]], None],
    ) -> None:
        self._hosts = deque(hosts)
        self._timeout = timeout
        self._verify = verify
        self._places: deque[_Place] = deque()
        self._failure = ConnectionFailed("the transport URL has no host to connect to")

    @property
    def over(self) -> bool:
        """All hosts have been tried."""
        return not self._hosts and not self._places

    def dial(self) -> tuple[Host, socket.socket]:
        """Connect to the next address that answers.

        :raises ConnectionFailed: none of those that are left did
        :raises OSError: none can be tried, since there are no descriptors left
        """
        while not self.over:
            try:
                found = self._first()
            except OSError:
                # whoever tries again is to pause before
                self._hosts.clear()
                self._places.clear()
                raise
            if found is None:
                continue
            place, sock = found
            try:
                return place.host, self._verified(place, sock)
            except OSError as error:
                self._failed(place.host, error)
        raise self._failure

    def _verified(self, place: _Place, sock: socket.socket) -> socket.socket:
        """A socket that nothing was said on, to a host that may be used."""
        unused = [sock]

        def connect() -> socket.socket:
            return unused.pop() if unused else self._dial(place)

        try:
            self._verify(place.host, connect)
            return connect()
        finally:
            for each in unused:
                each.close()

    def _dial(self, place: _Place) -> socket.socket:
        sock = _socket(place)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(self._timeout)
            sock.connect(place.address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _failed(self, host: Host, error: OSError | None) -> None:
        self._failure = failures.of_dialling(host, error)

    def _next(self) -> _Place | None:
        while self._hosts and not self._places:
            host = self._hosts.popleft()
            try:
                found = host.addresses()
            except OSError as error:
                self._failure = failures.of_name(host, error)
                continue
            if not found:
                self._failed(host, None)
            self._places.extend(_Place(host, *address) for address in found)
        return self._places.popleft() if self._places else None

    def _first(self) -> tuple[_Place, socket.socket] | None:
        """Begin to connect to one address after the other, until one answers."""
        race = _Race(self._timeout, self._failed)
        try:
            while True:
                place = self._next()
                if place is not None:
                    race.enter(place)
                if not race:
                    if self.over:
                        return None
                    continue
                found = race.watch(self.over)
                if found is not None:
                    return found
        finally:
            # those that another one was faster than are left for the next time
            self._places.extendleft(reversed(race.end()))


class _Race:
    """Attempts to connect that are under way at the same time.

    :param timeout: seconds that each of them may take
    :param failed: told of those that have failed
    """

    def __init__(
        self, timeout: float, failed: Callable[[Host, OSError | None], None]
    ) -> None:
        self._timeout = timeout
        self._failed = failed
        self._selector = forks.close_in_child(selectors.DefaultSelector())
        #: the places, and the monotonic times by which they have to answer
        self._runners: dict[socket.socket, tuple[_Place, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._runners)

    def enter(self, place: _Place) -> None:
        """Begin to connect to a place."""
        try:
            sock = _socket(place)
        except OSError as error:
            self._failed(place.host, error)
            return
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            sock.connect(place.address)
        except BlockingIOError:
            pass
        except OSError as error:
            sock.close()
            self._failed(place.host, error)
            return
        self._selector.register(sock, selectors.EVENT_WRITE)
        self._runners[sock] = place, time.monotonic() + self._timeout

    def watch(self, last: bool) -> tuple[_Place, socket.socket] | None:
        """Wait until one has answered or failed, or it is time for the next.

        :param last: there is no next one
        """
        by = min(deadline for _, deadline in self._runners.values())
        pause = max(0.0, by - time.monotonic())
        for key, _ in self._selector.select(pause if last else min(pause, DELAY)):
            sock: Any = key.fileobj
            place = self._leave(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not error:
                sock.settimeout(self._timeout)
                return place, sock
            sock.close()
            self._failed(place.host, OSError(error, os.strerror(error)))
        for sock, (place, deadline) in list(self._runners.items()):
            if time.monotonic() >= deadline:
                self._leave(sock)
                sock.close()
                self._failed(place.host, TimeoutError("timed out"))
        return None

    def _leave(self, sock: socket.socket) -> _Place:
        self._selector.unregister(sock)
        return self._runners.pop(sock)[0]

    def end(self) -> list[_Place]:
        """Give up what is under way, and tell where to."""
        left = [place for place, _ in self._runners.values()]
        for sock in self._runners:
            sock.close()
        self._selector.close()
        return left
