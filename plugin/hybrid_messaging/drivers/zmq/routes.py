# SPDX-License-Identifier: Apache-2.0
"""The listeners that messages can go to, and how long they wait for one."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from hybrid_messaging.drivers.patience import Patience
from hybrid_messaging.drivers.presence import Presence
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq import directory
from hybrid_messaging.drivers.zmq.directory import Directory, Listing
from hybrid_messaging.drivers.zmq.matchmaker import Record
from hybrid_messaging.drivers.zmq.message import Message
from hybrid_messaging.drivers.zmq.peer import Candidate, Link, Peer
from hybrid_messaging.drivers.zmq.proxies import ProxiedDirectory

#: Seconds between two looks into the matchmaker while somebody waits.
LOOK_INTERVAL = 0.2
#: Seconds between two looks for servers of a route that are not connected.
CONNECT_INTERVAL = 1.0
#: Seconds between two looks at what the directory has learnt, at least.
TEND_INTERVAL = 0.1
#: Seconds that servers may take to register with a matchmaker that is back.
REGISTERING = 5.0
#: Targets without listeners that are watched, so that it is known when one comes.
WATCHED = 1000


class Route:
    """The listeners that messages to a topic, or to one of its servers, can go to.

    :param topic: its name in the directory
    :param server: None for any
    """

    __slots__ = (
        "candidates",
        "connect_at",
        "listing",
        "look_at",
        "missing",
        "orphans",
        "server",
        "topic",
        "turn",
        "used",
    )

    def __init__(self, topic: str, server: str | None) -> None:
        self.topic = topic
        self.server = server
        self.listing: Listing | None = None
        self.candidates: list[Candidate] = []
        #: those of them that the matchmaker does not know any more
        self.orphans: list[Candidate] = []
        #: monotonic time at which listeners without a connection are looked at
        self.connect_at = 0.0
        #: monotonic time before which the matchmaker need not be asked again
        self.look_at = 0.0
        #: monotonic time at which somebody last sent something
        self.used = time.monotonic()
        #: whether it is known that nobody listens
        self.missing = False
        self.turn = 0

    def listens(self) -> bool:
        """Whether somebody listens, as far as is known."""
        return any(candidate.listens for candidate in self.candidates)

    def choose(self, refused: Collection[Candidate], now: float) -> Candidate | None:
        """The next in turn of those that are connected; those with room first.

        Of two that have not answered everything, the one with less to answer: so a
        server that is slow or hangs gets little more.

        :param refused: those that had no room for the message
        """
        candidates = self.candidates
        next = full = None
        for _ in candidates:
            self.turn = turn = (self.turn + 1) % len(candidates)
            candidate = candidates[turn]
            if candidate.may_take(now):
                if not candidate.full:
                    waits = len(candidate.peer.ids)
                    if next is None and waits:
                        next = candidate
                    elif next is None or waits < len(next.peer.ids):
                        return candidate
                    else:
                        return next
                elif full is None and candidate not in refused:
                    full = candidate
        return next or full


class Routes:
    """The routes of a client; any thread may use them.

    :param options: the [oslo_messaging_zmq] group
    :param connect: connects to peers that have been claimed for it
    """

    def __init__(
        self,
        options: Any,
        known: Directory | ProxiedDirectory,
        connect: Callable[[list[Peer]], None],
    ) -> None:
        self._options = options
        self._directory = known
        self._connect = connect
        self._lock = threading.Lock()
        self._routes: dict[tuple[str, str | None], Route] = {}
        #: by their endpoints and keys
        self._peers: dict[tuple[str, str], Peer] = {}
        self._patience = Patience(options.restart_timeout)
        #: whether the matchmaker was away when last looked at
        self._blind = False
        self._tend_at = 0.0

    def get(self, topic: str, server: str | None) -> Route:
        """Return the route of messages to this target."""
        key = (topic, server)
        return self._routes.get(key) or self._routes.setdefault(key, Route(*key))

    def peers(self) -> list[Peer]:
        """All peers that are known."""
        return list(self._peers.values())

    # -- the listeners -----------------------------------------------------------

    def refresh(self, route: Route, now: float) -> None:
        """Bring a route up to date with the directory, as somebody sends there."""
        route.used = now
        self._refresh(route, now)
        if route.listing is not None:
            route.listing.used = now
        if now >= route.connect_at:
            # those that are not needed yet, too: they are to share the work
            route.connect_at = now + CONNECT_INTERVAL
            self.widen(route, now)

    def _refresh(self, route: Route, now: float) -> bool:
        """Returns whether a listener has come or gone."""
        listing, before = self._directory.known(route.topic), route.listing
        if listing is None:
            if before is not None:
                # nobody has sent there for long: what is known is used meanwhile
                self.look(route, now, Waiter())
            return False
        if before is not None and before.epoch != listing.epoch:
            self._doubt(listing.since)
        # a server that cannot reach the matchmaker is there while it is connected
        orphaned = any(not each.listens for each in route.orphans)
        if listing is before and not orphaned:
            return False
        changed = (
            before is None
            or orphaned
            or listing.version != before.version
            or listing.records != before.records
        )
        if changed:
            with self._lock:
                known = {each.record: each for each in route.candidates}
                listed = [
                    known.pop(record)
                    if record in known
                    else self._candidate(route, record)
                    for record in listing.records
                    if route.server in (None, record.server)
                ]
                route.orphans = [
                    each
                    for each in known.values()
                    if each.listens
                    and each.peer.answered
                    and not self._directory.proxied
                ]
                route.candidates = listed + route.orphans
            for candidate in route.candidates:
                candidate.retry_at = 0.0
            route.connect_at = 0.0
        route.listing = listing
        return changed

    def _candidate(self, route: Route, record: Record) -> Candidate:
        known = record.endpoint, record.key
        peer = self._peers.get(known) or self._peers.setdefault(known, Peer(*known))
        return Candidate(record, record.address(route.topic), peer)

    def look(self, route: Route, now: float, waiter: Waiter) -> None:
        """Have the directory look again, unless it has just been asked to.

        :param waiter: woken when it has looked
        """
        if now >= route.look_at:
            route.look_at = now + LOOK_INTERVAL
            self._directory.ask(route.topic, waiter)

    def widen(self, route: Route, now: float) -> None:
        """Begin to connect to so many servers that they can share the work."""
        # the sender's thread and the one that follows the directory may both look
        with self._lock:
            missing: int = self._options.connections_per_topic - sum(
                not (each.absent or each.peer.link is Link.DOWN)
                for each in route.candidates
            )
            peers = (each.peer for each in route.candidates)
            claimed = _claim(peers, now, missing) if missing > 0 else []
        if claimed:
            self._connect(claimed)

    def claim(self, peers: Iterable[Peer], now: float) -> list[Peer]:
        """Return those that the caller is to connect to: nobody else does."""
        with self._lock:
            return _claim(peers, now)

    def presence(self, route: Route, now: float) -> Presence:
        """Return whether somebody listens on a target, without waiting.

        A route that is asked about is kept up to date, as one that is sent on.
        """
        self.refresh(route, now)
        listing = route.listing
        if listing is None:
            self.look(route, now, Waiter())
            return Presence.UNKNOWN
        if any(candidate.may_take(now) for candidate in route.candidates):
            return Presence.LISTENING
        if any(candidate.is_new(now) for candidate in route.candidates):
            return Presence.UNKNOWN
        if self._directory.away([each.peer.up for each in route.candidates]):
            return Presence.UNKNOWN
        if route.candidates or listing.has_left(route.server):
            return Presence.GONE
        return Presence.ABSENT

    # -- patience ----------------------------------------------------------------

    def missing(self, route: Route, now: float) -> None:
        """Note that nobody listens on a target."""
        moment = self._missing_since(route, now)
        with self._lock:
            if self._routes.get((route.topic, route.server)) is route:
                route.missing = True
                self._patience.missing(route, moment)

    def until(self, route: Route, message: Message, now: float) -> float:
        """Return until when a message waits for somebody to listen on its target."""
        moment = self._missing_since(route, now)
        with self._lock:
            route.missing = True
            return self._patience.until(route, moment, message.since, message.is_call)

    def _missing_since(self, route: Route, now: float) -> float:
        if route.server is None or route.candidates or route.listing is None:
            return now
        # of many dead servers of a topic, the first one asked is waited for
        return min(now, route.listing.absent_since(route.server))

    def failed(self, route: Route, message: Message) -> None:
        """Note that a message has failed since nobody listens."""
        with self._lock:
            self._patience.failed(
                route, time.monotonic(), message.since, message.is_call
            )

    def found(self, route: Route) -> None:
        """Note that somebody listens on a target."""
        if route.missing:
            with self._lock:
                route.missing = False
                self._patience.found(route)

    def tend(self) -> bool:
        """Learn which servers have come or gone, also where no message waits for them.

        The directory's thread calls this whenever it has looked.

        :returns: whether there is something that was not known
        """
        now = time.monotonic()
        if now < self._tend_at:
            return False
        self._tend_at = now + TEND_INTERVAL
        self._doubt_if_blind()
        watched, news = 0, False
        routes = sorted(list(self._routes.values()), key=lambda each: -each.used)
        for route in routes:
            if route.listing is None:
                continue
            if route.missing and watched < WATCHED:
                watched += 1
                route.listing.used = now
            elif route.used < now - directory.WATCHED:
                continue
            changed = self._refresh(route, now)
            if changed or not route.listens():
                self.widen(route, now)
            news = news or changed
            if route.listens():
                self.found(route)
            else:
                self.missing(route, now)
        return news

    def _doubt_if_blind(self) -> None:
        """Servers that come while the matchmaker is away are told of only later."""
        if self._directory.failure is not None:
            self._blind = True
        elif self._blind:
            self._blind = False
            self._doubt(time.monotonic())

    def _doubt(self, since: float) -> None:
        """A matchmaker is back, or may be another one: servers register again.

        :param since: monotonic time
        """
        grace = min(REGISTERING, self._options.restart_timeout)
        with self._lock:
            self._patience.doubt(since + grace)

    def gone(self, peer: Peer, address: bytes) -> None:
        """A process has said that nobody listens any more on one of its addresses."""
        for route in list(self._routes.values()):
            for candidate in route.candidates:
                if candidate.peer is peer and candidate.address == address:
                    candidate.nobody()

    def addresses(self, peer: Peer) -> set[bytes]:
        """The addresses of a peer's listeners."""
        return {
            candidate.address
            for route in list(self._routes.values())
            for candidate in route.candidates
            if candidate.peer is peer
        }

    def is_outdated(self, peer: Peer) -> bool:
        """Whether none of a peer's listeners is there: its place is another's."""
        return not any(
            candidate.peer is peer and not candidate.absent
            for route in list(self._routes.values())
            for candidate in route.candidates
        )

    # -- what nobody uses any more ---------------------------------------------------

    def keep(self, route: Route) -> Route:
        """Know a route again that has been dropped, unless there is another one."""
        return self._routes.setdefault((route.topic, route.server), route)

    def drop_if_empty(self, route: Route) -> None:
        """Forget a route that leads nowhere."""
        if route.candidates:
            return
        key = route.topic, route.server
        with self._lock:
            if not route.candidates and self._routes.get(key) is route:
                del self._routes[key]
                self._patience.found(route)

    def sweep(self, unused: float) -> list[Peer]:
        """Forget the routes that nobody has used.

        :param unused: monotonic time before which that was
        :returns: the peers of none of the others, which are forgotten as well
        """
        with self._lock:
            for key, route in list(self._routes.items()):
                if route.used < unused:
                    del self._routes[key]
                    self._patience.found(route)
            needed = {
                candidate.peer
                for route in list(self._routes.values())
                for candidate in route.candidates
            }
            idle = [
                peer
                for peer in self._peers.values()
                if peer not in needed
                and not peer.ids
                and peer.link is not Link.CONNECTING
            ]
            for peer in idle:
                del self._peers[peer.endpoint, peer.key]
        return idle


def _claim(peers: Iterable[Peer], now: float, most: int | None = None) -> list[Peer]:
    """Mark those that may be connected to, and return them; each once.

    :param most: how many, at most
    """
    near = list({each for each in peers if each.may_connect(now)})
    if most is not None:
        # at random: what one client leaves to others, they leave to it
        near = random.sample(near, min(most, len(near)))
    for peer in near:
        peer.connecting()
    return near
