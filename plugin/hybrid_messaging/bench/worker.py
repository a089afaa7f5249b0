# SPDX-License-Identifier: Apache-2.0
"""A process of its own that produces or consumes.

It reads JSON lines from its standard input: first its assignment, then what to
do. It writes JSON lines, its events, to its standard output. When its input ends,
so does it: that is how it learns that it is no longer needed, or that whoever
started it is gone.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

import psutil

from hybrid_messaging.bench.assignment import Assignment, Clock, Timing
from hybrid_messaging.bench.consumer import Consumer
from hybrid_messaging.bench.producer import Producer

#: Seconds that closing the transports may take; the rabbit driver looks up from
#: its waiting for messages only now and then.
FAREWELL = 1.0
#: Seconds between two reports of how far it is.
PROGRESS = 0.5


class Worker:
    """Does its assignment as it is told.

    :param assignment: what to do
    :param output: takes the events
    """

    def __init__(self, assignment: Assignment, output: TextIO) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._clock = Clock()
        # CPU seconds and waits at the beginning and at the end of the interval
        self._usage: list[tuple[float, int]] = []
        if assignment.cpu is not None:
            os.sched_setaffinity(0, {assignment.cpu})
        self._role: Producer | Consumer = (
            Producer(assignment, self._clock)
            if assignment.mix
            else Consumer(assignment, self._clock)
        )
        self.tell("awake")

    def tell(self, event: str, **values: Any) -> None:
        """Report an event."""
        with self._lock:
            self._output.write(json.dumps({"event": event, **values}) + "\n")
            self._output.flush()

    def connect(self) -> None:
        """Get ready."""
        self._role.connect()
        self.tell("ready")

    def start(self, **timing: float) -> None:
        """Begin at the time that is told."""
        when = Timing(**timing)
        threading.Thread(target=self._watch, args=(when,), daemon=True).start()
        if isinstance(self._role, Producer):
            self._role.start(when, lambda: self.tell("done"))
        else:
            self._role.start(when)

    def report(self) -> None:
        """Tell everything that has been measured."""
        (begin, waited), (end, waits) = (*self._usage, (0.0, 0), (0.0, 0))[:2]
        self.tell(
            "report",
            **self._role.report(),
            cpu_seconds=round(max(end - begin, 0.0), 3),
            waits=max(waits - waited, 0),
            rss=psutil.Process().memory_info().rss,
        )

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
            self.tell("progress", counts=self._role.counts())

    def close(self) -> None:
        """Undo everything."""
        self._role.close()


def main(source: TextIO, output: TextIO) -> None:
    """Do what the lines of `source` say, until there are no more."""
    worker = Worker(Assignment.from_json(source.readline()), output)
    commands: dict[str, Callable[..., None]] = {
        "connect": worker.connect,
        "start": worker.start,
        "report": worker.report,
    }
    for line in source:
        command = json.loads(line)
        do = command.pop("do")
        try:
            commands[do](**command)
        except Exception as error:
            worker.tell("error", text=f"{type(error).__name__}: {error}")
    patience = threading.Timer(FAREWELL, os._exit, [1])
    patience.daemon = True
    patience.start()
    worker.close()
    patience.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    # nothing but events may come out here, whatever libraries print
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    main(sys.stdin, events)
    # the executors' idle threads would keep us for seconds
    os._exit(0)
