# SPDX-License-Identifier: Apache-2.0
"""The router's end of its peers' links: producers send to us, consumers receive.

A message passes from its producer's delivery to a consumer's delivery, and the
consumer's outcome passes back the same way: each delivery's context is the
other one, or the Fanout between them.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from hybrid_messaging.protocol.codec import MalformedMessage, peek_to
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    RECEIVER_LOST,
    REJECTED,
    RELEASED,
    Delivery,
    Outcome,
    Receiver,
    Sender,
)
from hybrid_messaging.router.addresses import Address, AddressTable, Fanout

if TYPE_CHECKING:
    from hybrid_messaging.router.connection import Connection

#: Seconds that a relay link waits for busy consumers before it passes over them.
PATIENCE = 2.0


class Producer:
    """A link on which a peer sends messages to us.

    :param address: where they go; None: to the `to` address of each message
    :param capacity: unsettled messages that may be under way
    """

    __slots__ = (
        "address",
        "batch",
        "capacity",
        "connection",
        "dropped",
        "held",
        "held_since",
        "link",
        "messages",
        "spent",
        "started",
        "table",
    )

    def __init__(
        self,
        connection: Connection,
        link: Receiver,
        address: Address | None,
        table: AddressTable,
        capacity: int,
    ) -> None:
        self.connection = connection
        self.link = link
        self.address = address
        self.table = table
        self.capacity = capacity
        #: credit goes out in lots of this size: a frame for each would cost more
        self.batch = max(1, capacity // 4)
        self.spent = 0
        self.started = False
        self.held: tuple[Address, bytes, Delivery | None] | None = None
        self.held_since = 0.0
        self.messages = 0
        self.dropped = 0
        if address is not None:
            address.producers.add(self)
        if address is None or address.reachable:
            self.start()

    def start(self) -> None:
        """Somebody listens: give credit."""
        self.started = True
        self.spent = 0
        missing = self.capacity - self.link.credit - len(self.link.deliveries)
        self.link.grant(max(0, missing))
        self.connection.wake()

    def stop(self) -> None:
        """Nobody listens any more: take the credit back."""
        self.started = False
        self.link.drain()
        self.connection.wake()

    def on_message(self, delivery: Delivery | None, data: bytes) -> None:
        """Forward a message, or hold it and stop reading the link."""
        self.messages += 1
        if delivery is None:
            self.table.presettled += 1
        address = self.address
        if address is None:
            try:
                name = peek_to(data)
            except MalformedMessage as error:
                self._refuse(delivery, _undecodable(error))
                return
            address = self.table.find(name) if name else None
        if address is None or not address.reachable:
            self._refuse(delivery, RELEASED)
        elif address.forward(data, delivery):
            address.stalled = False
            if delivery is None:
                self._replenish()
        elif address.stalled and self.address is None:
            self._refuse(delivery, RELEASED)
        else:
            self.held = (address, data, delivery)
            self.held_since = time.monotonic()
            self.link.paused = True
            self.connection.hold(len(data))
            address.waiting[self] = None
            if delivery is not None:
                delivery.context = self

    def retry(self) -> bool:
        """Forward what is held, if that can be done now, and go on reading."""
        assert self.held is not None
        address, data, delivery = self.held
        if not address.forward(data, delivery):
            return False
        address.stalled = False
        if delivery is None:
            self._replenish()
        self._go_on()
        return True

    def give_up(self) -> None:
        """Return what is held to its sender, and go on reading."""
        assert self.held is not None
        self._refuse(self.held[2], RELEASED)
        self._go_on()

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Tell the peer what became of its message, which is not settled yet."""
        self.table.outcomes[outcome.state] += 1
        self.link.settle(delivery, outcome)
        self.connection.wake()
        self._replenish()

    def withdrawn(self, delivery: Delivery) -> None:
        """The peer no longer waits for the outcome of its message."""
        _withdraw(delivery)
        self._replenish()
        if self.held is not None and self.held[2] is delivery:
            self._go_on()

    def look_after(self, now: float) -> None:
        """Have a relay link pass over a consumer that takes nothing for long."""
        if (
            self.address is None
            and self.held is not None
            and now - self.held_since >= PATIENCE
        ):
            self.held[0].stalled = True
            self.give_up()

    def close(self) -> None:
        """The link has gone; messages that consumers work on are settled there."""
        for delivery in self.link.deliveries:
            _withdraw(delivery)
        if self.held is not None:
            address, data, _ = self.held
            self.held = None
            self.connection.release(len(data))
            address.waiting.pop(self, None)
            self.table.discard(address)
        if self.address is not None:
            self.address.producers.discard(self)
            self.table.discard(self.address)
        self.link.context = None

    def _go_on(self) -> None:
        assert self.held is not None
        address, data, _ = self.held
        self.held = None
        address.waiting.pop(self, None)
        self.link.paused = False
        self.connection.release(len(data))
        self.link.resume()
        self.connection.wake()

    def _refuse(self, delivery: Delivery | None, outcome: Outcome) -> None:
        if delivery is None:
            self.dropped += 1
            self.table.dropped += 1
            self._replenish()
        else:
            self.settle(delivery, outcome)

    def _replenish(self) -> None:
        self.spent += 1
        if self.spent >= self.batch and self.started:
            self.link.grant(self.spent)
            self.spent = 0
            self.connection.wake()


