# SPDX-License-Identifier: Apache-2.0
"""Commands that are ended from outside, with nothing left behind."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

# how a supervisor, and a terminal that is closed, tell a command to end
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def by_signal() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end us as Ctrl-C does: with nothing left behind.

    A signal that we were started to ignore, as with ``nohup``, stays ignored.
    """

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    former = {number: signal.getsignal(number) for number in _SIGNALS}
    heeded = [number for number in _SIGNALS if former[number] is not signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, former[number])
