# SPDX-License-Identifier: Apache-2.0
"""The lasting side of a transport: it reconnects and keeps what must survive that.

One thread reads. Every other thread that has something to send does so itself,
under the lock, and sleeps only for what it needs: an outcome or a reply. So a
call costs one hand-over between threads on each side, not one per step.

Whoever waits also watches its own deadlines: the reading thread has no timers
for messages, it only tells what the bus has said about them.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Hashable
from typing import Any

from oslo_messaging import exceptions
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.amqp import hosts
from hybrid_messaging.drivers.amqp.addressing import ROUTERS, Addressing
from hybrid_messaging.drivers.amqp.connection import (
    CALLERS_READ,
    AuthenticationFailed,
    Connection,
    ConnectionFailed,
)
from hybrid_messaging.drivers.amqp.route import Outgoing, Route, State
from hybrid_messaging.drivers.amqp.subscription import Source, Subscription
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    REJECTED,
    RELEASED,
    Delivery,
    Endpoint,
    Link,
    Outcome,
    Receiver,
    Sender,
)

LOG = logging.getLogger(__name__)

#: A router that has confirmed a link grants its credit within this, if anybody
#: listens: seconds before its silence means that nobody does.
SETTLING = 0.1
#: Pauses before a message that came back unseen is sent again, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
#: Seconds that closing waits for the peer's good-bye, and for the thread.
FAREWELL = 2.0
#: A thread that has called alone so many times in a row reads its own replies.
LONE_CALLS = 4
#: Seconds that the peer may take to stop sending to a subscription that ends.
DRAIN_TIMEOUT = 1.0
#: Seconds that a new subscription waits to be confirmed.
SUBSCRIBE_TIMEOUT = 5.0

#: The route of replies where the peer forwards by each message's own address.
RELAY = "relay"


class Bus:
    """A connection that is kept up, and everything that goes through it.

    :param options: the [oslo_messaging_amqp] group
    :param url: oslo_messaging.TransportURL
    :param default_exchange: for targets without one
    """

    def __init__(self, options: Any, url: Any, default_exchange: str | None) -> None:
        self.options = options
        self._vhost = url.virtual_host or None
        self._hosts = hosts.parse(url, options.sasl_default_realm)
        self._default_exchange = default_exchange
        self._container = options.container_name or f"openstack-{uuid.uuid4().hex}"
        self._lock = CombiningLock(self._flush)
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._closing_by = math.inf
        self.forked = False

        self._connection: Connection | None = None
        self._addressing: Addressing | None = None
        #: the peer stores nothing: it forwards or says that it cannot
        self.routing = False
        self._relays = False
        self._reason = "not connected yet"
        #: why there is no connection, between two attempts to make one
        self._away: Exception | None = None

        self._routes: dict[Hashable, Route] = {}
        self._sent: dict[Delivery, Outgoing] = {}
        self._calls: dict[str, Outgoing] = {}
        self._call_ids = itertools.count()
        self._call_prefix = uuid.uuid4().hex
        self._replies: Receiver | None = None
        self._reply_to: str | None = None
        self._replies_taken = 0
        #: threads that wait for a message of theirs; calls since there were two
        self._waiting = 0
        self._alone = 0
        self._subscriptions: list[Subscription] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = itertools.count()
        # what the reading thread does once it has let go of the lock
        self._woken: list[Outgoing] = []
        self._arrived: list[tuple[Source, Any, bytes]] = []

    def __str__(self) -> str:
        return ", ".join(str(host) for host in self._hosts)

    # -- sending: any thread ---------------------------------------------

    def next_id(self) -> str:
        """A message-id for a call, unique on the bus."""
        return f"{self._call_prefix}-{next(self._call_ids):x}"

    def send(
        self,
        message: Outgoing,
        timeout: float,
        unreachable_timeout: float | None = None,
    ) -> Any:
        """Send a message and wait until it is over.

        :param timeout: seconds that all of it may take
        :param unreachable_timeout: seconds to wait for somebody to listen; None:
            the option's
        :returns: the body of the reply, for a call
        :raises DeliveryError: it did not get through, its class says why
        :raises MessagingTimeout: the time was up first
        """
        if unreachable_timeout is None:
            unreachable_timeout = self.options.unreachable_timeout
        deadline = message.since + timeout
        self._start()
        if message.fanout:
            unreachable_timeout = 0  # a fanout to nobody is no error: do not wait
        self._lock.leave(self._begin, message)
        try:
            self._wait(message, deadline, unreachable_timeout)
        finally:
            self._lock.leave(self._waited, message)
        if message.error is not None:
            raise message.error
        return message.reply

    def _begin(self, message: Outgoing) -> None:
        self._alone = 0 if self._waiting else self._alone + 1
        self._waiting += 1
        try:
            self._submit(message)
        except Exception as error:
            message.finish(error)
        if message.state is State.DONE:
            message.waiter.wake()

    def _waited(self, message: Outgoing) -> None:
        if message.state is not State.DONE:  # its thread has been torn away
            self._cancel(message, None)
        self._waiting -= 1
        if self._waiting and self._connection is not None:
            self._connection.step_in()

    def reply(self, message: Outgoing) -> None:
        """Send a reply without waiting for anything.

        Called with the lock held, on the connection that the request came from.
        Where the peer has no credit for it, it goes out with the next credit.
        """
        self._submit(message)

    def reply_route(self, address: str) -> tuple[Hashable, str]:
        """The route that a reply to an address takes."""
        return (RELAY if self._relays else ("reply", address)), address

    def _submit(self, message: Outgoing) -> None:
        route = self._routes.get(message.key)
        if route is None:
            route = self._routes[message.key] = Route(message.key)
        route.used = time.monotonic()
        message.route = route
        message.state = State.QUEUED
        if self._closing.is_set():
            message.finish(errors.BusUnavailable(f"{self}: the transport is closed"))
            return
        if self._away is not None and (message.retry == 0 or _hopeless(self._away)):
            message.finish(self._unavailable(message, self._away))
            return
        if self._addressing is not None:
            if route.link is None:
                self._attach(route, message)
            if message.id is not None and self._replies is None:
                self._attach_replies()
        if not route.queue and route.open and self._can_call(message):
            self._transmit(route, message)
        else:
            route.queue.append(message)

    def _can_call(self, message: Outgoing) -> bool:
        return message.id is None or self._reply_to is not None

    def _transmit(self, route: Route, message: Outgoing) -> None:
        assert route.link is not None
        to = message.target if isinstance(message.target, str) else route.address
        data = message.encode(to, self._reply_to)
        if message.id is not None:
            self._calls[message.id] = message
        message.delivery = route.link.send(data, message.settled)
        if message.delivery is not None:
            self._sent[message.delivery] = message
            message.state = State.SENT
        elif message.id is not None:
            message.state = State.SENT
        else:
            message.finish()

    def _drain(self, route: Route) -> None:
        """Send what waits on a route, as far as its credit goes."""
        while route.queue and route.open and self._can_call(route.queue[0]):
            message = route.queue.popleft()
            self._transmit(route, message)
            if message.state is State.DONE:
                self._woken.append(message)

    def _cancel(self, message: Outgoing, error: Exception | None) -> None:
        """End a message that its sender does not want to wait for any longer."""
        if message.state is State.QUEUED and message.route is not None:
            message.route.queue.remove(message)
        if message.id is not None:
            self._calls.pop(message.id, None)
        if message.delivery is not None and message.delivery in self._sent:
            del self._sent[message.delivery]
            route = message.route
            if route is not None and route.link is not None:
                route.link.forget(message.delivery)
                self._flush()
        message.finish(error)

    # -- waiting: the thread that sends ------------------------------------

    def _wait(
        self, message: Outgoing, deadline: float, unreachable_timeout: float
    ) -> None:
        pause = FIRST_PAUSE
        look_up = message.since + max(unreachable_timeout, SETTLING)
        while message.state is not State.DONE:
            until = min(look_up, deadline, message.monitor_until or deadline)
            connection = self._connection
            if not (
                CALLERS_READ
                and self._alone >= LONE_CALLS
                and connection is not None
                and connection.read_while(message.waits, until, self._deliver)
            ):
                message.waiter.wait(until - time.monotonic())
            if message.state is State.RELEASED:
                pause = self._pause(message, pause, deadline, unreachable_timeout)
            elif message.state is not State.DONE:
                with self._lock:
                    look_up = self._watch(message, deadline, unreachable_timeout)

    def _pause(
        self,
        message: Outgoing,
        pause: float,
        deadline: float,
        unreachable_timeout: float,
    ) -> float:
        """After a message came back unseen: send it again a little later, or fail."""
        now = time.monotonic()
        gives_up = min(deadline, message.since + unreachable_timeout)
        if now >= gives_up or not message.may_retry():
            with self._lock:
                if message.state is State.RELEASED:
                    message.finish(self._unreachable(message))
            return pause
        message.waiter.wait(min(pause, gives_up - now))
        with self._lock:
            if message.state is State.RELEASED:
                self._submit(message)
                self._flush()
        return min(pause * 2, LONGEST_PAUSE)

    def _watch(
        self, message: Outgoing, deadline: float, unreachable_timeout: float
    ) -> float:
        """After a wait that nothing ended: go on waiting, or fail.

        :returns: monotonic time at which to look again
        """
        now = time.monotonic()
        if message.state in (State.DONE, State.RELEASED):
            return now
        if now >= deadline:
            self._cancel(message, self._timed_out(message))
            return now
        if message.monitor_until is not None and now >= message.monitor_until:
            self._cancel(
                message,
                exceptions.MessagingTimeout(
                    f"{message.name} to {self._where(message)}: no sign of life from"
                    f" the server within {message.monitor_interval:g} s"
                ),
            )
            return now
        if message.state is State.SENT:
            return deadline
        route = message.route
        if route is None or route.attached is None or not route.deserted:
            return now + max(unreachable_timeout, SETTLING)
        patience = max(
            message.since + unreachable_timeout,
            route.attached + max(unreachable_timeout, SETTLING),
        )
        if now >= patience:
            error = None if message.fanout else self._unreachable(message)
            self._cancel(message, error)
        return patience

    def _where(self, message: Outgoing) -> str:
        route = message.route
        address = route.address if route is not None else ""
        return f"{address or message.target} on {self}"

    def _unreachable(self, message: Outgoing) -> Exception:
        hint = ""
        if message.service == "notify" and self.routing:
            hint = (
                "; the peer is a router, which stores nothing: notifications need a"
                " broker (set [oslo_messaging_notifications] transport_url)"
            )
        return errors.TargetUnreachable(
            f"{message.name} to {self._where(message)}: nobody listens there{hint}"
        )

    def _unavailable(self, message: Outgoing, reason: Exception) -> Exception:
        return errors.BusUnavailable(
            f"{message.name} to {self._where(message)}: {reason}"
        )

    def _timed_out(self, message: Outgoing) -> Exception:
        took = f"{time.monotonic() - message.since:.1f} s"
        where = f"{message.name} to {self._where(message)}"
        if self._addressing is None:
            return errors.BusUnavailable(
                f"{where}: no connection within {took}: {self._reason}"
            )
        if message.state is State.SENT:
            what = "reply" if message.id is not None else "confirmation"
            return exceptions.MessagingTimeout(f"{where}: no {what} within {took}")
        return errors.DeliveryError(
            f"{where}: the listeners took no more messages within {took}"
        )

    # -- subscriptions: any thread ----------------------------------------

    def subscribe(self, subscription: Subscription) -> None:
        """Attach a subscription now, if the bus is there, and from now on."""
        self._start()
        with self._lock:
            self._subscriptions.append(subscription)
            if self._connection is not None and self._addressing is not None:
                subscription.attach(self._connection.endpoint, self._addressing)
                self._open_relay()
                self._flush()
        subscription.ready.wait(SUBSCRIBE_TIMEOUT)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Detach a subscription for good."""
        if self.forked:
            return
        if subscription.draining:
            subscription.ended.wait(DRAIN_TIMEOUT)
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
                subscription.detach()
                self._flush()

    @property
    def lock(self) -> CombiningLock:
        """The lock that subscriptions and their messages are handled under.

        What is left with it is flushed.
        """
        return self._lock

    def flush(self) -> None:
        """Hand what has been said to the network; called with the lock held."""
        self._flush()

    @property
    def connection(self) -> Connection | None:
        """The connection that is up, if one is."""
        return self._connection

    # -- life ----------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closing.is_set():
                    self._thread = threading.Thread(
                        target=self._run, name="amqp-bus", daemon=True
                    )
                    self._thread.start()

    def close(self) -> None:
        """Close the connection and let go of everything."""
        if self.forked:
            return
        with self._lock:
            self._closing.set()
            self._closing_by = time.monotonic() + FAREWELL
            for subscription in self._subscriptions:
                subscription.detach()
            self._subscriptions.clear()
            self._fail_all(f"{self}: the transport is closed")
            woken, self._woken = self._woken, []
            if self._connection is not None:
                self._connection.endpoint.close()
                self._connection.due_by(self._closing_by)
                self._connection.flush()
                self._connection.interrupt()
        for message in woken:
            message.waiter.wake()
        if self._thread is not None:
            self._thread.join(FAREWELL + 1)

    def after_fork(self) -> None:
        """In a child: this bus is the parent's; only its descriptors are closed."""
        self.forked = True
        self._thread = None
        if self._connection is not None:
            self._connection.close_after_fork()

    def _run(self) -> None:
        pauses = self._pauses()
        while not self._closing.is_set():
            for host in self._hosts:
                began = time.monotonic()
                was_up = self._live(host)
                if self._closing.is_set():
                    return
                # one that lets us in and out again is as good as one that is away
                lasted = time.monotonic() - began
                if was_up and lasted >= self.options.connection_retry_interval:
                    pauses = self._pauses()
                    break
            else:
                self._closing.wait(next(pauses))

    def _pauses(self) -> Any:
        options = self.options
        return hosts.delays(
            options.connection_retry_interval,
            options.connection_retry_backoff,
            options.connection_retry_interval_max,
        )

    def _live(self, host: hosts.Host) -> bool:
        """Connect to a host and serve it to the end; whether it ever was up."""
        connection: Connection | None = None
        failure: Exception
        try:
            connection = Connection(
                self,
                self._lock,
                self.options,
                host,
                self._vhost,
                self._container,
                _properties(),
            )
            with self._lock:
                self._connection = connection
                self._away = None
            connection.connect()
            connection.serve(self._deliver, self._duties)
        except (ConnectionFailed, ConfigurationError) as error:
            failure = error
        except Exception as error:
            LOG.exception("The connection to %s failed unexpectedly", host)
            failure = error
        with self._lock:
            was_up = self._addressing is not None
            self._lost(failure, was_up)
        self._deliver()
        if connection is not None:
            connection.retire()
            with self._lock:
                connection.close()
        if not self._closing.is_set():
            level = logging.WARNING if was_up else logging.ERROR
            LOG.log(level, "%s; trying again", failure)
        return was_up

    def _lost(self, failure: Exception, was_up: bool) -> None:
        """The connection is gone: end what went with it, keep what can wait."""
        self._reason = str(failure)
        self._away = failure
        self._connection = None
        self._addressing = None
        self._replies = self._reply_to = None
        self._replies_taken = 0
        self._timers.clear()
        under_way = {*self._sent.values(), *self._calls.values()}
        self._sent.clear()
        self._calls.clear()
        for message in under_way:
            if message.state is State.SENT:
                self._end(
                    message,
                    errors.BusLost(
                        f"{message.name} to {self._where(message)}: the connection"
                        " was lost while it was under way, the server may have acted"
                        f" on it: {failure}"
                    ),
                )
        for key, route in list(self._routes.items()):
            route.detached()
            for message in list(route.queue):
                stuck = isinstance(message.target, str)
                if _hopeless(failure) or stuck or not message.may_retry():
                    route.queue.remove(message)
                    self._end(message, self._unavailable(message, failure))
            if not route.queue:
                del self._routes[key]
        for subscription in self._subscriptions:
            subscription.lost()

    def _fail_all(self, reason: str) -> None:
        messages = {*self._sent.values(), *self._calls.values()}
        for route in self._routes.values():
            messages.update(route.queue)
            route.queue.clear()
        self._sent.clear()
        self._calls.clear()
        for message in messages:
            self._end(message, errors.BusUnavailable(reason))

    def _end(self, message: Outgoing, error: Exception | None = None) -> None:
        message.finish(error)
        self._woken.append(message)

    def _flush(self) -> None:
        if self._connection is not None:
            self._connection.flush()

    # -- the reading thread -------------------------------------------------

    def _deliver(self) -> None:
        """Without the lock: wake who waits, hand over what has arrived."""
        if self._woken:
            with self._lock:
                woken, self._woken = self._woken, []
            for message in woken:
                message.waiter.wake()
        if self._arrived:
            with self._lock:
                arrived, self._arrived = self._arrived, []
            for source, delivery, data in arrived:
                try:
                    source.subscription.on_message(source, delivery, data)
                except Exception:
                    LOG.exception("A message from %s was lost", source.address)

    def _duties(self, now: float) -> float:
        if now >= self._closing_by:
            raise ConnectionFailed("the peer did not say good-bye")
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        return min(self._closing_by, self._timers[0][0] if self._timers else math.inf)

    def _later(self, seconds: float, duty: Callable[[], None]) -> None:
        moment = time.monotonic() + seconds
        heapq.heappush(self._timers, (moment, next(self._timer_ids), duty))
        if self._connection is not None:
            self._connection.due_by(moment)

    def _attach(self, route: Route, message: Outgoing) -> None:
        assert self._connection is not None and self._addressing is not None
        if route.key == RELAY:
            address = None
        elif isinstance(message.target, str):
            address = message.target
        else:
            address = self._addressing.resolve(message.target, message.service)
        route.address = address or ""
        route.link = self._connection.endpoint.sender(address)
        route.link.context = route

    def _attach_replies(self) -> None:
        assert self._connection is not None
        self._replies = self._connection.endpoint.receiver(None)

    def _open_relay(self) -> None:
        """Have the way of replies ready before the first is sent."""
        if self._relays and RELAY not in self._routes:
            assert self._connection is not None
            route = self._routes[RELAY] = Route(RELAY)
            route.link = self._connection.endpoint.sender(None)
            route.link.context = route

    def _detach_idle(self) -> None:
        """Give back the links that nobody has used for long."""
        limit = self.options.default_sender_link_timeout
        oldest = time.monotonic() - limit
        for key, route in list(self._routes.items()):
            idle = route.used < oldest and not route.queue and key != RELAY
            if idle and route.link is not None and route.link.unsettled == 0:
                route.link.close()
                del self._routes[key]
        self._later(limit / 2, self._detach_idle)

    # -- what the peer does: the reading thread, with the lock ---------------

    def on_open(self, endpoint: Endpoint) -> None:
        assert self._connection is not None
        product = endpoint.remote_properties.get("product")
        self._addressing = Addressing(
            self.options,
            product,
            self._vhost if self.options.pseudo_vhost else None,
            self._default_exchange,
        )
        self.routing = product in ROUTERS
        self._relays = endpoint.relays_anonymously
        LOG.info(
            "Connected to %s (%s)", self._connection.host, product or "unidentified"
        )
        self._connection.due_by(0)  # signs of life, as often as the peer wants them
        for subscription in self._subscriptions:
            subscription.attach(endpoint, self._addressing)
        if self._subscriptions:
            self._open_relay()
        for route in self._routes.values():
            if route.queue:
                self._attach(route, route.queue[0])
                if any(message.id is not None for message in route.queue):
                    self._replies = self._replies or endpoint.receiver(None)
        self._later(self.options.default_sender_link_timeout / 2, self._detach_idle)

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        pass  # the connection ends by itself, and _live() deals with it

    def on_link_open(self, link: Link) -> None:
        if isinstance(link.context, Route):
            link.context.attached = time.monotonic()
            self._drain(link.context)
        elif isinstance(link.context, Source):
            link.context.subscription.attached(link.context)
        elif link is self._replies:
            self._reply_to = link.pn.remote_source.address
            self._replies.grant(self.options.reply_link_credit)
            for route in self._routes.values():
                self._drain(route)
        else:
            link.close()  # we invite nobody

    def on_link_close(self, link: Link, condition: str) -> None:
        link.close()
        if isinstance(link.context, Route):
            self._route_lost(link.context, condition)
        elif isinstance(link.context, Source):
            source = link.context
            LOG.warning(
                "%s has detached the subscription to %s%s; trying again in %s s",
                self,
                source.address,
                f" ({condition})" if condition else "",
                self.options.link_retry_delay,
            )
            if source in source.subscription.sources:
                source.subscription.sources.remove(source)
                self._later(
                    self.options.link_retry_delay, lambda: self._reattach(source)
                )
            source.subscription.ready.wake()
        elif link is self._replies:
            self._replies = self._reply_to = None
            for message in list(self._calls.values()):
                del self._calls[message.id or ""]
                self._end(
                    message,
                    errors.BusLost(
                        f"{message.name} to {self._where(message)}: the bus has"
                        f" detached the reply address: {condition}"
                    ),
                )
            if any(route.queue for route in self._routes.values()):
                self._later(1, self._attach_replies)

    def _reattach(self, source: Source) -> None:
        if self._connection is not None and not source.subscription.stopped:
            source.subscription.attach_source(self._connection.endpoint, source.address)

    def _route_lost(self, route: Route, condition: str) -> None:
        """The peer has detached, or refused, the link to an address."""
        route.detached()
        for delivery, message in list(self._sent.items()):
            if message.route is route:
                del self._sent[delivery]
                if self._calls.pop(message.id or "", None) or message.id is None:
                    self._end(
                        message,
                        errors.BusLost(
                            f"{message.name} to {self._where(message)}: the bus has"
                            f" detached the link: {condition}"
                        ),
                    )
        while route.queue:
            message = route.queue.popleft()
            if "unauthorized" in condition or "not-allowed" in condition:
                self._end(
                    message,
                    errors.MessageRefused(
                        f"{message.name} to {self._where(message)}: {condition}"
                    ),
                )
            else:
                message.state = State.RELEASED
                self._woken.append(message)

    def on_flow(self, link: Link) -> None:
        if isinstance(link.context, Route):
            assert isinstance(link, Sender)
            self._drain(link.context)
            if link.draining:
                link.drained()
        elif isinstance(link.context, Source) and link.credit == 0:
            link.context.subscription.settled(link.context)

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        source = receiver.context
        if isinstance(source, Source):
            if source.subscription.stopped:
                source.subscription.give_back(source, delivery, RELEASED)
            else:
                self._arrived.append((source, delivery, data))
            return
        self._take_reply(data)
        if delivery is not None:
            receiver.settle(delivery, ACCEPTED)
        self._replies_taken += 1
        if self._replies_taken * 2 >= self.options.reply_link_credit:
            receiver.grant(self._replies_taken)
            self._replies_taken = 0

    def _take_reply(self, data: bytes) -> None:
        try:
            reply = codec.decode(data)
        except codec.MalformedMessage as error:
            LOG.warning("%s: dropped a reply that is no AMQP message: %s", self, error)
            return
        message = self._calls.get(reply.correlation_id)
        if message is None:
            LOG.debug("Dropped a reply that nobody waits for: %s", reply.correlation_id)
        elif reply.body is None:
            message.sign_of_life()
        else:
            del self._calls[reply.correlation_id]
            message.reply = reply.body
            self._end(message)

    def on_withdrawn(self, delivery: Delivery) -> None:
        pass  # a caller has given up: its server finishes the work all the same

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        message = self._sent.pop(delivery, None)
        if message is None or message.state is not State.SENT:
            return
        message.delivery = None
        if outcome.accepted:
            if message.id is None:
                self._end(message)
            return
        if message.id is not None:
            self._calls.pop(message.id, None)
        if message.fanout and outcome.state != REJECTED.state:
            self._end(message)  # nobody there, or one of many gone
        elif outcome.never_forwarded:
            message.state = State.RELEASED
            self._woken.append(message)
        elif outcome.receiver_lost:
            self._end(
                message,
                errors.ServerLost(
                    f"{message.name} to {self._where(message)}: the server that had"
                    " it is gone and may have acted on it"
                ),
            )
        else:
            self._end(
                message,
                errors.MessageRefused(
                    f"{message.name} to {self._where(message)}: {outcome}"
                ),
            )


def _hopeless(failure: Exception) -> bool:
    """Whether trying again will not help before somebody changes something."""
    return isinstance(failure, (AuthenticationFailed, ConfigurationError))


def _properties() -> dict[str, Any]:
    """How we introduce ourselves, for whoever looks at the bus' connections."""
    return {
        "product": "hybrid-messaging",
        "process": os.path.basename(sys.argv[0]),  # noqa: PTH119
        "pid": os.getpid(),
        "node": os.uname().nodename,
    }
