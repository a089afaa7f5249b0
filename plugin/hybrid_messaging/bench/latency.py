# SPDX-License-Identifier: Apache-2.0
"""Latencies as HDR histograms: three significant digits from 1 µs to an hour.

Histograms of several processes and rounds can be added up without losing
anything, which percentiles cannot: http://hdrhistogram.org.
"""

from __future__ import annotations

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

_LOWEST, _HIGHEST, _DIGITS = 1, 3_600_000_000, 3  # µs


class Latencies:
    """A histogram of latencies."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(_LOWEST, _HIGHEST, _DIGITS)

    def record(self, seconds: float) -> None:
        """Add one latency; a clock that went backwards counts as the shortest."""
        value = min(max(int(seconds * 1e6), _LOWEST), _HIGHEST)
        self._histogram.record_value(value)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._histogram.get_total_count())

    @property
    def mean(self) -> float:
        """Their mean in seconds; 0 without any."""
        return float(self._histogram.get_mean_value()) / 1e6

    def encode(self) -> str:
        """The histogram as text (HdrHistogram V2, compressed, base64)."""
        return str(self._histogram.encode().decode())

    @classmethod
    def merged(cls, encoded: Iterable[str]) -> Latencies:
        """Add up histograms that `encode` has written."""
        total = cls()
        for text in encoded:
            total._histogram.decode_and_add(text)
        return total

    def figures(self) -> dict[str, float]:
        """Minimum, percentiles and maximum in milliseconds; empty without any."""
        if not self.count:
            return {}
        named = {
            f"p{each:g}": self._histogram.get_value_at_percentile(each)
            for each in PERCENTILES
        }
        lowest, highest = (
            self._histogram.get_min_value(),
            self._histogram.get_max_value(),
        )
        values = {"min": lowest, **named, "max": highest}
        return {name: round(value / 1e3, 3) for name, value in values.items()}

    def curve(self) -> list[tuple[float, float]]:
        """(milliseconds, percentage of latencies up to there), ascending."""
        return [
            (item.value_iterated_to / 1e3, item.percentile)
            for item in self._histogram.get_recorded_iterator()
        ]
