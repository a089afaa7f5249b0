# SPDX-License-Identifier: Apache-2.0
"""What is sent over a bus: the routes, the messages on them, and their replies.

All methods are called with the bus' lock held.
"""

from __future__ import annotations

import itertools
import logging
import time
import uuid
from collections.abc import Hashable
from typing import TYPE_CHECKING

from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.amqp.connection import AuthenticationFailed
from hybrid_messaging.drivers.amqp.route import LARGE, Outgoing, Route, State
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    REJECTED,
    Delivery,
    Endpoint,
    Outcome,
    Receiver,
)

if TYPE_CHECKING:
    from hybrid_messaging.drivers.amqp.bus import Bus

LOG = logging.getLogger(__name__)

#: The route of replies where the peer forwards by each message's own address.
RELAY = "relay"

#: Seconds before a reply address that the bus has detached is asked for again.
REPLIES_DELAY = 1.0


class Replies:
    """The link that replies come in on; opened with the first call."""

    def __init__(self, outbox: Outbox, link: Receiver, capacity: int) -> None:
        self._outbox = outbox
        self._link = link
        self._capacity = capacity
        self._taken = 0
        #: the address that the peer has given it, once it has
        self.address: str | None = None
        link.context = self

    def on_open(self) -> None:
        self.address = self._link.pn.remote_source.address
        self._link.grant(self._capacity)
        self._outbox.drain_all()

    def on_close(self, condition: str) -> None:
        self._outbox.replies_lost(condition)

    def on_flow(self) -> None:
        """Credit is ours to give here."""

    def on_message(self, delivery: Delivery | None, data: bytes) -> None:
        self._outbox.take_reply(data)
        if delivery is not None:
            self._link.settle(delivery, ACCEPTED)
        self._taken += 1
        if self._taken * 2 >= self._capacity:
            self._link.grant(self._taken)
            self._taken = 0


