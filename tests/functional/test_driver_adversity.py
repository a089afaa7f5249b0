# SPDX-License-Identifier: Apache-2.0
"""What networks and strangers do to a driver: bent bytes, half frames, losses."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from oslo_messaging import MessagingException, RPCClient
from tests.functional.conftest import MakeRouter
from tests.functional.fakes import Fake, Peer, Proxy
from tests.functional.routers import Router, Settings
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.amqp.hosts import Pace
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    RELEASED,
    Delivery,
    Outcome,
    Receiver,
)

#: What the driver logs when it has not foreseen something.
UNFORESEEN = ("unexpected", "internal error", "deferred action failed")


def works(client: RPCClient) -> bool:
    try:
        return bool(client.call({}, "name") == "one")
    except MessagingException:
        return False


@pytest.fixture
def nothing_unforeseen(caplog: pytest.LogCaptureFixture) -> None:
    yield
    assert logs.flush(60)
    assert not [
        record.getMessage()
        for record in caplog.records
        if any(words in record.getMessage() for words in UNFORESEEN)
    ]


# -- bytes of strangers --------------------------------------------------------------


def recorded(bus: Router) -> list[bytes]:
    """What a router says to a process that serves, calls and casts."""
    said: list[bytes] = []

    class Recorder(Proxy):
        def _pump(self, source: socket.socket, sink: socket.socket) -> None:
            from_bus = source.getpeername()[1] == bus.port
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    if from_bus:
                        said.append(data)
                    sink.sendall(data)
            for each in (source, sink):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    with Fake(Recorder(bus.port)) as fake, Rpc(fake.url) as rpc:
        # on one connection, so that everything is said on it
        transport = rpc.transport()
        uplinks = transport._driver._uplinks
        uplinks["listening"] = uplinks["sending"]
        service = Service()
        rpc.server(service, transport=transport)
        client = rpc.client(transport)
        assert client.call({}, "name") == "one"
        assert client.call({}, "size", value="x" * 100_000) == 100_000
        rpc.client(transport, fanout=True).cast({}, "echo", value="all")
        until(lambda: "all" in service.seen, "the fanout has arrived")
    return said


def noise(chance: random.Random, said: list[bytes]) -> list[bytes]:
    return [chance.randbytes(chance.randrange(1, 5000))]


def cut_off(chance: random.Random, said: list[bytes]) -> list[bytes]:
    whole = b"".join(said)
    return [whole[: chance.randrange(len(whole))]]


def bent(chance: random.Random, said: list[bytes]) -> list[bytes]:
    whole = bytearray(b"".join(said))
    reach = min(len(whole), chance.choice([200, 1500, len(whole)]))
    for _ in range(chance.choice([1, 2, 20])):
        whole[chance.randrange(reach)] = chance.randrange(256)
    return [bytes(whole)]


def shuffled(chance: random.Random, said: list[bytes]) -> list[bytes]:
    return chance.sample(said, len(said))


def repeated(chance: random.Random, said: list[bytes]) -> list[bytes]:
    whole = b"".join(said)
    start, end = sorted(chance.sample(range(len(whole)), 2))
    at = chance.randrange(len(whole))
    return [whole[:at] + whole[start:end] + whole[at:]]


DISTORTIONS: list[Callable[[random.Random, list[bytes]], list[bytes]]] = [
    noise,
    cut_off,
    bent,
    shuffled,
    repeated,
]


@pytest.mark.usefixtures("nothing_unforeseen")
def test_distorted_conversations(bus: Router, rpc: Rpc) -> None:
    """A peer that says what a router has said to somebody, but wrongly."""
    said = recorded(bus)
    chance = random.Random(1)
    talks = 0

    def distort(connection: socket.socket) -> None:
        nonlocal talks
        talks += 1
        for chunk in chance.choice(DISTORTIONS)(chance, said):
            connection.sendall(chunk)
        connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while connection.recv(65536):
                pass

    with Fake(distort) as fake:
        options = {"connect_timeout": 0.5, "connection_retry_interval_max": 1}
        clients = []
        for number in range(10):
            topic = f"{rpc.topic}-{number}"
            transport = rpc.transport(fake.url, **options)
            driver = transport._driver
            # connected from the start, as server and as client
            driver._bus("sending").start()
            driver._bus("listening").start()
            clients.append((topic, transport))
        until(lambda: talks >= 120, "there have been many talks", 60)
        fake.behave = Proxy(bus.port)
        for topic, transport in clients:
            rpc.server(topic=topic, transport=transport)
            client = rpc.client(transport, topic=topic, timeout=5)
            until(lambda: works(client), "it works with a real router")  # noqa: B023


@pytest.mark.parametrize("at", [5, 300, 5_000, 60_000])
def test_a_peer_that_stops_in_the_middle(bus: Router, rpc: Rpc, at: int) -> None:
    """Of its header, of a frame, of a message: its silence is noticed."""

    class Stalling(Proxy):
        def _pump(self, source: socket.socket, sink: socket.socket) -> None:
            if source.getpeername()[1] == bus.port:
                with Limited(source, at) as limited:
                    super()._pump(limited, sink)
            else:
                super()._pump(source, sink)

    rpc.server()
    with Fake(Stalling(bus.port)) as fake:

        def stop_once(connection: socket.socket) -> None:
            fake.behave = Proxy(bus.port)
            Stalling(bus.port)(connection)

        fake.behave = stop_once
        client = rpc.client(
            rpc.transport(fake.url, connect_timeout=0.5, idle_timeout=1), timeout=60
        )
        with Stopwatch() as watch, contextlib.suppress(errors.BusLost):
            client.call({}, "echo", value="x" * 100_000)
        assert watch.seconds < 40
        until(lambda: works(client), "it works again")
        assert fake.connections > 1


class Limited(socket.socket):
    """One that says no more after so many bytes, and does not end."""

    def __init__(self, real: socket.socket, limit: int) -> None:
        super().__init__(real.family, real.type, real.proto, os.dup(real.fileno()))
        self._left = limit

    def recv(self, size: int, flags: int = 0) -> bytes:
        while data := super().recv(size, flags):
            allowed = data[: self._left]
            self._left -= len(allowed)
            if allowed:
                return allowed
        return b""


# -- connections that are lost -------------------------------------------------------


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads switch in the midst of everything, and nobody waits to connect again."""
    monkeypatch.setattr(Pace, "pause", lambda *_: time.sleep(0.01))
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("nothing_unforeseen", "restless")
def test_callers_while_connections_are_lost_again_and_again(
    bus: Router, rpc: Rpc
) -> None:
    """Every call ends, with a reply or a reason.

    Callers that read for themselves are among them, and such as wait for others.
    """
    rpc.server()
    with Fake(Proxy(bus.port)) as fake:
        lone = [rpc.client(rpc.transport(fake.url), timeout=3) for _ in range(4)]
        crowd = rpc.client(rpc.transport(fake.url), timeout=3)
        ended = threading.Event()

        def call_on(client: RPCClient) -> tuple[int, float]:
            done, longest = 0, 0.0
            while not ended.is_set():
                with Stopwatch() as watch, contextlib.suppress(MessagingException):
                    client.call({}, "echo", value="x" * 1000)
                    done += 1
                longest = max(longest, watch.seconds)
            return done, longest

        with ThreadPoolExecutor(8) as pool:
            calling = [pool.submit(call_on, each) for each in [*lone, *[crowd] * 4]]
            begin = time.monotonic()
            while time.monotonic() < begin + 4:
                time.sleep(0.1)
                fake.hang_up()
            ended.set()
            for each in calling:
                done, longest = each.result(60)
                assert done
                assert longest < 20
        for client in [*lone, crowd]:
            until(lambda: works(client), "it works again")  # noqa: B023


