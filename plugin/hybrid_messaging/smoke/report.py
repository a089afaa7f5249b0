# SPDX-License-Identifier: Apache-2.0
"""Results as lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from hybrid_messaging.smoke.outcome import Result, Status

#: How many names of a kind a line shows.
NAMES = 8

_WORDS = {
    Status.PASSED: "ok",
    Status.FAILED: "FAILED",
    Status.SKIPPED: "skipped",
    Status.INFO: "info",
}
_INDENT = " " * 9


def lines(result: Result, width: int) -> Iterator[str]:
    """One result: a line with its time, and lines with what belongs to it.

    :param width: characters of the longest name of a check
    """
    took = "" if result.seconds is None else f"{result.seconds:.2f} s"
    yield f"{_WORDS[result.status]:8} {result.check:{width}} {took:>8}  {result.detail}"
    for what, names in result.found.items():
        yield f"{_INDENT}{what}:{'' if names else ' none'}"
        yield from (f"{_INDENT}  {name}" for name in names[:NAMES])
        if len(names) > NAMES:
            yield f"{_INDENT}  and {len(names) - NAMES} more"
    if result.look_at:
        yield f"{_INDENT}look at: {result.look_at}"


def summary(results: Iterable[Result], seconds: float) -> str:
    """All results in one line.

    :param seconds: that all of it took
    """
    counts = Counter(result.status for result in results)
    parts = [f"{counts[status]} {status.value}" for status in Status if counts[status]]
    return f"{', '.join(parts)} in {seconds:.1f} s"
