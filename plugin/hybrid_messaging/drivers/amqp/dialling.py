# SPDX-License-Identifier: Apache-2.0
"""Connecting to the host that is the first to open a connection.

A host that has vanished answers nothing. One that hangs takes connections, since its
kernel does that, and says nothing on them. An attempt to connect to either takes its
whole time. So the next address is tried a moment later, while the first attempt goes on
(RFC 8305, "Happy Eyeballs", section 5).
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from hybrid_messaging.drivers import forks, logs
from hybrid_messaging.drivers.amqp import failures, steps
from hybrid_messaging.drivers.amqp.failures import ConnectionFailed
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.steps import Steps

LOG = logs.get(__name__)

T = TypeVar("T")

#: Seconds before the next address is tried while the last one has not answered.
DELAY = 0.25
#: The same where it has, and has not opened the connection: one that is busy, as when
#: all clients of a bus return at once, is not to have its clients at others as well.
OPENING = 1.5

#: Connects to the address that is tried.
Dial = Callable[[], Steps[socket.socket]]


class _Place(NamedTuple):
    """One address of a host."""

    host: Host
    family: socket.AddressFamily
    address: Any


class Dialling(Generic[T]):
    """One round of all hosts.

    :param hosts: in the order in which they are tried
    :param timeout: seconds that an attempt to connect to one address may take
    :param open: opens a connection to a host, by means of what connects to its address;
        raises OSError or ConnectionFailed if it cannot be used
    :param given_up: whether nobody wants a connection any more
    """

    def __init__(
        self,
        hosts: Iterable[Host],
        timeout: float,
        open: Callable[[Host, Dial], Steps[T]],
        given_up: Callable[[], bool],
    ) -> None:
        self._hosts = deque(hosts)
        self._timeout = timeout
        self._open = open
        self._given_up = given_up
        self._places: deque[_Place] = deque()
        self._failure = ConnectionFailed("the transport URL has no host to connect to")

    @property
    def over(self) -> bool:
        """All hosts have been tried."""
        return not self._hosts and not self._places

    def dial(self) -> tuple[Host, T]:
        """Open a connection to the next address where that is possible.

        :raises ConnectionFailed: it is at none of those that are left
        :raises OSError: none can be tried, since there are no descriptors left
        """
        try:
            with _Race[T](self._failed) as race:
                found = self._first(race)
                # those that another one was faster than are left for the next time
                self._places.extendleft(reversed(race.places))
        except OSError:
            # a pause comes before the next attempt
            self._hosts.clear()
            self._places.clear()
            raise
        if found is None:
            raise self._failure
        return found

    def _first(self, race: _Race[T]) -> tuple[Host, T] | None:
        """Begin to connect to one address after the other, until one has opened."""
        found: tuple[Host, T] | None = None
        while not self._given_up():
            if race.wants_another() and (place := self._next()) is not None:
                found = race.enter(place, self._open, self._timeout)
            elif race:
                found = race.watch()
            elif self.over:
                break
            if found is not None:
                return found
        return None

    def _next(self) -> _Place | None:
        while self._hosts and not self._places:
            host = self._hosts.popleft()
            try:
                found = host.addresses()
            except OSError as error:
                self._failed(failures.of_name(host, error))
                continue
            if not found:
                self._failed(failures.of_dialling(host, None))
            self._places.extend(_Place(host, *address) for address in found)
        return self._places.popleft() if self._places else None

    def _failed(self, failure: ConnectionFailed) -> None:
        LOG.debug("%s", failure)
        self._failure = failure


class _Runner(Generic[T]):
    """An attempt to open a connection.

    :param open: does it
    :param timeout: seconds that it may take
    """

    def __init__(
        self, place: _Place, open: Callable[[Host, Dial], Steps[T]], timeout: float
    ) -> None:
        self.place = place
        self._began = time.monotonic()
        #: monotonic time by which it has to be done
        self.by = self._began + timeout
        #: monotonic time until which no other one begins
        self.alone_until = self._began + DELAY
        self._steps = open(place.host, self._dial)
        #: what it waits for
        self.waits: tuple[socket.socket, int] | None = None

    def _dial(self) -> Steps[socket.socket]:
        sock = yield from steps.connect(self.place.family, self.place.address)
        self.alone_until = self._began + OPENING
        return sock

    def go_on(self) -> None:
        """Begin, or do what comes after that for which it has waited.

        :raises StopIteration: it is done, with its result
        """
        self.waits = next(self._steps)

    def time_out(self) -> None:
        """Its time is up."""
        self._steps.throw(TimeoutError("timed out"))

    def close(self) -> None:
        """Give it up."""
        self._steps.close()


class _Race(Generic[T]):
    """Attempts to open a connection that are under way at the same time.

    :param failed: told of those that have failed
    """

    def __init__(self, failed: Callable[[ConnectionFailed], None]) -> None:
        self._failed = failed
        self._runners: list[_Runner[T]] = []

    def __enter__(self) -> _Race[T]:
        return self

    def __exit__(self, *_: object) -> None:
        for runner in self._runners:
            runner.close()

    def __bool__(self) -> bool:
        return bool(self._runners)

    @property
    def places(self) -> list[_Place]:
        """Where connections are being opened to."""
        return [runner.place for runner in self._runners]

    def wants_another(self) -> bool:
        """It is time for the next attempt."""
        return all(time.monotonic() >= each.alone_until for each in self._runners)

    def enter(
        self, place: _Place, open: Callable[[Host, Dial], Steps[T]], timeout: float
    ) -> tuple[Host, T] | None:
        """Begin to open a connection.

        :param timeout: seconds that it may take
        """
        runner = _Runner(place, open, timeout)
        self._runners.append(runner)
        return self._resume(runner, runner.go_on)

    def watch(self) -> tuple[Host, T] | None:
        """Wait until one has opened or failed, or for a moment."""
        with forks.close_in_child(selectors.DefaultSelector()) as selector:
            for runner in self._runners:
                assert runner.waits is not None
                selector.register(*runner.waits, data=runner)
            for key, _ in selector.select(DELAY):
                found = self._resume(key.data, key.data.go_on)
                if found is not None:
                    return found
        now = time.monotonic()
        for runner in [each for each in self._runners if now >= each.by]:
            self._resume(runner, runner.time_out)
        return None

    def _resume(
        self, runner: _Runner[T], how: Callable[[], None]
    ) -> tuple[Host, T] | None:
        host = runner.place.host
        try:
            how()
        except StopIteration as end:
            self._runners.remove(runner)
            return host, end.value
        except ConnectionFailed as failure:
            self._runners.remove(runner)
            self._failed(failure)
        except OSError as error:
            self._runners.remove(runner)
            self._failed(failures.of_dialling(host, error))
        return None
