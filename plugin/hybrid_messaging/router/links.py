# SPDX-License-Identifier: Apache-2.0
"""The router's end of its peers' links: producers send to us, consumers receive.

A message passes from its producer's delivery to a consumer's delivery, and the
consumer's outcome passes back the same way: each delivery's context is the
other one, or the Fanout between them.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from typing import NamedTuple

from hybrid_messaging.log_safety import quoted
from hybrid_messaging.protocol.codec import MalformedMessage, peek_to, peek_ttl
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
from hybrid_messaging.router.addresses import Address, AddressTable, Fanout, Origin
from hybrid_messaging.router.budget import Budget

LOG = logging.getLogger(__name__)

#: Seconds that a relay link waits for busy consumers before it passes over them.
PATIENCE = 2.0
#: A consumer that is full holds a multicast up as long as, in so many seconds, it
#: takes at least this part of what may wait for it. Else it misses what others get,
#: until half of what waits for it is gone.
SLOW = 1.0
PROGRESS = 1 / 4
#: Seconds between two log lines about what one consumer misses.
MISSED_PAUSE = 60.0
#: Seconds between two looks for messages that need not wait any longer.
TIDY_PAUSE = 0.5


class _Held(NamedTuple):
    """A message that no consumer can take yet."""

    address: Address
    data: bytes
    delivery: Delivery | None
    #: monotonic times: when it was held, when it had arrived, when it is void
    since: float
    arrived: float
    deadline: float


class Producer:
    """A link on which a peer sends messages to us.

    :param address: where they go; None: to the `to` address of each message
    :param capacity: unsettled messages that may be under way
    """

    __slots__ = (
        "address",
        "batch",
        "budget",
        "capacity",
        "dropped",
        "held",
        "link",
        "messages",
        "spent",
        "started",
        "table",
    )

    def __init__(
        self,
        budget: Budget,
        link: Receiver,
        address: Address | None,
        table: AddressTable,
        capacity: int,
    ) -> None:
        self.budget = budget
        self.link = link
        self.address = address
        self.table = table
        self.capacity = capacity
        #: credit goes out in lots of this size: a frame for each would cost more
        self.batch = max(1, capacity // 4)
        self.spent = 0
        self.started = False
        self.held: _Held | None = None
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
        self._grant(max(0, missing))

    def on_flow(self) -> None:
        """Give credit anew that the peer has given up, if somebody listens again.

        `stop` has asked for it, and the peer may answer after the next `start`.
        """
        given_up = self.link.take_given_up()
        if given_up > 0 and self.started:
            self._grant(given_up)

    def _grant(self, credit: int) -> None:
        self.link.grant(credit)
        self.budget.wake()

    def stop(self) -> None:
        """Nobody listens any more: take the credit back."""
        self.started = False
        self.link.drain()
        self.budget.wake()

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
                self._refuse(delivery, undecodable(error))
                return
            address = self.table.find(name) if name else None
        since = self.link.since
        if (
            address is None
            or not address.reachable
            or (since is not None and _deadline(data, since) <= time.monotonic())
        ):
            self._refuse(delivery, RELEASED)
        elif address.forward(data, delivery, since):
            address.stalled = False
            if delivery is None:
                self._replenish()
        elif address.stalled and self.address is None:
            self._refuse(delivery, RELEASED)
        else:
            self._hold(address, data, delivery, since)

    def _hold(
        self,
        address: Address,
        data: bytes,
        delivery: Delivery | None,
        since: float | None,
    ) -> None:
        now = time.monotonic()
        arrived = now if since is None else since
        deadline = _deadline(data, arrived)
        self.held = _Held(address, data, delivery, now, arrived, deadline)
        self.link.paused = True
        self.budget.hold(len(data))
        address.waiting[self] = None
        if delivery is not None:
            delivery.context = self

    def retry(self) -> bool:
        """Forward what is held, if that can be done now, and go on reading."""
        held = self.held
        assert held is not None
        if held.deadline <= time.monotonic():
            self.give_up()
            return True
        if not held.address.forward(held.data, held.delivery, held.arrived):
            return False
        held.address.stalled = False
        if held.delivery is None:
            self._replenish()
        self._go_on()
        return True

    def give_up(self) -> None:
        """Return what is held to its sender, and go on reading."""
        assert self.held is not None
        self._refuse(self.held.delivery, RELEASED)
        self._go_on()

    @property
    def busy(self) -> bool:
        """Something that the peer has sent has not come to its end."""
        return self.held is not None or bool(self.link.unsettled)

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Tell the peer what became of its message, which is not settled yet."""
        self.table.outcomes[outcome.state] += 1
        self.link.settle(delivery, outcome)
        self.budget.wake()
        self._replenish()

    def withdrawn(self, delivery: Delivery) -> None:
        """The peer no longer waits for the outcome of its message."""
        _withdraw(delivery)
        self._replenish()
        if self.held is not None and self.held.delivery is delivery:
            self._go_on()

    def look_after(self, now: float) -> None:
        """Return what has waited too long for a consumer."""
        held = self.held
        if held is None or self.retry():
            return
        if self.address is None and now - held.since >= PATIENCE:
            held.address.stalled = True
            self.give_up()

    def close(self) -> None:
        """The link has gone; messages that consumers work on are settled there."""
        for delivery in self.link.deliveries:
            _withdraw(delivery)
        self.link.disown()
        held, self.held = self.held, None
        if held is not None:
            self.budget.release(len(held.data))
            held.address.waiting.pop(self, None)
            self.table.discard(held.address)
        if self.address is not None:
            self.address.producers.discard(self)
            self.table.discard(self.address)
        self.link.context = None

    def _go_on(self) -> None:
        held, self.held = self.held, None
        assert held is not None
        held.address.waiting.pop(self, None)
        self.link.paused = False
        self.budget.release(len(held.data))
        self.link.resume()
        self.budget.wake()

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
            self.budget.wake()


