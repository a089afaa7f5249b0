# SPDX-License-Identifier: Apache-2.0
"""The routing table: which address leads to which consumers, and how.

An address exists as long as a link is attached to it. Messages never wait
here: one that no consumer can take stays with the link it came in on, and
that link's credit and its session's window stop the sender.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Protocol

from hybrid_messaging.protocol.endpoint import RELEASED, Delivery, Outcome
from hybrid_messaging.protocol.proton_c import lib
from hybrid_messaging.router.config import AddressRule
from hybrid_messaging.router.departures import Departures


class Gives(Protocol):
    """A producer, as its address sees it."""

    def start(self) -> None:
        """Somebody listens: messages may come."""

    def stop(self) -> None:
        """Nobody listens any more."""

    def retry(self) -> bool:
        """Forward the message that it holds; False: that cannot be done yet."""

    def give_up(self) -> None:
        """Return the message that it holds to its sender."""


class Takes(Protocol):
    """A consumer, as its address sees it."""

    raw: Any

    def ready(self) -> bool:
        """A message can be sent at once."""

    def send(self, data: bytes, origin: Origin) -> None:
        """Send a message; it has to be ready."""

    def offer(self, data: bytes, origin: Origin, since: float | None) -> bool:
        """Send a message now or later; False: there is no room for it.

        :param since: monotonic time since which it has waited; None: it has not
        """

    def slows(self) -> bool:
        """It has no room for a message, and may have some in a moment."""

    def miss(self) -> None:
        """Note that it has missed a message that others have."""


class Address:
    """An address, its consumers and its producers.

    The base class chooses one consumer for each message; how is up to the
    subclass.
    """

    distribution: ClassVar[str]
    #: any peer may listen here
    shared: ClassVar[bool] = True
    #: what comes here answers something
    for_replies: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.consumers: list[Takes] = []
        self.producers: set[Gives] = set()
        #: producers that hold a message for this address, longest wait first
        self.waiting: dict[Gives, None] = {}
        #: no consumer has taken a message since a relay link lost patience
        self.stalled = False
        self.messages_in = 0
        self.messages_out = 0

    @property
    def reachable(self) -> bool:
        """Somebody takes messages sent to this address."""
        return bool(self.consumers)

    def forward(
        self, data: bytes, origin: Delivery | None, since: float | None = None
    ) -> bool:
        """Hand a message on, if it can be done now.

        :param origin: its unsettled delivery; None: nobody awaits an outcome
        :param since: monotonic time since which it has waited; None: it has not
        :returns: False: no consumer can take a message at this moment
        """
        consumer = self.choose()
        if consumer is None:
            return False
        self.messages_in += 1
        self.messages_out += 1
        consumer.send(data, origin)
        return True

    def choose(self) -> Takes | None:
        """The consumer for the next message; None: all are busy."""
        raise NotImplementedError

    def add_consumer(self, consumer: Takes) -> None:
        """Attach a consumer; with the first, producers get credit."""
        self.consumers.append(consumer)
        if len(self.consumers) == 1:
            for producer in self.producers:
                producer.start()

    def remove_consumer(self, consumer: Takes) -> None:
        """Detach a consumer; with the last, producers lose their credit."""
        self.consumers.remove(consumer)
        if self.consumers:
            self.pump()
        else:
            for producer in self.producers:
                producer.stop()
            for producer in tuple(self.waiting):
                producer.give_up()

    def pump(self) -> None:
        """Forward what producers hold, after a consumer's room has changed."""
        while self.waiting:
            producer = next(iter(self.waiting))
            if not producer.retry():
                break


class Closest(Address):
    """One consumer a message, in turn: on one host, all are equally close."""

    distribution = "closest"

    def choose(self) -> Takes | None:
        consumers = self.consumers
        for turn, consumer in enumerate(consumers):
            if consumer.ready():
                if len(consumers) > 1:
                    del consumers[turn]
                    consumers.append(consumer)
                return consumer
        return None


