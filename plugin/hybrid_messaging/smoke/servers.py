# SPDX-License-Identifier: Apache-2.0
"""The server processes of a run, seen from the process with the clients."""

from __future__ import annotations

import threading
import time
from typing import Any

from hybrid_messaging import urls
from hybrid_messaging.smoke.outcome import Failure
from hybrid_messaging.smoke.run import Run
from hybrid_messaging.workers import Event
from hybrid_messaging.workers.fork_server import ForkServer
from hybrid_messaging.workers.process import FAREWELL, WorkerProcess

_WORKER = "hybrid_messaging.smoke.worker"


class Process(WorkerProcess):
    """One process of `hybrid_messaging.smoke.worker`.

    :param forks: makes it
    :param run: what it shall know
    :param name: of the server in it
    """

    def __init__(self, forks: ForkServer, run: Run, name: str) -> None:
        self.name = name
        self.serving = False
        self._changed = threading.Condition()
        self._events: list[Event] = []
        super().__init__(forks, run.to_json(), self._take)

    def wait(self, event: str, timeout: float, **values: Any) -> Event | None:
        """Wait for an event with these values.

        :param timeout: seconds
        :returns: the event, taken from the list of events; None if it does not come
        :raises Failure: if the process reports an error, or has ended
        """
        deadline = time.monotonic() + timeout
        wanted = {"event": event, **values}.items()
        with self._changed:
            while True:
                for found in self._events:
                    if found["event"] == "error":
                        raise Failure(f"{self}: {urls.redact(found['text'])}")
                    if found["event"] == "ended":
                        raise Failure(f"{self} has ended; its output: {self.log()}")
                    if wanted <= found.items():
                        self._events.remove(found)
                        return found
                if not self._changed.wait(deadline - time.monotonic()):
                    return None

    def __str__(self) -> str:
        return f"server process {self.name} (pid {self.pid})"

    def _take(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()


class Servers:
    """As many server processes as a check wants; a killed one is replaced.

    :param run: what they serve
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._forks = ForkServer(_WORKER)
        self._processes: list[Process] = []

    def any(self) -> Process:
        """Return one process, whether it serves or not."""
        return self._start(1)[0]

    def get(self, count: int, timeout: float) -> list[Process]:
        """Return so many servers that serve; those that run already come first.

        :param timeout: seconds until all of them serve
        :raises Failure: if one does not
        """
        deadline = time.monotonic() + timeout
        servers = self._start(count)
        idle = [process for process in servers if not process.serving]
        for process in idle:
            process.tell("serve", server=process.name)
        for process in idle:
            if process.wait("serving", deadline - time.monotonic()) is None:
                raise Failure(f"{process} did not start to serve within {timeout:g} s")
            process.serving = True
        return servers

    def _start(self, count: int) -> list[Process]:
        """Have so many processes run."""
        self._processes = [item for item in self._processes if item.alive]
        taken = {item.name for item in self._processes}
        free = (name for name in self._run.servers if name not in taken)
        while len(self._processes) < count:
            self._processes.append(Process(self._forks, self._run, next(free)))
        return self._processes[:count]

    def close(self) -> None:
        """End them all."""
        for process in self._processes:
            process.ask_to_end()
        deadline = time.monotonic() + FAREWELL
        for process in self._processes:
            process.end(deadline)
        self._processes = []
        self._forks.close()
