# SPDX-License-Identifier: Apache-2.0
"""One thread waits, another wakes it: the cheapest way that the platform has.

A bare lock costs one system call to wait and one to wake; threading.Event
allocates a lock, a condition and a queue for every wait. Where eventlet has
patched the lock, the same code switches greenlets.
"""

from __future__ import annotations

import threading


class Waiter:
    """Remembers one wake-up; may be waited on again after each."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """End the wait that is on or, if none is, the next one."""
        try:  # noqa: SIM105 - suppress() takes longer than all the rest
            self._lock.release()
        except RuntimeError:
            pass  # woken before and not waited since: one wake-up is enough

    def wait(self, timeout: float | None) -> bool:
        """Wait to be woken.

        :param timeout: seconds, None for ever
        :returns: False if the time was up first
        """
        if timeout is None:
            return self._lock.acquire()
        if timeout > 0:
            return self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))
        return self._lock.acquire(blocking=False)
