# SPDX-License-Identifier: Apache-2.0
"""The requests of a process that its services have not begun, and room for more.

A sender that finds no room is remembered, and is told when there is some: it need not
ask again and again.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Hashable
from enum import Enum, auto
from typing import Protocol

#: The routing id of the client that has sent a request, and its id there.
Key = tuple[bytes, int]

#: How many requests that found no room are remembered, for each listener.
REMEMBERED = 1000


class State(Enum):
    """Where a request is in the process of its server."""

    WAITING = auto()  # for the service to begin
    BEGUN = auto()
    WITHDRAWN = auto()  # its sender has given up; it will not begin
    RETURNED = auto()  # given back to its sender; it will not begin


class Entry(Protocol):
    """A request, as far as a backlog needs to know it."""

    state: State
    #: whose service is to begin it
    listener: Hashable
    key: Key
    #: bytes
    size: int
    #: monotonic time after which nobody waits for it any more
    until: float


class Refused:
    """Requests that found no room, in order; of too many, the first is forgotten."""

    def __init__(self) -> None:
        self._keys: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: Key, size: int) -> None:
        """Remember that there was no room for so many bytes."""
        self._keys[key] = size
        if len(self._keys) > REMEMBERED:
            del self._keys[next(iter(self._keys))]

    def discard(self, key: Key) -> None:
        """Its sender does not want room any more."""
        self._keys.pop(key, None)

    def pop(self, number: int, size: float) -> list[Key]:
        """Return those whose turn it is, and forget them.

        :param number: how many may come
        :param size: how many bytes they may bring; one may always
        """
        turn: list[Key] = []
        for key, its in itertools.islice(self._keys.items(), max(number, 0)):
            size -= its
            if turn and size < 0:
                break
            turn.append(key)
        for key in turn:
            del self._keys[key]
        return turn


class Backlog:
    """What waits for the services of a process; any thread may use it.

    :param number: how many requests may wait for each listener
    :param size: how many bytes of requests may wait for all of them; one may always
    """

    def __init__(self, number: int, size: int) -> None:
        self._number = number
        self._size = size
        self._lock = threading.Lock()
        self._waiting: dict[Key, Entry] = {}
        #: how many of them wait for each listener
        self._numbers: dict[Hashable, int] = {}
        self._bytes = 0
        #: by the listener that had no room
        self._refused: dict[Hashable, Refused] = {}
        #: those for whose bytes there was no room in the process
        self._oversized = Refused()

    def add(self, entry: Entry, remember: bool) -> bool:
        """Have a request wait, if there is room.

        :param remember: if there is not, inform its sender when there is
        :returns: whether there was room
        """
        with self._lock:
            waiting = self._numbers.get(entry.listener, 0)
            if waiting >= self._number:
                refused = self._refused.setdefault(entry.listener, Refused())
            elif self._bytes and self._bytes + entry.size > self._size:
                refused = self._oversized
            else:
                self._waiting[entry.key] = entry
                self._numbers[entry.listener] = waiting + 1
                self._bytes += entry.size
                return True
            if remember:
                refused.add(entry.key, entry.size)
        return False

    def begin(self, entry: Entry) -> list[Key] | None:
        """The service wants to begin a request.

        :returns: the requests for which there is room now; None if this one must not
            begin
        """
        if time.monotonic() > entry.until:
            self.end(entry, State.WITHDRAWN)
        return self.end(entry, State.BEGUN)

    def end(self, entry: Entry, state: State) -> list[Key] | None:
        """A request waits no longer.

        :returns: the requests for which there is room now; None if it has not waited
        """
        with self._lock:
            if entry.state is not State.WAITING:
                return None
            entry.state = state
            if self._waiting.get(entry.key) is entry:
                del self._waiting[entry.key]
            self._bytes -= entry.size
            left = self._numbers.pop(entry.listener) - 1
            if left:
                self._numbers[entry.listener] = left
            return self._turn(entry.listener, left)

    def _turn(self, listener: Hashable, waiting: int) -> list[Key]:
        turn: list[Key] = []
        room = self._size - self._bytes
        refused = self._refused.get(listener)
        if refused is not None:
            turn += refused.pop(self._number - waiting, room)
            if not refused:
                del self._refused[listener]
        if self._oversized:
            turn += self._oversized.pop(self._number, room)
        return turn

    def withdraw(self, key: Key) -> list[Key]:
        """The sender of a request has given up.

        :returns: the requests for which there is room now
        """
        entry = self._waiting.get(key)
        if entry is not None:
            return self.end(entry, State.WITHDRAWN) or []
        with self._lock:
            for refused in (self._oversized, *self._refused.values()):
                refused.discard(key)
        return []

    def of(self, listener: Hashable) -> list[Entry]:
        """What waits for a listener."""
        with self._lock:
            return [
                each for each in self._waiting.values() if each.listener == listener
            ]

    def close(self, listener: Hashable) -> list[Key]:
        """A listener takes no more; the requests that it had no room for."""
        with self._lock:
            refused = self._refused.pop(listener, None)
            return refused.pop(REMEMBERED, float("inf")) if refused else []
