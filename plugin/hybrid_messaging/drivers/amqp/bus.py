# SPDX-License-Identifier: Apache-2.0
"""The lasting side of a transport: it connects, and connects again.

Every thread that has something to send does so itself, under the lock, and sleeps
only for what it needs: an outcome or a reply. One thread reads: that of the bus, or a
caller that is alone (`hybrid_messaging.drivers.turns`). So a call costs one hand-over
between threads on each side at the most, not one per step.

What goes through the bus is the business of its parts: the outbox for what is
sent, the subscriptions for what is received. They get what they need, not the
bus. Every link has one of their objects as its context, which is told what the
peer does with it.
"""

from __future__ import annotations

import math
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers import forks, logs, reentry
from hybrid_messaging.drivers.amqp import failures, hosts
from hybrid_messaging.drivers.amqp.addressing import (
    NETWORKED,
    ROUTERS,
    Addressing,
    objection,
)
from hybrid_messaging.drivers.amqp.connection import Connection
from hybrid_messaging.drivers.amqp.dialling import Dial, Dialling
from hybrid_messaging.drivers.amqp.duties import Duties
from hybrid_messaging.drivers.amqp.failures import ConnectionFailed
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.line import Line
from hybrid_messaging.drivers.amqp.outages import Outages
from hybrid_messaging.drivers.amqp.outbox import Outbox
from hybrid_messaging.drivers.amqp.outgoing import Message
from hybrid_messaging.drivers.amqp.security import Security
from hybrid_messaging.drivers.amqp.steps import Steps
from hybrid_messaging.drivers.amqp.subscription import Subscriptions
from hybrid_messaging.drivers.amqp.waiting import Waiting
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.presence import Presence
from hybrid_messaging.drivers.turns import Turns
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.log_safety import quoted
from hybrid_messaging.protocol import draining
from hybrid_messaging.protocol.endpoint import (
    Delivery,
    Endpoint,
    Excessive,
    Link,
    Outcome,
    Receiver,
    Sender,
)

LOG = logs.get(__name__)

#: A connection that is open, and what is known of it.
_Opened = tuple[Connection, Line]

Side = Literal["sending", "listening"]

#: Seconds that closing waits for large fanouts, for the peer's good-bye, and for the
#: thread.
FAREWELL = 2.0
#: Seconds between two looks whether large fanouts are settled.
LOOK = 0.01
#: Seconds between two attempts to move away from a host that is about to end.
LEAVE_AGAIN = 2.0


