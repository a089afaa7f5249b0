# SPDX-License-Identifier: Apache-2.0
"""The workers of a measurement, seen from the controller."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from hybrid_messaging import urls
from hybrid_messaging.bench import BenchError
from hybrid_messaging.bench.assignment import Assignment
from hybrid_messaging.workers import Event, Report
from hybrid_messaging.workers.fork_server import ForkServer
from hybrid_messaging.workers.process import FAREWELL, WorkerProcess

_WORKER = "hybrid_messaging.bench.worker"


class Worker(Protocol):
    """A worker somewhere, which reports its events to whoever started it."""

    name: str

    def tell(self, do: str, **values: Any) -> None:
        """Have it do something."""

    def pause(self) -> None:
        """Have it hang, with its connections open."""

    def resume(self) -> None:
        """Have it go on after a pause."""

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""

    def ask_to_end(self) -> None:
        """Tell it that it is no longer needed."""

    def end(self, deadline: float) -> None:
        """Wait until it has ended, or kill it.

        :param deadline: monotonic time until which it may end by itself
        """

    def log(self) -> str:
        """The end of what it has written about itself, without passwords."""


Start = Callable[[Assignment, Report], Worker]


class LocalWorker(WorkerProcess):
    """A worker process on this machine.

    :param forks: makes it
    :param assignment: what it shall do
    :param report: takes its events
    """

    def __init__(
        self, forks: ForkServer, assignment: Assignment, report: Report
    ) -> None:
        self.name = assignment.name
        super().__init__(forks, assignment.to_json(), report)


class LocalWorkers:
    """Starts workers on this machine; use it as a context manager.

    :param module: what they run
    """

    def __init__(self, module: str = _WORKER) -> None:
        self._forks = ForkServer(module)

    def start(self, assignment: Assignment, report: Report) -> LocalWorker:
        """Start a worker.

        :raises OSError: if no process can be started
        """
        return LocalWorker(self._forks, assignment, report)

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self._forks.close()


class Crew:
    """All workers of a measurement; use it as a context manager.

    :param assignments: one for each worker
    :param start: starts a worker
    """

    def __init__(self, assignments: Iterable[Assignment], start: Start) -> None:
        self._events: queue.SimpleQueue[tuple[str, Event]] = queue.SimpleQueue()
        #: what each worker has told last about how far it is
        self.counts: dict[str, dict[str, int]] = {}
        self._dead: set[str] = set()
        self._workers: dict[str, Worker] = {}
        self._seen: dict[str, dict[str, Event]] = {}
        self._start = start
        try:
            for item in assignments:
                self.hire(item)
        except BaseException:
            self.close()
            raise

    def hire(self, assignment: Assignment) -> None:
        """Start one more worker.

        :param assignment: its name is unlike that of any before it
        """
        name = assignment.name
        self._workers[name] = self._start(assignment, self._reporter(name))

    def _reporter(self, name: str) -> Report:
        return lambda event: self._events.put((name, event))

    def tell(self, names: Iterable[str], do: str, **values: Any) -> None:
        """Have some workers do something."""
        for name in names:
            if name not in self._dead:
                self._workers[name].tell(do, **values)

    def pause(self, name: str) -> None:
        """Have a worker hang."""
        self._workers[name].pause()

    def resume(self, name: str) -> None:
        """Have a worker go on after a pause."""
        self._workers[name].resume()

    def dismiss(self, name: str) -> None:
        """Tell a worker that it is no longer needed, and wait until it has ended."""
        self._dead.add(name)
        worker = self._workers.pop(name)
        worker.ask_to_end()
        worker.end(time.monotonic() + FAREWELL)

    def kill(self, name: str) -> None:
        """Kill a worker, whose silence is no error from now on."""
        self._dead.add(name)
        self._workers[name].kill()

    def gather(
        self, names: Sequence[str], event: str, timeout: float, what: str
    ) -> dict[str, Event]:
        """Wait until each of some workers has reported an event.

        :param what: the event in words, for the error
        :returns: the events by worker; killed ones have none
        :raises BenchError: if one does not within `timeout` seconds, fails or ends
        """
        deadline = time.monotonic() + timeout
        while lacking := self.lacking(names, event):
            left = deadline - time.monotonic()
            if left <= 0:
                raise BenchError(
                    f"{', '.join(lacking)} {what} not within {timeout:g} s;"
                    f" {lacking[0]} says: {self._workers[lacking[0]].log()}"
                )
            self.listen(left)
        found = self._seen.get(event, {})
        return {name: found.pop(name) for name in names if name in found}

    def lacking(self, names: Iterable[str], event: str) -> list[str]:
        """Those living workers that have not reported an event."""
        seen = self._seen.get(event, {})
        return [name for name in names if name not in seen and name not in self._dead]

    def listen(self, timeout: float) -> None:
        """Take the events that are there, or that come within so many seconds.

        :raises BenchError: if a worker has failed or ended
        """
        try:
            self._take(*self._events.get(timeout=max(timeout, 0.001)))
            while True:
                self._take(*self._events.get_nowait())
        except queue.Empty:
            return

    def _take(self, name: str, event: Event) -> None:
        kind = event.pop("event")
        if kind == "progress":
            self.counts[name] = event["counts"]
        elif kind == "error":
            raise BenchError(f"{name}: {urls.redact(event['text'])}")
        elif kind == "ended":
            if name not in self._dead:
                raise BenchError(
                    f"{name} has ended; its output: {self._workers[name].log()}"
                )
        else:
            self._seen.setdefault(kind, {})[name] = event

    def close(self) -> None:
        """End all workers."""
        self._dead |= self._workers.keys()
        for worker in self._workers.values():
            worker.ask_to_end()
        deadline = time.monotonic() + FAREWELL
        for worker in self._workers.values():
            worker.end(deadline)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
