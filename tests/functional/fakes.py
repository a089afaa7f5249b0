# SPDX-License-Identifier: Apache-2.0
"""Peers that no good router is: made to say, or to do, what a test wants.

Where a real router or broker would do, tests use that.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import proton
from tests.functional.routers import HOST

from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    Delivery,
    Endpoint,
    Handler,
    Link,
    Outcome,
    Receiver,
    Sender,
)

_CHUNK = 65536
#: Seconds between two looks whether the driver is to have a sign of life.
ALIVE = 0.2


class Fake:
    """A port; what happens on each of its connections is the test's choice.

    :param behave: called in a thread of its own with every connection's socket
    """

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self.behave = behave
        #: how many there have been
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server((HOST, 0), backlog=50)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"amqp://{HOST}:{self.port}/"
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Fake:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._acceptor.join(10)
        self.hang_up()
        for thread in self._threads:
            thread.join(10)

    def hang_up(self) -> None:
        """End all connections."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(accepted)
            thread = threading.Thread(target=self._run, args=[accepted], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError), accepted:
            self.behave(accepted)


def hear(connection: socket.socket) -> None:
    """Read until the other end has closed the connection."""
    while connection.recv(_CHUNK):
        pass


class Peer(Handler):
    """An AMQP peer that takes everything and answers nothing; to be derived from.

    Use it as `Fake(Peer)`; an instance serves one connection.
    """

    product: Any = "fake"
    relays = False
    credit = 100

    def __init__(self, connection: socket.socket) -> None:
        self.links: list[Link] = []
        self.messages: list[bytes] = []
        self.dynamic = f"reply-{random.getrandbits(64):x}"

        def setup(transport: proton.Transport, opened: proton.Connection) -> None:
            opened.properties = {proton.symbol("product"): self.product}
            if self.relays:
                opened.offered_capabilities = [proton.symbol("ANONYMOUS-RELAY")]
            transport.sasl().allowed_mechs("ANONYMOUS")

        self.socket = connection
        self.endpoint = Endpoint(self, "fake", server=True, setup=setup)
        self.run()

    def run(self) -> None:
        """Serve the connection to its end, and show signs of life all the while."""
        readable = select.poll()
        readable.register(self.socket, select.POLLIN)
        while not self.endpoint.closed and not self.endpoint.finished:
            if readable.poll(ALIVE * 1000):
                data = self.socket.recv(_CHUNK)
                if data:
                    self.endpoint.receive(data)
                else:
                    self.endpoint.end_of_input()
            self.endpoint.tick(time.monotonic())
            self.flush()
        self.endpoint.abandon()

    def flush(self) -> None:
        while view := self.endpoint.output():
            self.endpoint.written(self.socket.send(view))

    def confirm(self, link: Link) -> None:
        """Attach a link that the driver has asked for."""
        self.links.append(link)
        pn = link.pn
        pn.source.copy(pn.remote_source)
        pn.target.copy(pn.remote_target)
        if pn.remote_source.dynamic:
            pn.source.address = self.dynamic
        pn.open()

    def refuse(self, link: Link, condition: str, description: str) -> None:
        """Attach and detach a link, as a refusal looks like."""
        link.pn.open()
        link.close(proton.Condition(condition, description))

    # -- what the driver does --------------------------------------------------

    def on_open(self, endpoint: Endpoint) -> None:
        endpoint.open()

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        pass

    def on_link_open(self, link: Link) -> None:
        self.confirm(link)
        if isinstance(link, Receiver):
            link.grant(self.credit)

    def on_link_close(self, link: Link, condition: str) -> None:
        link.close()

    def on_flow(self, link: Link) -> None:
        pass

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        self.messages.append(data)
        if delivery is not None:
            receiver.settle(delivery, self.outcome(data))
        receiver.grant(1)

    def outcome(self, data: bytes) -> Outcome:
        return ACCEPTED

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        pass

    def on_withdrawn(self, delivery: Delivery) -> None:
        pass


class Thrower(Peer):
    """Lets its clients in, and throws them out at once."""

    def on_open(self, endpoint: Endpoint) -> None:
        endpoint.open()
        endpoint.close(proton.Condition("amqp:connection:forced", "not you"))


class Proxy:
    """Forwards connections to a port, and may do something to the bytes.

    Use it as `Fake(Proxy(port))`.

    :param damage: is given a chunk from either end, returns what goes on
    """

    def __init__(
        self, port: int, damage: Callable[[bytes], bytes] = lambda data: data
    ) -> None:
        self.port = port
        self.damage = damage
        #: seconds that every chunk is held back
        self.delay = 0.0

    def __call__(self, connection: socket.socket) -> None:
        with socket.create_connection((HOST, self.port)) as onward:
            back = threading.Thread(
                target=self._pump, args=(onward, connection), daemon=True
            )
            back.start()
            self._pump(connection, onward)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if self.delay:
                    time.sleep(self.delay)
                sink.sendall(self.damage(data))
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
