# SPDX-License-Identifier: Apache-2.0
"""What one worker measures: how many in the interval, how long each, and when."""

from __future__ import annotations

import threading

from hybrid_messaging.bench.assignment import Timing
from hybrid_messaging.bench.latency import Latencies
from hybrid_messaging.bench.measurement import Second
from hybrid_messaging.bench.worker_reports import Tallied


class Tally:
    """Counts and times of what has begun and ended, by kind.

    Ends inside the measured interval make the rate. Beginnings inside it make the
    latencies, so that what takes long is not left out at the interval's end.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._lock = threading.Lock()
        self._latencies: dict[str, Latencies] = {}
        self._counts: dict[str, int] = {}
        # by kind and second since the start: how many ended, the longest in seconds
        self._seconds: dict[str, dict[int, tuple[int, float]]] = {}

    def note(self, kind: str, begin: float, end: float) -> None:
        """Something has begun and ended at these times."""
        timing = self._timing
        second = int(end - timing.start)
        with self._lock:
            if timing.measures(end):
                self._counts[kind] = self._counts.get(kind, 0) + 1
            seconds = self._seconds.setdefault(kind, {})
            count, longest = seconds.get(second, (0, 0.0))
            seconds[second] = (count + 1, max(longest, end - begin))
            self._record(kind, begin, end)

    def overdue(self, kind: str, due: float) -> None:
        """Something was due and has not even begun when the load ended."""
        with self._lock:
            self._record(kind, due, self._timing.end)

    def _record(self, kind: str, begin: float, end: float) -> None:
        if self._timing.measures(begin):
            if kind not in self._latencies:
                self._latencies[kind] = Latencies()
            self._latencies[kind].record(end - begin)

    def report(self) -> dict[str, Tallied]:
        """What is known, by kind."""
        with self._lock:
            return {
                kind: Tallied(
                    self._counts.get(kind, 0),
                    self._latencies[kind].encode() if kind in self._latencies else None,
                    [
                        Second(second, count, round(longest, 6))
                        for second, (count, longest) in sorted(
                            self._seconds.get(kind, {}).items()
                        )
                    ],
                )
                for kind in sorted(self._latencies.keys() | self._seconds.keys())
            }
