# SPDX-License-Identifier: Apache-2.0
"""One address that we send to: its link, and the messages that wait for it."""

from __future__ import annotations

import collections
import time
from collections.abc import Hashable
from typing import Protocol

from hybrid_messaging.drivers.amqp.outgoing import Outgoing
from hybrid_messaging.drivers.presence import Presence
from hybrid_messaging.protocol.endpoint import Sender

#: A router that has confirmed a link grants its credit within this, if anybody
#: listens: seconds before its silence means that nobody does.
SETTLING = 0.25


class Events(Protocol):
    """Is told what the peer does with a route's link."""

    def on_attach(self, route: Route) -> None:
        """The peer has confirmed the link, and may know more of its address."""

    def on_credit(self, route: Route) -> None:
        """The peer may have granted credit: somebody listens."""

    def on_desertion(self, route: Route) -> None:
        """The peer has taken the credit back: the last listener has just left."""

    def on_route_lost(self, route: Route, condition: str) -> None:
        """The peer has detached, or refused, the link to an address."""


class Route:
    """A link to an address, while there is one, and the queue in front of it."""

    __slots__ = (
        "_events",
        "address",
        "attached",
        "blind",
        "held",
        "key",
        "known",
        "left",
        "link",
        "queue",
        "refusal",
        "settles",
        "target_key",
        "used",
        "vacant",
    )

    def __init__(self, events: Events, key: Hashable, target_key: Hashable) -> None:
        self._events = events
        self.key = key
        #: of the messages that are sent here; large ones have a route of their own
        self.target_key = target_key
        self.address = ""
        self.link: Sender | None = None
        #: the peer has confirmed the link
        self.attached = False
        #: nothing is sent yet
        self.held = False
        #: monotonic time since which the peer grants nothing on a link that was
        #: not used up; None once it does
        self.vacant: float | None = None
        #: monotonic time from which on that means that nobody listens
        self.known = 0.0
        #: the peer has said that listeners have left
        self.left = False
        self.queue: collections.deque[Outgoing] = collections.deque()
        self.used = time.monotonic()
        #: the last message was pre-settled, or was withdrawn: that there is no credit
        #: may mean that a listener is slow, and not that there is none
        self.blind = False
        #: why the peer did not want the last link
        self.refusal = ""
        #: whether all servers here settle calls with their replies, as far as is known
        self.settles: bool | None = None

    @property
    def open(self) -> bool:
        """A message could be sent right now."""
        link = self.link
        return link is not None and self.attached and link.credit > 0 and not self.held

    def deserted(self, since: float) -> float | None:
        """From when on it is certain that nobody listens.

        :param since: monotonic time since which a message has waited for credit
        :returns: monotonic time; None while nothing points to it
        """
        link = self.link
        if link is None or not self.attached or self.blind:
            return None
        if link.credit > 0 or link.unsettled > 0:
            return None
        return self.known if self.vacant is not None else since + SETTLING

    def settled(self) -> None:
        """The peer has said that nobody listens any more: there is no doubt."""
        self.known = time.monotonic()
        self.left = True

    def presence(self, now: float) -> Presence:
        """Whether somebody listens, as a router's credit says; needs no lock.

        :param now: monotonic time
        """
        vacant = self.vacant
        if not self.attached:
            return Presence.ABSENT if self.refusal else Presence.UNKNOWN
        if vacant is None:
            return Presence.LISTENING
        if now < self.known:
            return Presence.UNKNOWN
        return Presence.GONE if self.left else Presence.ABSENT

    def replied(self, settled: bool) -> None:
        """A server has replied.

        :param settled: it says that it has settled the call with the reply
        """
        # servers of other drivers may listen here as well
        self.settles = settled and self.settles is not False

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
        self.attached = self.held = self.blind = False
        self.vacant = None

    def on_open(self) -> None:
        self.attached = True
        self.vacant = time.monotonic()
        self.known = self.vacant + SETTLING
        self._events.on_attach(self)
        self._events.on_credit(self)

    def on_close(self, condition: str) -> None:
        self.lost()
        self.refusal = condition
        self._events.on_route_lost(self, condition)

    def on_flow(self) -> None:
        self._events.on_credit(self)
        if self.link is not None and self.link.draining:
            # nobody wants it any more
            self.blind = False
            is_news = self.vacant is None
            if is_news:
                self.vacant = time.monotonic()
            self.settled()
            self.link.drained()
            if is_news:
                self._events.on_desertion(self)
