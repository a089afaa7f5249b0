#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure routers alone: requests and replies through each of them, in turn.

    tools/router_pingpong.py 127.0.0.1:5672 127.0.0.1:5673 [--inflight N]

A client and a server, one process each, without oslo.messaging: requests go to
an address, replies to the client's dynamic address through an anonymous relay,
as an RPC's do. Rounds alternate between the routers, because a machine's speed
changes while one measures: compare the figures of one run only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
import sys
import time
from multiprocessing.synchronize import Event

from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    Delivery,
    Endpoint,
    Handler,
    Link,
    Receiver,
)

ADDRESS = "openstack.org/om/rpc/anycast/pingpong"


class Peer(Handler):
    """A blocking AMQP connection to a router."""

    def __init__(self, where: str) -> None:
        host, _, port = where.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.endpoint = Endpoint(self, "pingpong")
        self.endpoint.open()

    def step(self, wait: bool = True) -> None:
        while view := self.endpoint.output():
            self.endpoint.written(self.socket.send(view))
        if wait:
            data = self.socket.recv(65536)
            if not data:
                raise SystemExit("the router closed the connection")
            self.endpoint.receive(data)


class Server(Peer):
    """Answers each request with its own body."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.receiver = self.endpoint.receiver(ADDRESS)
        self.sender = self.endpoint.sender(None)
        self.taken = 0

    def on_link_open(self, link: Link) -> None:
        if link is self.receiver:
            self.receiver.grant(200)

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        request = codec.decode(data)
        if delivery is not None:
            receiver.settle(delivery, ACCEPTED)
        self.taken += 1
        if self.taken % 100 == 0:
            receiver.grant(100)
        reply = codec.encode(
            request.body, to=request.reply_to, correlation_id=request.id
        )
        self.sender.send(reply, settled=True)


class Client(Peer):
    """Sends a request for each reply."""

    def __init__(self, where: str, size: int) -> None:
        super().__init__(where)
        self.replies = self.endpoint.receiver(None)
        self.sender = self.endpoint.sender(ADDRESS)
        self.count = 0
        self.payload = "x" * size
        self.until = 0.0

    def on_link_open(self, link: Link) -> None:
        if link is self.replies:
            self.replies.grant(1000)

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        codec.decode(data)
        if delivery is not None:
            receiver.settle(delivery, ACCEPTED)
        self.count += 1
        if self.count % 500 == 0:
            receiver.grant(500)
        self.request()

    def request(self) -> None:
        reply_to = self.replies.pn.remote_source.address
        request = codec.encode(self.payload, id=str(self.count), reply_to=reply_to)
        self.sender.send(request)


def serve(where: str, stop: Event) -> None:
    server = Server(where)
    server.socket.settimeout(0.2)
    while not stop.is_set():
        try:
            server.step()
        except TimeoutError:
            continue


def measure(where: str, seconds: float, inflight: int, size: int) -> float:
    """Round trips per second."""
    stop = multiprocessing.Event()
    process = multiprocessing.Process(target=serve, args=(where, stop))
    process.start()
    try:
        client = Client(where, size)
        client.socket.settimeout(10)
        while not client.sender.credit or not client.replies.pn.remote_source.address:
            client.step()
        for _ in range(inflight):
            client.request()
        warm = time.perf_counter() + min(1.0, seconds / 3)
        while time.perf_counter() < warm:
            client.step()
        count, start = client.count, time.perf_counter()
        while time.perf_counter() < start + seconds:
            client.step()
        return (client.count - count) / (time.perf_counter() - start)
    finally:
        stop.set()
        process.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("routers", nargs="+", metavar="HOST:PORT")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inflight", type=int, default=1)
    parser.add_argument("--size", type=int, default=1024, help="bytes of payload")
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {where: [] for where in arguments.routers}
    for number in range(arguments.rounds):
        for where, seen in rates.items():
            seen.append(
                measure(where, arguments.seconds, arguments.inflight, arguments.size)
            )
            print(f"round {number + 1}: {where}: {seen[-1]:,.0f}/s", file=sys.stderr)
    first = statistics.median(rates[arguments.routers[0]])
    for where, seen in rates.items():
        middle = statistics.median(seen)
        print(
            f"{where}: median {middle:,.0f}/s ({min(seen):,.0f} to {max(seen):,.0f}), "
            f"{middle / first:.2f} of the first"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
