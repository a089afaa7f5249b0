# SPDX-License-Identifier: Apache-2.0
"""What a service receives: requests, and the inbox of a listener."""

from __future__ import annotations

import collections
import logging
from typing import Any

from hybrid_messaging.drivers import bodies, oslo
from hybrid_messaging.drivers.listeners import HandOver
from hybrid_messaging.drivers.zmq import wire
from hybrid_messaging.drivers.zmq.server import Server

LOG = logging.getLogger(__name__)

#: A listener is full when so many times its credit is waiting: senders that wait
#: for their casts to be taken never get there.
OVERFLOW = 20


class Incoming(oslo.RpcIncomingMessage):
    """A request that the service works on."""

    def __init__(
        self,
        inbox: Inbox,
        routing_id: bytes,
        request: wire.Request,
        body: bodies.Request,
    ) -> None:
        super().__init__(body.context, body.message, request.id)
        self.client_timeout = body.call_monitor_timeout
        self._inbox = inbox
        self._routing_id = routing_id
        self._id = request.id
        self._is_call = request.kind == wire.CALL

    def acknowledge(self) -> None:
        self._inbox.taken(self)

    def requeue(self) -> None:
        self._inbox.taken(self)
        if self._is_call:
            self._answer(wire.NOBODY)

    def heartbeat(self) -> None:
        if self._is_call:
            self._answer(wire.ALIVE)

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        if not self._is_call:
            return
        try:
            body = bodies.reply(reply, failure)
        except Exception as error:
            LOG.exception("The reply to %s cannot be sent", self._id)
            body = bodies.reply(None, (type(error), error, error.__traceback__))
        self._answer(wire.REPLY, body.encode())

    def confirm(self) -> None:
        """Tell the sender of a cast that it has been taken."""
        self._answer(wire.TAKEN)

    def _answer(self, kind: bytes, body: bytes = b"") -> None:
        self._inbox.server_side.answer(self._routing_id, kind, self._id, body)


class Inbox:
    """Takes the requests of one listener.

    Casts are confirmed as long as not too many requests are waiting for the
    service, and later otherwise: that slows their senders.

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
        #: requests that the service has not begun to work on
        self._waiting: set[Incoming] = set()
        self._unconfirmed: collections.deque[Incoming] = collections.deque()

    def __str__(self) -> str:
        return f"{self.topic}/{self.server}"

    def start(self) -> None:
        self.server_side.add(self)

    def stop(self) -> None:
        if not self.server_side.forked:
            self.server_side.remove(self)

    def cleanup(self) -> None:
        self.stop()

    def take(
        self, routing_id: bytes, request: wire.Request, body: bodies.Request
    ) -> None:
        """A request has arrived."""
        server, waiting = self.server_side, self._waiting
        if len(waiting) >= OVERFLOW * server.capacity:
            server.answer(routing_id, wire.BUSY, request.id)
            return
        incoming = Incoming(self, routing_id, request, body)
        waiting.add(incoming)
        full = len(waiting) > server.capacity
        if full and request.kind == wire.CAST:
            self._unconfirmed.append(incoming)
        try:
            self._hand_over(incoming)
        except RuntimeError as error:  # the service's executor has been shut down
            LOG.debug("Gave back a request on %s: %s", self, error)
            waiting.discard(incoming)
            server.answer(routing_id, wire.NOBODY, request.id)
            return
        if request.kind == wire.CAST and not full:
            incoming.confirm()

    def taken(self, incoming: Incoming) -> None:
        """The service has begun to work on a request: there is room for another."""
        self._waiting.discard(incoming)
        while self._unconfirmed and len(self._waiting) <= self.server_side.capacity:
            try:
                self._unconfirmed.popleft().confirm()
            except IndexError:  # another thread was faster
                return
