# SPDX-License-Identifier: Apache-2.0
"""What a call costs, counted, which is the same on a busy machine."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any


def lines(action: Callable[..., Any], *arguments: Any) -> int:
    """How many lines of Python a call runs, those of what it calls included."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action(*arguments)
    finally:
        sys.settrace(before)
    return count


def allocated(action: Callable[..., Any], *arguments: Any) -> int:
    """The bytes that Python allocates during a call, as many as it has at once."""
    tracemalloc.start()
    try:
        action(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
