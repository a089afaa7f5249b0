# SPDX-License-Identifier: Apache-2.0
"""What a service receives: requests and notifications, and their listeners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from oslo_messaging import exceptions

from hybrid_messaging.drivers import bodies, logs, oslo
from hybrid_messaging.drivers.amqp.addressing import Addressing
from hybrid_messaging.drivers.amqp.duties import Duties
from hybrid_messaging.drivers.amqp.outbox import Outbox
from hybrid_messaging.drivers.amqp.outgoing import (
    SETTLES_WITH_REPLY,
    Message,
    Outgoing,
    State,
)
from hybrid_messaging.drivers.amqp.subscription import (
    Source,
    Subscription,
    Subscriptions,
)
from hybrid_messaging.drivers.amqp.waiting import Waiting
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.listeners import HandOver
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import ACCEPTED, REJECTED, RELEASED, Outcome

LOG = logs.get(__name__)


class Desk(NamedTuple):
    """What an inbox works with: parts of its bus."""

    options: Any
    lock: CombiningLock
    duties: Duties
    outbox: Outbox
    waiting: Waiting
    subscriptions: Subscriptions


class Incoming(oslo.RpcIncomingMessage):
    """A request or a notification that the service works on.

    A call whose sender knows how is settled with its reply, not when it is
    taken: if this process dies in between, the router tells the caller.
    """

    def __init__(
        self,
        desk: Desk,
        source: Source,
        delivery: Any,
        envelope: codec.Message,
        request: bodies.Request,
    ) -> None:
        super().__init__(request.context, request.message, envelope.id or "")
        self.client_timeout = request.call_monitor_timeout
        self._desk = desk
        self._source = source
        self._delivery = delivery
        self._reply_to = envelope.reply_to
        self._id = envelope.id
        self._settles_with_reply = (
            source.line.routing
            and self._reply_to is not None
            and bool(envelope.annotations.get(SETTLES_WITH_REPLY))
        )

    def acknowledge(self) -> None:
        self._desk.lock.leave(self._take)

    def _take(self) -> None:
        if self._source.line.up:
            self._source.subscription.taken(self._source)
            if not self._settles_with_reply:
                self._settle(ACCEPTED)

    def requeue(self) -> None:
        self._desk.lock.leave(self._release)

    def _release(self) -> None:
        if self._source.line.up:
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
        desk = self._desk
        message = Message(
            desk.outbox.reply_route(address),
            address,
            name,
            body,
            settled=not last or "rpc-reply" in desk.options.pre_settled,
            correlation_id=self._id,
            ttl=ttl,
            retry=desk.options.default_reply_retry,
        )
        if message.settled:
            desk.lock.leave(self._post, message, last)
        else:
            self._deliver(message)

    def _post(self, message: Message, last: bool) -> None:
        """Send a reply without asking what becomes of it."""
        desk = self._desk
        if not self._source.line.up:
            LOG.debug("The reply address of %s went with the connection", self._id)
            return
        outgoing = Outgoing(message)
        desk.outbox.submit(outgoing)
        if outgoing.state is State.QUEUED:
            timeout = desk.options.default_reply_timeout
            desk.duties.later(timeout, lambda: self._drop(outgoing))
        if last:
            self._settle(ACCEPTED)

    def _drop(self, outgoing: Outgoing) -> None:
        if outgoing.state is State.QUEUED:
            message = outgoing.message
            LOG.warning("The %s to %s found no taker", message.name, message.target)
            self._desk.outbox.cancel(outgoing, None)

    def _deliver(self, message: Message) -> None:
        """Send a reply and see to it that it arrives."""
        try:
            timeout = self._desk.options.default_reply_timeout
            self._desk.waiting.send(Outgoing(message), timeout)
        except exceptions.MessagingException as error:
            LOG.error("%s", error)
        self._desk.lock.leave(self._settle, ACCEPTED)

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
        desk: Desk,
        addresses: Callable[[Addressing], list[str]],
        capacity: int,
        hand_over: HandOver,
    ) -> None:
        self._desk = desk
        self._hand_over = hand_over
        self._subscription = Subscription(
            desk.duties,
            desk.options.link_retry_delay,
            addresses,
            capacity,
            self._on_message,
        )
        desk.subscriptions.add(self._subscription)

    def start(self) -> None:
        self._desk.subscriptions.start(self._subscription)

    def stop(self) -> None:
        self._desk.subscriptions.stop(self._subscription)

    def cleanup(self) -> None:
        self._desk.subscriptions.remove(self._subscription)

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
        incoming = Incoming(self._desk, source, delivery, envelope, request)
        try:
            self._hand_over(incoming)
        except RuntimeError as error:  # the service's executor has been shut down
            LOG.debug("Gave back a message on %s: %s", source.address, error)
            self._give_back(source, delivery, RELEASED)

    def _give_back(self, source: Source, delivery: Any, outcome: Outcome) -> None:
        self._desk.lock.leave(self._subscription.give_back, source, delivery, outcome)
