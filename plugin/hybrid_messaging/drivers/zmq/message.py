# SPDX-License-Identifier: Apache-2.0
"""A message on its way, and the thread that waits for it."""

from __future__ import annotations

import time
from enum import Enum, auto
from typing import Any

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq import wire
from hybrid_messaging.drivers.zmq.peer import Candidate


class State(Enum):
    """Where a message is on its way."""

    QUEUED = auto()  # not with anybody yet, or it came back unseen
    LEAVING = auto()  # left with the thread that uses the socket
    SENT = auto()  # handed to ZeroMQ; waits for the answer
    DONE = auto()  # it is over: `error` or `reply` say how


#: its sender has nothing to do before something is said about it
_WAITING = (State.SENT, State.LEAVING)


class Message:
    """A request, with what becomes of it.

    :param kind: of wire's requests
    :param name: what people call this kind of message
    :param target: oslo_messaging.Target, for people
    :param body: JSON text
    :param timeout: seconds that all of it may take
    :param since: monotonic time from which on they count; None: now
    :param retry: 0: do not wait for a matchmaker that is away
    :param monitor_interval: seconds between two signs of life of the server
    """

    __slots__ = (
        "body",
        "deadline",
        "error",
        "held",
        "kind",
        "monitor_interval",
        "monitor_until",
        "name",
        "refused",
        "reply",
        "retry",
        "since",
        "state",
        "target",
        "waiter",
    )

    def __init__(
        self,
        kind: bytes,
        name: str,
        target: Any,
        body: bytes,
        timeout: float,
        since: float | None = None,
        retry: int | None = None,
        monitor_interval: float | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.target = target
        self.body = body
        self.retry = retry
        self.monitor_interval = monitor_interval
        self.since = time.monotonic() if since is None else since
        #: monotonic time
        self.deadline = self.since + timeout
        self.monitor_until = (
            None if monitor_interval is None else self.since + monitor_interval
        )
        self.state = State.QUEUED
        #: the listeners that have it, by its ids there; several for a fanout
        self.held: dict[int, Candidate] = {}
        #: the listeners that had no room for it, by its ids there
        self.refused: dict[int, Candidate] = {}
        self.reply: bytes | None = None
        self.error: Exception | None = None
        self.waiter = Waiter()

    def __str__(self) -> str:
        return f"{self.name} to {self.target}"

    @property
    def is_call(self) -> bool:
        return self.kind == wire.CALL

    @property
    def ttl(self) -> int:
        """How long its sender waits for it, in the milliseconds of a request."""
        if self.kind == wire.CAST:
            return wire.NO_TTL  # a server that confirms it executes it
        return wire.ttl(self.deadline - time.monotonic())

    def waits(self) -> bool:
        """Nothing has been said about it yet that its sender has to act on."""
        return self.state in _WAITING

    def wants_news(self) -> bool:
        """Its sender waits for a listener."""
        return self.state is State.QUEUED

    # -- what has become of it, with the socket's lock held ------------------------

    def left(self) -> None:
        """ZeroMQ has it; it can only wait for what is answered."""
        self.state = State.SENT

    def came_back(self, id: int, candidate: Candidate, busy: bool = False) -> None:
        """A listener has not acted on it; it may be sent again.

        :param id: that it had there
        :param busy: the listener is there, but has no room
        """
        if busy:
            self.refused[id] = candidate
        self.state = State.QUEUED

    def has_room(self, candidate: Candidate) -> None:
        """A listener that had no room for it has some now."""

    def sign_of_life(self) -> None:
        """The server has told that it is still at work."""
        if self.monitor_interval is not None:
            self.monitor_until = time.monotonic() + self.monitor_interval

    def was_lost(self, error: errors.DeliveryError) -> None:
        """The server that had it is gone."""
        self.finish(error)

    def was_refused(self, error: errors.DeliveryError) -> None:
        """A server cannot take it, now or later."""
        self.finish(error)

    def was_taken(self, body: bytes) -> None:
        """A listener has confirmed it, or has answered it with that body."""
        self.finish(reply=body)

    def finish(
        self, error: Exception | None = None, reply: bytes | None = None
    ) -> None:
        """It is over; the caller wakes who waits."""
        self.error = error
        self.reply = reply
        self.state = State.DONE

    def withdrawn_from(self) -> dict[int, Candidate]:
        """The listeners to be told that its sender has given up, by its ids there."""
        return self.held | self.refused


class Fanout(Message):
    """A cast for all listeners of a topic: each gets it, or misses it."""

    __slots__ = ("missed", "more")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: whether it is to be sent to more listeners
        self.more = True
        #: those that had no room
        self.missed: list[Candidate] = []

    def wants_news(self) -> bool:
        return self.more

    def left(self) -> None:
        self.state = State.SENT
        self._look_whether_done()

    def came_back(self, id: int, candidate: Candidate, busy: bool = False) -> None:
        if busy:
            self.missed.append(candidate)
        self._look_whether_done()

    def was_lost(self, error: errors.DeliveryError) -> None:
        self._look_whether_done()  # a server that has gone does not miss it

    def was_refused(self, error: errors.DeliveryError) -> None:
        self.error = error  # for its sender, once the others have it
        self._look_whether_done()

    def was_taken(self, body: bytes) -> None:
        self._look_whether_done()

    def _look_whether_done(self) -> None:
        # a server that has left another one unconfirmed is not waited for
        if (
            self.state is State.SENT
            and not self.more
            and all(each.peer.silent for each in self.held.values())
        ):
            self.finish(self.error)

    def withdrawn_from(self) -> dict[int, Candidate]:
        return {}
