# SPDX-License-Identifier: Apache-2.0
"""What runs on a host that lends itself to a controller elsewhere.

It starts workers of this package and nothing else, and passes on what they and the
controller have to tell each other.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from typing import Any

import oslo_messaging

from hybrid_messaging.bench import machine
from hybrid_messaging.bench.assignment import Assignment
from hybrid_messaging.bench.control import HOSTS, Line
from hybrid_messaging.bench.crew import LocalWorker, LocalWorkers
from hybrid_messaging.workers import Event
from hybrid_messaging.workers.process import FAREWELL


class Host:
    """Answers controllers; use it as a context manager.

    :param url: transport URL of the control bus
    :param name: of this host, unlike any other's
    """

    def __init__(self, url: str, name: str) -> None:
        self._name = name
        self._local = LocalWorkers()
        self._workers: dict[str, LocalWorker] = {}
        self._lock = threading.Lock()
        self._line = Line(url, HOSTS, name, [self])

    def announce(self, context: dict[str, Any], controller: str) -> None:
        """Tell a controller that this host is there."""
        self._line.to(controller, controller).call(
            {},
            "present",
            host=self._name,
            about={**asdict(machine.machine()), "versions": machine.versions()},
            now=time.time(),
        )

    def start(
        self, context: dict[str, Any], controller: str, assignment: dict[str, Any]
    ) -> None:
        """Start a worker."""
        made = Assignment(**assignment)
        key = f"{made.token}/{made.name}"
        client = self._line.to(controller, controller)

        def report(event: Event) -> None:
            try:
                client.call({}, "event", key=key, event=event)
            except oslo_messaging.MessagingException:
                # nobody is there any more who would want it
                self._workers[key].ask_to_end()

        with self._lock:
            self._workers[key] = self._local.start(made, report)

    def tell(
        self, context: dict[str, Any], key: str, do: str, values: dict[str, Any]
    ) -> None:
        """Have a worker do something."""
        self._workers[key].tell(do, **values)

    def pause(self, context: dict[str, Any], key: str) -> None:
        """Have a worker hang."""
        self._workers[key].pause()

    def resume(self, context: dict[str, Any], key: str) -> None:
        """Have a worker go on after a pause."""
        self._workers[key].resume()

    def kill(self, context: dict[str, Any], key: str) -> None:
        """Kill a worker."""
        self._workers[key].kill()

    def ask_to_end(self, context: dict[str, Any], key: str) -> None:
        """Tell a worker that it is no longer needed."""
        self._workers[key].ask_to_end()

    def end(self, context: dict[str, Any], key: str) -> None:
        """Have a worker end."""
        with self._lock:
            worker = self._workers.pop(key, None)
        if worker is not None:
            worker.end(time.monotonic() + FAREWELL)

    def log(self, context: dict[str, Any], key: str) -> str:
        """The end of what a worker has written about itself."""
        return self._workers[key].log()

    def __enter__(self) -> Host:
        self._line.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            worker.ask_to_end()
        for worker in workers:
            worker.end(time.monotonic() + FAREWELL)
        self._local.__exit__()
        self._line.__exit__()
