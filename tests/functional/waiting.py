# SPDX-License-Identifier: Apache-2.0
"""Wait for conditions instead of for time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    what: str,
    timeout: float = 30,
    interval: float = 0.02,
) -> T:
    """Wait until a condition holds, and return what it returned.

    :param what: the condition in words, for the failure
    :param timeout: seconds
    :param interval: seconds between two looks
    """
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(interval)


def ended(process: psutil.Process) -> bool:
    """Whether a process has ended; its parent may not have waited for it yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


class Stopwatch:
    """Measures the seconds that a block takes."""

    def __enter__(self) -> Stopwatch:
        self._start = time.monotonic()
        return self

    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def __exit__(self, *_: object) -> None:
        self.seconds = self.elapsed()
