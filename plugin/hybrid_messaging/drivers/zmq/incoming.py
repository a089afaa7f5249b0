# SPDX-License-Identifier: Apache-2.0
"""What a service receives: requests, and the inbox of a listener."""

from __future__ import annotations

import time
from typing import Any

from hybrid_messaging.drivers import bodies, errors, forks, logs, oslo
from hybrid_messaging.drivers.listeners import HandOver, NotExecuted
from hybrid_messaging.drivers.zmq import wire
from hybrid_messaging.drivers.zmq.backlog import State
from hybrid_messaging.drivers.zmq.server import Server

LOG = logs.get(__name__)


class Incoming(oslo.RpcIncomingMessage):
    """A request, from its arrival until the service has answered it."""

    def __init__(
        self,
        inbox: Inbox,
        routing_id: bytes,
        request: wire.Request,
        body: bodies.Request,
    ) -> None:
        super().__init__(body.context, body.message, request.id)
        self.client_timeout = body.call_monitor_timeout
        self.state = State.WAITING
        self.listener = inbox
        self.key = routing_id, request.id
        self.size = len(request.body)
        self.is_call = request.kind == wire.CALL
        self.until = (
            time.monotonic() + request.ttl / 1000
            if request.ttl < wire.NO_TTL
            else float("inf")
        )
        self._server = inbox.server_side

    def acknowledge(self) -> None:
        """The service begins.

        :raises NotExecuted: its sender has given up, or has got it back
        """
        if not self._server.begin(self):
            LOG.debug("%s: request %s is not executed", self.listener, self.key[1])
            raise NotExecuted

    def requeue(self) -> None:
        self._server.end(self, State.RETURNED)
        if self.is_call:
            self.answer(wire.NOBODY)

    def heartbeat(self) -> None:
        if self.is_call:
            self.answer(wire.ALIVE)

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        if not self.is_call:
            return
        body = bodies.reply(reply, failure).encode()
        if not self._server.carries(body):
            error = errors.MessageRefused(self._server.too_large("the reply", body))
            LOG.error("%s: %s", self.listener, error)
            body = bodies.refusal(error).encode()
        self.answer(wire.REPLY, body)

    def answer(self, kind: bytes, body: bytes = b"") -> None:
        """Answer its sender."""
        routing_id, id = self.key
        self._server.answer(routing_id, kind, id, body)


class Inbox:
    """Takes the requests of one listener, as long as it has room for them.

    :param server_side: gets the requests
    :param topic: its name in the directory
    :param server: the listener's own name
    :param hand_over: called with every request
    """

    def __init__(
        self, server_side: Server, topic: str, server: str, hand_over: HandOver
    ) -> None:
        self.server_side = server_side
        self.topic = topic
        self.server = server
        self._hand_over = hand_over

    def __str__(self) -> str:
        return f"{self.topic}/{self.server}"

    def start(self) -> None:
        forks.notice()
        self.server_side.add(self)

    def stop(self) -> None:
        """Take no more, and give back the calls that have not begun.

        Casts have been confirmed: the service executes them before it ends.
        """
        forks.notice()
        if self.server_side.forked:
            return
        self.server_side.remove(self)
        for incoming in self.server_side.backlog.of(self):
            assert isinstance(incoming, Incoming)
            if incoming.is_call:
                incoming.requeue()

    def cleanup(self) -> None:
        self.stop()

    def take(
        self, routing_id: bytes, request: wire.Request, body: bodies.Request
    ) -> None:
        """A request has arrived."""
        incoming = Incoming(self, routing_id, request, body)
        if not self.server_side.backlog.add(incoming, request.kind != wire.FANOUT):
            incoming.answer(wire.BUSY)
            return
        try:
            self._hand_over(incoming)
        except RuntimeError as error:  # the service's executor has been shut down
            LOG.debug("Returned a request on %s: %s", self, error)
            self.server_side.end(incoming, State.RETURNED)
            incoming.answer(wire.NOBODY)
            return
        if not incoming.is_call:
            incoming.answer(wire.TAKEN)
