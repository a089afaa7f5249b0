# SPDX-License-Identifier: Apache-2.0
"""The servers of each topic, as far as a process knows, and its own listeners.

One thread speaks with the matchmaker. Everybody else looks at what it has last
found, or waits for it to look again: what many want at once is asked once. While
the matchmaker is away, what was found before remains.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from hybrid_messaging import log_safety
from hybrid_messaging.drivers import logs, reentry
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq.matchmaker import (
    Entry,
    Matchmaker,
    MatchmakerAway,
    MatchmakerRefuses,
    Reading,
    Record,
)

LOG = logs.get(__name__)

#: Seconds between two looks at whether servers have come or gone.
WATCH_INTERVAL = 1.0
#: Seconds for which a topic that nobody has asked for is still watched.
WATCHED = 300.0
#: The same for a topic that has never had a server, as anybody can make one up; so
#: many of them are watched, and the one that was used first is dropped first.
IN_VAIN, MOST_IN_VAIN = 5.0, 1000
#: Topics that are looked up at once.
AT_ONCE = 1000
#: Seconds after a look that has failed in which nobody looks again, however many ask:
#: those who wait for the servers of a topic ask again as soon as they are woken.
RETRY_INTERVAL = 0.25
#: Seconds without an answer after which a matchmaker counts as silent. It has failed
#: only when all its addresses have had their time.
SILENT = 1.0
#: Seconds that a registration, or its end, may take before it is left to later.
PATIENCE = 5.0
#: Seconds that the end of registrations may take when the directory is closed.
FAREWELL = 1.0
#: Seconds for which servers count as registered that a matchmaker has forgotten
#: together with everything else: they register again meanwhile.
BELIEVED = 10.0
#: Servers of a topic that have left and are remembered; the oldest is forgotten first.
DEPARTURES = 1000


class Listing:
    """The servers of a topic."""

    __slots__ = (
        "__weakref__",
        "_begun",
        "_left",
        "believed",
        "believed_until",
        "epoch",
        "records",
        "served",
        "since",
        "used",
        "version",
    )

    def __init__(self, reading: Reading, since: float, former: Listing | None) -> None:
        self.version = reading.version
        self.epoch = reading.epoch
        #: servers that the matchmaker has known before it lost its memory
        self.believed: tuple[Record, ...] = ()
        #: monotonic time
        self.believed_until = math.inf
        if former is not None and former.epoch != reading.epoch:
            self.believed, self.believed_until = former.records, since + BELIEVED
        elif former is not None and since < former.believed_until:
            self.believed, self.believed_until = former.believed, former.believed_until
        found = (*reading.records, *self.believed)
        self.records: tuple[Record, ...] = tuple(dict.fromkeys(found))
        if former is not None and former.records == self.records:
            self.records = former.records  # held once, however many look at it
        #: whether there ever was a server, as far as is known
        self.served: bool = bool(found) or (former is not None and former.served)
        #: monotonic time at which the matchmaker was asked
        self.since = since
        #: monotonic time at which this was last of use
        self.used = since
        #: monotonic time since which changes have been followed, and at which servers
        #: have left since then
        self._begun = since
        self._left: dict[str, float] = {}
        if former is not None:
            self._follow(former)

    def through(self, records: tuple[Record, ...], since: float) -> Listing:
        """Return the same with other records, by which the servers are reached.

        :param since: monotonic time at which the matchmaker was asked for them
        """
        found = copy.copy(self)
        found.records, found.since = records, since
        return found

    def _follow(self, former: Listing) -> None:
        self._begun, self._left = former._begun, former._left
        if self.records is former.records:
            return
        here = {record.server for record in self.records}
        gone = {record.server for record in former.records} - here
        left = {name: when for name, when in self._left.items() if name not in here}
        left |= dict.fromkeys(gone, self.since)
        while len(left) > DEPARTURES:
            # of those that are forgotten it is known no longer
            self._begun = left.pop(next(iter(left)))
        self._left = left

    def absent_since(self, server: str) -> float:
        """Return the monotonic time since which a server that is not here is away.

        One that was never seen has been away for as long as the topic is known.
        """
        return self._left.get(server, self._begun)

    def has_left(self, server: str | None) -> bool:
        """Whether a server that is not here has been, as far as is known.

        :param server: None for any
        """
        return self.served if server is None else server in self._left

    def is_outdated(self, version: str, epoch: str) -> bool:
        """Whether there is more to be known.

        :param version, epoch: those of the matchmaker
        """
        return (
            version != self.version
            or epoch != self.epoch
            or time.monotonic() >= self.believed_until
        )


class Directory:
    """A process' view of its matchmaker.

    :param open_matchmaker: makes the matchmaker, in the thread that uses it
    :param options: the [oslo_messaging_zmq] group
    :param heed: called every second with what reads words of the matchmaker
    """

    #: servers are reached straight
    proxied = False

    def __init__(
        self,
        open_matchmaker: Callable[[], Matchmaker],
        options: Any,
        heed: Callable[[Callable[[str], str]], None] = lambda read: None,
    ) -> None:
        self._options = options
        self._heed = heed
        self._matchmaker = open_matchmaker()
        self._listings: dict[str, Listing] = {}
        #: why the matchmaker could not be asked, if that failed the last time
        self.failure: MatchmakerAway | None = None
        #: monotonic time at which the matchmaker was asked what it has not answered yet
        self._asking_since = math.inf
        self._lock = threading.Lock()
        self._asked: dict[str, list[Waiter]] = {}
        self._own: set[Entry] = set()
        self._unwritten: set[Entry] = set()
        self._unremoved: set[Entry] = set()
        self._written: list[Waiter] = []
        #: in which all of our own was written
        self._epoch: str | None = None
        self._followers: tuple[Callable[[], None], ...] = ()
        #: monotonic times of what is done next
        self._watch_at = self._renew_at = self._heed_at = 0.0
        #: whether the matchmaker has refused what was to be written the last time
        self._refused = False
        #: seconds until that is tried again
        self._renew_pause = RETRY_INTERVAL
        self._wake = Waiter()
        self._closing = False
        self._thread: threading.Thread | None = None

    # -- any thread ----------------------------------------------------------

    def known(self, topic: str) -> Listing | None:
        """Return the known servers of a topic; None if nobody has asked for long."""
        return self._listings.get(topic)

    @property
    def blind(self) -> bool:
        """The matchmaker is away or silent: what is known of servers has to do."""
        silent = time.monotonic() - self._asking_since >= SILENT
        return silent or self.failure is not None

    def ask(self, topic: str, waiter: Waiter) -> None:
        """Look again, and wake the waiter when that is done or has failed."""
        with self._lock:
            self._asked.setdefault(topic, []).append(waiter)
        self._begin()

    def follow(self, follower: Callable[[], None]) -> None:
        """Call a function, in the directory's thread, whenever it has looked."""
        with self._lock:
            self._followers += (follower,)

    def unfollow(self, follower: Callable[[], None]) -> None:
        """Call a function no more."""
        with self._lock:
            self._followers = tuple(
                each for each in self._followers if each != follower
            )

    def away(self, connected: list[bool]) -> bool:
        """Whether a message fails for want of proxies, and not of a server.

        :param connected: of each listener that it could go to, whether it is connected
        """
        return False

    def assigned(self, topic: str, server: str) -> Record | None:
        """Return the record that the matchmaker prescribes for a server, if it does.

        :raises MatchmakerAway: that cannot be found out
        """
        return self._matchmaker.assigned(topic, server)

    def register(self, entries: Iterable[Entry]) -> None:
        """Register servers, and renew that until they are unregistered."""
        with self._lock:
            self._own.update(entries)
            self._unwritten.update(entries)
            self._unremoved.difference_update(entries)
        self._settle()

    def unregister(self, entries: Iterable[Entry]) -> None:
        """Unregister servers."""
        with self._lock:
            self._own.difference_update(entries)
            self._unwritten.difference_update(entries)
            self._unremoved.update(entries)
        self._settle()

    def _settle(self) -> None:
        """Wait until what is to be written has been, or is known not to be."""
        waiter = Waiter()
        with self._lock:
            if self._closing:
                return
            self._written.append(waiter)
        self._begin()
        if not reentry.outside(waiter.wait, PATIENCE):
            LOG.warning("%s: no answer; trying again", self._matchmaker)

    def close(self) -> None:
        """Unregister our servers, and let go of everything.

        If the matchmaker does not answer in a moment, the registrations expire.
        """
        with self._lock:
            self._closing = True
            self._unremoved.update(self._own)
            self._own.clear()
            self._unwritten.clear()
            thread = self._thread
        self._wake.wake()
        if (
            thread is not None
            and thread is not threading.current_thread()
            and self.failure is None
        ):
            thread.join(FAREWELL)

    def after_fork(self) -> None:
        """In a child: this directory is the parent's."""
        self._closing = True
        self._lock = threading.Lock()
        self._matchmaker.after_fork()

    def _begin(self) -> None:
        """Have the directory's thread do what there is to do."""
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closing:
                    thread = threading.Thread(
                        target=self._run, name="zmq-directory", daemon=True
                    )
                    thread.start()
                    self._thread = thread
        self._wake.wake()

    # -- its own thread ------------------------------------------------------

    @reentry.works
    def _run(self) -> None:
        logs.own_thread()
        closing = False
        while not closing:
            closing = self._closing  # what was left to do until then is done once more
            self._asking_since = time.monotonic()
            try:
                self._read_words()  # before anybody connects
                self._write()
                self._read()
                self._watch()
                self._is_there()
            except MatchmakerAway as error:
                self._is_away(error)
            except Exception as error:
                if self.failure is None:
                    LOG.exception("The matchmaker failed with an internal error")
                reason = log_safety.line(f"{type(error).__name__}: {error}")
                self._is_away(MatchmakerAway(reason))
            self._asking_since = math.inf
            if not self._closing:
                self._tell_followers()
            self._pause()
        self._wake_all()
        self._matchmaker.close()

    def _pause(self) -> None:
        if self.failure is not None:
            self._watch_at = time.monotonic() + WATCH_INTERVAL
            until = time.monotonic() + RETRY_INTERVAL
            while not self._closing and time.monotonic() < until:
                self._wake.wait(until - time.monotonic())
        until = self._watch_at
        if self._refused and self.failure is None:
            until = min(until, self._renew_at)
        if not (self._closing or self._asked or self._written):
            self._wake.wait(until - time.monotonic())

    def _tell_followers(self) -> None:
        for follower in self._followers:
            try:
                follower()
            except Exception:
                LOG.exception("A callback of the directory failed")

    def _is_there(self) -> None:
        if self.failure is not None:
            LOG.info("%s is back", self._matchmaker)
            self.failure = None
            self._renew_at = 0.0  # it may be another one, which does not know all

    def _is_away(self, error: MatchmakerAway) -> None:
        if self.failure is None:
            LOG.warning(
                "The matchmaker does not answer; using the servers that are known: %s",
                error,
            )
        self.failure = error
        self._wake_all()

    def _wake_all(self) -> None:
        with self._lock:
            asked, self._asked = self._asked, {}
            written, self._written = self._written, []
        for waiter in (*written, *(each for them in asked.values() for each in them)):
            waiter.wake()

    def _read_words(self) -> None:
        now = time.monotonic()
        if now >= self._heed_at:
            self._heed(self._matchmaker.word)
            self._heed_at = now + WATCH_INTERVAL * 0.8

    def _write(self) -> None:
        with self._lock:
            waiters, self._written = self._written, []
            new, gone = list(self._unwritten), list(self._unremoved)
        try:
            if new:
                self._tell(new, new=True)
            if gone:
                self._matchmaker.remove(gone)
                self._is_taken(self._unremoved, gone)
        except MatchmakerRefuses as error:
            self._is_refused(error)
        finally:
            for waiter in waiters:
                waiter.wake()

    def _renew(self) -> None:
        """Write all of our own again."""
        with self._lock:
            own = list(self._own)
        self._renew_at = time.monotonic() + self._renew_pause
        try:
            self._tell(own, new=False)
        except MatchmakerRefuses as error:
            # a new master does so for a moment, until it has a replica
            self._renew_pause = min(2 * self._renew_pause, WATCH_INTERVAL)
            self._is_refused(error)

    def _tell(self, entries: list[Entry], new: bool) -> None:
        if entries:
            expire = self._options.zmq_target_expire
            epoch = self._matchmaker.write(entries, expire, new)
            self._is_taken(self._unwritten, entries)
        with self._lock:
            whole = self._own.issubset(entries)
        if whole:
            self._renew_at = time.monotonic() + self._options.zmq_target_update
            if entries:
                self._epoch = epoch

    def _is_taken(self, unsettled: set[Entry], entries: list[Entry]) -> None:
        with self._lock:
            unsettled.difference_update(entries)
        self._renew_pause = RETRY_INTERVAL
        if self._refused:
            self._refused = False
            LOG.info("%s accepts registrations again", self._matchmaker)

    def _is_refused(self, error: MatchmakerRefuses) -> None:
        if not self._refused:
            self._refused = True
            LOG.warning(
                "The matchmaker accepts no registrations, so new clients may not find"
                " the servers of this process; trying again: %s",
                error,
            )

    def _read(self) -> None:
        with self._lock:
            topics = list(itertools.islice(self._asked, AT_ONCE))
            asked = {topic: self._asked.pop(topic) for topic in topics}
        try:
            self._look_up(topics)
        except Exception:
            # woken with the rest, once it is known that this has failed: who is woken
            # before asks again, and a second time then
            with self._lock:
                for topic, waiters in asked.items():
                    self._asked.setdefault(topic, []).extend(waiters)
            raise
        for waiters in asked.values():
            for waiter in waiters:
                waiter.wake()

    def _look_up(self, topics: list[str]) -> None:
        for first in range(0, len(topics), AT_ONCE):
            now = time.monotonic()
            found = self._matchmaker.read(topics[first : first + AT_ONCE])
            for topic, reading in found.items():
                self._listings[topic] = Listing(reading, now, self._listings.get(topic))
        if len(self._listings) > MOST_IN_VAIN:
            self._forget_unused(time.monotonic())

    def _forget_unused(self, now: float) -> None:
        in_vain = []
        for topic, listing in list(self._listings.items()):
            if listing.used < now - (WATCHED if listing.served else IN_VAIN):
                del self._listings[topic]
            elif not listing.served:
                in_vain.append(topic)
        in_vain.sort(key=lambda topic: self._listings[topic].used)
        for topic in in_vain[:-MOST_IN_VAIN]:
            del self._listings[topic]

    def _watch(self) -> None:
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew()
        if now < self._watch_at and self.failure is None:
            return
        self._watch_at = now + WATCH_INTERVAL * random.uniform(0.8, 1)
        self._forget_unused(now)
        if not self._listings and not self._own and self.failure is None:
            return
        news = self._matchmaker.news(list(self._listings))
        if self._own and news.epoch != self._epoch:
            self._renew()
        self._look_up(
            [
                topic
                for topic, version in news.versions.items()
                if self._listings[topic].is_outdated(version, news.epoch)
            ]
        )