class Outbox:
    """The sending side of a bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._routes: dict[Hashable, Route] = {}
        self._sent: dict[Delivery, Outgoing] = {}
        self._calls: dict[str, Outgoing] = {}
        self._ids = itertools.count()
        self._id_prefix = uuid.uuid4().hex
        self._replies: Replies | None = None

    def next_id(self) -> str:
        """A message-id for a call, unique on the bus; needs no lock."""
        return f"{self._id_prefix}-{next(self._ids):x}"

    # -- what the sender wants -------------------------------------------------

    def submit(self, message: Outgoing) -> None:
        """Send a message, or queue it until it can be sent."""
        bus = self._bus
        key = message.key
        if message.large:
            key = (LARGE, message.target if key == RELAY else key)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = Route(self, key)
        route.used = time.monotonic()
        message.route = route
        message.state = State.QUEUED
        if bus.closing:
            message.finish(errors.BusUnavailable(f"{bus}: the transport is closed"))
            return
        if bus.away is not None and (message.retry == 0 or _hopeless(bus.away)):
            message.finish(self._unavailable(message, bus.away))
            return
        if bus.addressing is not None and bus.connection is not None:
            endpoint = bus.connection.endpoint
            if route.link is None:
                self._attach(endpoint, route, message)
            if message.id is not None:
                self._attach_replies(endpoint)
        if not route.queue and route.open and self.has_return(message):
            self._transmit(route, message)
        else:
            route.queue.append(message)

    def cancel(self, message: Outgoing, error: Exception | None) -> None:
        """End a message that its sender does not want to wait for any longer."""
        if message.state is State.QUEUED and message.route is not None:
            message.route.queue.remove(message)
        if message.id is not None:
            self._calls.pop(message.id, None)
        if message.delivery is not None and message.delivery in self._sent:
            del self._sent[message.delivery]
            if message.route is not None and message.route.link is not None:
                message.route.link.forget(message.delivery)
                self._bus.flush()
        message.finish(error)

    def reply_route(self, address: str) -> Hashable:
        """The key of the route that a reply to an address takes; needs no lock."""
        return RELAY if self._bus.relays else ("reply", address)

    def open_relay(self, endpoint: Endpoint) -> None:
        """Have the way of replies ready before the first is sent."""
        if self._bus.relays and RELAY not in self._routes:
            route = self._routes[RELAY] = Route(self, RELAY)
            route.attach(endpoint.sender(None), "")

    def where(self, message: Outgoing) -> str:
        """Where a message goes, for people."""
        address = message.route.address if message.route is not None else ""
        return f"{address or message.target} on {self._bus}"

    # -- on the way out ----------------------------------------------------------

    def has_return(self, message: Outgoing) -> bool:
        """The reply to it has an address to come to, or there will be none."""
        return message.id is None or (
            self._replies is not None and self._replies.address is not None
        )

    def _attach(self, endpoint: Endpoint, route: Route, message: Outgoing) -> None:
        assert self._bus.addressing is not None
        address: str | None
        if route.key == RELAY:
            address = None
        elif isinstance(message.target, str):
            address = message.target
        else:
            address = self._bus.addressing.resolve(message.target, message.service)
        route.attach(endpoint.sender(address, apart=message.large), address or "")

    def _attach_replies(self, endpoint: Endpoint) -> None:
        if self._replies is None:
            self._replies = Replies(
                self, endpoint.receiver(None), self._bus.options.reply_link_credit
            )

    def _transmit(self, route: Route, message: Outgoing) -> None:
        assert route.link is not None
        to = message.target if isinstance(message.target, str) else route.address
        reply_to = self._replies.address if self._replies is not None else None
        data = message.encode(to, reply_to)
        if message.id is not None:
            self._calls[message.id] = message
        message.delivery = route.link.send(data, message.settled)
        route.blind = message.settled
        if message.delivery is not None:
            self._sent[message.delivery] = message
            message.state = State.SENT
        elif message.id is not None:
            message.state = State.SENT
        else:
            message.finish()

    def drain(self, route: Route) -> None:
        """Send what waits on a route, as far as its credit goes."""
        while route.queue and route.open and self.has_return(route.queue[0]):
            message = route.queue.popleft()
            self._transmit(route, message)
            if message.state is State.DONE:
                self._bus.afterwards(message.waiter.wake)

    def drain_all(self) -> None:
        """The same on every route."""
        for route in self._routes.values():
            self.drain(route)

    # -- what the peer says ------------------------------------------------------

    def on_outcome(self, delivery: Delivery, outcome: Outcome) -> None:
        """The peer has decided on a message."""
        message = self._sent.pop(delivery, None)
        if message is None or message.state is not State.SENT:
            return
        message.delivery = None
        if outcome.accepted:
            if message.id is None:
                self._end(message)
            return
        if message.id is not None:
            self._calls.pop(message.id, None)
        if message.fanout and outcome.state != REJECTED.state:
            self._end(message)  # nobody there, or one of many gone
        elif outcome.never_forwarded:
            self._released(message)
        elif outcome.receiver_lost:
            self._fail(
                message,
                errors.ServerLost,
                "the server that had it is gone and may have acted on it",
            )
        else:
            self._fail(message, errors.MessageRefused, str(outcome))

    def take_reply(self, data: bytes) -> None:
        """A reply has come in, or a sign of life."""
        try:
            reply = codec.decode(data)
        except codec.MalformedMessage as error:
            LOG.warning("%s: a reply is no AMQP message: %s", self._bus, error)
            return
        message = self._calls.get(reply.correlation_id)
        if message is None:
            LOG.debug("Dropped a reply that nobody waits for: %s", reply.correlation_id)
        elif reply.body is None:
            message.sign_of_life()
        else:
            del self._calls[reply.correlation_id]
            message.reply = reply.body
            self._end(message)

    def replies_lost(self, condition: str) -> None:
        """The peer has detached the reply address: no reply will come any more."""
        self._replies = None
        calls, self._calls = self._calls, {}
        for message in calls.values():
            self._fail(
                message,
                errors.BusLost,
                f"the bus has detached the reply address: {condition}",
            )
        self._bus.later(REPLIES_DELAY, self._replies_again)

    def _replies_again(self) -> None:
        connection = self._bus.connection
        if connection is not None and any(
            message.id is not None
            for route in self._routes.values()
            for message in route.queue
        ):
            self._attach_replies(connection.endpoint)

    def route_lost(self, route: Route, condition: str) -> None:
        """The peer has detached, or refused, the link to an address."""
        for delivery, message in list(self._sent.items()):
            if message.route is route:
                del self._sent[delivery]
                if message.id is None or message.id in self._calls:
                    self._calls.pop(message.id or "", None)
                    self._fail(
                        message,
                        errors.BusLost,
                        f"the bus has detached the link: {condition}",
                    )
        forbidden = "unauthorized" in condition or "not-allowed" in condition
        while route.queue:
            message = route.queue.popleft()
            if forbidden:
                self._fail(message, errors.MessageRefused, condition)
            else:
                self._released(message)

    # -- life --------------------------------------------------------------------

    def attach(self, endpoint: Endpoint) -> None:
        """The bus is up: open the links that messages wait for."""
        for route in self._routes.values():
            if route.queue:
                self._attach(endpoint, route, route.queue[0])
                if any(message.id is not None for message in route.queue):
                    self._attach_replies(endpoint)
        self._bus.later(
            self._bus.options.default_sender_link_timeout / 2, self._detach_idle
        )

    def _detach_idle(self) -> None:
        """Give back the links that nobody has used for long."""
        limit = self._bus.options.default_sender_link_timeout
        oldest = time.monotonic() - limit
        for key, route in list(self._routes.items()):
            if route.used < oldest and route.idle and key != RELAY:
                route.detach()
                del self._routes[key]
        self._bus.later(limit / 2, self._detach_idle)

    def lost(self, failure: Exception) -> None:
        """The connection is gone: end what went with it, keep what can wait."""
        self._replies = None
        under_way = {*self._sent.values(), *self._calls.values()}
        self._sent.clear()
        self._calls.clear()
        for message in under_way:
            if message.state is State.SENT:
                self._fail(
                    message,
                    errors.BusLost,
                    "the connection was lost while it was under way, the server may"
                    f" have acted on it: {failure}",
                )
        for key, route in list(self._routes.items()):
            route.lost()
            for message in list(route.queue):
                stuck = isinstance(message.target, str)
                if _hopeless(failure) or stuck or not message.may_retry():
                    route.queue.remove(message)
                    self._end(message, self._unavailable(message, failure))
            if not route.queue:
                del self._routes[key]

    def close(self) -> None:
        """Nothing will be sent any more."""
        messages = {*self._sent.values(), *self._calls.values()}
        for route in self._routes.values():
            messages.update(route.queue)
            route.queue.clear()
        self._sent.clear()
        self._calls.clear()
        for message in messages:
            self._end(
                message, errors.BusUnavailable(f"{self._bus}: the transport is closed")
            )

    # -- the end of a message ------------------------------------------------------

    def _unavailable(self, message: Outgoing, reason: Exception) -> Exception:
        return errors.BusUnavailable(
            f"{message.name} to {self.where(message)}: {reason}"
        )

    def _fail(
        self, message: Outgoing, error: type[errors.DeliveryError], why: str
    ) -> None:
        self._end(message, error(f"{message.name} to {self.where(message)}: {why}"))

    def _end(self, message: Outgoing, error: Exception | None = None) -> None:
        message.finish(error)
        self._bus.afterwards(message.waiter.wake)

    def _released(self, message: Outgoing) -> None:
        message.come_back()
        self._bus.afterwards(message.waiter.wake)


def _hopeless(failure: Exception) -> bool:
    """Whether trying again will not help before somebody changes something."""
    return isinstance(failure, (AuthenticationFailed, ConfigurationError))
