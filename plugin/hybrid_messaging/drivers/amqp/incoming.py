# SPDX-License-Identifier: Apache-2.0
"""What a service receives: requests and notifications, and their listeners."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from oslo_messaging import exceptions

from hybrid_messaging.drivers import bodies, oslo
from hybrid_messaging.drivers.amqp.addressing import Addressing
from hybrid_messaging.drivers.amqp.bus import Bus
from hybrid_messaging.drivers.amqp.route import SETTLES_WITH_REPLY, Outgoing, State
from hybrid_messaging.drivers.amqp.subscription import Source, Subscription
from hybrid_messaging.drivers.listeners import HandOver
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import ACCEPTED, REJECTED, RELEASED, Outcome

LOG = logging.getLogger(__name__)


class Incoming(oslo.RpcIncomingMessage):
    """A request or a notification that the service works on.

    A call whose sender knows how is settled with its reply, not when it is
    taken: if this process dies in between, the router tells the caller.
    """

    def __init__(
        self,
        bus: Bus,
        source: Source,
        delivery: Any,
        envelope: codec.Message,
        request: bodies.Request,
    ) -> None:
        super().__init__(request.context, request.message, envelope.id or "")
        self.client_timeout = request.call_monitor_timeout
        self._bus = bus
        self._connection = bus.connection
        self._source = source
        self._delivery = delivery
        self._reply_to = envelope.reply_to
        self._id = envelope.id
        self._settles_with_reply = (
            bus.routing
            and self._reply_to is not None
            and bool(envelope.annotations.get(SETTLES_WITH_REPLY))
        )

    def acknowledge(self) -> None:
        self._bus.lock.leave(self._take)

    def _take(self) -> None:
        if self._connection is self._bus.connection:
            self._source.subscription.taken(self._source)
            if not self._settles_with_reply:
                self._settle(ACCEPTED)

    def requeue(self) -> None:
        self._bus.lock.leave(self._release)

    def _release(self) -> None:
        if self._connection is self._bus.connection:
            self._source.subscription.taken(self._source)
            self._settle(RELEASED)

    def heartbeat(self) -> None:
        if self._reply_to is not None:
            self._answer("RPC heartbeat", None, ttl=self.client_timeout)

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        if self._reply_to is None:
            return
        try:
            body = bodies.reply(reply, failure)
        except Exception as error:
            LOG.exception("The reply to %s cannot be sent", self._id)
            body = bodies.reply(None, (type(error), error, error.__traceback__))
        self._answer("RPC reply", body, last=True)

    def _answer(
        self,
        name: str,
        body: str | None,
        ttl: float | None = None,
        last: bool = False,
    ) -> None:
        address = self._reply_to or ""
        message = Outgoing(
            self._bus.outbox.reply_route(address),
            address,
            name,
            body,
            settled=not last or "rpc-reply" in self._bus.options.pre_settled,
            correlation_id=self._id,
            ttl=ttl,
            retry=self._bus.options.default_reply_retry,
        )
        if self._bus.forked:
            return
        if message.settled:
            self._bus.lock.leave(self._post, message, last)
        else:
            self._deliver(message)

    def _post(self, message: Outgoing, last: bool) -> None:
        """Send a reply without asking what becomes of it."""
        bus = self._bus
        if self._connection is None or self._connection is not bus.connection:
            LOG.debug("The reply address of %s went with the connection", self._id)
            return
        bus.outbox.submit(message)
        if message.state is State.QUEUED:
            bus.later(bus.options.default_reply_timeout, lambda: self._drop(message))
        if last:
            self._settle(ACCEPTED)

    def _drop(self, message: Outgoing) -> None:
        if message.state is State.QUEUED:
            LOG.warning("The %s to %s found no taker", message.name, message.target)
            self._bus.outbox.cancel(message, None)

    def _deliver(self, message: Outgoing) -> None:
        """Send a reply and see to it that it arrives."""
        timeout = self._bus.options.default_reply_timeout
        try:
            self._bus.waiting.send(message, timeout, timeout)
        except exceptions.MessagingException as error:
            LOG.error("%s", error)
        self._bus.lock.leave(self._settle, ACCEPTED)

    def _settle(self, outcome: Outcome) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is not None and not self._source.link.closed:
            self._source.link.settle(delivery, outcome)
            self._source.subscription.settled(self._source)


class Inbox:
    """Takes the messages of a subscription and hands them on as requests.

    :param hand_over: called in the bus' thread for every message
    """

    def __init__(
        self,
        bus: Bus,
        addresses: Callable[[Addressing], list[str]],
        capacity: int,
        hand_over: HandOver,
    ) -> None:
        self._bus = bus
        self._hand_over = hand_over
        self._subscription = Subscription(bus, addresses, capacity, self._on_message)
        bus.subscriptions.add(self._subscription)

    def start(self) -> None:
        with self._bus.lock:
            self._subscription.start()
            self._bus.flush()

    def stop(self) -> None:
        if not self._bus.forked:
            with self._bus.lock:
                self._subscription.stop()
                self._bus.flush()

    def cleanup(self) -> None:
        self._bus.subscriptions.remove(self._subscription)

    def _on_message(self, source: Source, delivery: Any, data: bytes) -> None:
        try:
            envelope = codec.decode(data)
            request = bodies.read_request(envelope.body)
        except (codec.MalformedMessage, bodies.MalformedBody) as error:
            LOG.warning("Refused a message on %s: %s", source.address, error)
            self._give_back(
                source,
                delivery,
                Outcome(REJECTED.state, False, False, "amqp:decode-error", str(error)),
            )
            return
        incoming = Incoming(self._bus, source, delivery, envelope, request)
        try:
            self._hand_over(incoming)
        except RuntimeError as error:  # the service's executor has been shut down
            LOG.debug("Gave back a message on %s: %s", source.address, error)
            self._give_back(source, delivery, RELEASED)

    def _give_back(self, source: Source, delivery: Any, outcome: Outcome) -> None:
        self._bus.lock.leave(self._subscription.give_back, source, delivery, outcome)
