# SPDX-License-Identifier: Apache-2.0
"""A process of its own that produces or consumes."""

from __future__ import annotations

import logging
import os
import resource
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict

import psutil

from hybrid_messaging.bench.assignment import Assignment, Clock, Timing
from hybrid_messaging.bench.consumer import Consumer
from hybrid_messaging.bench.producer import Producer
from hybrid_messaging.bench.worker_reports import Usage
from hybrid_messaging.workers import loop
from hybrid_messaging.workers.loop import Events

#: Seconds between two reports of how far it is.
PROGRESS = 0.5


class Worker:
    """Does its assignment as it is told.

    :param assignment: what to do, as JSON
    :param events: takes what happens
    """

    def __init__(self, assignment: str, events: Events) -> None:
        made = Assignment.from_json(assignment)
        self._tell = events.tell
        self._clock = Clock()
        # CPU seconds and waits at the beginning and at the end of the interval
        self._usage: list[tuple[float, int]] = []
        if made.cpu is not None:
            os.sched_setaffinity(0, {made.cpu})
        self._role: Producer | Consumer = (
            Producer(made, self._clock) if made.mix else Consumer(made, self._clock)
        )
        self._tell("awake")

    def commands(self) -> Mapping[str, Callable[..., None]]:
        """See `hybrid_messaging.workers.loop.Worker`."""
        return {
            "connect": self.connect,
            "start": self.start,
            "stop": self.stop,
            "report": self.report,
        }

    def connect(self) -> None:
        """Get ready."""
        self._role.connect()
        self._tell("ready")

    def start(self, **timing: float) -> None:
        """Begin at the time that is told."""
        when = Timing(**timing)
        threading.Thread(target=self._watch, args=(when,), daemon=True).start()
        if isinstance(self._role, Producer):
            self._role.start(when, lambda: self._tell("done"))
        else:
            self._role.start(when)

    def stop(self) -> None:
        """Take no more messages, and end what has begun."""
        assert isinstance(self._role, Consumer)
        self._role.stop()
        self._tell("stopped")

    def report(self) -> None:
        """Tell everything that has been measured."""
        (begin, waited), (end, waits) = (*self._usage, (0.0, 0), (0.0, 0))[:2]
        usage = Usage(
            cpu_seconds=round(max(end - begin, 0.0), 3),
            waits=max(waits - waited, 0),
            rss=psutil.Process().memory_info().rss,
        )
        self._tell("report", measured=asdict(self._role.report()), usage=asdict(usage))

    def _watch(self, timing: Timing) -> None:
        """Tell how far we are, and look at our usage when the interval is over."""
        marks = [timing.begin, timing.end]
        while True:
            pause = self._clock.now() + PROGRESS
            if marks and marks[0] <= pause:
                self._clock.sleep_until(marks.pop(0))
                usage = resource.getrusage(resource.RUSAGE_SELF)
                self._usage.append((usage.ru_utime + usage.ru_stime, usage.ru_nvcsw))
            self._clock.sleep_until(pause)
            self._tell("progress", counts=self._role.counts())

    def close(self) -> None:
        """Undo everything."""
        self._role.close()


def main() -> None:
    """Be the process of a worker."""
    loop.run(Worker, logging.ERROR)
