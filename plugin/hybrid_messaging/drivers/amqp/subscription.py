# SPDX-License-Identifier: Apache-2.0
"""The addresses that one listener receives from, and its credit on each."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from enum import Enum, IntEnum, auto
from typing import Protocol

from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers import logs, reentry
from hybrid_messaging.drivers.amqp.addressing import Addressing
from hybrid_messaging.drivers.amqp.duties import Duties
from hybrid_messaging.drivers.amqp.failures import UnfitPeer
from hybrid_messaging.drivers.amqp.line import Line
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.protocol.endpoint import RELEASED, Delivery, Outcome, Receiver

LOG = logs.get(__name__)

#: Seconds that the peer may take to stop sending to a subscription that ends.
DRAIN_TIMEOUT = 1.0
#: Seconds that a new subscription waits to be confirmed.
SUBSCRIBE_TIMEOUT = 5.0
#: Seconds in which a link that is not needed any more may wait for a quiet moment.
RETIREMENT = 10.0
#: Seconds after which a router is asked again for what it keeps for a link that
#: takes nothing any more.
SWEEP_INTERVAL = 0.25


class Life(Enum):
    """How far the life of a link has come."""

    OPENING = auto()  # asked for
    OPEN = auto()  # confirmed by the peer
    DRAINING = auto()  # takes nothing more; what is at work is still to be settled
    DETACHED = auto()  # by us or by the peer, or lost with its connection


class Phase(IntEnum):
    """What a subscription is about to do; it only moves forward."""

    NEW = auto()  # attach links, and let nothing come yet
    STARTED = auto()  # let messages come
    RETIRED = auto()  # attach no links any more, and take what still comes
    STOPPED = auto()  # give back what still comes


class Receives(Protocol):
    """Gets what arrives on the links; called with the bus' lock held."""

    def on_arrived(
        self, source: Source, delivery: Delivery | None, data: bytes
    ) -> None:
        """A message has arrived; `delivery` is None if it is settled already.

        It holds a credit of the link until `source.free()`.
        """

    def on_stopped(self) -> None:
        """Nothing is received any more: what has not begun may go elsewhere."""

    def on_detached(self, source: Source) -> None:
        """The link is gone: the bus has decided on what was unsettled on it."""


class Source:
    """One receiving link of a subscription, and the credit on it.

    :param line: the connection that it is on
    :param capacity: messages that may be under way or wait here
    """

    __slots__ = (
        "_capacity",
        "_freed",
        "_lot",
        "address",
        "fanouts",
        "life",
        "line",
        "link",
        "subscription",
    )

    def __init__(
        self, subscription: Subscription, line: Line, address: str, capacity: int
    ) -> None:
        self.subscription = subscription
        self.line = line
        self.link: Receiver = line.endpoint.receiver(address)
        self.address = address
        #: what arrives here goes to all who listen
        self.fanouts = line.addressing.is_multicast(address)
        self.life = Life.OPENING
        self._capacity = capacity
        #: credit is granted in lots, not one by one
        self._lot = (capacity + 1) // 2
        self._freed = itertools.count(1)
        self.link.context = self

    # -- what the peer does ----------------------------------------------------

    def on_open(self) -> None:
        if self.life is Life.OPENING:
            self.life = Life.OPEN
            if self.subscription.phase is Phase.STARTED:
                self.start()
        self.subscription.on_attached()

    def on_close(self, condition: str) -> None:
        self.life = Life.DETACHED
        self.subscription.on_detached(self, condition)

    def on_flow(self) -> None:
        self._end_if_done()

    def on_message(self, delivery: Delivery | None, data: bytes) -> None:
        self.subscription.on_arrived(self, delivery, data)

    # -- what the listener does ------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Nothing is under way, as far as is known here."""
        return self.link.unsettled == 0

    @property
    def open(self) -> bool:
        """It takes messages, as soon as the peer has confirmed it."""
        return self.life is Life.OPENING or self.life is Life.OPEN

    def start(self) -> None:
        """Let messages come, once the peer has confirmed the link.

        Credit for one that it refuses is an error of ours to RabbitMQ, which ends the
        session, with all other links in it.
        """
        if self.life is Life.OPEN:
            self.link.grant(self._capacity)

    def free(self) -> bool:
        """A message holds its credit no longer; needs no lock.

        :returns: whether it is time to `renew`
        """
        return next(self._freed) % self._lot == 0

    def renew(self) -> None:
        """Grant the credit of a lot of messages: let others come."""
        if self.open:
            self.link.grant(self._lot)

    def settle(self, delivery: Delivery | None, outcome: Outcome) -> None:
        """Settle a message, unless that was done before or the link is gone."""
        if delivery is not None and self.life is not Life.DETACHED:
            self.link.settle(delivery, outcome)
            self._end_if_done()

    def stop(self) -> None:
        """Take nothing more, and detach as soon as all that arrived is settled.

        The bus would take what is unsettled then for lost with the server.
        """
        if self.open:
            self.life = Life.DRAINING
            if self.link.credit > 0:
                self.link.drain()
            self._end_if_done()

    def sweep(self) -> None:
        """Have a router send what it keeps for this link, to give it back.

        Some choose a link for a message without regard to its credit, and keep
        the message until there is some.
        """
        if self.life is Life.DRAINING and self.link.credit == 0 and self.line.routing:
            self.link.grant(self._capacity)
            self.link.drain()

    def detach(self) -> None:
        """Close the link, even if messages are on it."""
        if self.life is not Life.DETACHED:
            self.life = Life.DETACHED
            self.link.close()

    def _end_if_done(self) -> None:
        link = self.link
        if self.life is Life.DRAINING and link.credit == 0 and link.unsettled == 0:
            self.detach()
            self.subscription.on_ended()


