# SPDX-License-Identifier: Apache-2.0
"""A consumer: answers calls, takes casts and fanouts, and listens to notifications."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import oslo_messaging

from hybrid_messaging.bench.assignment import Assignment, Clock, Timing
from hybrid_messaging.bench.ledger import Ledger
from hybrid_messaging.bench.parameters import NOTIFY
from hybrid_messaging.bench.tally import Tally
from hybrid_messaging.bench.worker_reports import Consumed

#: Seconds that a message may wait for us to be told when the measurement begins.
_START_TIMEOUT = 60.0


class Consumer:
    """Serves and listens, and notes what comes.

    :param assignment: what to take
    :param clock: tells the time
    """

    def __init__(self, assignment: Assignment, clock: Clock) -> None:
        self._assignment = assignment
        self._clock = clock
        self._received = Ledger(assignment.ledger_dir("received"))
        self._arriving: Tally | None = None
        self._started = threading.Event()
        self._transports: list[Any] = []
        self._servers: list[Any] = []

    def connect(self) -> None:
        """Connect and subscribe.

        :raises MessagingException: if that is not possible
        """
        conf = self._assignment.conf()
        if self._assignment.serve:
            transport = oslo_messaging.get_rpc_transport(conf, self._assignment.rpc_url)
            self._transports.append(transport)
            for name in self._assignment.servers or (self._assignment.name,):
                self._start(
                    oslo_messaging.get_rpc_server(
                        transport,
                        self._assignment.rpc_target(server=name),
                        [_Methods(self._note)],
                        executor="threading",
                        access_policy=oslo_messaging.DefaultRPCAccessPolicy,
                    )
                )
        if self._assignment.listen:
            transport = oslo_messaging.get_notification_transport(
                conf, self._assignment.notify_url
            )
            self._transports.append(transport)
            topic = self._assignment.notify_topic
            self._start(
                oslo_messaging.get_notification_listener(
                    transport,
                    [oslo_messaging.Target(exchange=topic, topic=topic)],
                    [_Notifications(self._note)],
                    executor="threading",
                ),
            )

    def _start(self, server: Any) -> None:
        server.start(override_pool_size=self._assignment.pool)
        self._servers.append(server)

    def start(self, timing: Timing) -> None:
        """Take messages from now on; those that are there already wait for it."""
        self._arriving = Tally(timing)
        self._started.set()

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        self._started.wait(_START_TIMEOUT)
        assert self._arriving is not None
        self._arriving.note(kind, data["sent"], self._clock.now())
        self._received.tick(data["from"], kind, data["number"])
        if work := self._assignment.work:
            time.sleep(work[data["number"] % len(work)])

    def counts(self) -> dict[str, int]:
        """How many messages of each kind have come."""
        return self._received.ticks()

    def report(self) -> Consumed:
        """Everything that is known."""
        assert self._arriving is not None
        return Consumed(self._received.encode(), self._arriving.report())

    def stop(self) -> None:
        """Take no more messages, and end what has begun, as services do on SIGTERM."""
        for server in self._servers:
            server.stop()
        for server in self._servers:
            server.wait()

    def close(self) -> None:
        """Unsubscribe and close the transports."""
        for server in self._servers:
            server.stop()
        for transport in self._transports:
            transport.cleanup()


Note = Callable[[str, dict[str, Any]], None]


class _Methods:
    """What can be called."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def hello(self, context: dict[str, Any]) -> None:
        """Show that somebody is there."""

    def call(self, context: dict[str, Any], data: dict[str, Any]) -> str:
        """Answer with as much as has come."""
        self._note("call", data)
        return str(data["data"])

    def cast(self, context: dict[str, Any], data: dict[str, Any]) -> None:
        """Take a message for one of the servers."""
        self._note("cast", data)

    def fanout(self, context: dict[str, Any], data: dict[str, Any]) -> None:
        """Take a message for all servers."""
        self._note("fanout", data)


class _Notifications:
    """What takes notifications."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def info(
        self,
        context: dict[str, Any],
        publisher_id: str,
        event_type: str,
        payload: dict[str, Any],
        metadata: dict[str, Any],
    ) -> None:
        """Take a notification of priority info."""
        self._note(NOTIFY, payload)
