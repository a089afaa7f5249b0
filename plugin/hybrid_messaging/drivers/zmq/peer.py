# SPDX-License-Identifier: Apache-2.0
"""A server's process, as the clients of another process see it."""

from __future__ import annotations

import random
import time
from enum import Enum, auto

from hybrid_messaging.drivers.zmq.message import Message

#: Seconds before a second attempt to connect, and the longest pause.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


class Link(Enum):
    """What there is between us and a peer."""

    DOWN = auto()
    CONNECTING = auto()
    UP = auto()


class Peer:
    """What is bound to one endpoint: all its listeners share a connection.

    Changed with the client's lock held.

    :param endpoint: tcp://host:port
    :param key: its public key; empty: it does without
    """

    __slots__ = (
        "_pause",
        "address",
        "endpoint",
        "failure",
        "key",
        "link",
        "retry_at",
        "routing_id",
        "sent",
        "tried",
        "used",
    )

    def __init__(self, endpoint: str, key: str) -> None:
        self.endpoint = endpoint
        self.key = key
        #: the same without names, as ZeroMQ reports on it
        self.address = ""
        self.link = Link.DOWN
        self.routing_id = b""
        #: messages that it has and has not answered, by their ids
        self.sent: dict[int, Message] = {}
        self.used = time.monotonic()
        #: why there is no connection
        self.failure = ""
        #: monotonic time of the last failure to connect
        self.tried = 0.0
        self.retry_at = 0.0
        self._pause = FIRST_PAUSE

    @property
    def up(self) -> bool:
        return self.link is Link.UP

    def may_connect(self, now: float) -> bool:
        return self.link is Link.DOWN and now >= self.retry_at

    def connected(self) -> None:
        self.link = Link.UP
        self.failure = ""
        self._pause = FIRST_PAUSE

    def failed(self, reason: str) -> None:
        """There is no connection any more, or none could be made."""
        self.link = Link.DOWN
        self.failure = reason
        self.tried = time.monotonic()
        self.retry_at = self.tried + self._pause * random.uniform(0.5, 1)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
