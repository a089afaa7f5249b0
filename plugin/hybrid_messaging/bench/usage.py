# SPDX-License-Identifier: Apache-2.0
"""CPU time and memory of engines while a measurement runs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import psutil

from hybrid_messaging import state
from hybrid_messaging.bench.buses import Bus


@dataclass(frozen=True)
class Sample:
    """One look at an engine: CPU seconds since we watch it, bytes of memory."""

    cpu: float
    rss: int


class Watch:
    """Watches the engines of a bus, across restarts.

    :param bus: whose engines; there are none if the user has given the URLs
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        # by engine: process, its CPU time at the last look, what we have counted
        self._known: dict[str, tuple[int, float, float]] = {}

    def look(self) -> dict[str, Sample]:
        """Look at all engines that run."""
        found = {}
        for engine in self._bus.engines():
            with contextlib.suppress(psutil.Error):
                found[engine.name] = self._look(engine)
        return found

    def _look(self, engine: state.Engine) -> Sample:
        process = psutil.Process(engine.pid)
        family = [process, *process.children(recursive=True)]
        now, rss = 0.0, 0
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                now += times.user + times.system
                rss += member.memory_info().rss
        pid, last, counted = self._known.get(engine.name, (engine.pid, now, 0.0))
        # a restarted engine begins at nought
        counted += max(now - last, 0.0) if pid == engine.pid else now
        self._known[engine.name] = (engine.pid, now, counted)
        return Sample(round(counted, 3), rss)


def machine_cpu() -> tuple[float, float]:
    """Seconds that all CPUs of this machine have been busy, and idle."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # time of guests is part of the user's
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return sum(times) - idle - guests, idle