class Subscription:
    """What a listener wants to receive; attached anew on every connection.

    All methods are called with the bus' lock held.

    :param duties: those of the bus
    :param retry_delay: seconds before a link is attached again that the peer detached
    :param addresses: returns the addresses, once it is known how the peer names them
    :param capacity: messages that may be under way or wait here, per address
    :param receives: gets what arrives
    """

    def __init__(
        self,
        duties: Duties,
        retry_delay: float,
        addresses: Callable[[Addressing], list[str]],
        capacity: int,
        receives: Receives,
    ) -> None:
        self._duties = duties
        self._retry_delay = retry_delay
        self._addresses = addresses
        self._capacity = capacity
        self._receives = receives
        self._line: Line | None = None
        self.sources: list[Source] = []
        self.phase = Phase.NEW
        #: monotonic time until which it keeps busy links once it is retired
        self._busy_until = -math.inf
        #: it will look for links to be detached
        self._looks = False
        #: woken when every address is attached, or the bus is lost
        self.ready = Waiter()
        #: woken when every address is detached after a stop, or the bus is lost
        self.ended = Waiter()

    # -- what the bus does -------------------------------------------------------

    def up(self, line: Line) -> None:
        """Open the links on a new connection."""
        self._line = line
        if self.phase < Phase.RETIRED:
            for address in self._addresses(line.addressing):
                self._attach(line, address)

    def lost(self) -> None:
        """The connection is gone, and the links with it."""
        self._line = None
        self._looks = False
        sources, self.sources = self.sources, []
        for source in sources:
            source.life = Life.DETACHED
            self._receives.on_detached(source)
        self.ready.wake()
        self.ended.wake()

    def on_attached(self) -> None:
        """The peer has confirmed a link."""
        if all(each.life is not Life.OPENING for each in self.sources):
            self.ready.wake()

    def on_detached(self, source: Source, condition: str) -> None:
        """The peer has closed a link: ask again in a while."""
        self.ready.wake()
        self._receives.on_detached(source)
        if source not in self.sources:
            return
        self.sources.remove(source)
        if self.phase >= Phase.RETIRED:
            self.on_ended()
            return
        LOG.warning(
            "The bus detached the subscription to %s%s; attaching it again in %s s",
            source.address,
            f" ({condition})" if condition else "",
            self._retry_delay,
        )
        self._duties.later(self._retry_delay, lambda: self._reattach(source.address))

    def on_arrived(
        self, source: Source, delivery: Delivery | None, data: bytes
    ) -> None:
        """A message has come in on a link."""
        if self.phase is Phase.STOPPED:
            source.settle(delivery, RELEASED)
        else:
            self._receives.on_arrived(source, delivery, data)

    def on_ended(self) -> None:
        """A link is detached after the stop."""
        if not self.draining:
            self.ended.wake()

    # -- what the listener does --------------------------------------------------

    def start(self) -> None:
        """Let messages come."""
        self.phase = max(self.phase, Phase.STARTED)
        for source in self.sources:
            source.start()

    def stop(self) -> None:
        """Take no more messages, and give back what has not begun."""
        if self.phase is not Phase.STOPPED:
            self.phase = Phase.STOPPED
            self._receives.on_stopped()
            self._let_go(-math.inf)

    def retire(self) -> None:
        """Detach each link when nothing is under way on it; what comes is taken.

        A router may choose a link that gives no more credit, and messages wait there.
        So a link that is busy goes on for a while.
        """
        self.phase = max(self.phase, Phase.RETIRED)
        self._let_go(time.monotonic() + RETIREMENT)

    @property
    def attached(self) -> bool:
        """The peer has confirmed all links."""
        return bool(self.sources) and all(
            each.life is Life.OPEN for each in self.sources
        )

    @property
    def detached(self) -> bool:
        """There are no links any more."""
        return all(each.life is Life.DETACHED for each in self.sources)

    @property
    def draining(self) -> bool:
        """It is stopped, and has messages at work or under way."""
        return any(each.life is Life.DRAINING for each in self.sources)

    def detach(self) -> None:
        """Close all links that are still open."""
        self.stop()
        for source in self.sources:
            source.detach()
        self.sources = []
        self.ready.wake()
        self.ended.wake()

    # -- inside --------------------------------------------------------------------

    def _attach(self, line: Line, address: str) -> None:
        self.sources.append(Source(self, line, address, self._capacity))

    def _reattach(self, address: str) -> None:
        if self._line is not None and self.phase < Phase.RETIRED:
            self._attach(self._line, address)

    def _let_go(self, until: float) -> None:
        """Have all links detached.

        :param until: monotonic time until which busy ones go on
        """
        self._busy_until = until
        self._go_on()

    def _go_on(self) -> None:
        overdue = time.monotonic() >= self._busy_until
        for source in self.sources:
            if overdue or source.quiet:
                source.stop()
        if not (self._looks or self.detached):
            self._looks = True
            self._duties.later(SWEEP_INTERVAL, self._look)

    def _look(self) -> None:
        self._looks = False
        for source in self.sources:
            source.sweep()
        self._go_on()


