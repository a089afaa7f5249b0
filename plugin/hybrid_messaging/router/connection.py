# SPDX-License-Identifier: Apache-2.0
"""One peer's connection: its socket, its AMQP endpoint, its links."""

from __future__ import annotations

import logging
import math
import socket
import time
from functools import cached_property
from typing import Any, Protocol

import proton

from hybrid_messaging.log_safety import SELDOM, quoted
from hybrid_messaging.protocol import desertion, draining
from hybrid_messaging.protocol.endpoint import (
    ANONYMOUS_RELAY,
    MAX_MESSAGE,
    Delivery,
    Endpoint,
    Excessive,
    Handler,
    Link,
    Outcome,
    Receiver,
    Sender,
)
from hybrid_messaging.router import PRODUCT, VERSION
from hybrid_messaging.router.addresses import Address, AddressTable
from hybrid_messaging.router.budget import Budget
from hybrid_messaging.router.links import Consumer, Producer
from hybrid_messaging.router.security import Terms

LOG = logging.getLogger(__name__)

#: Bytes taken from a socket at a time.
READ_BYTES = 64 * 1024
#: Links that one connection may have.
MAX_LINKS = 10_000
#: Characters that the name of a link and its addresses may have together: qpid-proton
#: keeps several copies.
LONGEST_NAMES = 8000
#: Sessions that one connection may have, less one. The retired amqp1 driver opens
#: one for each link, and has a link for each target.
CHANNEL_MAX = 1023
#: Seconds that a peer has to take our good-bye.
CLOSE_TIMEOUT = 2.0
#: Seconds that a peer has to answer that it moves to another router.
ANNOUNCEMENT_TIMEOUT = 2.0
#: Why the router closes connections, and refuses links, when it ends.
SHUTDOWN = ("amqp:connection:forced", "the router is shutting down")


class Loop(Protocol):
    """What a connection needs of the router that it belongs to."""

    table: AddressTable
    #: connections to flush before the next wait
    dirty: list[Connection]
    #: the router ends, and takes no new links
    closing: bool

    def watch_output(self, connection: Connection, wanted: bool) -> None:
        """Call the connection's flush() when its socket can be written again."""

    def has_opened(self, connection: Connection) -> None:
        """The connection's peer has opened it."""

    def forget(self, connection: Connection) -> None:
        """The connection is about to close its socket."""