class Balanced(Address):
    """One consumer a message: the one with the fewest unsettled messages."""

    distribution = "balanced"

    def choose(self) -> Takes | None:
        if len(self.consumers) == 1:
            return self.consumers[0] if self.consumers[0].ready() else None
        best, best_turn, least = None, 0, -1
        for turn, consumer in enumerate(self.consumers):
            if consumer.ready():
                load = lib.pn_link_unsettled(consumer.raw)
                if best is None or load < least:
                    best, best_turn, least = consumer, turn, load
                    if load == 0:
                        break
        if best is not None:
            # equals take turns
            del self.consumers[best_turn]
            self.consumers.append(best)
        return best


class Dynamic(Address):
    """An address that the router invented for its one consumer.

    Replies to a busy client wait in a queue of that client, so that they
    don't hold up its server's replies to others.
    """

    distribution = "closest"
    shared = False
    for_replies = True

    def forward(
        self, data: bytes, origin: Delivery | None, since: float | None = None
    ) -> bool:
        """Hand a message to the consumer or its queue, if there is room."""
        if not self.consumers[0].offer(data, origin, since):
            return False
        self.messages_in += 1
        self.messages_out += 1
        return True


class Fanout:
    """The one outcome of a message that goes to several consumers.

    The consumers that have it decide. A copy that still waits for credit delays the
    outcome only as long as nobody else has one.
    """

    __slots__ = ("_outcome", "_waiting", "_with", "copies", "origin", "state")

    #: its sender waits for the outcome, has it, or waits no longer
    OPEN, DECIDED, WITHDRAWN = range(3)

    def __init__(self, origin: Delivery) -> None:
        self.origin = origin
        self.state = self.OPEN
        #: the deliveries that are with consumers
        self.copies: list[Delivery] = []
        # not before every consumer has been asked
        self._with = 1
        self._waiting = 0
        self._outcome: Outcome | None = None

    def queued(self) -> None:
        """A copy waits for a consumer's credit."""
        self._waiting += 1

    def unqueued(self) -> None:
        """One waits no longer: it is sent, or nobody will get it."""
        self._waiting -= 1

    def sent(self, copy: Delivery | None) -> None:
        """A consumer has got a copy; None: it takes them settled."""
        self._with += 1
        if copy is not None:
            self.copies.append(copy)

    def decide(self, outcome: Outcome | None) -> None:
        """Note one consumer's outcome; the gravest of all goes to the producer.

        :param outcome: None: a consumer that was asked first is no longer there
        """
        if outcome is not None and (
            self._outcome is None
            or _GRAVITY[outcome.state] > _GRAVITY[self._outcome.state]
        ):
            self._outcome = outcome
        self._with -= 1
        self.conclude()

    def conclude(self) -> None:
        """Inform the producer, if nobody is left to wait for."""
        if self.state != self.OPEN or self._with:
            return
        if self._outcome is None and self._waiting:
            return
        self.state = self.DECIDED
        producer = self.origin.link.context
        producer.settle(self.origin, self._outcome or RELEASED)


#: what awaits the outcome of a copy; None: nobody does
Origin = Delivery | Fanout | None

#: the order that skupper-router gives to the outcomes of a multicast message
_GRAVITY = {
    0: -1,
    lib.PN_RELEASED: 0,
    lib.PN_MODIFIED: 1,
    lib.PN_ACCEPTED: 2,
    lib.PN_REJECTED: 3,
}


class Multicast(Address):
    """Every consumer with room gets each message.

    A consumer that is full and slow is waited for, for a moment: a burst reaches all.
    One that is stuck misses what others take: it must not stop the rest. An unsettled
    message waits where nobody has room.
    """

    distribution = "multicast"

    def forward(
        self, data: bytes, origin: Delivery | None, since: float | None = None
    ) -> bool:
        """Hand a message to every consumer that has room."""
        for consumer in self.consumers:
            if consumer.slows():
                return False
        fanout = None if origin is None else Fanout(origin)
        missed = [
            consumer
            for consumer in tuple(self.consumers)
            if not consumer.offer(data, fanout, since)
        ]
        reached = len(self.consumers) - len(missed)
        if origin is not None and not reached:
            return False
        for consumer in missed:
            consumer.miss()
        self.messages_in += 1
        self.messages_out += reached
        if fanout is not None and origin is not None:
            origin.context = fanout
            fanout.decide(None)
        return True


