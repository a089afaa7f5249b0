# SPDX-License-Identifier: Apache-2.0
"""Try something again until it works or the time is over."""

from __future__ import annotations

import time
from collections.abc import Iterator


def attempts(seconds: float, pause: float) -> Iterator[float]:
    """Give a turn at once, and another after each pause, until the time is over.

    The loop ends by itself after a turn that began when the time was over; whoever
    succeeds leaves it before.

    :param seconds: for how long; 0 for one turn
    :param pause: seconds between two turns
    :returns: at each turn, the seconds since the first
    """
    begin = time.monotonic()
    while True:
        passed = time.monotonic() - begin
        yield passed
        if passed >= seconds:
            return
        time.sleep(pause)
