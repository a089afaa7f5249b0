# SPDX-License-Identifier: Apache-2.0
"""Commands that are ended from outside, with nothing left behind."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def by_signal() -> Iterator[None]:
    """Have SIGTERM end us as Ctrl-C does: with nothing left behind."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