class Connection(Handler):
    """A peer's connection, from its acceptance to the end of its socket."""

    def __init__(
        self,
        loop: Loop,
        container: str,
        sock: socket.socket,
        number: int,
        peer: str,
        terms: Terms,
    ) -> None:
        self._loop = loop
        self._container = container
        self.number = number
        self.peer = peer
        #: what the peer tells of itself, and the user that it has proven to be
        self.container = ""
        self.properties: dict[str, Any] = {}
        self.user: str | None = None
        self.terms = terms
        self.opened_at = time.monotonic()
        limit = terms.listener.handshake_timeout
        self._deadline = self.opened_at + limit if limit else None
        self._socket = sock
        self._unsent = b""
        #: the socket has not been closed
        self.alive = True
        self._lost = False
        self._hung_up = False
        self._silent = True
        self._watching_output = False
        self.producers: set[Producer] = set()
        self.consumers: set[Consumer] = set()
        #: the link that says that the router is about to end
        self._announcement: Link | None = None
        #: monotonic time until which the peer may answer that; infinity: it moves
        self._moves_until = 0.0

    @cached_property
    def endpoint(self) -> Endpoint:
        """Its AMQP, made once there is something to read.

        That takes three times as long as to accept a connection, and 90 KB: strangers
        who say nothing are to cost less.
        """
        return Endpoint(
            self,
            self._container,
            server=True,
            idle_timeout=self.terms.listener.idle_timeout,
            setup=self._set_up,
        )

    @cached_property
    def budget(self) -> Budget:
        """What waits for it, and for others."""
        return Budget(self.endpoint, self.wake)

    @property
    def _begun(self) -> bool:
        """The endpoint has been made."""
        return "endpoint" in vars(self)

    def _set_up(
        self, transport: proton.Transport, connection: proton.Connection
    ) -> None:
        transport.channel_max = CHANNEL_MAX
        self.terms.apply(transport)
        connection.properties = {
            proton.symbol("product"): PRODUCT,
            proton.symbol("version"): VERSION,
        }
        connection.offered_capabilities = [proton.symbol(ANONYMOUS_RELAY)]

    # -- the socket ----------------------------------------------------

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def read(self) -> None:
        """Take what the socket has, but not more than READ_BYTES."""
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.fail(error.strerror or str(error))
            return
        if data:
            self._silent = False
            self.endpoint.receive(data)
        elif self._silent:
            self.fail("closed by the peer")
            return
        else:
            self._hung_up = True
            self.endpoint.end_of_input()
        self.wake()

    def wake(self) -> None:
        """Have flush() called before the router waits again."""
        if not self.budget.awake:
            self.budget.awake = True
            self._loop.dirty.append(self)

    def flush(self) -> None:
        """Write what the endpoint has to say, as far as the socket takes it."""
        self.budget.awake = False
        try:
            blocked = self._write()
        except OSError as error:
            self.fail(error.strerror or str(error))
            return
        if blocked != self._watching_output:
            self._watching_output = blocked
            self._loop.watch_output(self, blocked)
        if self.budget.written(self._buffered() if blocked else 0):
            for consumer in tuple(self.consumers):
                consumer.advance()
        # a peer that has hung up and does not read either would keep us awake
        if self.endpoint.finished or (blocked and self._hung_up):
            if self.endpoint.authentication_failed:
                LOG.warning("%s: authentication failed", self, extra=SELDOM)
            self.drop()

    def _write(self) -> bool:
        """Write; tell whether the socket has refused to take all of it."""
        send, endpoint = self._socket.send, self.endpoint
        if self._unsent:
            try:
                self._unsent = self._unsent[send(self._unsent) :]
            except (BlockingIOError, InterruptedError):
                return True
            if self._unsent:
                return True
        while data := endpoint.output():
            try:
                count = send(data)
            except (BlockingIOError, InterruptedError):
                count = 0
            if count < len(data):
                # the endpoint is not asked for more while this waits: it would
                # move all that it has into a buffer as large as a peer's frames
                self._unsent = data[count:]
                endpoint.written(len(data))
                return True
            endpoint.written(count)
        return False

    def _buffered(self) -> int:
        return len(self._unsent) + self.endpoint.buffered

    def look_after(self, now: float) -> None:
        """Send and expect keep-alives; end what takes too long."""
        if self._deadline is not None and now >= self._deadline:
            if not self._begun or self.endpoint.closed or not self.endpoint.opened:
                LOG.info(
                    "%s: closed, because it did not open in time", self, extra=SELDOM
                )
            self.drop()
            return
        if self._deadline is not None and not self._begun:
            return
        if not self._lost:
            self.endpoint.tick(now)
            for producer in tuple(self.producers):
                producer.look_after(now)
        self.wake()

    @property
    def busy(self) -> bool:
        """Something that it has sent, or will be sent, is under way."""
        return any(producer.busy for producer in self.producers) or any(
            consumer.queue for consumer in self.consumers
        )

    def announce_end(self) -> None:
        """Tell a peer that may know what it means that the router is about to end."""
        if self._begun and self.properties.get("product") == draining.PRODUCT:
            self._announcement = self.endpoint.sender(draining.ADDRESS)
            self._moves_until = time.monotonic() + ANNOUNCEMENT_TIMEOUT
            self.wake()

    @property
    def leaving(self) -> bool:
        """The peer is moving to another router, and needs this one meanwhile."""
        return not self._lost and time.monotonic() < self._moves_until

    def disown(self) -> None:
        """Tell the peer no more of what becomes of its messages."""
        producers, self.producers = self.producers, set()
        for producer in producers:
            producer.close()

    def close(self) -> None:
        """Say good-bye to the peer, since the router ends."""
        if not self._begun:
            self.drop()
            return
        self._deadline = time.monotonic() + CLOSE_TIMEOUT
        self.endpoint.close(proton.Condition(*SHUTDOWN))
        self._let_go()
        self.wake()

    def fail(self, reason: str) -> None:
        """The socket is of no use any more."""
        if self._silent:
            # load balancers and scripts look every few seconds whether the port is open
            LOG.debug("%s: ended without sending anything: %s", self, reason)
        elif self.endpoint.opened:
            LOG.info("%s: %s", self, reason)
        else:
            LOG.info("%s: ended before it was open: %s", self, reason, extra=SELDOM)
        self.drop()

    def drop(self) -> None:
        """Close the socket and forget the peer."""
        if self.alive:
            self.alive = False
            self._loop.forget(self)
            if self._begun:
                self._let_go()
                self.endpoint.abandon()
            self._socket.close()

    def _let_go(self) -> None:
        """Detach all links."""
        if not self._lost:
            self._lost = True
            self.endpoint.handler = _NOBODY
            self.budget.close()
            self.disown()
            consumers, self.consumers = self.consumers, set()
            for consumer in consumers:
                consumer.close()

    def __str__(self) -> str:
        name = f"connection {self.number} from {self.peer}"
        return f"{name} ({quoted(self.container)})" if self.container else name

    # -- what the peer does --------------------------------------------

    def on_open(self, endpoint: Endpoint) -> None:
        """Open the connection from our side."""
        self._deadline = None
        self._loop.has_opened(self)
        self.container = endpoint.connection.remote_container or ""
        self.properties = endpoint.remote_properties
        self.user = endpoint.transport.user
        by = f" by {quoted(self.user)}" if self.user else ""
        LOG.info("%s: opened%s", self, by)
        endpoint.open()

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        """Let go of the peer's links; what is left to say is still written."""
        reason = f": {quoted(condition)}" if condition else ""
        if endpoint.opened:
            LOG.info("%s: closed%s", self, reason)
        else:
            LOG.info("%s: closed before it was open%s", self, reason, extra=SELDOM)
        self._deadline = time.monotonic() + CLOSE_TIMEOUT
        self._let_go()

    def on_link_open(self, link: Link) -> None:
        """Attach the link, or detach it with the reason why not.

        :raises Excessive: its names are too long to be kept
        """
        if link is self._announcement:
            self._moves_until = math.inf
            return
        name, pn = link.name, link.pn
        # a damaged frame may lack any of them
        names = (name, pn.remote_source.address, pn.remote_target.address)
        if sum(len(each or "") for each in names) > LONGEST_NAMES:
            raise Excessive(f"the names of a link exceed {LONGEST_NAMES} characters")
        refusal: tuple[str, str] | None
        if self._loop.closing:
            refusal = SHUTDOWN
        elif len(self.consumers) + len(self.producers) >= MAX_LINKS:
            refusal = (
                "amqp:resource-limit-exceeded",
                f"a connection may have {MAX_LINKS} links",
            )
        elif isinstance(link, Sender):
            refusal = self._add_consumer(link)
        else:
            assert isinstance(link, Receiver)
            refusal = self._add_producer(link)
        if refusal:
            LOG.info(
                "%s: link '%s' refused: %s", self, quoted(name), quoted(refusal[1])
            )
            link.pn.open()
            link.close(proton.Condition(*refusal))

    def _add_consumer(self, link: Sender) -> tuple[str, str] | None:
        source, table = link.pn.remote_source, self._loop.table
        address: Address
        name = source.address
        if source.dynamic:
            address = table.invent()
            link.pn.source.dynamic = True
            name = address.name
        elif not name:
            return "amqp:invalid-field", "a receiver needs a source address"
        else:
            address = table.obtain(name)
            if not address.shared:
                return "amqp:not-allowed", f"'{name}' already has its listener"
        link.pn.source.address = name
        link.pn.target.copy(link.pn.remote_target)
        _answer(link)
        capacity = self.terms.listener.link_capacity
        consumer = Consumer(self, self.budget, link, address, table, capacity)
        link.context = consumer
        self.consumers.add(consumer)
        table.add_consumer(address, consumer)
        return None

    def _add_producer(self, link: Receiver) -> tuple[str, str] | None:
        target, table = link.pn.remote_target, self._loop.table
        if target.type == proton.Terminus.COORDINATOR:
            return "amqp:not-implemented", "transactions are not supported"
        if target.dynamic:
            return "amqp:not-implemented", "dynamic targets are not supported"
        link.pn.source.copy(link.pn.remote_source)
        link.pn.target.type = target.type
        address = None
        if target.address:
            address = table.obtain(target.address)
            link.pn.target.address = target.address
            deserted_for = table.deserted_for(address)
            if deserted_for is not None:
                link.pn.properties = desertion.encode(deserted_for)
        link.pn.max_message_size = MAX_MESSAGE
        _answer(link)
        capacity = self.terms.listener.link_capacity
        link.context = producer = Producer(self.budget, link, address, table, capacity)
        self.producers.add(producer)
        return None

    def on_link_close(self, link: Link, condition: str) -> None:
        """Detach the link."""
        if link is self._announcement:
            self._moves_until = 0.0
        end = link.context
        if end in self.consumers:
            self.consumers.discard(end)
            end.close()
        elif end in self.producers:
            self.producers.discard(end)
            end.close()
        link.close()

    def on_flow(self, link: Link) -> None:
        """A consumer has given credit, or a producer has given it up."""
        end = link.context
        if isinstance(end, Consumer):
            end.advance()
        elif isinstance(end, Producer):
            end.on_flow()

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        """A producer has sent a message."""
        receiver.context.on_message(delivery, data)

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        """A consumer has decided on a message."""
        sender.context.decided(delivery, outcome)

    def on_withdrawn(self, delivery: Delivery) -> None:
        """A producer no longer waits for an outcome."""
        delivery.link.context.withdrawn(delivery)


class _Nobody(Handler):
    """Hears what a lost peer still says; nothing refers to its connection then."""


_NOBODY = _Nobody()  # type: ignore[abstract]


def _answer(link: Link) -> None:
    # Our terminus shows what holds: its address, and neither filters nor a
    # distribution mode, durability or a time of expiry (AMQP 1.0, part 3, 3.5). The
    # other one is the peer's to describe.
    link.pn.snd_settle_mode = link.pn.remote_snd_settle_mode
    link.pn.open()
