# SPDX-License-Identifier: Apache-2.0
"""The addresses that one listener receives from, and its credit on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hybrid_messaging.drivers.amqp.addressing import Addressing
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.protocol.endpoint import Endpoint, Outcome, Receiver


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


class Subscription:
    """What a listener wants to receive; attached anew on every connection.

    All methods are called with the bus' lock held.

    :param addresses: tells the addresses, once it is known how the peer names them
    :param capacity: messages that may be under way or wait here, per address
    :param on_message: called without the lock for every message
    """

    def __init__(
        self,
        addresses: Callable[[Addressing], list[str]],
        capacity: int,
        on_message: Callable[[Source, Any, bytes], None],
    ) -> None:
        self._addresses = addresses
        self._capacity = capacity
        self.on_message = on_message
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
        source = link.context = Source(self, link, address)
        self.sources.append(source)
        if self.started:
            link.grant(self._capacity)

    def start(self) -> None:
        """Let messages come."""
        self.started = True
        for source in self.sources:
            source.link.grant(self._capacity)

    def attached(self, source: Source) -> None:
        """The peer has confirmed a link."""
        source.attached = True
        if all(each.attached for each in self.sources):
            self.ready.wake()

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
