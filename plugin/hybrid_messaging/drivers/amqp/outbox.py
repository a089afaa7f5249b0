# SPDX-License-Identifier: Apache-2.0
"""What is sent over a bus: the routes, the messages on them, and their replies.

All methods are called with the bus' lock held, but for those that say otherwise.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
import uuid
from collections.abc import Hashable, Iterator
from typing import Any

from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.amqp.duties import Duties
from hybrid_messaging.drivers.amqp.failures import AuthenticationFailed, UnfitPeer
from hybrid_messaging.drivers.amqp.line import Line
from hybrid_messaging.drivers.amqp.outgoing import (
    SETTLES_WITH_REPLY,
    Message,
    Outgoing,
    State,
)
from hybrid_messaging.drivers.amqp.route import Route
from hybrid_messaging.drivers.patience import Patience
from hybrid_messaging.drivers.presence import Presence
from hybrid_messaging.log_safety import quoted
from hybrid_messaging.protocol import codec, desertion
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    MAX_MESSAGE,
    REJECTED,
    Delivery,
    Outcome,
    Receiver,
    Sender,
)

LOG = logs.get(__name__)

#: The route of replies where the peer forwards by each message's own address.
RELAY = "relay"
#: Marks the routes of messages that go by a link in a session of its own.
_APART = "apart"

#: Targets that a process has links to. A router allows a connection 10,000 links.
MOST_ROUTES = 5_000
#: Links that are given back at a time where there would be more.
_MANY = 100

#: Seconds that a fanout without listeners is kept, for one that has just come.
LINGERING = 1.0
#: Seconds before the first fanout on a new link. A router at the edge of others gives
#: credit for its own listeners, and asks the others for theirs meanwhile.
SPREADING = 0.1
#: Seconds before a reply address that the bus has detached is asked for again.
REPLIES_DELAY = 1.0
#: Calls whose replies counted as lost, and that are remembered in case they come.
MOST_LOST = 1_000


class Retired(Exception):
    """There is another bus: the message is to be sent there, and was not sent here."""


class Replies:
    """The link that replies come in on; opened with the first call."""

    def __init__(self, outbox: Outbox, link: Receiver, capacity: int) -> None:
        self._outbox = outbox
        self._link = link
        self._capacity = capacity
        self._taken = 0
        #: the address that the peer has given it, once it has
        self.address: str | None = None
        link.context = self

    def on_open(self) -> None:
        self.address = self._link.pn.remote_source.address
        self._link.grant(self._capacity)
        self._outbox.drain_all()

    @property
    def continued(self) -> float:
        """Monotonic time at which the last part of a large reply came."""
        return self._link.continued

    def on_close(self, condition: str) -> None:
        self._outbox.replies_lost(condition)

    def on_flow(self) -> None:
        """Credit is ours to give here."""

    def on_message(self, delivery: Delivery | None, data: bytes) -> None:
        self._outbox.take_reply(data)
        if delivery is not None:
            self._link.settle(delivery, ACCEPTED)
        self._taken += 1
        if self._taken * 2 >= self._capacity:
            self._link.grant(self._taken)
            self._taken = 0


class Outbox:
    """The sending side of a bus.

    :param name: what people call the bus
    :param options: the [oslo_messaging_amqp] group
    :param duties: those of the bus
    """

    def __init__(self, name: str, options: Any, duties: Duties) -> None:
        self._name = name
        self._options = options
        self._duties = duties
        self._patience = Patience(options.restart_timeout)
        self._line: Line | None = None
        #: why there is no connection, between two attempts to make one
        self._away: Exception | None = None
        #: why there was none, the last time that one failed
        self._reason = "not connected yet"
        self._closed = False
        self._retired = False
        self._routes: dict[Hashable, Route] = {}
        self._sent: dict[Delivery, Outgoing] = {}
        #: those that the bus has, by their ids
        self._calls: dict[str | None, Outgoing] = {}
        #: the routes of calls whose replies counted as lost, by their ids
        self._lost: dict[str | None, Route] = {}
        self._ids = itertools.count()
        self._id_prefix = uuid.uuid4().hex
        self._replies: Replies | None = None

    def next_id(self) -> str:
        """A message-id, unique on the bus; needs no lock."""
        return f"{self._id_prefix}-{next(self._ids):x}"

    # -- what the sender wants -------------------------------------------------

    def submit(self, outgoing: Outgoing) -> None:
        """Send a message, or queue it until it can be sent."""
        message = outgoing.message
        key = message.key
        if message.large:
            key = (_APART, message.target if key == RELAY else key)
        route = self._route(key, message.key)
        outgoing.route = route
        outgoing.state = State.QUEUED
        if self._closed:
            outgoing.finish(self._has_closed())
            return
        if message.body is not None and len(message.body) > MAX_MESSAGE:
            outgoing.finish(self._too_large(outgoing, len(message.body), MAX_MESSAGE))
            return
        # With retries, the next attempt to connect decides, even where it is hopeless:
        # so a caller that repeats itself without a pause does so once for each attempt.
        if self._away is not None and message.retry == 0:
            outgoing.finish(self._unavailable(outgoing, self._away))
            return
        if self._line is not None:
            if route.link is None:
                self._attach(self._line, route, message)
            if message.is_call:
                self._attach_replies(self._line)
        if not route.queue and route.open and self.has_return(message):
            self._transmit(route, outgoing)
            return
        route.queue.append(outgoing)
        now = time.monotonic()
        until = self.nobody_listens(outgoing, now)
        if until is not None and until <= now:
            self.give_up(outgoing)

    def _route(self, key: Hashable, target_key: Hashable) -> Route:
        """The route with this key, which is about to be used."""
        route = self._routes.get(key)
        if route is None:
            if len(self._routes) >= MOST_ROUTES:
                self._detach(heapq.nsmallest(_MANY, self._idle(), _last_used))
            route = self._routes[key] = Route(self, key, target_key)
        route.used = time.monotonic()
        return route

    def cancel(self, outgoing: Outgoing, error: Exception | None) -> None:
        """End a message that its sender does not want to wait for any longer.

        If the peer has it and has not said what became of it, it is withdrawn:
        settled, so that a server that has not begun does not execute it.
        """
        route: Route | None = outgoing.route
        if route is not None and outgoing.state is State.QUEUED:
            route.queue.remove(outgoing)
        self._calls.pop(outgoing.message.id, None)
        delivery = outgoing.delivery
        if delivery is not None and self._sent.pop(delivery, None) is not None:
            assert isinstance(delivery.link, Sender)
            delivery.link.forget(delivery)
            if route is not None:
                route.blind = True
            self.flush()
        outgoing.finish(error)

    def flush(self) -> None:
        """Hand what has been said to the network."""
        if self._line is not None:
            self._line.flush()

    def reply_route(self, address: str) -> Hashable:
        """The key of the route that a reply to an address takes; needs no lock."""
        line = self._line
        return RELAY if line is not None and line.relays else ("reply", address)

    def open_relay(self) -> None:
        """Have the way of replies ready before the first is sent."""
        line = self._line
        if line is not None and line.relays and RELAY not in self._routes:
            route = self._routes[RELAY] = Route(self, RELAY, RELAY)
            route.attach(line.endpoint.sender(None), "")

    # -- what is known about a message's chances ---------------------------------

    def presence(self, key: Hashable) -> Presence | None:
        """Whether somebody listens on a target; needs no lock.

        :param key: that of a message to it
        :returns: None if only a link could show it, see `look`
        """
        line, route = self._line, self._routes.get(key)
        if line is None or not line.routing:
            return Presence.UNKNOWN  # a broker gives credit whether anybody listens
        if route is None:
            return None
        now = time.monotonic()
        again = route.used + self._options.link_retry_delay
        if route.link is None and (not route.refusal or now >= again):
            return None
        if route.link is not None:
            route.used = now
        return route.presence(now)

    def look(self, message: Message) -> None:
        """Open a link to a message's target, for its credit to show who listens.

        :param message: goes to the target; it is not sent
        """
        line, route = self._line, self._route(message.key, message.key)
        if line is not None and route.link is None:
            self._attach(line, route, message)

    @property
    def connected(self) -> bool:
        """The bus is up."""
        return self._line is not None

    @property
    def reason(self) -> str:
        """Why the bus is not up, or was not the last time."""
        return self._reason

    def has_queued(self) -> bool:
        """Messages wait for the bus, or for somebody who listens; needs no lock."""
        return any(route.queue for route in list(self._routes.values()))

    def where(self, outgoing: Outgoing) -> str:
        """Where a message goes, for people."""
        route: Route | None = outgoing.route
        address = route.address if route is not None else ""
        return f"{address or outgoing.message.destination} on {self._name}"

    def has_return(self, message: Message) -> bool:
        """The reply to it has an address to come to, or there will be none."""
        return not message.is_call or (
            self._replies is not None and self._replies.address is not None
        )

    def _deserted(self, outgoing: Outgoing, now: float) -> float | None:
        """From when on it is certain that nobody listens, if anything points to it."""
        line, route = self._line, outgoing.route
        if line is None or route is None:
            return None
        # a router and its servers give back as well what has waited for its whole time
        if outgoing.state is State.RELEASED and not (
            line.routing and outgoing.overdue(now)
        ):
            return outgoing.since
        # a broker that grants no credit has no room: its listeners are no matter
        if not (line.routing or outgoing.message.fanout):
            return None
        return route.deserted(outgoing.since)

    def knows_of_nobody(self, outgoing: Outgoing, now: float) -> bool:
        """Whether it is certain that nobody listens on a message's target."""
        certain = self._deserted(outgoing, now)
        return certain is not None and certain <= now

    def nobody_listens(self, outgoing: Outgoing, now: float) -> float | None:
        """Until when a message waits for somebody to listen on its target.

        :param now: monotonic time
        :returns: monotonic time at which the message fails, or at which to look
            again; None while nothing points to it that nobody listens
        """
        message = outgoing.message
        certain = self._deserted(outgoing, now)
        if certain is None or certain > now:
            return certain
        if message.is_reply:
            return None
        if message.fanout:
            return now
        since = outgoing.route.vacant or now
        return self._patience.until(message.key, since, outgoing.since, message.is_call)

    def give_up(self, outgoing: Outgoing) -> None:
        """End a message that nobody listens to; for a fanout, that is no error."""
        message = outgoing.message
        route: Route = outgoing.route
        if message.fanout and not route.refusal:
            self.cancel(outgoing, None)
            if message.retry != 0:
                self._linger(route, message)
            return
        self.cancel(outgoing, self.unreachable(outgoing))

    def _linger(self, route: Route, message: Message) -> None:
        """Send a fanout after all, if somebody listens soon: news may be on its way.

        Nobody waits for that, and it does not outlast the connection.
        """
        late = Outgoing(message._replace(retry=0))
        late.route = route
        route.queue.append(late)

        def drop() -> None:
            if late.state is State.QUEUED:
                self.cancel(late, None)

        self._duties.later(LINGERING, drop)

    def unreachable(self, outgoing: Outgoing) -> Exception:
        """Why a message fails that nobody listens to; the next one may fail sooner."""
        message = outgoing.message
        self._patience.failed(
            message.key, time.monotonic(), outgoing.since, message.is_call
        )
        hint = ""
        line = self._line
        if message.service == "notify" and line is not None and line.routing:
            hint = (
                "; the peer is a router, which stores nothing, and notifications need"
                " a broker: set [oslo_messaging_notifications] transport_url"
            )
        refusal = outgoing.route.refusal
        return errors.make(
            errors.TargetUnreachable,
            message.is_call,
            f"{message.name} to {self.where(outgoing)}: nobody listens there"
            f"{f' ({refusal})' if refusal else ''}{hint}",
        )

    # -- on the way out ----------------------------------------------------------

    def _attach(self, line: Line, route: Route, message: Message) -> None:
        address: str | None
        if route.key == RELAY:
            address = None
        elif message.is_reply:
            address = message.target
        else:
            address = line.addressing.resolve(message.target, message.service)
        route.attach(line.endpoint.sender(address, apart=message.large), address or "")
        route.held = message.fanout and line.networked

    def _attach_replies(self, line: Line) -> None:
        if self._replies is None:
            self._replies = Replies(
                self, line.endpoint.receiver(None), self._options.reply_link_credit
            )

    def _transmit(self, route: Route, outgoing: Outgoing) -> None:
        link, message = route.link, outgoing.message
        assert link is not None and self._line is not None
        # a router passes over a listener of a fanout that has no room for it
        settled = message.settled or (message.fanout and self._line.routing)
        reply_to = self._replies.address if self._replies is not None else None
        to = message.target if message.is_reply else route.address
        try:
            data = outgoing.encode(to, reply_to, settled)
        except Exception as error:  # it is this message that is wrong, and no other
            LOG.debug("Cannot encode a message", exc_info=True)
            outgoing.finish(self._refused(outgoing, f"cannot be encoded: {error}"))
            return
        limit = link.max_message_size
        if limit and len(data) > limit:
            outgoing.finish(self._too_large(outgoing, len(data), limit))
            return
        if message.is_call:
            self._calls[message.id] = outgoing
        outgoing.delivery = link.send(data, settled)
        route.blind = settled
        if outgoing.delivery is not None:
            self._sent[outgoing.delivery] = outgoing
            outgoing.sent()
        elif message.is_call:
            outgoing.sent()
        else:
            outgoing.finish()

    def drain(self, route: Route) -> None:
        """Send what waits on a route, as far as its credit goes."""
        while route.queue and route.open and self.has_return(route.queue[0].message):
            self._transmit(route, route.queue.popleft())

    def drain_all(self) -> None:
        """The same on every route."""
        for route in self._routes.values():
            self.drain(route)

    # -- what the peer says ------------------------------------------------------

    def on_attach(self, route: Route) -> None:
        """The peer has confirmed a link; a router may say when its listeners left."""
        if self._line is None or not self._line.routing or route.link is None:
            return
        if route.held:
            link = route.link
            self._duties.later(SPREADING, lambda: self._release(route, link))
        seconds = desertion.decode(route.link.remote_properties)
        if seconds is not None:
            self._patience.deserted(route.target_key, time.monotonic() - seconds)
            route.settled()

    def _release(self, route: Route, link: Sender) -> None:
        if route.link is link:
            route.held = False
            self.on_credit(route)

    def on_credit(self, route: Route) -> None:
        """The peer may have granted credit: somebody listens."""
        if route.open:
            if route.vacant is not None:
                route.vacant = None
                self._patience.found(route.target_key)
            self.drain(route)

    def on_desertion(self, route: Route) -> None:
        """The peer has taken the credit back: the last listener has just left."""
        if self._line is not None and self._line.routing:
            self._patience.deserted(route.target_key, time.monotonic())

    def on_outcome(self, delivery: Delivery, outcome: Outcome) -> None:
        """The peer has decided on a message."""
        outgoing = self._sent.pop(delivery, None)
        if outgoing is None or outgoing.state is not State.SENT:
            return
        message = outgoing.message
        outgoing.delivery = None
        if not outcome.never_forwarded:
            self._patience.found(message.key)
        if outcome.accepted:
            if not message.is_call:
                outgoing.finish()
            elif message.marked and outgoing.route.settles:
                outgoing.has_reply_under_way()
            return
        self._calls.pop(message.id, None)
        if message.fanout and outcome.state != REJECTED.state:
            outgoing.finish()  # nobody there, or one of many gone
        elif outcome.never_forwarded:
            outgoing.come_back()
        elif outcome.receiver_lost:
            self._fail(
                outgoing,
                errors.ServerLost,
                "the caller is gone"
                if message.is_reply
                else "the server that received it is gone and may have acted on it",
            )
        else:
            self._fail(outgoing, errors.MessageRefused, quoted(outcome))

    def take_reply(self, data: bytes) -> None:
        """A reply has come in, or a sign of life."""
        try:
            reply = codec.decode(data)
        except codec.MalformedMessage as error:
            LOG.warning(
                "%s: received a reply that is not an AMQP message: %s",
                self._name,
                quoted(error),
            )
            return
        outgoing = self._calls.get(reply.correlation_id)
        settled = SETTLES_WITH_REPLY in reply.marks
        if outgoing is not None:
            # the outcome comes after the reply, and to nobody if that ends the call
            self._patience.found(outgoing.message.key)
        if outgoing is None:
            if reply.correlation_id in self._lost:
                self._lost.pop(reply.correlation_id).replied(settled)
            LOG.debug(
                "Dropped a reply that no caller waits for: %s",
                quoted(reply.correlation_id),
            )
        elif reply.body is None:
            outgoing.alive = time.monotonic()
        else:
            del self._calls[reply.correlation_id]
            if outgoing.message.marked:
                outgoing.route.replied(settled)
            outgoing.reply = reply.body
            outgoing.finish()

    @property
    def replies_continued(self) -> float:
        """Monotonic time at which the last part of a large reply came."""
        return -math.inf if self._replies is None else self._replies.continued

    def reply_lost(self, outgoing: Outgoing) -> None:
        """A reply does not come that its server has sent."""
        message = outgoing.message
        text = (
            f"{message.name} to {self.where(outgoing)}: it was executed, but its reply"
            " is lost"
        )
        self.cancel(outgoing, errors.make(errors.ServerLost, message.is_call, text))
        self._lost[message.id] = outgoing.route
        if len(self._lost) > MOST_LOST:
            del self._lost[next(iter(self._lost))]

    def replies_lost(self, condition: str) -> None:
        """The peer has detached the reply address: no reply will come any more."""
        self._replies = None
        calls, self._calls = self._calls, {}
        for outgoing in calls.values():
            self._fail(
                outgoing,
                errors.BusLost,
                f"the bus detached the reply address: {condition}",
            )
        self._duties.later(REPLIES_DELAY, self._replies_again)

    def _replies_again(self) -> None:
        if self._line is not None and any(
            outgoing.message.is_call
            for route in self._routes.values()
            for outgoing in route.queue
        ):
            self._attach_replies(self._line)

    def on_route_lost(self, route: Route, condition: str) -> None:
        """The peer has detached, or refused, the link to an address."""
        for delivery, outgoing in list(self._sent.items()):
            if outgoing.route is route:
                del self._sent[delivery]
                message = outgoing.message
                if not message.is_call or (
                    self._calls.pop(message.id, None) is not None
                ):
                    self._fail(
                        outgoing,
                        errors.BusLost,
                        f"the bus detached the link: {condition}",
                    )
        forbidden = "unauthorized" in condition or "not-allowed" in condition
        while route.queue:
            outgoing = route.queue.popleft()
            if forbidden:
                self._fail(outgoing, errors.MessageRefused, condition)
            else:
                outgoing.come_back()

    # -- life --------------------------------------------------------------------

    def connecting(self) -> None:
        """The bus tries to come up: what fails then has not failed yet."""
        self._away = None

    def up(self, line: Line) -> None:
        """The bus is up: open the links that messages wait for."""
        self._line = line
        for route in self._routes.values():
            if route.queue:
                self._attach(line, route, route.queue[0].message)
                if any(outgoing.message.is_call for outgoing in route.queue):
                    self._attach_replies(line)
        self._detach_idle()

    def _detach_idle(self) -> None:
        """Give back the links that nobody has used for long."""
        limit = self._options.default_sender_link_timeout
        oldest = time.monotonic() - limit
        self._detach([route for route in self._idle() if route.used < oldest])
        self._duties.later(limit / 2, self._detach_idle)

    def _idle(self) -> Iterator[Route]:
        """The routes whose links could be given back."""
        return (
            route for key, route in self._routes.items() if route.idle and key != RELAY
        )

    def _detach(self, routes: list[Route]) -> None:
        for route in routes:
            route.detach()
            del self._routes[route.key]

    def lost(self, failure: Exception) -> None:
        """The connection is gone: end what went with it, keep what can wait."""
        self._line = self._replies = None
        self._lost.clear()
        self._away, self._reason = failure, str(failure)
        self._patience.forget()
        self._end_sent(f"the connection was lost: {failure}")
        for key, route in list(self._routes.items()):
            route.lost()
            for outgoing in list(route.queue):
                stuck = outgoing.message.is_reply
                if _hopeless(failure) or stuck or not outgoing.may_retry():
                    route.queue.remove(outgoing)
                    outgoing.finish(self._unavailable(outgoing, failure))
            if not route.queue:
                del self._routes[key]

    def retire(self) -> None:
        """Send what is new, and what has not been sent, on another bus."""
        self._closed = self._retired = True
        for route in self._routes.values():
            # a fanout does not wait here for long, and perhaps nobody waits for it
            for outgoing in [each for each in route.queue if not each.message.fanout]:
                route.queue.remove(outgoing)
                outgoing.finish(self._has_closed())

    @property
    def busy(self) -> bool:
        """Something is under way.

        A large fanout is, until the peer has settled it, though nobody waits for that.
        """
        return bool(self._calls) or not all(
            route.idle for route in self._routes.values()
        )

    @property
    def unclaimed(self) -> bool:
        """The peer has not settled what nobody waits for: large fanouts."""
        links = (route.link for route in self._routes.values())
        return sum(link.unsettled for link in links if link) > len(self._sent)

    def close(self) -> None:
        """Nothing will be sent any more."""
        self._closed = True
        self._end_sent("the transport was closed")
        for route in self._routes.values():
            while route.queue:
                route.queue.popleft().finish(self._has_closed())

    # -- the end of a message ------------------------------------------------------

    def _end_sent(self, why: str) -> None:
        """End what the bus has: nobody will say any more what becomes of it."""
        under_way = {*self._sent.values(), *self._calls.values()}
        self._sent.clear()
        self._calls.clear()
        for outgoing in under_way:
            if outgoing.state in (State.SENT, State.REPLIED):
                self._fail(
                    outgoing,
                    errors.BusLost,
                    f"it was being delivered, and a server may have acted on it: {why}",
                )

    def _has_closed(self) -> Exception:
        if self._retired:
            return Retired(f"{self._name}: the transport has moved to another host")
        return errors.BusUnavailable(f"{self._name}: the transport is closed")

    def _unavailable(self, outgoing: Outgoing, reason: Exception) -> Exception:
        return errors.BusUnavailable(
            f"{outgoing.message.name} to {self.where(outgoing)}: {reason}"
        )

    def _refused(self, outgoing: Outgoing, why: str) -> Exception:
        return errors.MessageRefused(
            f"{outgoing.message.name} to {self.where(outgoing)}: {why}"
        )

    def _too_large(self, outgoing: Outgoing, size: int, limit: int) -> Exception:
        return self._refused(
            outgoing, f"the message has {size} bytes, and the limit is {limit}"
        )

    def _fail(
        self, outgoing: Outgoing, error: type[errors.DeliveryError], why: str
    ) -> None:
        text = f"{outgoing.message.name} to {self.where(outgoing)}: {why}"
        outgoing.finish(errors.make(error, outgoing.message.is_call, text))


def _last_used(route: Route) -> float:
    return route.used


def _hopeless(failure: Exception) -> bool:
    """Whether trying again will not help before somebody changes something."""
    return isinstance(failure, (AuthenticationFailed, UnfitPeer, ConfigurationError))