class _Queued(NamedTuple):
    """A message that waits for a consumer's credit."""

    data: bytes
    origin: Origin
    #: monotonic time
    deadline: float

    @property
    def wanted(self) -> bool:
        """Its sender has not withdrawn it."""
        if isinstance(self.origin, Fanout):
            return self.origin.state != Fanout.WITHDRAWN
        return self.origin is None or self.origin.raw is not None


class Consumer:
    """A link on which we send messages to a peer.

    :param owner: what to call the peer in the log
    :param capacity: messages that may wait for credit, where an address allows it;
        half as many copies of a multicast may be with the peer, unsettled
    """

    __slots__ = (
        "_full_since",
        "_largest",
        "_owner",
        "_passed_over",
        "_settles",
        "_taken",
        "_tell_at",
        "_tidy_at",
        "address",
        "budget",
        "capacity",
        "link",
        "messages",
        "missed",
        "queue",
        "raw",
        "table",
    )

    def __init__(
        self,
        owner: object,
        budget: Budget,
        link: Sender,
        address: Address,
        table: AddressTable,
        capacity: int,
    ) -> None:
        self._owner = owner
        self.table = table
        self.budget = budget
        self.link = link
        self.raw = link.raw
        self.address = address
        self.capacity = capacity
        #: messages without credit: a multicast, or replies
        self.queue: deque[_Queued] = deque()
        self.messages = 0
        #: messages that it should have got, and has not
        self.missed = 0
        # such a peer takes messages, but never answers them
        self._settles = link.pn.remote_snd_settle_mode != link.pn.SND_SETTLED
        self._largest = link.max_message_size
        self._tell_at = self._tidy_at = 0.0
        #: monotonic time at which it was found full, and what it has taken since
        self._full_since: float | None = None
        self._taken = 0
        #: multicasts do not wait for it
        self._passed_over = False

    def ready(self) -> bool:
        """A message can be sent at once."""
        return not self.budget.full and not self.queue and self.link.credit > 0

    def send(self, data: bytes, origin: Origin) -> None:
        """Send a message; there has to be credit."""
        if self._largest and len(data) > self._largest:
            self._refuse(len(data), origin)
            return
        self.messages += 1
        copy = self.link.send(data, origin is None or not self._settles)
        if copy is not None:
            copy.context = origin
        if origin.__class__ is Fanout:
            origin.sent(copy)
        elif copy is not None:
            origin.context = copy  # type: ignore[union-attr]
        if copy is None and origin is not None:
            _conclude(origin, ACCEPTED)
        self.budget.sent(len(data))

    def _refuse(self, size: int, origin: Origin) -> None:
        """A message is larger than the peer takes; sent, it would end the link."""
        self._note_missed(f"{size} bytes exceed the {self._largest} that it accepts")
        if origin.__class__ is Fanout:
            origin.sent(None)
        if origin is not None:
            _conclude(
                origin,
                REJECTED._replace(
                    condition="amqp:link:message-size-exceeded",
                    description=f"the receiver accepts at most {self._largest} bytes",
                ),
            )

    def offer(self, data: bytes, origin: Origin, since: float | None) -> bool:
        """Send a message now or later, if there is room for it."""
        if self.ready() and (origin.__class__ is not Fanout or not self._has_enough()):
            self.send(data, origin)
            return True
        if not (self._has_room() or (self._tidy() and self._has_room())):
            return False
        deadline = _deadline(data, time.monotonic() if since is None else since)
        self.queue.append(_Queued(data, origin, deadline))
        self.budget.queued(len(data))
        if isinstance(origin, Fanout):
            origin.queued()
        elif origin is not None:
            origin.context = self
        return True

    def slows(self) -> bool:
        """It has no room, and is only slow: others wait with it for a moment."""
        if self._has_room() or self._passed_over:
            return False
        if self._tidy() and self._has_room():
            return False
        now = time.monotonic()
        if self._full_since is not None and now < self._full_since + SLOW:
            return True
        if self._full_since is None or self._taken >= self.capacity * PROGRESS:
            self._full_since, self._taken = now, 0
            return True
        self._passed_over = True
        return False

    def _has_room(self) -> bool:
        return len(self.queue) < self.capacity and self.budget.may_queue

    def _has_enough(self) -> bool:
        """The peer gets no more copies of multicasts before it decides on some.

        One that never does would otherwise use up the credit of their senders.
        """
        return 2 * self.link.unsettled >= self.capacity

    def miss(self) -> None:
        """It had no room for a message that others have got."""
        self._note_missed("it has no room")

    def _note_missed(self, why: str) -> None:
        self.missed += 1
        self.table.dropped += 1
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + MISSED_PAUSE
            LOG.warning(
                "%s misses messages to %s: %s; %d so far",
                self._owner,
                quoted(self.address.name),
                why,
                self.missed,
            )

    def advance(self) -> None:
        """Send what waits, as far as credit and the connection's room go."""
        queue = self.queue
        if queue:
            now = time.monotonic()
            while queue and not self.budget.full and self.link.credit > 0:
                if isinstance(queue[0].origin, Fanout) and self._has_enough():
                    break
                item = queue.popleft()
                self.budget.queued(-len(item.data))
                self._send_queued(item, now)
                self._taken += 1
            if 2 * len(queue) <= self.capacity:
                self._full_since, self._passed_over = None, False
        if self.address.waiting:
            self.address.pump()
        if self.link.draining and not self.queue:
            self.link.drained()
            self.budget.wake()

    def _send_queued(self, item: _Queued, now: float) -> None:
        origin = item.origin
        if not item.wanted or item.deadline <= now:
            self._drop(item)
        elif not isinstance(origin, Fanout):
            self.send(item.data, origin)
        else:
            origin.unqueued()
            decided = origin.state == Fanout.DECIDED
            self.send(item.data, None if decided else origin)

    def _tidy(self) -> bool:
        """Drop what need not wait any longer; tell whether it was time to look."""
        now = time.monotonic()
        if now < self._tidy_at:
            return False
        self._tidy_at = now + TIDY_PAUSE
        queue, self.queue = self.queue, deque()
        for item in queue:
            if item.wanted and item.deadline > now:
                self.queue.append(item)
            else:
                self.budget.queued(-len(item.data))
                self._drop(item)
        return True

    def _drop(self, item: _Queued) -> None:
        """Give up a message that has been withdrawn, or has waited too long."""
        if item.wanted and not isinstance(item.origin, Delivery):
            self._note_missed("it had no room until they expired")
        _take_back(item.origin)

    def decided(self, delivery: Delivery, outcome: Outcome) -> None:
        """The peer has decided on a message."""
        _conclude(delivery.context, outcome)
        if self.queue:
            self.advance()

    def forget(self, delivery: Delivery) -> None:
        """The producer no longer waits for the outcome of a message."""
        self.link.forget(delivery)
        self.budget.wake()

    def close(self) -> None:
        """The link has gone, and what was sent on it and is not settled is lost."""
        lost = self.link.deliveries
        queue, self.queue = self.queue, deque()
        self.table.remove_consumer(self.address, self)
        for delivery in lost:
            _conclude(delivery.context, RECEIVER_LOST)
        for item in queue:
            self.budget.queued(-len(item.data))
            _take_back(item.origin)
        self.table.discard(self.address)
        self.link.context = None