class Bus:
    """A connection that is kept up.

    :param side: what it is for
    :param options: the [oslo_messaging_amqp] group
    :param url: oslo_messaging.TransportURL
    :param default_exchange: for targets without one
    :param places: the hosts; the first one is that which it should be connected to
    :param move: called with this and the hosts that it should be connected to instead
    """

    def __init__(
        self,
        side: Side,
        options: Any,
        url: Any,
        default_exchange: str | None,
        places: list[Host],
        move: Callable[[Bus, list[Host]], None],
    ) -> None:
        self._side = side
        self._options = options
        self._vhost = url.virtual_host or None
        self._terms = Security(options, self._vhost)
        self._hosts = list(places)
        self._home = places[0]
        self._move = move
        #: the only ones to be tried, see connect_to()
        self._trial: list[Host] = []
        #: the host says that it is about to end
        self._ending = False
        self._tried = Waiter()
        self._default_exchange = default_exchange
        self._container = options.container_name or f"openstack-{uuid.uuid4().hex}"
        self._pace = hosts.Pace(
            options.connection_retry_interval,
            options.connection_retry_backoff,
            options.connection_retry_interval_max,
        )
        self._outages = Outages(side)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._closing_by = math.inf
        #: the one that is used
        self._connection: Connection | None = None
        #: all that there are, those that are being opened as well
        self._connections: set[Connection] = set()

        #: held around all that is said on the connection; what is left with it
        #: is flushed
        self.lock = CombiningLock(self._flush)
        self.turns = Turns(self._wake, self._wake_reader)
        self.duties = Duties(self.lock, self._due_by)
        self._name = ", ".join(map(str, self._hosts))
        self.outbox = Outbox(self._name, options, self.duties)
        self.subscriptions = Subscriptions(self.start, self.lock)
        self.waiting = Waiting(
            self.start,
            self.lock,
            self.outbox,
            self.turns,
            self._read_while,
            self._unread,
        )

    # -- any thread ----------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; if that was done before, do not pause for long."""
        if self._thread is None:
            with self._starting:
                if self._thread is None and not self._closing:
                    thread = threading.Thread(
                        target=self._run, name="amqp-bus", daemon=True
                    )
                    thread.start()
                    self._thread = thread
        elif not self.outbox.connected:
            self._pace.hurry()

    def connect_to(self, hosts: list[Host]) -> bool:
        """Begin with some hosts, and try others only when that connection is lost.

        :returns: whether one of them could be connected to
        """
        self._trial = hosts
        self.start()
        self._tried.wait(None)
        return self.stays_at(hosts)

    def stays_at(self, hosts: list[Host]) -> bool:
        """Whether it is connected to one of some hosts, which is not about to end."""
        connection = self._connection
        return connection is not None and connection.host in hosts and not self._ending

    def take_over(self) -> None:
        """Say that it is used from now on, at a host where the former one is not."""
        if (connection := self._connection) is not None:
            self._outages.moving(str(connection.host))

    def retire(self) -> None:
        """Send nothing more: there is another bus, as those learn who still try."""
        with self.lock:
            self.outbox.retire()

    @property
    def busy(self) -> bool:
        """What was sent is still under way, or not even written."""
        with self.lock:
            connection = self._connection
            unwritten = connection is not None and connection.endpoint.buffered
            return bool(unwritten) or self.outbox.busy

    def presence(self, message: Message) -> Presence:
        """Return whether somebody listens on a message's target, without waiting.

        :param message: goes to the target; it is not sent
        """
        if self._thread is None:
            self.start()
        presence = self.outbox.presence(message.key)
        if presence is None:
            self.lock.leave(self.outbox.look, message)
            return Presence.UNKNOWN
        return presence

    def close(self) -> None:
        """Close the connection and let go of everything."""
        if not reentry.reads_here():
            self._see_off()
        with self.lock:
            if self._closing:
                return
            self._closing = True
            # a peer that has not opened the connection says no good-bye either
            patience = FAREWELL if self.outbox.connected else 0
            self._closing_by = time.monotonic() + patience
            self.subscriptions.close()
            self.outbox.close()
            if self._connection is not None:
                self._connection.endpoint.close()
                self._connection.due_by(self._closing_by)
                self._connection.flush()
        self.turns.call()
        self._pace.stop()
        self._tried.wake()
        self.duties.catch_up()
        # a signal handler may have interrupted a caller, which that thread waits for
        if self._thread is not None and not reentry.reads_here():
            self._thread.join(FAREWELL + 1)

    def _see_off(self) -> None:
        """Wait until the peer has large fanouts: it drops them with the connection."""
        until = time.monotonic() + FAREWELL
        while time.monotonic() < until:
            with self.lock:
                if self._closing or not self.outbox.unclaimed:
                    return
            time.sleep(LOOK)

    def after_fork(self) -> None:
        """In a child: this bus is the parent's; its descriptors are closed here."""
        self._closing = True
        self._thread = None
        self.lock.renew()
        self._connection = None
        forks.keep(*self._connections)
        self.subscriptions.lost()
        self.outbox.close()

    # -- any thread, for the parts ---------------------------------------------

    def _flush(self) -> None:
        if self._connection is not None:
            self._connection.flush()

    def _due_by(self, moment: float) -> None:
        if self._connection is not None:
            self._connection.due_by(moment)

    def _wake(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.wake()

    def _wake_reader(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.wake_reader()

    def _read_while(self, waits: Callable[[], bool], until: float) -> bool:
        connection = self._connection
        # where requests come in, nobody else may keep the bus' thread from reading
        if connection is None or self.subscriptions:
            return False
        return connection.read_while(waits, until, self.duties.catch_up)

    def _unread(self, moment: float) -> bool:
        connection = self._connection
        return connection is not None and connection.unread(moment)

    # -- the bus' own thread ---------------------------------------------------

    @reentry.works
    def _run(self) -> None:
        while not self._closing:
            dialling = Dialling(
                self._trial or self._hosts,
                self._options.connect_timeout,
                self._open,
                lambda: self._closing,
            )
            while not dialling.over:
                host, lasted = self._live(dialling)
                if self._closing:
                    return
                # one that lets us in and out again is as good as one that is away
                if host and lasted >= self._options.connection_retry_interval:
                    self._pace.reset()
                    # it may have vanished
                    self._hosts.remove(host)
                    self._hosts.append(host)
                    break
            else:
                if self._trial:
                    self._tried.wake()
                    return
                self._outages.away(self.outbox.reason)
                self._pace.pause(self.outbox.has_queued)

    def _live(self, dialling: Dialling[_Opened]) -> tuple[Host | None, float]:
        """Connect to a host and serve it to the end.

        :returns: the host, if there was a connection, and for how many seconds
        """
        connection: Connection | None = None
        began = math.inf
        failure: Exception
        with self.lock:
            self.outbox.connecting()
        try:
            self._terms.check()
            _, (connection, line) = dialling.dial()
            began = time.monotonic()
            self.turns.anew()
            with self.lock:
                self._up(connection, line)
            connection.serve(self.duties.catch_up, self._not_begun, self._duties)
        except (ConnectionFailed, ConfigurationError) as error:
            failure = error
        except OSError as error:  # there are no descriptors left, for instance
            failure = ConnectionFailed(
                f"cannot connect to {self._name} ({failures.of_system(error)})"
            )
        except Exception as error:
            where = connection.host if connection else self._name
            LOG.exception("The connection to %s failed with an internal error", where)
            failure = ConnectionFailed(f"the connection to {where} failed: {error}")
        if connection is not None:
            connection.retire()  # what callers still read is to be heard before
        with self.lock:
            self._connection = None
            self.duties.drop()
            self.outbox.lost(failure)
            self.subscriptions.lost(failure)
            if connection is not None:
                self._end(connection)
        self.duties.catch_up()
        if connection is not None and not self._closing:
            self._outages.away(str(failure))
        else:
            LOG.debug("%s", failure)
        host = None if connection is None else connection.host
        return host, time.monotonic() - began

    def _open(self, host: Host, dial: Dial) -> Steps[_Opened]:
        """Open a connection to a host.

        :raises ConfigurationError: an option is wrong
        :raises ConnectionFailed: the host cannot be used
        :raises OSError: it cannot be reached
        """
        yield from self._terms.verify(host, dial)
        connection = Connection(
            self,
            self.lock,
            self.turns,
            self._options,
            host,
            self._terms,
            self._container,
            _properties(),
        )
        self._connections.add(connection)
        try:
            yield from connection.open((yield from dial()))
            return connection, self._line(connection)
        except BaseException:
            with self.lock:
                connection.endpoint.close()
                connection.flush()
                self._end(connection)
            raise

    def _line(self, connection: Connection) -> Line:
        """What the peer says of itself, whose connection is open.

        :raises ConnectionFailed: it cannot be used
        """
        endpoint, host = connection.endpoint, connection.host
        try:
            product = endpoint.remote_product
            relays = endpoint.relays_anonymously
        except Excessive as error:
            raise failures.of_excess(host, error) from error
        why = objection(self._options, product)
        if why is not None:
            raise failures.of_unfitness(host, why)
        return Line(
            endpoint,
            Addressing(
                self._options,
                product,
                self._vhost if self._options.pseudo_vhost else None,
                self._default_exchange,
            ),
            name=f"{host} ({quoted(product or 'unidentified')})",
            routing=product in ROUTERS,
            networked=product in NETWORKED,
            relays=relays,
            flush=connection.flush,
        )

    def _end(self, connection: Connection) -> None:
        connection.close()
        self._connections.discard(connection)

    def _up(self, connection: Connection, line: Line) -> None:
        """A connection is open: use it."""
        self._connection = connection
        self._trial = []
        self._ending = False
        self._outages.up(line.name)
        self.subscriptions.up(line)
        self.outbox.up(line)
        if self._side == "listening":
            self.outbox.open_relay()
        if self._closing:  # since before anybody knew of it
            line.endpoint.close()
        connection.flush()
        if connection.host != self._home:
            self._go_home_later()
        self._tried.wake()

    def _go_home_later(self) -> None:
        # not when all others do, which have lost the same host
        if interval := self._options.rebalance_interval:
            self.duties.later(interval * random.uniform(0.5, 1.5), self._go_home)

    def _go_home(self) -> None:
        self._move(self, [self._home])
        self._go_home_later()  # it may not be there yet

    def _not_begun(self) -> int:
        """How many messages have been read that are still to be handed on."""
        return self.duties.backlog() if self.subscriptions else 0

    def _duties(self, now: float) -> float:
        if now >= self._closing_by:
            raise ConnectionFailed(
                "the peer did not confirm the end of the connection in time"
            )
        return min(self._closing_by, self.duties.run(now))

    # -- what the peer does: whichever thread reads, with the lock -----------

    def on_open(self, endpoint: Endpoint) -> None:
        pass  # it is used if it is the first, see _up()

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        pass  # the connection ends by itself, and _live() deals with it

    def _can_leave(self) -> bool:
        """Begin to move to another host; False: there is none."""
        assert self._connection is not None
        here = self._connection.host
        others = [host for host in self._hosts if host != here]
        if others:
            self._ending = True
            self._leave(others)
        return bool(others)

    def _leave(self, others: list[Host]) -> None:
        self._move(self, others)
        # none of them may be there yet, or it may be moving to one that is gone
        self.duties.later(LEAVE_AGAIN, lambda: self._leave(others))

    def on_link_open(self, link: Link) -> None:
        if link.local:
            link.context.on_open()
        elif draining.announces(link) and self._can_leave():
            link.pn.open()  # the router waits until this connection is closed
        else:
            link.close()  # no other links are expected

    def on_link_close(self, link: Link, condition: str) -> None:
        link.close()
        if link.context is not None:
            link.context.on_close(quoted(condition))

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
        delivery.context.on_withdrawn()


def _properties() -> dict[str, Any]:
    """The properties of our Open, by which people know this process on the bus."""
    return {
        "product": "hybrid-messaging",
        "process": Path(sys.argv[0] if sys.argv else sys.executable).name,
        "pid": os.getpid(),
        "node": os.uname().nodename,
    }
