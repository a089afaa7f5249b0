# SPDX-License-Identifier: Apache-2.0
"""A lock whose holder also does what others did not want to wait for.

Threads that answer calls would queue up in front of a connection that one of
them is writing to, each sleeping and being woken for a few microseconds of
work. Instead they leave the work with the thread that is there already, which
then writes the bytes of all of them at once.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import Any

from hybrid_messaging.drivers import logs

LOG = logs.get(__name__)


class CombiningLock:
    """To be held with `with`, or to leave work with.

    :param after: called, with the lock held, after work that was left
    """

    def __init__(self, after: Callable[[], None]) -> None:
        self._after = after
        self._lock = threading.Lock()
        self._work: collections.deque[tuple[Callable[..., None], Any]] = (
            collections.deque()
        )

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        try:
            if self._work:
                self._do_work()
        finally:
            self._lock.release()
        if self._work:
            self._catch_up()

    def leave(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have something done with the lock held, by this thread or another.

        It is done at once where the lock is free; otherwise its holder does it
        before letting go. What it raises is logged.
        """
        self._work.append((function, arguments))
        self._catch_up()

    def renew(self) -> None:
        """Start anew in a child of a fork: the lock and the work are its parent's."""
        self._lock = threading.Lock()
        self._work.clear()

    def _catch_up(self) -> None:
        # A thread that finds the lock taken has left its work before it looked. The
        # holder looks for work after it has let go. So one of the two does the work.
        while self._work and self._lock.acquire(blocking=False):
            try:
                self._do_work()
            finally:
                self._lock.release()

    def _do_work(self) -> None:
        try:
            while self._work:
                function, arguments = self._work.popleft()
                try:
                    function(*arguments)
                except Exception:
                    LOG.exception("A deferred action failed")
        finally:
            self._after()