def _deadline(data: bytes, since: float) -> float:
    """The monotonic time from which a message that has waited since is void."""
    ttl = peek_ttl(data)
    return math.inf if ttl is None else since + ttl


def _conclude(origin: Origin, outcome: Outcome) -> None:
    """A consumer has decided on a message."""
    if isinstance(origin, Fanout):
        origin.decide(outcome)
    elif origin is not None and origin.raw is not None:
        origin.link.context.settle(origin, outcome)


def _take_back(origin: Origin) -> None:
    """A consumer will not get a message that has waited for it."""
    if isinstance(origin, Fanout):
        origin.unqueued()
        origin.conclude()
    elif origin is not None and origin.raw is not None:
        origin.link.context.settle(origin, RELEASED)


def _withdraw(delivery: Delivery) -> None:
    """A producer no longer waits for the outcome of a message."""
    copy = delivery.context
    copies: list[Delivery] = []
    if isinstance(copy, Fanout):
        copy.state = Fanout.WITHDRAWN
        copies = copy.copies
    elif isinstance(copy, Delivery):
        copies = [copy]
    for item in copies:
        if item.raw is not None:
            item.link.context.forget(item)


def undecodable(error: MalformedMessage) -> Outcome:
    """What becomes of a message that cannot be read."""
    return REJECTED._replace(condition="amqp:decode-error", description=str(error))
