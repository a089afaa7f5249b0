# SPDX-License-Identifier: Apache-2.0
"""Workers on other hosts, seen from the controller."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import oslo_messaging

from hybrid_messaging.bench import BenchError
from hybrid_messaging.bench.assignment import PREFIX, Assignment
from hybrid_messaging.bench.control import HOSTS, Line
from hybrid_messaging.bench.crew import Worker
from hybrid_messaging.bench.machine import Host
from hybrid_messaging.workers import Event, Report

#: Seconds to wait for the hosts, and between two times of asking who is there.
PATIENCE = 60.0
ASK_EVERY = 1.0
#: Seconds that the clock of a host may differ from ours.
CLOCK_TOLERANCE = 0.1


class Hosts:
    """The hosts that have announced themselves; use it as a context manager.

    :param url: transport URL of the control bus
    :param count: how many hosts to wait for
    :param progress: takes lines for whoever waits
    """

    def __init__(self, url: str, count: int, progress: Callable[[str], None]) -> None:
        self._count = count
        self._progress = progress
        self._name = f"{PREFIX}-controller-{secrets.token_hex(4)}"
        self._changed = threading.Condition()
        #: what each host has told about itself
        self.about: dict[str, Host] = {}
        self._reports: dict[str, Report] = {}
        self._line = Line(url, self._name, self._name, [self])

    def present(
        self, context: dict[str, Any], host: str, about: dict[str, Any], now: float
    ) -> None:
        """A host tells that it is there, and what time it is."""
        offset = now - time.time()
        with self._changed:
            known = host in self.about
            self.about[host] = Host(**about)
            self._changed.notify_all()
        if not known:
            self._progress(f"host {host} has joined, with {about['usable_cpus']} CPUs")
            if abs(offset) > CLOCK_TOLERANCE:
                self._progress(
                    f"its clock differs by {offset:.1f} s: latencies of casts, fanouts"
                    " and notifications are wrong until you synchronise it"
                )

    def event(self, context: dict[str, Any], key: str, event: Event) -> None:
        """A worker tells something."""
        report = self._reports.get(key)
        if report is not None:
            report(event)

    def start(self, assignment: Assignment, report: Report) -> Worker:
        """Start a worker on the next host.

        :raises BenchError: if the host does not answer
        """
        host = next(self._turns)
        key = f"{assignment.token}/{assignment.name}"
        self._reports[key] = report
        worker = RemoteWorker(
            assignment.name, key, host, self._line.to(HOSTS, host), self._reports
        )
        worker.call("start", controller=self._name, assignment=asdict(assignment))
        return worker

    def __enter__(self) -> Hosts:
        self._line.__enter__()
        try:
            self._wait()
        except BaseException:
            self._line.__exit__()
            raise
        return self

    def _wait(self) -> None:
        self._progress(f"waiting for {self._count} hosts …")
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(oslo_messaging.MessagingException):
                self._line.to(HOSTS).cast({}, "announce", controller=self._name)
            with self._changed:
                if self._changed.wait_for(
                    lambda: len(self.about) >= self._count, ASK_EVERY
                ):
                    self._turns = itertools.cycle(sorted(self.about))
                    return
            if time.monotonic() > deadline:
                raise BenchError(
                    f"only {len(self.about)} of {self._count} hosts have joined after"
                    f" {PATIENCE:g} s: run `hybrid-messaging bench worker` on the"
                    " others, with the same control bus"
                )

    def __exit__(self, *_: object) -> None:
        self._line.__exit__()


class RemoteWorker:
    """A worker process on another host; see `crew.Worker`.

    :param key: by which its host knows it
    :param client: calls its host
    :param reports: who takes the events of which worker
    """

    def __init__(
        self, name: str, key: str, host: str, client: Any, reports: dict[str, Report]
    ) -> None:
        self.name = name
        self._key = key
        self._host = host
        self._client = client
        self._reports = reports

    def call(self, method: str, **values: Any) -> Any:
        """Call the host.

        :raises BenchError: if it does not answer, or fails
        """
        try:
            return self._client.call({}, method, **values)
        except (oslo_messaging.MessagingException, oslo_messaging.RemoteError) as error:
            raise BenchError(f"host {self._host} failed: {error}") from error

    def tell(self, do: str, **values: Any) -> None:
        """See `crew.Worker`."""
        self.call("tell", key=self._key, do=do, values=values)

    def pause(self) -> None:
        """See `crew.Worker`."""
        self.call("pause", key=self._key)

    def resume(self) -> None:
        """See `crew.Worker`."""
        self.call("resume", key=self._key)

    def kill(self) -> None:
        """See `crew.Worker`."""
        self.call("kill", key=self._key)

    def ask_to_end(self) -> None:
        """See `crew.Worker`."""
        with contextlib.suppress(BenchError):
            self.call("ask_to_end", key=self._key)

    def end(self, deadline: float) -> None:
        """See `crew.Worker`; the host sees to it."""
        with contextlib.suppress(BenchError):
            self.call("end", key=self._key)
        self._reports.pop(self._key, None)

    def log(self) -> str:
        """See `crew.Worker`."""
        return f"(on {self._host}) {self.call('log', key=self._key)}"
