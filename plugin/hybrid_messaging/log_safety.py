# SPDX-License-Identifier: Apache-2.0
"""What a peer can do to a log: bounded, whatever it sends and however often.

`quoted` is for a peer's text within a line. Two nets below it catch what is
forgotten: `line` and `block` keep every line on one line and short, and `RateLimit`
bounds how often one place in the code writes a line: more rarely where a line is logged
with `SELDOM`. A `Tally` names what there is too much of for a line each.

Signal handlers and destructors log, too, in a thread that may be about to: so locks are
reentrant here.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import threading
import time
from collections.abc import Iterable

#: Characters of a peer's text that a log line shows.
LONGEST_TEXT = 100
#: Characters of a log line, and lines of a traceback.
LONGEST_LINE, MOST_LINES = 1000, 60
#: Lines that one place in the code writes within a period, and its seconds.
LINES, PERIOD = 60, 60.0
#: `extra` of a line that strangers can cause as they like: one within a period is
#: enough, and then how many more there were.
SELDOM = {"most_lines": 1}
#: Marks a line that counts others, and is not counted itself.
_SUMS_UP = "sums_up"
#: Names that a tally mentions, and that it counts.
_MENTIONED, _COUNTED = 10, 1000


def quoted(text: object) -> str:
    """A peer's text on one line, without control characters, and not too long.

    :param text: any object; bytes are taken for UTF-8
    """
    if isinstance(text, bytes):
        text = text[: 4 * LONGEST_TEXT + 4].decode(errors="replace")
    return _cut(_printable(_cut(str(text), LONGEST_TEXT)), LONGEST_TEXT)


def line(text: str) -> str:
    """A whole log line, whatever is in it."""
    return _cut(_printable(_cut(text, LONGEST_LINE)), LONGEST_LINE)


def block(text: str) -> str:
    """A traceback, whatever its exceptions say: each line of it, if not too many."""
    lines = text.splitlines()
    if len(lines) > MOST_LINES:
        half = MOST_LINES // 2
        lines[half:-half] = [f"… ({len(lines) - 2 * half} lines)"]
    return "\n".join(map(line, lines))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


class Formatter(logging.Formatter):
    """Formats lines and tracebacks in which peers may have a say."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line."""
        return line(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        """The traceback."""
        return block(super().formatException(ei))  # type: ignore[arg-type]


@dataclasses.dataclass
class _Count:
    """The lines of one place in the code within a period."""

    ends: float
    #: that are written
    most: int
    lines: int = 0
    #: the first one that was left out
    sample: logging.LogRecord | None = None


class RateLimit(logging.Filter):
    """Admits so many lines of each place in the code within a period, or as they say.

    Places are few, and no peer can make one up: what is kept does not grow. Lines of
    level DEBUG are not counted, since an operator has asked for all of them.

    :param lines: how many
    :param period: in seconds
    """

    def __init__(self, lines: int = LINES, period: float = PERIOD) -> None:
        super().__init__()
        self._lines, self._period = lines, period
        self._counts: dict[tuple[str, int], _Count] = {}
        self._lock = threading.RLock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be written."""
        if record.levelno < logging.INFO or hasattr(record, _SUMS_UP):
            return True
        place, now = (record.pathname, record.lineno), time.monotonic()
        with self._lock:
            count = self._counts.get(place)
            if count is None or (now >= count.ends and count.sample is None):
                most = getattr(record, "most_lines", self._lines)
                count = self._counts[place] = _Count(now + self._period, most)
            count.lines += 1
            if count.lines <= count.most:
                return True
            first = count.sample is None
            if first:
                count.sample = record
        if first:
            # as text: its arguments may be large
            record.msg, record.args = quoted(record.getMessage()), None
            record.exc_info = record.exc_text = None
        return False

    def summaries(self) -> list[logging.LogRecord]:
        """For each place whose period is over, a line that counts what was left out."""
        now = time.monotonic()
        with self._lock:
            counts = list(self._counts.items())
            over = [item for item in counts if now >= item[1].ends]
            for place, _ in over:
                del self._counts[place]
        return [
            self._summary(count.sample, count.lines - count.most)
            for _, count in over
            if count.sample is not None
        ]

    def until_summary(self) -> float | None:
        """Seconds until there may be something to sum up; None: never."""
        with self._lock:
            ends = [
                count.ends
                for count in self._counts.values()
                if count.lines >= count.most
            ]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _summary(self, sample: logging.LogRecord, left_out: int) -> logging.LogRecord:
        summary = logging.getLogRecordFactory()(
            sample.name,
            sample.levelno,
            sample.pathname,
            sample.lineno,
            "omitted %d more lines like this within %g s: %s",
            (left_out, self._period, sample.getMessage()),
            None,
            sample.funcName,
        )
        setattr(summary, _SUMS_UP, True)
        return summary


class Tally:
    """Counts by name what happens, to be mentioned once within a period.

    :param period: in seconds
    """

    def __init__(self, period: float = PERIOD) -> None:
        self._period = period
        self._quiet_until = 0.0
        self._names: collections.Counter[str] = collections.Counter()
        self._lock = threading.RLock()

    def add(self, names: Iterable[str]) -> str:
        """Count some names.

        :returns: those to mention now and how often they were counted; '' for none
        """
        with self._lock:
            for name in names:
                if name in self._names or len(self._names) < _COUNTED:
                    self._names[name] += 1
            now = time.monotonic()
            if not self._names or now < self._quiet_until:
                return ""
            self._quiet_until = now + self._period
            counted, self._names = self._names, collections.Counter()
        shown = counted.most_common(_MENTIONED)
        others = len(counted) - len(shown)
        text = ", ".join(f"{name} {times} times" for name, times in shown)
        return f"{text} and {others} others" if others else text
