# SPDX-License-Identifier: Apache-2.0
"""A plain AMQP peer for tests: it does one thing at a time, and only what it is told.

Credit, settlement and reading from the socket are in the test's hands.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

import proton

from hybrid_messaging.protocol import codec
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

T = TypeVar("T")

TIMEOUT = 20.0

Setup = Callable[[proton.Transport, proton.Connection], None]


def text(data: bytes) -> str:
    """The body of a message that `Peer.send` has encoded."""
    return str(codec.decode(data).body)


class Peer(Handler):
    """A connection to a router.

    :param idle_timeout: seconds, as Endpoint has it
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        idle_timeout: float = 0,
        setup: Setup | None = None,
    ) -> None:
        self.messages: dict[Receiver, list[tuple[Delivery | None, bytes]]] = (
            defaultdict(list)
        )
        self.outcomes: dict[Delivery, Outcome] = {}
        self.withdrawn: list[Delivery] = []
        self.attached: set[Link] = set()
        #: links that the router has begun
        self.invited: set[Link] = set()
        self.detached: dict[Link, str] = {}
        #: why the connection has ended, once it has
        self.ended: str | None = None
        self.socket = socket.create_connection((host, port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.endpoint = Endpoint(
            self, f"peer-{os.urandom(4).hex()}", idle_timeout=idle_timeout, setup=setup
        )
        self.endpoint.open()

    def __enter__(self) -> Peer:
        self.until(lambda: self.endpoint.opened or self.ended is not None, "opened")
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish()

    def vanish(self) -> None:
        """End the socket without a word."""
        if self.socket.fileno() >= 0:
            self.socket.close()
            self.endpoint.abandon()

    def close(self) -> None:
        """Close the connection as the protocol wants it."""
        self.endpoint.close()
        self.until(lambda: self.ended is not None, "the router answers the close")
        self.vanish()

    # -- links -------------------------------------------------------------

    def sender(self, address: str | None, credit: bool = True) -> Sender:
        """Attach a sender, and wait for credit if it is to have some."""
        link = self.endpoint.sender(address)
        self.until(lambda: link in self.attached, f"a sender to {address}")
        if credit:
            self.until(lambda: link.credit > 0, f"credit for {address}")
        return link

    def receiver(self, address: str | None, credit: int = 0) -> Receiver:
        """Attach a receiver, and give credit."""
        link = self.endpoint.receiver(address)
        self.until(lambda: link in self.attached, f"a receiver from {address}")
        self.grant(link, credit)
        return link

    def grant(self, receiver: Receiver, credit: int) -> None:
        if credit:
            receiver.grant(credit)
            self.flush()

    def detach(self, link: Link) -> None:
        """Detach a link, its unsettled messages with it."""
        link.pn.close()
        self.until(lambda: link in self.detached, "the router detaches the link, too")

    # -- messages ----------------------------------------------------------

    def send(
        self,
        sender: Sender,
        body: str = "",
        to: str | None = None,
        settled: bool = False,
    ) -> Delivery | None:
        """Send a message; the caller has looked at the credit."""
        assert sender.credit > 0, f"no credit for {sender.name}"
        delivery = sender.send(codec.encode(body, to=to), settled)
        if delivery is not None:
            delivery.context = self  # so that withdrawals are told
        self.step(0)
        return delivery

    def outcome(self, delivery: Delivery | None, timeout: float = TIMEOUT) -> Outcome:
        """Wait for the router's verdict on a message."""
        assert delivery is not None
        self.until(lambda: delivery in self.outcomes, "an outcome", timeout)
        return self.outcomes[delivery]

    def take(self, receiver: Receiver) -> tuple[Delivery | None, str]:
        """Wait for the next message of a receiver."""
        inbox = self.messages[receiver]
        self.until(lambda: bool(inbox), f"a message on {receiver.name}")
        delivery, data = inbox.pop(0)
        if delivery is not None:
            delivery.context = self
        return delivery, text(data)

    def settle(self, delivery: Delivery | None, outcome: Outcome = ACCEPTED) -> None:
        assert delivery is not None and isinstance(delivery.link, Receiver)
        delivery.link.settle(delivery, outcome)
        self.flush()

    def accept(self, receiver: Receiver) -> str:
        """Wait for the next message, and accept it."""
        delivery, body = self.take(receiver)
        if delivery is not None:
            self.settle(delivery)
        return body

    def round_trip(self) -> None:
        """Wait until the router has dealt with all that was sent before."""
        self.endpoint.receiver(f"probe.{os.urandom(8).hex()}").close()
        probe = self.receiver(f"probe.{os.urandom(8).hex()}")
        self.detach(probe)

    # -- bytes -------------------------------------------------------------

    def flush(self) -> None:
        """Write all there is to say."""
        deadline = time.monotonic() + TIMEOUT
        while self.socket.fileno() >= 0 and (view := self.endpoint.output()):
            try:
                self.endpoint.written(self.socket.send(view))
            except BlockingIOError:
                assert time.monotonic() < deadline, "the router does not read"
                select.select([], [self.socket], [], 0.1)
            except OSError:
                self.endpoint.discard_output()
                return

    def step(self, wait: float = 0.05) -> None:
        """Write, then read what arrives within some seconds."""
        self.endpoint.tick(time.monotonic())
        self.flush()
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if not poll.poll(wait * 1000):
            return
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        if data:
            self.endpoint.receive(data)
        else:
            self.endpoint.end_of_input()
            self.ended = self.ended or "end of input"
        self.flush()

    def until(
        self, condition: Callable[[], T], what: str, timeout: float = TIMEOUT
    ) -> T:
        """Exchange bytes with the router until a condition holds."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            assert self.socket.fileno() >= 0 and self.ended != "end of input", (
                f"the connection ended before: {what}"
            )
            assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
            self.step()
        return found

    # -- what the router does ----------------------------------------------

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        self.ended = condition

    def on_link_open(self, link: Link) -> None:
        (self.attached if link.local else self.invited).add(link)

    def on_link_close(self, link: Link, condition: str) -> None:
        self.detached[link] = condition
        link.close()

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        self.messages[receiver].append((delivery, data))
        if delivery is not None:
            delivery.context = self

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        self.outcomes[delivery] = outcome

    def on_withdrawn(self, delivery: Delivery) -> None:
        self.withdrawn.append(delivery)
