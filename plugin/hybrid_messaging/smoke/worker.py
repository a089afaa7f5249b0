# SPDX-License-Identifier: Apache-2.0
"""A process of its own with a server of the run, and later with a listener."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import oslo_messaging

from hybrid_messaging.smoke.endpoint import Endpoint
from hybrid_messaging.smoke.run import Run
from hybrid_messaging.workers import loop
from hybrid_messaging.workers.loop import Events


class Worker:
    """Serves and listens as it is told.

    :param run: what to serve, as JSON
    :param events: takes what happens
    """

    def __init__(self, run: str, events: Events) -> None:
        self._run = Run.from_json(run)
        self._conf = self._run.conf()
        self._tell = events.tell
        self._closers: list[Callable[[], Any]] = []

    def commands(self) -> Mapping[str, Callable[..., None]]:
        """See `hybrid_messaging.workers.loop.Worker`."""
        return {"serve": self.serve, "listen": self.listen}

    def serve(self, server: str) -> None:
        """Be an RPC server of this name."""
        transport = oslo_messaging.get_rpc_transport(self._conf, url=self._run.rpc_url)
        self._closers.append(transport.cleanup)
        rpc_server = oslo_messaging.get_rpc_server(
            transport,
            self._run.rpc_target(server=server),
            [Endpoint(server, self._tell)],
            executor="threading",
            access_policy=oslo_messaging.DefaultRPCAccessPolicy,
        )
        rpc_server.start()
        self._closers.append(rpc_server.stop)
        self._tell("serving")

    def listen(self) -> None:
        """Take the notifications of the run."""
        transport = oslo_messaging.get_notification_transport(
            self._conf, url=self._run.notify_url
        )
        self._closers.append(transport.cleanup)
        target = oslo_messaging.Target(
            exchange=self._run.notify_exchange, topic=self._run.notify_topic
        )
        listener = oslo_messaging.get_notification_listener(
            transport, [target], [self], executor="threading"
        )
        listener.start()
        # Kafka wants to be told that a listener leaves its group
        self._closers += [listener.wait, listener.stop]
        self._tell("listening")

    def info(
        self,
        context: dict[str, Any],
        publisher_id: str,
        event_type: str,
        payload: Any,
        metadata: dict[str, Any],
    ) -> None:
        """A notification of priority info has come."""
        self._tell("notified", type=event_type, payload=payload)

    def close(self) -> None:
        """Undo everything, the latest first."""
        for closer in reversed(self._closers):
            closer()


def main() -> None:
    """Be the process of a worker."""
    loop.run(Worker, logging.WARNING)
