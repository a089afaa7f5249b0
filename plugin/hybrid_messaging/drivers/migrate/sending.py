# SPDX-License-Identifier: Apache-2.0
"""How a request finds its bus."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Hashable
from typing import Any

from oslo_messaging.exceptions import MessagingException

from hybrid_messaging.drivers import errors, logs, reentry
from hybrid_messaging.drivers.migrate.buses import Bus, NotTaken, Request
from hybrid_messaging.drivers.migrate.counts import Counts
from hybrid_messaging.drivers.migrate.courses import Course, Stage, Way
from hybrid_messaging.drivers.patience import Patience
from hybrid_messaging.drivers.presence import Presence

LOG = logs.get(__name__)

#: Targets that are remembered; the oldest is forgotten first.
MOST = 10_000
#: Seconds between two looks at the buses while a request is held: at first, at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.05
#: Seconds in which the log says at most once that a target goes one way.
QUIET = 60.0
#: The key of a fanout's id in its message. oslo.messaging's dispatcher ignores it.
FANOUT_ID = "_migrate_fanout_id"
#: The key of the time at which a fanout was sent first, in seconds since 1970: in what
#: follows on another bus. Where the clocks of two hosts differ, little is lost: a
#: server on both buses has got it from the first one, as a rule.
FANOUT_SENT = "_migrate_fanout_sent"


class Sender:
    """Sends what a transport has to send.

    :param restart_timeout: seconds for which a target without servers is waited for
    """

    def __init__(self, new: Bus, old: Bus, restart_timeout: float) -> None:
        self._new, self._old = new, old
        self._buses = {Way.NEW: new, Way.OLD: old}
        self._restart_timeout = restart_timeout
        self._closed = False
        self.renew()

    def renew(self) -> None:
        """Begin anew: in the child of a fork, a thread of its parent had the lock."""
        self._lock = threading.Lock()
        self._courses: dict[Hashable, Course] = {}
        self._patience = Patience(self._restart_timeout)
        self._counts = Counts(self._new.name, self._old.name)

    def close(self) -> None:
        """Hold no request any longer."""
        self._closed = True

    # -- calls and casts -----------------------------------------------------

    @reentry.works
    def send(self, request: Request) -> Any:
        """Send a call or a cast over one bus, and return the reply to a call.

        It is held while nobody listens on either.
        """
        course = self._course(request.key)
        pause = FIRST_PAUSE
        while True:
            if self._closed:  # the drivers would connect again
                raise errors.BusUnavailable(
                    f"RPC to {request.where}: the transport is closed"
                )
            with contextlib.suppress(NotTaken):
                return self._attempt(course, request)
            if not self._may_wait(course, request):
                return self._give_up(course, request)
            for bus in (self._new, self._old):
                bus.hurry()
            reentry.outside(time.sleep, pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _attempt(self, course: Course, request: Request) -> Any:
        """Send a request where somebody listens now.

        :raises NotTaken: nobody does
        """
        new = self._new.presence(request.target)
        if self._choose(course, new, request) is Way.NEW:
            try:
                return self._offer(course, Way.NEW, request)
            except NotTaken:  # who listened has just left
                new = Presence.GONE
        if self._choose(course, new, request) is Way.OLD:
            try:
                return self._offer(course, Way.OLD, request)
            except NotTaken:
                with self._lock:
                    course.refused(time.monotonic())
                raise
        raise NotTaken

    def _offer(self, course: Course, way: Way, request: Request) -> Any:
        """Offer a request to a bus; once it is taken, nobody is waited for any more."""
        # a request that was sent before others were held says nothing about them
        held, taken = course.held, True
        try:
            return self._buses[way].offer(request)
        except NotTaken:
            taken = False
            raise
        finally:
            if taken:
                self._counts.sent(way, request)
                if held:
                    with self._lock:
                        course.held = False
                        self._patience.found(request.key)

    def _course(self, key: Hashable) -> Course:
        course = self._courses.get(key)
        if course is None:
            with self._lock:
                course = self._courses.get(key)
                if course is None:
                    course = Course(time.monotonic(), self._restart_timeout)
                    self._courses[key] = course
                    if len(self._courses) > MOST:
                        del self._courses[next(iter(self._courses))]
        return course

    def _choose(self, course: Course, new: Presence, request: Request) -> Way:
        listening = new is Presence.LISTENING
        if listening and course.stage is Stage.MOVED and not course.held:
            return Way.NEW  # as a rule, and without the lock

        def look_at_old(since: float) -> Presence:
            return self._old.presence(request.target, since)

        now = time.monotonic()
        with self._lock:
            way = course.choose(new, look_at_old, request.began, now)
            is_news = way is not Way.HOLD and course.is_news(way, now, QUIET)
        if is_news:
            LOG.info("RPC to %s goes over %s", request.where, self._buses[way].name)
        return way

    def _may_wait(self, course: Course, request: Request) -> bool:
        """Note that a request is held; return whether there is time for that."""
        now, left = time.monotonic(), request.left()
        with self._lock:
            course.held = True
            until = self._patience.until(
                request.key, now, request.began, bool(request.wait_for_reply)
            )
            may = now < until or course.looking(now)
        return may and (left is None or left > 0)

    def _give_up(self, course: Course, request: Request) -> Any:
        now, is_call = time.monotonic(), bool(request.wait_for_reply)
        if request.left() == 0:
            raise errors.make(
                errors.TargetUnreachable,
                is_call,
                f"RPC to {request.where}: nobody was seen to listen there within"
                f" {now - request.began:.1f} s, neither on {self._new.name} nor on"
                f" {self._old.name}",
            )
        with self._lock:
            way = course.give_up(is_call, now)
            self._patience.failed(request.key, now, request.began, is_call)
        self._counts.sent(way, request)
        return self._buses[way].insist(request)

    # -- fanouts -------------------------------------------------------------

    def fan_out(self, request: Request) -> None:
        """Send a fanout over both buses; who listens on both executes it once.

        If the new bus is away, the old one does not wait for it. It gets the fanout
        again then, which nobody has seen: `zmq` is away before it sends to the first,
        and does not say so about one that only some have.

        A bus may deliver its copy late: it was away, or `amqp` keeps it for somebody
        who comes. A server may have executed the first copy and have restarted
        meanwhile. So the second one says when the fanout was sent, and a server that
        has begun to listen on both later passes over it.

        :raises MessagingException: a bus has not taken it; the other may have
        """
        message: dict[str, Any] = {**request.message, FANOUT_ID: uuid.uuid4().hex}
        failure: Exception | None = None
        began = time.time()
        to_do: list[Callable[[Request], Any]] = [self._new.offer, self._old.insist]
        while to_do:
            send = to_do.pop(0)
            try:
                # drivers add keys to what they are given
                send(request._replace(message=dict(message)))
            except NotTaken:
                to_do.append(self._new.insist)
                continue
            except MessagingException as error:  # some may have it
                failure = failure or error
            message[FANOUT_SENT] = began
        if failure is not None:
            raise failure
