# SPDX-License-Identifier: Apache-2.0
"""A server's process, and its listeners, as the clients of another process see them."""

from __future__ import annotations

import random
import time
from enum import Enum, auto
from typing import NamedTuple

from hybrid_messaging.drivers.zmq.matchmaker import Record

#: Seconds within which a server that is there is connected, on a good network.
SETTLING = 2.0
#: Seconds without a single new connection after which a fanout waits no longer for
#: those that are being made: longer, since a thousand at once take their time.
STANDSTILL = 5.0
#: Seconds before a second attempt to connect, and the longest pause.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
#: Seconds before a listener is asked again of which its process does not know. When it
#: comes back, the matchmaker knows at once; until then its process is likely to end,
#: and what is sent to it in that moment may have been executed, as far as we know.
ABSENCE = 10.0


class Link(Enum):
    """The state of the connection to a peer."""

    DOWN = auto()
    CONNECTING = auto()
    UP = auto()


class Peer:
    """What is bound to one endpoint: all its listeners share a connection.

    Changed with the client's lock held, once somebody has claimed it for connecting.

    :param endpoint: tcp://host:port
    :param key: its public key; empty: it does without
    """

    __slots__ = (
        "_pause",
        "address",
        "addresses",
        "answered",
        "endpoint",
        "failure",
        "ids",
        "key",
        "link",
        "missed_since",
        "retry_at",
        "routing_id",
        "silent",
        "tried",
        "used",
    )

    def __init__(self, endpoint: str, key: str) -> None:
        self.endpoint = endpoint
        self.key = key
        #: the same without names, as ZeroMQ reports on it: the one that is tried, or
        #: that has served before
        self.address = ""
        #: what is to be tried after it
        self.addresses: list[str] = []
        self.link = Link.DOWN
        self.routing_id = b""
        #: ids of the messages that it has and has not answered
        self.ids: set[int] = set()
        self.used = time.monotonic()
        #: why there is no connection
        self.failure = ""
        #: monotonic time since which attempts to connect have not succeeded
        self.missed_since: float | None = None
        #: monotonic time of the last failure to connect
        self.tried = 0.0
        self.retry_at = 0.0
        #: it has left a fanout unconfirmed, and has not answered anything since
        self.silent = False
        #: it has answered something over this connection, and so it will tell when one
        #: of its listeners stops
        self.answered = False
        self._pause = FIRST_PAUSE

    @property
    def up(self) -> bool:
        return self.link is Link.UP

    def may_connect(self, now: float) -> bool:
        return self.link is Link.DOWN and now >= self.retry_at

    def connecting(self) -> None:
        now = time.monotonic()
        self.link = Link.CONNECTING
        self.used = now
        if self.missed_since is None:
            self.missed_since = now

    def connected(self) -> None:
        self.link = Link.UP
        self.failure = ""
        self.missed_since = None
        self.silent = False
        self._pause = FIRST_PAUSE

    def failed(self, reason: str) -> None:
        """There is no connection any more, or none could be made."""
        self.link = Link.DOWN
        self.answered = False
        self.failure = reason
        self.tried = time.monotonic()
        self.retry_at = self.tried + self._pause * random.uniform(0.5, 1)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


class Candidate:
    """A listener that a message could go to."""

    __slots__ = ("absent", "address", "full", "peer", "record", "retry_at", "since")

    def __init__(self, record: Record, address: bytes, peer: Peer) -> None:
        self.record = record
        self.address = address
        self.peer = peer
        #: monotonic time at which it has become known
        self.since = time.monotonic()
        #: its process has said that nobody listens there
        self.absent = False
        #: monotonic time at which that may be asked again
        self.retry_at = 0.0
        #: it had no room for the last message
        self.full = False

    @property
    def listens(self) -> bool:
        """Whether it is there, as far as is known."""
        return self.peer.up and not self.absent

    def is_new(self, now: float) -> bool:
        """Whether it is not yet known if it is there."""
        peer = self.peer
        return not peer.up and peer.tried < self.since and now < self.since + SETTLING

    def may_take(self, now: float) -> bool:
        """Whether a message can be sent to it."""
        return self.peer.up and (not self.absent or now >= self.retry_at)

    def nobody(self) -> None:
        """Its process knows of no such listener."""
        self.absent = True
        self.retry_at = time.monotonic() + ABSENCE * random.uniform(1, 1.5)

    def answered(self, full: bool = False) -> None:
        """It has answered, and not that nobody listens there.

        :param full: it has no room
        """
        self.absent = False
        self.full = full


class Sorted(NamedTuple):
    """The listeners of a fanout."""

    ready: list[Candidate]
    #: likely to be connected soon
    pending: list[Candidate]
    #: do not answer; listeners in none of the three are not there
    silent: list[Candidate]


def sort(
    candidates: list[Candidate], since: float, connected_at: float, now: float
) -> Sorted:
    """Sort listeners by whether a fanout can be sent to them.

    :param since: monotonic time after which a failure to connect counts
    :param connected_at: monotonic time at which the last connection was made
    """
    found = Sorted([], [], [])
    for candidate in candidates:
        peer = candidate.peer
        # one look at each: it may be connected in the next moment
        link, missed_since = peer.link, peer.missed_since
        if link is Link.UP:
            found.ready.append(candidate)
        elif peer.tried >= since:
            continue  # the attempt has failed
        elif now < max(missed_since or now, connected_at) + STANDSTILL:
            found.pending.append(candidate)
        elif link is Link.CONNECTING:
            found.silent.append(candidate)
    return found
