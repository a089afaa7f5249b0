# SPDX-License-Identifier: Apache-2.0
"""What is to be done later: in a while, or as soon as the lock is free."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.combining import CombiningLock

LOG = logs.get(__name__)


class Duties:
    """The duties of a bus.

    :param lock: the lock of the bus
    :param due_by: called with the lock held and the monotonic time of a new duty
    """

    def __init__(self, lock: CombiningLock, due_by: Callable[[float], None]) -> None:
        self._lock = lock
        self._due_by = due_by
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = itertools.count()
        self._afterwards: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    # -- with the lock held --------------------------------------------------

    def later(self, seconds: float, duty: Callable[[], None]) -> None:
        """Do something with the lock held, if the connection still is up then."""
        moment = time.monotonic() + seconds
        heapq.heappush(self._timers, (moment, next(self._ids), duty))
        self._due_by(moment)

    def afterwards(self, function: Callable[..., None], *arguments: Any) -> None:
        """Do something as soon as the lock is free again, without it."""
        self._afterwards.append((function, arguments))

    def run(self, now: float) -> float:
        """Do what is due.

        :returns: monotonic time of the next duty
        """
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        return self._timers[0][0] if self._timers else math.inf

    def drop(self) -> None:
        """Forget what was to be done in a while: the connection is gone."""
        self._timers.clear()

    def backlog(self) -> int:
        """How many things are to be done afterwards; needs no lock."""
        return len(self._afterwards)

    # -- without the lock ----------------------------------------------------

    def catch_up(self) -> None:
        """Do what was to be done afterwards."""
        if self._afterwards:
            with self._lock:
                todo, self._afterwards = self._afterwards, []
            for function, arguments in todo:
                try:
                    function(*arguments)
                except Exception:
                    LOG.exception("A message was lost because of an internal error")
