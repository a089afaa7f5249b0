# SPDX-License-Identifier: Apache-2.0
"""The addresses that one listener receives from, and its credit on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.amqp.addressing import Addressing
from hybrid_messaging.drivers.amqp.duties import Duties
from hybrid_messaging.drivers.amqp.line import Line
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.protocol.endpoint import (
    RELEASED,
    Delivery,
    Outcome,
    Receiver,
)

LOG = logs.get(__name__)

#: Seconds that the peer may take to stop sending to a subscription that ends.
DRAIN_TIMEOUT = 1.0
#: Seconds that a new subscription waits to be confirmed.
SUBSCRIBE_TIMEOUT = 5.0


class Source:
    """One receiving link of a subscription."""

    __slots__ = ("address", "attached", "line", "link", "subscription", "taken")

    def __init__(self, subscription: Subscription, line: Line, address: str):
        self.subscription = subscription
        self.line = line
        self.link: Receiver = line.endpoint.receiver(address)
        self.address = address
        self.attached = False
        #: messages taken since credit was last granted
        self.taken = 0
        self.link.context = self

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
        duties: Duties,
        retry_delay: float,
        addresses: Callable[[Addressing], list[str]],
        capacity: int,
        on_message: Callable[[Source, Any, bytes], None],
    ) -> None:
        self._duties = duties
        self._retry_delay = retry_delay
        self._addresses = addresses
        self._capacity = capacity
        self._on_message = on_message
        self._line: Line | None = None
        self.sources: list[Source] = []
        self.started = False
        self.stopped = False
        #: woken when every address is attached, or the bus is lost
        self.ready = Waiter()
        #: woken when every address is detached after a stop, or the bus is lost
        self.ended = Waiter()

    def up(self, line: Line) -> None:
        """Open the links on a new connection."""
        self._line = line
        if not self.stopped:
            for address in self._addresses(line.addressing):
                self._attach(line, address)

    def _attach(self, line: Line, address: str) -> None:
        source = Source(self, line, address)
        self.sources.append(source)
        if self.started:
            source.link.grant(self._capacity)

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
        LOG.warning(
            "The bus has detached the subscription to %s%s; trying again in %s s",
            source.address,
            f" ({condition})" if condition else "",
            self._retry_delay,
        )
        self._duties.later(self._retry_delay, lambda: self._reattach(source.address))

    def _reattach(self, address: str) -> None:
        if self._line is not None and not self.stopped:
            self._attach(self._line, address)

    def on_arrived(self, source: Source, delivery: Any, data: bytes) -> None:
        """A message has come in on a link."""
        if self.stopped:
            self.give_back(source, delivery, RELEASED)
        else:
            self._duties.afterwards(self._on_message, source, delivery, data)

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
        self._line = None
        self.sources = []
        self.ready.wake()
        self.ended.wake()


class Subscriptions:
    """The receiving side of a bus: its subscriptions, attached while it is up.

    :param start: has the bus connect, if it does not already
    :param lock: the lock of the bus
    """

    def __init__(self, start: Callable[[], None], lock: CombiningLock) -> None:
        self._start = start
        self._lock = lock
        self._line: Line | None = None
        self._subscriptions: list[Subscription] = []

    def __bool__(self) -> bool:
        """Messages may come in."""
        return bool(self._subscriptions)

    # -- without the lock --------------------------------------------------------

    def add(self, subscription: Subscription) -> None:
        """Attach a subscription now, if the bus is up, and whenever it is."""
        self._start()
        with self._lock:
            self._subscriptions.append(subscription)
            if self._line is not None:
                subscription.up(self._line)
                self._line.flush()
        subscription.ready.wait(SUBSCRIBE_TIMEOUT)

    def start(self, subscription: Subscription) -> None:
        """Let messages come."""
        with self._lock:
            subscription.start()
            self._flush()

    def stop(self, subscription: Subscription) -> None:
        """Let no more messages come."""
        with self._lock:
            subscription.stop()
            self._flush()

    def remove(self, subscription: Subscription) -> None:
        """Detach a subscription for good, as soon as the peer has stopped sending."""
        if subscription.draining:
            subscription.ended.wait(DRAIN_TIMEOUT)
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
                subscription.detach()
                self._flush()

    def _flush(self) -> None:
        if self._line is not None:
            self._line.flush()

    # -- with the lock -------------------------------------------------------------

    def up(self, line: Line) -> None:
        """The bus is up."""
        self._line = line
        for subscription in self._subscriptions:
            subscription.up(line)

    def lost(self) -> None:
        """The connection is gone."""
        self._line = None
        for subscription in self._subscriptions:
            subscription.lost()

    def close(self) -> None:
        """Nothing will be received any more."""
        for subscription in self._subscriptions:
            subscription.detach()
        self._subscriptions.clear()
