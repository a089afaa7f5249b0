# SPDX-License-Identifier: Apache-2.0
"""The addresses that one listener receives from, and its credit on each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hybrid_messaging.drivers.amqp.addressing import Addressing
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.protocol.endpoint import (
    RELEASED,
    Delivery,
    Endpoint,
    Outcome,
    Receiver,
)

if TYPE_CHECKING:
    from hybrid_messaging.drivers.amqp.bus import Bus

LOG = logging.getLogger(__name__)

#: Seconds that the peer may take to stop sending to a subscription that ends.
DRAIN_TIMEOUT = 1.0
#: Seconds that a new subscription waits to be confirmed.
SUBSCRIBE_TIMEOUT = 5.0


class Source:
    """One receiving link of a subscription."""

    __slots__ = ("address", "attached", "link", "subscription", "taken")

    def __init__(self, subscription: Subscription, link: Receiver, address: str):
        self.subscription = subscription
        self.link = link
        self.address = address
        self.attached = False
        #: messages taken since credit was last granted
        self.taken = 0
        link.context = self

    def on_open(self) -> None:
        self.attached = True
        self.subscription.on_attached()

    def on_close(self, condition: str) -> None:
        self.subscription.on_detached(self, condition)

    def on_flow(self) -> None:
        if self.link.credit == 0:
            self.subscription.settled(self)

    def on_message(self, delivery: Delivery | None, data: bytes) -> None:
        self.subscription.on_arrived(self, delivery, data)


class Subscription:
    """What a listener wants to receive; attached anew on every connection.

    All methods are called with the bus' lock held.

    :param addresses: tells the addresses, once it is known how the peer names them
    :param capacity: messages that may be under way or wait here, per address
    :param on_message: called without the lock for every message
    """

    def __init__(
        self,
        bus: Bus,
        addresses: Callable[[Addressing], list[str]],
        capacity: int,
        on_message: Callable[[Source, Any, bytes], None],
    ) -> None:
        self._bus = bus
        self._addresses = addresses
        self._capacity = capacity
        self._on_message = on_message
        self.sources: list[Source] = []
        self.started = False
        self.stopped = False
        #: woken when every address is attached, or the bus is lost
        self.ready = Waiter()
        #: woken when every address is detached after a stop, or the bus is lost
        self.ended = Waiter()

    def attach(self, endpoint: Endpoint, addressing: Addressing) -> None:
        """Open the links on a new connection."""
        self.sources = []
        if not self.stopped:
            for address in self._addresses(addressing):
                self.attach_source(endpoint, address)

    def attach_source(self, endpoint: Endpoint, address: str) -> None:
        link = endpoint.receiver(address)
        self.sources.append(Source(self, link, address))
        if self.started:
            link.grant(self._capacity)

    def start(self) -> None:
        """Let messages come."""
        self.started = True
        for source in self.sources:
            source.link.grant(self._capacity)

    def on_attached(self) -> None:
        """The peer has confirmed a link."""
        if all(each.attached for each in self.sources):
            self.ready.wake()

    def on_detached(self, source: Source, condition: str) -> None:
        """The peer has closed a link: ask again in a while."""
        self.ready.wake()
        if source not in self.sources:
            return
        self.sources.remove(source)
        delay = self._bus.options.link_retry_delay
        LOG.warning(
            "%s has detached the subscription to %s%s; trying again in %s s",
            self._bus,
            source.address,
            f" ({condition})" if condition else "",
            delay,
        )
        self._bus.later(delay, lambda: self._reattach(source.address))

    def _reattach(self, address: str) -> None:
        if self._bus.connection is not None and not self.stopped:
            self.attach_source(self._bus.connection.endpoint, address)

    def on_arrived(self, source: Source, delivery: Any, data: bytes) -> None:
        """A message has come in on a link."""
        if self.stopped:
            self.give_back(source, delivery, RELEASED)
        else:
            self._bus.afterwards(self._on_message, source, delivery, data)

    def taken(self, source: Source) -> None:
        """The service has taken a message: make room for another."""
        source.taken += 1
        if source.taken * 2 >= self._capacity and not (
            self.stopped or source.link.closed
        ):
            source.link.grant(source.taken)
            source.taken = 0

    def stop(self) -> None:
        """Take no more messages.

        A link is detached when nothing is under way on it any more, nor being
        worked on: the bus would take that for lost with the server.
        """
        self.stopped = True
        for source in self.sources:
            self.settled(source)

    def settled(self, source: Source) -> None:
        """The service is done with a message, or the peer with its credit."""
        link = source.link
        if not self.stopped or link.closed or link.unsettled > 0:
            return
        if link.credit > 0:
            link.drain()
            return
        link.close()
        if not self.draining:
            self.ended.wake()

    @property
    def draining(self) -> bool:
        """It is stopped, and the peer may still have messages under way."""
        return self.stopped and not all(each.link.closed for each in self.sources)

    def give_back(self, source: Source, delivery: Any, outcome: Outcome) -> None:
        """Let the bus do with a message what the outcome says."""
        link = source.link
        if link.closed:
            return
        if delivery is not None:
            link.settle(delivery, outcome)
        if not self.stopped:
            self.taken(source)
        elif link.unsettled > 0:
            # Without credit the bus would keep messages for when there is some.
            link.grant(1)
        else:
            self.settled(source)

    def detach(self) -> None:
        """Close whatever is still open."""
        self.stopped = True
        for source in self.sources:
            source.link.close()
        self.sources = []

    def lost(self) -> None:
        """The connection is gone, and the links with it."""
        self.sources = []
        self.ready.wake()
        self.ended.wake()


class Subscriptions:
    """The receiving side of a bus: its subscriptions, attached while it is up."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._subscriptions: list[Subscription] = []

    def __bool__(self) -> bool:
        """Messages may come in."""
        return bool(self._subscriptions)

    def add(self, subscription: Subscription) -> None:
        """Attach a subscription now, if the bus is up, and whenever it is.

        Called without the lock.
        """
        bus = self._bus
        bus.start()
        with bus.lock:
            self._subscriptions.append(subscription)
            if bus.connection is not None and bus.addressing is not None:
                subscription.attach(bus.connection.endpoint, bus.addressing)
                bus.outbox.open_relay(bus.connection.endpoint)
                bus.flush()
        subscription.ready.wait(SUBSCRIBE_TIMEOUT)

    def remove(self, subscription: Subscription) -> None:
        """Detach a subscription for good; called without the lock."""
        if self._bus.forked:
            return
        if subscription.draining:
            subscription.ended.wait(DRAIN_TIMEOUT)
        with self._bus.lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
                subscription.detach()
                self._bus.flush()

    def attach(self, endpoint: Endpoint, addressing: Addressing) -> None:
        """The bus is up."""
        for subscription in self._subscriptions:
            subscription.attach(endpoint, addressing)
        if self._subscriptions:
            self._bus.outbox.open_relay(endpoint)

    def lost(self) -> None:
        """The connection is gone."""
        for subscription in self._subscriptions:
            subscription.lost()

    def close(self) -> None:
        """Nothing will be received any more."""
        for subscription in self._subscriptions:
            subscription.detach()
        self._subscriptions.clear()
