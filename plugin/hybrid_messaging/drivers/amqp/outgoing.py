# SPDX-License-Identifier: Apache-2.0
"""A message that is sent, and where it is on its way."""

from __future__ import annotations

import time
from collections.abc import Hashable
from enum import Enum, auto
from typing import Any, NamedTuple

from hybrid_messaging.drivers.amqp.addressing import Service
from hybrid_messaging.drivers.driver import described
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import Delivery

#: Characters from which on a message goes by a link in a separate session.
#: Where its reader is stuck, a router stops to read the session that a message of
#: many buffers comes in on; skupper-router from 256 KB on.
LARGE = 64 * 1024

#: Marks a call whose sender expects it to stay unsettled until its reply is
#: under way, so that the loss of the server reaches the caller through the
#: router. Servers that do not know the mark settle at once, as ever. It also marks the
#: reply of a server that has done so.
SETTLES_WITH_REPLY = "x-opt-settles-with-reply"
_MARK = codec.mark([SETTLES_WITH_REPLY])


class Message(NamedTuple):
    """What is sent."""

    #: what identifies its target
    key: Hashable
    #: oslo_messaging.Target, or an address as the peer gave it
    target: Any
    #: what people call this kind of message
    name: str
    #: JSON text; None for a sign of life
    body: str | None
    service: Service = "rpc"
    #: send it without asking for its outcome
    settled: bool = False
    #: message-id, unique on the bus: of a call, for its reply to name; of a fanout, for
    #: its listeners to know again what a mesh of routers brings them twice
    id: str | None = None
    #: somebody waits for a reply to it
    is_call: bool = False
    correlation_id: Any = None
    #: with the mark: the call is settled with its reply
    marked: bool = False
    #: seconds that it may take in all
    ttl: float | None = None
    durable: bool = False
    fanout: bool = False
    #: how often it may be sent again; None or negative: as long as there is time
    retry: int | None = None

    @property
    def large(self) -> bool:
        return self.body is not None and len(self.body) >= LARGE

    @property
    def destination(self) -> str:
        """Where it goes, for people, as long as the address is not known."""
        return self.target if self.is_reply else described(self.target)

    @property
    def is_reply(self) -> bool:
        """It goes to the reply address of a caller."""
        return isinstance(self.target, str)


class State(Enum):
    """Where a message is on its way."""

    QUEUED = auto()  # waits for the bus, for a link, for somebody who listens
    SENT = auto()  # handed to the bus; waits for the outcome or for the reply
    REPLIED = auto()  # its server has replied, and the reply is not here
    RELEASED = auto()  # came back unseen; may be sent again
    DONE = auto()  # it is over: `error` or `reply` say how


class Outgoing:
    """Where a message is, and what has become of it."""

    __slots__ = (
        "alive",
        "delivery",
        "error",
        "message",
        "reply",
        "retries",
        "route",
        "since",
        "state",
        "waiter",
    )

    def __init__(self, message: Message, since: float | None = None) -> None:
        self.message = message
        self.state = State.QUEUED
        #: the outbox's link for it, and the queue in front of that
        self.route: Any = None
        self.delivery: Delivery | None = None
        retry = message.retry
        self.retries = None if retry is None or retry < 0 else retry
        #: monotonic time from which on its time counts
        self.since = time.monotonic() if since is None else since
        #: monotonic time of the server's last sign of life
        self.alive = self.since
        self.reply: Any = None
        self.error: Exception | None = None
        #: woken when the state has changed otherwise than from QUEUED to SENT
        self.waiter = Waiter()

    def encode(self, to: str, reply_to: str | None, settled: bool) -> bytes:
        """The bytes of the message.

        :param to: address it goes to
        :param reply_to: address of the reply, for a call
        :param settled: its outcome is not asked for
        """
        message = self.message
        ttl = message.ttl
        if ttl is not None:  # what is left of it
            ttl = max(0.0, ttl - (time.monotonic() - self.since))
        return codec.encode(
            message.body,
            to=to,
            id=message.id,
            reply_to=reply_to if message.is_call else None,
            correlation_id=message.correlation_id,
            ttl=ttl,
            expiry=None if ttl is None else time.time() + ttl,
            durable=message.durable,
            marks=_MARK if message.marked else b"",
        )

    def anew(self) -> Outgoing:
        """The same message for another bus, with what is left of its time."""
        again = Outgoing(self.message, self.since)
        again.alive, again.retries = self.alive, self.retries
        return again

    def waits(self) -> bool:
        """Nothing has been said about it yet that its sender has to act on."""
        return self.state is State.SENT or self.state is State.QUEUED

    def waits_for_reply(self) -> bool:
        """Its server has replied, and nothing else is known."""
        return self.state is State.REPLIED

    def overdue(self, now: float) -> bool:
        """All the time that it may take has passed.

        :param now: monotonic time
        """
        ttl = self.message.ttl
        return ttl is not None and now >= self.since + ttl

    def may_retry(self) -> bool:
        """Count another attempt; False if there may be none."""
        if self.retries is None:
            return True
        self.retries -= 1
        return self.retries >= 0

    def sent(self) -> None:
        """The bus has it."""
        self.state = State.SENT

    def has_reply_under_way(self) -> None:
        """Its server has settled it with the reply, which is late or lost."""
        self.state = State.REPLIED
        self.waiter.wake()

    def come_back(self) -> None:
        """The peer has given it back unseen."""
        self.state = State.RELEASED
        self.waiter.wake()

    def finish(self, error: Exception | None = None) -> None:
        """It is over."""
        self.error = error
        self.state = State.DONE
        self.waiter.wake()