class Consumer:
    """A link on which we send messages to a peer.

    :param capacity: messages that may wait for credit, where an address allows it
    """

    __slots__ = (
        "_settles",
        "address",
        "capacity",
        "connection",
        "link",
        "messages",
        "queue",
        "raw",
    )

    def __init__(
        self, connection: Connection, link: Sender, address: Address, capacity: int
    ) -> None:
        self.connection = connection
        self.link = link
        self.raw = link.raw
        self.address = address
        self.capacity = capacity
        #: messages without credit: a multicast, or replies
        self.queue: deque[tuple[bytes, Any]] = deque()
        self.messages = 0
        # such a peer takes messages, but never answers them
        self._settles = link.pn.remote_snd_settle_mode != link.pn.SND_SETTLED

    def ready(self) -> bool:
        """A message can be sent at once."""
        return not self.connection.full and not self.queue and self.link.credit > 0

    def has_room(self) -> bool:
        """A message can be sent at once or later."""
        return (
            len(self.queue) < self.capacity and self.connection.may_queue
        ) or self.ready()

    def send(self, data: bytes, origin: Delivery | Fanout | None) -> None:
        """Send a message; there has to be credit."""
        self.messages += 1
        copy = self.link.send(data, origin is None or not self._settles)
        if copy is not None:
            copy.context = origin
            if origin.__class__ is Fanout:
                origin.copies.append(copy)
            else:
                origin.context = copy  # type: ignore[union-attr]
        elif origin is not None:
            _conclude(origin, ACCEPTED)
        self.connection.sent(len(data))

    def offer(self, data: bytes, origin: Delivery | Fanout | None) -> bool:
        """Send a message now or later, if there is room for it."""
        if self.ready():
            self.send(data, origin)
            return True
        if not self.has_room():
            return False
        self.queue.append((data, origin))
        self.connection.queued(len(data))
        if isinstance(origin, Delivery):
            origin.context = self
        return True

    def advance(self) -> None:
        """Send what waits, as far as credit and the connection's room go."""
        queue = self.queue
        while queue and not self.connection.full and self.link.credit > 0:
            data, origin = queue.popleft()
            self.connection.queued(-len(data))
            if not isinstance(origin, Delivery) or origin.raw is not None:
                self.send(data, origin)
        if self.address.waiting:
            self.address.pump()
        if self.link.draining and not queue:
            self.link.drained()
            self.connection.wake()

    def decided(self, delivery: Delivery, outcome: Outcome) -> None:
        """The peer has decided on a message."""
        _conclude(delivery.context, outcome)

    def forget(self, delivery: Delivery) -> None:
        """The producer no longer waits for the outcome of a message."""
        self.link.forget(delivery)
        self.connection.wake()

    def close(self, table: AddressTable) -> None:
        """The link has gone, and what was sent on it and is not settled is lost."""
        lost = self.link.deliveries
        queue, self.queue = self.queue, deque()
        self.address.remove_consumer(self)
        for delivery in lost:
            _conclude(delivery.context, RECEIVER_LOST)
        for data, origin in queue:
            self.connection.queued(-len(data))
            if origin is not None:
                _conclude(origin, RELEASED)
        table.discard(self.address)
        self.link.context = None


def _conclude(origin: Delivery | Fanout, outcome: Outcome) -> None:
    if isinstance(origin, Fanout):
        origin.decide(outcome)
    elif origin.raw is not None:
        origin.link.context.settle(origin, outcome)


def _withdraw(delivery: Delivery) -> None:
    copy = delivery.context
    for item in copy.copies if isinstance(copy, Fanout) else (copy,):
        if isinstance(item, Delivery) and item.raw is not None:
            item.link.context.forget(item)


def _undecodable(error: MalformedMessage) -> Outcome:
    return REJECTED._replace(condition="amqp:decode-error", description=str(error))
