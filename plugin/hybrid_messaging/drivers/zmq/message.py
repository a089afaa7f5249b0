# SPDX-License-Identifier: Apache-2.0
"""A message on its way, and the thread that waits for it."""

from __future__ import annotations

import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq import wire

if TYPE_CHECKING:
    from hybrid_messaging.drivers.zmq.peer import Peer


class State(Enum):
    """Where a message is on its way."""

    QUEUED = auto()  # not with anybody yet, or it came back unseen
    LEAVING = auto()  # left with the thread that uses the socket
    SENT = auto()  # handed to ZeroMQ; waits for the answer
    DONE = auto()  # it is over: `error` or `reply` say how


class Message:
    """A request, with what becomes of it.

    :param kind: of wire's requests
    :param name: what people call this kind of message
    :param target: oslo_messaging.Target, for people
    :param body: JSON text
    :param retry: 0: do not wait for a matchmaker that is away
    :param monitor_interval: seconds between two signs of life of the server
    """

    __slots__ = (
        "body",
        "busy",
        "error",
        "kind",
        "leader",
        "monitor_interval",
        "monitor_until",
        "name",
        "reply",
        "retry",
        "since",
        "state",
        "target",
        "unseen_since",
        "waiter",
        "with_peers",
    )

    def __init__(
        self,
        kind: bytes,
        name: str,
        target: Any,
        body: str,
        *,
        retry: int | None = None,
        monitor_interval: float | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.target = target
        self.body = body.encode()
        self.retry = retry
        self.monitor_interval = monitor_interval
        self.since = time.monotonic()
        #: monotonic time at which it came back unseen, the first time
        self.unseen_since: float | None = None
        self.busy = False
        self.monitor_until = (
            None if monitor_interval is None else self.since + monitor_interval
        )
        self.state = State.QUEUED
        #: who has it, by the ids that it has there: several for a fanout
        self.with_peers: dict[int, Peer] = {}
        self.reply: bytes | None = None
        self.error: Exception | None = None
        self.waiter = Waiter()
        #: the thread that waits for it, while that reads from the socket by itself
        self.leader: int | None = None

    def __str__(self) -> str:
        return f"{self.name} to {self.target}"

    @property
    def is_call(self) -> bool:
        return self.kind == wire.CALL

    def waits(self) -> bool:
        """Nothing has been said about it yet that its sender has to act on."""
        return self.state is State.SENT or self.state is State.LEAVING

    def left(self) -> None:
        """ZeroMQ has it; it can only wait for what is answered."""
        self.state = State.SENT

    def come_back(self, busy: bool = False) -> None:
        """Nobody has acted on it; it may be sent again.

        :param busy: who has it listens, but takes no more for now
        """
        if self.unseen_since is None:
            self.unseen_since = time.monotonic()
        self.busy = busy
        self.state = State.QUEUED

    def sign_of_life(self) -> None:
        """The server has told that it is still at work."""
        if self.monitor_interval is not None:
            self.monitor_until = time.monotonic() + self.monitor_interval

    def finish(
        self, error: Exception | None = None, reply: bytes | None = None
    ) -> None:
        """It is over; the caller wakes who waits."""
        self.error = error
        self.reply = reply
        self.state = State.DONE