class Subscriptions:
    """The receiving side of a bus: its subscriptions, attached while it is up.

    :param start: has the bus connect, if it does not already
    :param lock: the lock of the bus
    """

    def __init__(self, start: Callable[[], None], lock: CombiningLock) -> None:
        self._start = start
        self._lock = lock
        self._line: Line | None = None
        self._unfit: UnfitPeer | None = None
        self._closed = False
        self._subscriptions: list[Subscription] = []

    def __bool__(self) -> bool:
        """Messages may come in."""
        return bool(self._subscriptions)

    # -- without the lock --------------------------------------------------------

    def add(self, subscription: Subscription) -> None:
        """Attach a subscription now, if the bus is up, and whenever it is.

        :raises ConfigurationError: the peer is none that could serve it, ever
        """
        self._start()
        with self._lock:
            if self._closed:
                return
            self._subscriptions.append(subscription)
            if self._line is not None:
                subscription.up(self._line)
                self._line.flush()
        reentry.outside(subscription.ready.wait, SUBSCRIBE_TIMEOUT)
        if self._unfit is not None:
            self.remove(subscription)
            raise ConfigurationError(str(self._unfit))

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

    def retire(self, subscription: Subscription) -> None:
        """Let messages come for a while, but to no new link."""
        with self._lock:
            subscription.retire()
            self._flush()

    def remove(self, subscription: Subscription) -> None:
        """Detach a subscription for good, as soon as the peer has stopped sending."""
        if subscription.draining:
            reentry.outside(subscription.ended.wait, DRAIN_TIMEOUT)
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
        self._line, self._unfit = line, None
        for subscription in self._subscriptions:
            subscription.up(line)

    def lost(self, failure: Exception | None = None) -> None:
        """The connection is gone, or could not be made."""
        self._line = None
        self._unfit = failure if isinstance(failure, UnfitPeer) else None
        for subscription in self._subscriptions:
            subscription.lost()

    def close(self) -> None:
        """Nothing will be received any more."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.detach()
        self._subscriptions.clear()
