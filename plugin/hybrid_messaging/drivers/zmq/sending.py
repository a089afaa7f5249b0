# SPDX-License-Identifier: Apache-2.0
"""How a thread sends one message: to one server, or to all of a topic."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from typing import Protocol

from oslo_messaging import exceptions

from hybrid_messaging import log_safety
from hybrid_messaging.drivers import errors, logs, reentry
from hybrid_messaging.drivers.zmq.directory import Directory
from hybrid_messaging.drivers.zmq.message import Fanout, Message, State
from hybrid_messaging.drivers.zmq.peer import SETTLING, Candidate, Peer, sort
from hybrid_messaging.drivers.zmq.proxies import ProxiedDirectory
from hybrid_messaging.drivers.zmq.routes import LOOK_INTERVAL, Route, Routes

LOG = logs.get(__name__)

#: Seconds that the matchmaker may take to answer before it counts as silent.
SILENCE = 0.25
#: Seconds after which a listener that had no room is asked again, though it has not
#: said that it has some: nobody remembers everybody.
BUSY_PAUSE = 1.0
#: Seconds in which connections are made before a fanout looks which are up.
GATHERING = 0.01


class Carrier(Protocol):
    """What carries messages; see `Client`."""

    routes: Routes
    directory: Directory | ProxiedDirectory
    missed: Missed
    #: monotonic time at which the last connection was made
    connected_at: float

    @property
    def closed(self) -> bool: ...

    def transmit(
        self, message: Message, candidates: list[Candidate], more: bool = False
    ) -> None: ...

    def sleep(self, message: Message, until: float) -> None: ...

    def pause(self, message: Message, until: float) -> None: ...

    def hear(self, message: Message, moment: float) -> None: ...

    def give_up(self, message: Message, error: Exception) -> None: ...

    def withdraw(self, message: Message) -> None: ...

    def connect(self, peers: Iterable[Peer]) -> None: ...


class Missed:
    """Counts the listeners that have missed fanouts, and mentions them."""

    def __init__(self) -> None:
        self._tally = log_safety.Tally()

    def note(self, topic: str, candidates: Iterable[Candidate]) -> None:
        """Some listeners had no room, or could not be reached."""
        where = log_safety.quoted(topic)
        names = self._tally.add(
            f"{log_safety.quoted(each.record.server)} at {each.peer.endpoint} ({where})"
            for each in candidates
        )
        if names:
            LOG.warning(
                "Listeners that had no room or could not be reached missed fanouts: %s",
                names,
            )


class _Way:
    """What sending to one server and to all have in common."""

    def __init__(self, client: Carrier, message: Message, route: Route) -> None:
        self._client = client
        self._message = message
        self._route = route

    def _ask(self) -> None:
        """Have the matchmaker asked, and wait until it has answered, or is silent."""
        message = self._message
        self._client.directory.ask(self._route.topic, message.waiter)
        until = min(time.monotonic() + SILENCE, message.deadline)
        self._client.pause(message, until)

    def _fail_if_closed(self) -> bool:
        """Fail if nothing is to be sent any more."""
        if self._client.closed:
            self._unavailable("the transport is closed")
        return self._client.closed

    def _fail_if_blind(self, now: float) -> bool:
        """Fail if the servers cannot be found out, or not in time."""
        if self._fail_if_closed():
            return True
        client, message = self._client, self._message
        failure = client.directory.failure
        if now >= message.deadline or (failure and message.retry == 0):
            reason = f"no server was found within {now - message.since:.1f} s: " + str(
                failure or "no answer from the matchmaker"
            )
        else:
            return False
        self._unavailable(reason)
        return True

    def _unavailable(self, reason: str) -> None:
        message = self._message
        message.finish(errors.BusUnavailable(f"{message}: {reason}"))


class Sending(_Way):
    """Sends a message to one server."""

    def __init__(self, client: Carrier, message: Message, route: Route) -> None:
        super().__init__(client, message, route)
        #: monotonic time at which listeners that had no room are asked again
        self._busy_until = 0.0

    def run(self) -> None:
        """Send the message, again if it comes back, until it is over."""
        client, message, route = self._client, self._message, self._route
        while message.state is not State.DONE:
            # taken before the look, so that what happens during it counts as later
            now = time.monotonic()
            client.routes.refresh(route, now)
            if client.closed or now >= message.deadline:
                self._fail(now)
                return
            candidate = route.choose(message.refused.values(), now)
            if candidate is None:
                self._await_server(now)
                continue
            client.transmit(message, [candidate])
            self._await_answer()
            if candidate.listens:
                client.routes.found(route)

    def _await_answer(self) -> None:
        message = self._message
        while message.waits():
            until = message.deadline
            if message.monitor_until is not None:
                until = min(until, message.monitor_until)
            self._client.sleep(message, until)
            if message.waits():
                self._client.hear(message, until)
            if message.waits():
                self._check_time()

    def _check_time(self) -> None:
        message, now = self._message, time.monotonic()
        if now >= message.deadline:
            took = f"within {now - message.since:.1f} s"
            if not message.is_call:
                unconfirmed = errors.CastUnconfirmed(
                    f"{message}: no confirmation {took}; the server may still execute"
                    " it"
                )
                self._client.give_up(message, unconfirmed)
                return
            reason = f"no reply {took}"
        elif message.monitor_until is not None and now >= message.monitor_until:
            reason = (
                f"no sign of life from the server within {message.monitor_interval:g} s"
            )
        else:
            return
        error = exceptions.MessagingTimeout(f"{message}: {reason}")
        self._client.give_up(message, error)

    # -- nobody has it ---------------------------------------------------------------

    def _await_server(self, now: float) -> None:
        """Nobody is there who would take it: look again, or fail."""
        message, route, routes = self._message, self._route, self._client.routes
        if route.listing is None:
            if not self._fail_if_blind(now):
                self._ask()
        elif route.listens():
            self._await_room(now)
        else:
            until = routes.until(route, message, now)
            routes.widen(route, now)
            if now < until:
                routes.look(route, now, message.waiter)
                self._wait(min(until, route.look_at))
            elif self._is_outdated(now):
                self._ask()
            elif any(candidate.is_new(now) for candidate in route.candidates):
                self._wait(now + LOOK_INTERVAL)
            else:
                message.finish(self._unreachable())

    def _wait(self, until: float) -> None:
        message = self._message
        if message.state is State.QUEUED:  # closing the client may have ended it
            self._client.pause(message, min(until, message.deadline))

    def _is_outdated(self, now: float) -> bool:
        """Whether the matchmaker could know better, and can be asked."""
        message, listing = self._message, self._route.listing
        assert listing is not None
        return (
            listing.since < message.since - LOOK_INTERVAL
            and self._client.directory.failure is None
            and now < message.since + SILENCE
        )

    def _await_room(self, now: float) -> None:
        """All that are there have refused it; they say when there is room."""
        message = self._message
        if not message.refused:
            return  # news have come meanwhile
        if self._busy_until <= message.since:
            self._busy_until = now + BUSY_PAUSE * random.uniform(1, 2)
        if now < self._busy_until:
            self._wait(self._busy_until)
        else:
            self._busy_until = 0.0
            self._client.withdraw(message)

    # -- why it has failed -------------------------------------------------------

    def _fail(self, now: float) -> None:
        message, route = self._message, self._route
        if message.state is State.DONE:
            return
        if message.deadline <= message.since:
            reason = "its timeout is 0 s; it was not sent"
            message.finish(exceptions.MessagingTimeout(f"{message}: {reason}"))
        elif self._client.closed or route.listing is None:
            self._fail_if_blind(now)
        elif route.listens():
            why = (
                f"no server had room for it within {now - message.since:.1f} s"
                if message.refused
                else "its time was up before it could be sent"
            )
            message.finish(
                errors.make(errors.ServersBusy, message.is_call, f"{message}: {why}")
            )
        else:
            message.finish(self._unreachable())

    def _unreachable(self) -> Exception:
        message, candidates = self._message, self._route.candidates
        directory = self._client.directory
        self._client.routes.failed(self._route, message)
        hints = [each.peer.failure for each in candidates if each.peer.failure][:3]
        if directory.failure is not None:
            hints.append(str(directory.failure))
        if directory.away([each.peer.up for each in candidates]):
            reason = "; ".join(hints) or "none is registered"
            return errors.BusUnavailable(f"{message}: no proxy can be used: {reason}")
        hint = f" ({'; '.join(hints)})" if hints else ""
        return errors.make(
            errors.TargetUnreachable,
            message.is_call,
            f"{message}: nobody listens there{hint}",
        )


class FanningOut(_Way):
    """Sends a message to all servers of a topic."""

    _message: Fanout

    def run(self) -> None:
        """Send the message until all that listen have it, or have missed it."""
        client, message = self._client, self._message
        while not self._look_up():
            if message.state is State.DONE:
                return
        unreached = self._send()
        if unreached and self._fail_if_closed():
            return
        if message.state is not State.DONE and not client.closed:
            self._await_confirmations()
        if unreached:
            message.error = errors.FanoutIncomplete(
                f"{message}: {len(unreached)} of {len(self._route.candidates)}"
                " listeners could not be reached within"
                f" {time.monotonic() - message.since:.1f} s"
            )
        client.missed.note(self._route.topic, message.missed)

    def _look_up(self) -> bool:
        """Find out the servers of now, or those last known; return which."""
        client, message, route = self._client, self._message, self._route
        directory = client.directory
        if directory.known(route.topic) is None or not directory.blind:
            self._ask()
        now = time.monotonic()
        client.routes.refresh(route, now)
        listing = route.listing
        if listing is not None and (listing.since >= message.since or directory.blind):
            return True
        self._fail_if_blind(now)
        return False

    def _send(self) -> list[Candidate]:
        """Send it to each as soon as that is connected.

        One that does not answer is mentioned. If it was not tried before this message,
        the sender has to know as well: the whole network may be slow.

        :returns: the listeners that there was no time for
        """
        client, message = self._client, self._message
        missed: list[Candidate] = []
        unreached: list[Candidate] = []
        pending = list(self._route.candidates)
        while not client.closed:
            now = time.monotonic()
            ready, pending, silent = sort(
                pending, message.since, client.connected_at, now
            )
            for each in silent:
                known = (each.peer.missed_since or now) < message.since
                (missed if known else unreached).append(each)
            over = not pending or now >= message.deadline
            if ready or over:
                client.transmit(message, ready, more=not over)
            if over:
                break
            client.connect(each.peer for each in pending)
            client.pause(message, min(now + SILENCE, message.deadline))
            if len(pending) > 1:
                reentry.outside(time.sleep, GATHERING)
        client.missed.note(self._route.topic, missed)
        return unreached + pending

    def _await_confirmations(self) -> None:
        """Wait a moment: a server that does not confirm by then is stuck."""
        message = self._message
        until = min(message.deadline, time.monotonic() + SETTLING)
        while message.waits() and time.monotonic() < until:
            self._client.sleep(message, until)
        self._client.hear(message, until)
        for each in list(message.held.values()):
            each.peer.silent = True
