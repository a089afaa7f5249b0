# SPDX-License-Identifier: Apache-2.0
"""The lasting side of a transport: it connects, and connects again.

One thread reads. Every other thread that has something to send does so itself,
under the lock, and sleeps only for what it needs: an outcome or a reply. So a
call costs one hand-over between threads on each side, not one per step.

What goes through the bus is the business of its two parts: the outbox for what
is sent, the subscriptions for what is received. Every link has one of their
objects as its context, which is told what the peer does with it.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers.amqp import hosts
from hybrid_messaging.drivers.amqp.addressing import ROUTERS, Addressing
from hybrid_messaging.drivers.amqp.connection import Connection, ConnectionFailed
from hybrid_messaging.drivers.amqp.outbox import Outbox
from hybrid_messaging.drivers.amqp.subscription import Subscriptions
from hybrid_messaging.drivers.amqp.waiting import Waiting
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.protocol.endpoint import (
    Delivery,
    Endpoint,
    Link,
    Outcome,
    Receiver,
    Sender,
)

LOG = logging.getLogger(__name__)

#: Seconds that closing waits for the peer's good-bye, and for the thread.
FAREWELL = 2.0


class Bus:
    """A connection that is kept up.

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
        #: held around all that is said on the connection; what is left with it
        #: is flushed
        self.lock = CombiningLock(self.flush)
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._closing_by = math.inf
        #: this process is a child of the one whose bus this is
        self.forked = False

        self.connection: Connection | None = None
        #: how the peer names targets; None while the connection is not up
        self.addressing: Addressing | None = None
        #: the peer stores nothing: it forwards or says that it cannot
        self.routing = False
        #: the peer forwards by each message's own address
        self.relays = False
        #: why there is no connection, between two attempts to make one
        self.away: Exception | None = None
        #: why there was none, the last time that one failed
        self.reason = "not connected yet"

        self.outbox = Outbox(self)
        self.waiting = Waiting(self)
        self.subscriptions = Subscriptions(self)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = itertools.count()
        self._afterwards: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def __str__(self) -> str:
        return ", ".join(str(host) for host in self._hosts)

    # -- any thread ----------------------------------------------------------

    def start(self) -> None:
        """Begin to connect, unless that was done before."""
        if self._thread is None:
            with self.lock:
                if self._thread is None and not self.closing:
                    self._thread = threading.Thread(
                        target=self._run, name="amqp-bus", daemon=True
                    )
                    self._thread.start()

    @property
    def closing(self) -> bool:
        """Nothing may be sent any more."""
        return self._closing.is_set()

    def close(self) -> None:
        """Close the connection and let go of everything."""
        if self.forked:
            return
        with self.lock:
            self._closing.set()
            self._closing_by = time.monotonic() + FAREWELL
            self.subscriptions.close()
            self.outbox.close()
            if self.connection is not None:
                self.connection.endpoint.close()
                self.connection.due_by(self._closing_by)
                self.connection.flush()
                self.connection.interrupt()
        self.catch_up()
        if self._thread is not None:
            self._thread.join(FAREWELL + 1)

    def after_fork(self) -> None:
        """In a child: this bus is the parent's; only its descriptors are closed."""
        self.forked = True
        self._thread = None
        # Threads of the parent may have held these; they are not here any more.
        # Greenlets are: they find the bus closing.
        self.lock = CombiningLock(self.flush)
        self._closing = threading.Event()
        self._closing.set()
        if self.connection is not None:
            self.connection.close_after_fork()
            self.connection = None

    # -- any thread, with the lock -------------------------------------------

    def flush(self) -> None:
        """Hand what has been said to the network."""
        if self.connection is not None:
            self.connection.flush()

    def later(self, seconds: float, duty: Callable[[], None]) -> None:
        """Do something with the lock held, if the connection still is up then."""
        moment = time.monotonic() + seconds
        heapq.heappush(self._timers, (moment, next(self._timer_ids), duty))
        if self.connection is not None:
            self.connection.due_by(moment)

    def afterwards(self, function: Callable[..., None], *arguments: Any) -> None:
        """Do something as soon as the lock is free again, without it."""
        self._afterwards.append((function, arguments))

    # -- whichever thread reads, without the lock ----------------------------

    def catch_up(self) -> None:
        """Do what was to be done afterwards."""
        if self._afterwards:
            with self.lock:
                todo, self._afterwards = self._afterwards, []
            for function, arguments in todo:
                try:
                    function(*arguments)
                except Exception:
                    LOG.exception("A message was lost")

    # -- the bus' own thread ---------------------------------------------------

    def _run(self) -> None:
        pauses = self._pauses()
        while not self.closing:
            for host in self._hosts:
                began = time.monotonic()
                was_up = self._live(host)
                if self.closing:
                    return
                # one that lets us in and out again is as good as one that is away
                lasted = time.monotonic() - began
                if was_up and lasted >= self.options.connection_retry_interval:
                    pauses = self._pauses()
                    break
            else:
                self._closing.wait(next(pauses))

    def _pauses(self) -> Iterator[float]:
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
                self.lock,
                self.options,
                host,
                self._vhost,
                self._container,
                _properties(),
            )
            with self.lock:
                self.connection = connection
                self.away = None
            connection.connect()
            connection.serve(self.catch_up, self._duties)
        except (ConnectionFailed, ConfigurationError) as error:
            failure = error
        except Exception as error:
            LOG.exception("The connection to %s failed unexpectedly", host)
            failure = error
        if connection is not None:
            connection.retire()  # what callers still read is to be heard before
        with self.lock:
            was_up = self.addressing is not None
            self._lost(failure)
            if connection is not None:
                connection.close()
        self.catch_up()
        if not self.closing:
            level = logging.WARNING if was_up else logging.ERROR
            # as text: a log that keeps its records is to keep no connections
            LOG.log(level, "%s; trying again", self.reason)
        return was_up

    def _lost(self, failure: Exception) -> None:
        self.reason = str(failure)
        self.away = failure
        self.connection = None
        self.addressing = None
        self._timers.clear()
        self.outbox.lost(failure)
        self.subscriptions.lost()

    def _duties(self, now: float) -> float:
        if now >= self._closing_by:
            raise ConnectionFailed("the peer did not say good-bye")
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        return min(self._closing_by, self._timers[0][0] if self._timers else math.inf)

    # -- what the peer does: whichever thread reads, with the lock -----------

    def on_open(self, endpoint: Endpoint) -> None:
        assert self.connection is not None
        product = endpoint.remote_properties.get("product")
        self.addressing = Addressing(
            self.options,
            product,
            self._vhost if self.options.pseudo_vhost else None,
            self._default_exchange,
        )
        self.routing = product in ROUTERS
        self.relays = endpoint.relays_anonymously
        LOG.info(
            "Connected to %s (%s)", self.connection.host, product or "unidentified"
        )
        self.connection.due_by(0)  # signs of life, as often as the peer wants them
        self.subscriptions.attach(endpoint, self.addressing)
        self.outbox.attach(endpoint)

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        pass  # the connection ends by itself, and _live() deals with it

    def on_link_open(self, link: Link) -> None:
        if link.context is None:
            link.close()  # we invite nobody
        else:
            link.context.on_open()

    def on_link_close(self, link: Link, condition: str) -> None:
        link.close()
        if link.context is not None:
            link.context.on_close(condition)

    def on_flow(self, link: Link) -> None:
        if link.context is not None:
            link.context.on_flow()

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        receiver.context.on_message(delivery, data)

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        self.outbox.on_outcome(delivery, outcome)

    def on_withdrawn(self, delivery: Delivery) -> None:
        pass  # a caller has given up: its server finishes the work all the same


def _properties() -> dict[str, Any]:
    """How we introduce ourselves, for whoever looks at the bus' connections."""
    return {
        "product": "hybrid-messaging",
        "process": Path(sys.argv[0] if sys.argv else sys.executable).name,
        "pid": os.getpid(),
        "node": os.uname().nodename,
    }