def test_a_lone_caller_pauses_before_it_sends_again() -> None:
    """Also one that reads for itself, so that nobody needs to wake it."""
    seen: list[bytes] = []

    class Choosy(Peer):
        def on_message(
            self, receiver: Receiver, delivery: Delivery | None, data: bytes
        ) -> None:
            seen.append(data)
            super().on_message(receiver, delivery, data)

        def outcome(self, data: bytes) -> Outcome:
            return ACCEPTED if b"wanted" in data else RELEASED

    with Fake(Choosy) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(rpc.transport(restart_timeout=1))
        for _ in range(6):
            client.cast({}, "echo", value="wanted")
        seen.clear()
        with pytest.raises(errors.TargetUnreachable):
            client.cast({}, "echo", value=1)
    assert 3 < len(seen) < 20


def test_bus_that_was_away_and_wants_a_password(make_router: MakeRouter) -> None:
    """First nobody is there, then somebody who lets in whom he knows."""
    router = make_router(Settings(users={"nova": "secret"}))
    router.stop()
    with Rpc(router.url(username="nova", password="secret")) as rpc:
        client = rpc.client(timeout=60)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(client.call, {}, "name")
            sending = rpc.default._driver._bus("sending")
            until(lambda: "refused" in sending.outbox.reason, "nobody is there")
            router.start()
            rpc.server()
            until(lambda: works(client), "everything works")
            # if it came before the server did, it has said so
            assert call.exception(60) is None or isinstance(
                call.exception(), errors.TargetUnreachable
            )