_DISTRIBUTIONS: dict[str, type[Address]] = {
    kind.distribution: kind for kind in (Balanced, Closest, Multicast)
}


class AddressTable:
    """All addresses that links are attached to.

    :param rules: prefixes end at a `/` or `.` of an address or at its end; the
        longest that fits counts
    """

    def __init__(
        self, rules: Iterable[AddressRule] = (), default: str = "balanced"
    ) -> None:
        self._rules = {
            rule.prefix.rstrip("/."): _DISTRIBUTIONS[rule.distribution]
            for rule in rules
        }
        self._default = _DISTRIBUTIONS[default]
        self._addresses: dict[str, Address] = {}
        self._departures = Departures()
        self._retired_in = 0
        self._retired_out = 0
        #: messages that arrived settled, how often a message found no taker, or a
        #: listener missed one, without its sender learning of it, and how the
        #: others ended
        self.presettled = 0
        self.dropped = 0
        self.outcomes = dict.fromkeys(_GRAVITY, 0)

    def __iter__(self) -> Iterator[Address]:
        return iter(self._addresses.values())

    def __len__(self) -> int:
        return len(self._addresses)

    @property
    def messages_in(self) -> int:
        """How many messages have been accepted from producers."""
        return self._retired_in + sum(item.messages_in for item in self)

    @property
    def messages_out(self) -> int:
        """How many messages have been handed to consumers."""
        return self._retired_out + sum(item.messages_out for item in self)

    def find(self, name: str) -> Address | None:
        """The address of this name, if a link is attached to it."""
        return self._addresses.get(name) or self._addresses.get(canonical(name))

    def obtain(self, name: str) -> Address:
        """The address of this name, made if it has to be."""
        address = self.find(name)
        if address is None:
            address = self.put(self._kind(canonical(name))(canonical(name)))
        return address

    def invent(self) -> Address:
        """A new address that nobody can guess."""
        return self.put(Dynamic(f"temp.{secrets.token_urlsafe(18)}"))

    def put(self, address: Address) -> Address:
        """Add an address."""
        self._addresses[address.name] = address
        return address

    def add_consumer(self, address: Address, consumer: Takes) -> None:
        """Attach a consumer to an address."""
        self._departures.clear(address.name)
        address.add_consumer(consumer)

    def remove_consumer(self, address: Address, consumer: Takes) -> None:
        """Detach a consumer from an address; if it was the last, remember when."""
        address.remove_consumer(consumer)
        if address.shared and not address.consumers:
            self._departures.note(address.name, time.monotonic())

    def deserted_for(self, address: Address) -> float | None:
        """For how long an address has had no consumer.

        :returns: seconds; None: it has one, never had one, or that was too long ago
        """
        moment = self._departures.moment(address.name)
        return None if moment is None else time.monotonic() - moment

    def close(self) -> None:
        """Ask for nothing new: only replies are to come in from now on."""
        for address in self:
            if not address.for_replies:
                for producer in address.producers:
                    producer.stop()

    def discard(self, address: Address) -> None:
        """Forget an address if no link is attached to it any more."""
        if address.reachable or address.producers or address.waiting:
            return
        if self._addresses.pop(address.name, None) is not None:
            self._retired_in += address.messages_in
            self._retired_out += address.messages_out

    def _kind(self, name: str) -> type[Address]:
        ends = [match.start() for match in re.finditer(r"[/.]", name)]
        for end in (len(name), *reversed(ends)):
            kind = self._rules.get(name[:end])
            if kind is not None:
                return kind
        return self._default


def canonical(name: str) -> str:
    """An address without the scheme, host or slash that some clients put before it."""
    if name.startswith(("amqp:", "amqps:")):
        name = name.partition(":")[2]
        if name.startswith("//"):
            name = name[2:].partition("/")[2]
    return name.lstrip("/")
