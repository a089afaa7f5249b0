# SPDX-License-Identifier: Apache-2.0
"""One address that we send to, and the messages on their way there."""

from __future__ import annotations

import collections
import time
from collections.abc import Hashable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from hybrid_messaging.drivers.amqp.addressing import Service
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import Sender

if TYPE_CHECKING:
    from hybrid_messaging.drivers.amqp.outbox import Outbox

#: Characters from which on a message goes by a link in a session of its own.
#: Where its reader is stuck, a router stops to read the session that a message of
#: many buffers comes in on; skupper-router from 256 KB on.
LARGE = 64 * 1024

#: Marks a call whose sender expects it to stay unsettled until its reply is
#: under way, so that the loss of the server reaches the caller through the
#: router. Servers that do not know the mark settle at once, as ever.
SETTLES_WITH_REPLY = "x-opt-settles-with-reply"
_CALL_MARK = codec.mark([SETTLES_WITH_REPLY])


class State(Enum):
    """Where a message is on its way."""

    QUEUED = auto()  # waits for the bus, for a link, for somebody who listens
    SENT = auto()  # handed to the bus; waits for the outcome or for the reply
    RELEASED = auto()  # came back unseen; may be sent again
    DONE = auto()  # it is over: `error` or `reply` say how


class Outgoing:
    """A message on its way, and the thread that waits for it.

    :param key: what tells its route from others
    :param target: oslo_messaging.Target, or an address as the peer gave it
    :param name: what people call this kind of message
    :param body: JSON text; None for a sign of life
    :param settled: send it without asking for its outcome
    :param id: message-id of a call; a message without one awaits no reply
    :param retry: how often it may be sent again; None: as long as there is time
    """

    __slots__ = (
        "body",
        "correlation_id",
        "delivery",
        "durable",
        "error",
        "expiry",
        "fanout",
        "id",
        "key",
        "large",
        "monitor_interval",
        "monitor_until",
        "name",
        "reply",
        "retry",
        "route",
        "service",
        "settled",
        "since",
        "state",
        "target",
        "ttl",
        "unseen_since",
        "waiter",
    )

    def __init__(
        self,
        key: Hashable,
        target: Any,
        name: str,
        body: str | None,
        *,
        service: Service = "rpc",
        settled: bool = False,
        id: str | None = None,
        correlation_id: Any = None,
        ttl: float | None = None,
        durable: bool = False,
        fanout: bool = False,
        retry: int | None = None,
        monitor_interval: float | None = None,
    ) -> None:
        self.key = key
        self.target = target
        self.name = name
        self.body = body
        self.large = body is not None and len(body) >= LARGE
        self.service = service
        self.settled = settled
        self.id = id
        self.correlation_id = correlation_id
        self.ttl = ttl
        self.expiry = time.time() + ttl if ttl is not None else None
        self.durable = durable
        self.fanout = fanout
        self.retry = None if retry is None or retry < 0 else retry
        self.since = time.monotonic()
        #: monotonic time at which the bus gave it back unseen, the first time
        self.unseen_since: float | None = None
        self.monitor_interval = monitor_interval
        self.monitor_until = (
            None if monitor_interval is None else self.since + monitor_interval
        )
        self.state = State.QUEUED
        self.route: Route | None = None
        self.delivery: Any = None
        self.reply: Any = None
        self.error: Exception | None = None
        self.waiter = Waiter()

    def encode(self, to: str, reply_to: str | None) -> bytes:
        """The bytes of the message.

        :param to: address it goes to
        :param reply_to: address of the reply, for a call
        """
        return codec.encode(
            self.body,
            to=to,
            id=self.id,
            reply_to=reply_to if self.id is not None else None,
            correlation_id=self.correlation_id,
            ttl=self.ttl,
            expiry=self.expiry,
            durable=self.durable,
            marks=_CALL_MARK if self.id is not None and not self.settled else b"",
        )

    def waits(self) -> bool:
        """Nothing has been said about it yet that its sender has to act on."""
        return self.state is State.SENT or self.state is State.QUEUED

    def may_retry(self) -> bool:
        """Count another attempt; False if there may be none."""
        if self.retry is None:
            return True
        self.retry -= 1
        return self.retry >= 0

    def come_back(self) -> None:
        """The bus has given it back unseen; the caller wakes who waits."""
        if self.unseen_since is None:
            self.unseen_since = time.monotonic()
        self.state = State.RELEASED

    def sign_of_life(self) -> None:
        """The server has told that it is still at work."""
        if self.monitor_interval is not None:
            self.monitor_until = time.monotonic() + self.monitor_interval

    def finish(self, error: Exception | None = None) -> None:
        """It is over; the caller wakes who waits."""
        self.error = error
        self.state = State.DONE


class Route:
    """A link to an address, while there is one, and the queue in front of it."""

    __slots__ = (
        "_outbox",
        "address",
        "attached",
        "blind",
        "key",
        "link",
        "queue",
        "refusal",
        "used",
    )

    def __init__(self, outbox: Outbox, key: Hashable) -> None:
        self._outbox = outbox
        self.key = key
        self.address = ""
        self.link: Sender | None = None
        #: monotonic time at which the peer confirmed the link
        self.attached: float | None = None
        self.queue: collections.deque[Outgoing] = collections.deque()
        self.used = time.monotonic()
        #: its credit was used by messages whose fate nobody is told: they may be
        #: with somebody who is slow
        self.blind = False
        #: why the peer did not want the last link
        self.refusal = ""

    @property
    def open(self) -> bool:
        """A message could be sent right now."""
        link = self.link
        return link is not None and self.attached is not None and link.credit > 0

    @property
    def deserted(self) -> bool:
        """The peer knows of nobody who would take a message."""
        link = self.link
        return (
            link is not None
            and self.attached is not None
            and not self.blind
            and link.credit <= 0
            and link.unsettled == 0
        )

    @property
    def idle(self) -> bool:
        """Nothing is under way here."""
        return not self.queue and (self.link is None or self.link.unsettled == 0)

    def attach(self, link: Sender, address: str) -> None:
        """Take a link that was opened to the route's address."""
        self.address = address
        self.link = link
        link.context = self

    def detach(self) -> None:
        """Close the link."""
        if self.link is not None:
            self.link.close()
        self.lost()

    def lost(self) -> None:
        """The link is gone."""
        self.link = None
        self.attached = None
        self.blind = False

    def on_open(self) -> None:
        self.attached = time.monotonic()
        self._outbox.drain(self)

    def on_close(self, condition: str) -> None:
        self.lost()
        self.refusal = condition
        self._outbox.route_lost(self, condition)

    def on_flow(self) -> None:
        self._outbox.drain(self)
        if self.link is not None and self.link.draining:
            if self.link.credit > 0:
                self.blind = False  # nobody wants it any more
            self.link.drained()
