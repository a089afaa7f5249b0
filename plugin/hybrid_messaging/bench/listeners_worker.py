# SPDX-License-Identifier: Apache-2.0
"""A process with many listeners of a topic, or one that calls them."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import oslo_messaging

from hybrid_messaging.bench.assignment import Assignment, Clock
from hybrid_messaging.bench.consumer import Consumer
from hybrid_messaging.workers import loop
from hybrid_messaging.workers.loop import Events

#: Seconds for a call of a caller that waits for a server to come back: short, so that
#: it does not wait longer than the server is away.
ATTEMPT = 1.0
#: Seconds between two attempts to reach a server.
PAUSE = 0.05
#: So many servers are asked at the same time whether they are back.
ASKING = 32


class Listeners(Consumer):
    """Serves under many names, and tells when all of them have got a fanout.

    :param assignment: the names
    :param clock: tells the time
    :param events: takes what happens
    """

    def __init__(self, assignment: Assignment, clock: Clock, events: Events) -> None:
        super().__init__(assignment, clock)
        self._events = events
        self._names = len(assignment.servers)
        self._lock = threading.Lock()
        # by number of the fanout
        self._taken: dict[int, int] = {}

    def commands(self) -> Mapping[str, Callable[..., None]]:
        """See `hybrid_messaging.workers.loop.Worker`."""
        return {"connect": self.get_ready, "count": self.count}

    def get_ready(self) -> None:
        """Connect and subscribe."""
        self.connect()
        self._events.tell("ready")

    def count(self, number: int) -> None:
        """Tell how many listeners have got a fanout."""
        self._events.tell("count", taken=self._taken.get(number, 0))

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        number = data["number"]
        with self._lock:
            taken = self._taken[number] = self._taken.get(number, 0) + 1
        if taken == self._names:
            self._events.tell("all", moment=self._clock.now())


class Caller:
    """Fans out to listeners, and calls each of them.

    :param assignment: the names of the servers
    :param clock: tells the time
    :param events: takes what happens
    """

    def __init__(self, assignment: Assignment, clock: Clock, events: Events) -> None:
        self._assignment = assignment
        self._clock = clock
        self._events = events
        self._transport: Any = None
        self._client: Any = None

    def commands(self) -> Mapping[str, Callable[..., None]]:
        """See `hybrid_messaging.workers.loop.Worker`."""
        return {
            "connect": self.connect,
            "fanout": self.fanout,
            "call_each": self.call_each,
            "await_all": self.await_all,
        }

    def connect(self) -> None:
        """Make a transport, over which nothing is sent yet."""
        self._transport = oslo_messaging.get_rpc_transport(
            self._assignment.conf(), self._assignment.rpc_url
        )
        self._client = oslo_messaging.get_rpc_client(
            self._transport,
            self._assignment.rpc_target(),
            timeout=self._assignment.timeout,
        )
        self._events.tell("ready")

    def fanout(self, number: int) -> None:
        """Send one fanout, and tell when it was begun and when that returned."""
        data = {"number": number}
        everyone = self._client.prepare(fanout=True)
        begin = self._clock.now()
        everyone.cast({}, "fanout", data=data)
        self._events.tell("sent", begin=begin, end=self._clock.now())

    def call_each(self, threads: int) -> None:
        """Call each server once, in some threads, and tell how long that took."""
        names = iter(self._assignment.directed)
        failed: list[str] = []

        def call() -> None:
            while (name := next(names, None)) is not None:
                try:
                    self._client.prepare(server=name).call({}, "hello")
                except oslo_messaging.MessagingException:
                    failed.append(name)

        begin = self._clock.now()
        _in_threads(threads, call)
        self._events.tell(
            "called", seconds=self._clock.now() - begin, failed=len(failed)
        )

    def await_all(self, patience: float) -> None:
        """Call each server until it answers; tell when all have, and how many have not.

        :param patience: seconds until it gives up
        """
        silent: queue.SimpleQueue[str] = queue.SimpleQueue()
        for name in self._assignment.directed:
            silent.put(name)
        deadline = time.monotonic() + patience

        def ask() -> None:
            while time.monotonic() < deadline:
                try:
                    name = silent.get_nowait()
                except queue.Empty:
                    return
                client = self._client.prepare(server=name, timeout=ATTEMPT)
                try:
                    client.call({}, "hello")
                except oslo_messaging.MessagingException:
                    silent.put(name)
                    time.sleep(PAUSE)

        _in_threads(ASKING, ask)
        self._events.tell("answered", moment=self._clock.now(), silent=silent.qsize())

    def close(self) -> None:
        """Close the transport."""
        if self._transport is not None:
            self._transport.cleanup()


def _in_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def hire(line: str, events: Events) -> Listeners | Caller:
    """A worker for an assignment."""
    assignment = Assignment.from_json(line)
    kind = Listeners if assignment.serve else Caller
    made = kind(assignment, Clock(), events)
    events.tell("awake")
    return made


def main() -> None:
    """Be the process of a worker."""
    loop.run(hire, logging.CRITICAL)
