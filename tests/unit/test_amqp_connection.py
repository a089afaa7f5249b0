# SPDX-License-Identifier: Apache-2.0
"""A connection as its callers see it while it is not there yet, or no more."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from oslo_config import cfg

from hybrid_messaging.drivers.amqp import options
from hybrid_messaging.drivers.amqp.connection import Connection, ConnectionFailed
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.protocol.endpoint import Handler


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def connection(server: socket.socket) -> Iterator[Connection]:
    conf = cfg.ConfigOpts()
    conf.register_opts(options.OPTIONS, options.GROUP)
    host = Host("127.0.0.1", server.getsockname()[1], None, None)
    # no frame of a peer arrives here: the handler has nothing to handle
    handler = cast(Handler, None)
    group: Any = conf.oslo_messaging_amqp
    lock = CombiningLock(lambda: None)
    connection = Connection(handler, lock, group, host, None, "container", {})
    yield connection
    connection.close()


def reads(connection: Connection) -> bool:
    """Whether a caller that waits for nothing else reads."""
    return connection.read_while(lambda: True, time.monotonic() + 0.01, lambda: None)


def test_callers_read_only_between_connecting_and_retiring(
    connection: Connection,
) -> None:
    assert not reads(connection)
    connection.connect()
    assert reads(connection)
    connection.retire()
    assert not reads(connection)


def test_callers_whose_time_is_up_read_what_has_come(
    server: socket.socket, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []
    monkeypatch.setattr(connection.endpoint, "receive", heard.append)
    connection.connect()
    peer, _ = server.accept()
    with peer:
        peer.sendall(b"AMQP")
        assert connection._socket is not None
        select.select([connection._socket], [], [], 5)
        past = time.monotonic() - 1
        assert connection.read_while(lambda: True, past, lambda: None)
    assert heard == [b"AMQP"]


@contextlib.contextmanager
def served(
    connection: Connection, duties: Callable[[float], float] = lambda now: math.inf
) -> Iterator[threading.Thread]:
    """The bus' own thread reads, until the connection ends."""
    connection.connect()

    def serve() -> None:
        with contextlib.suppress(ConnectionFailed):
            connection.serve(lambda: None, duties)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield thread
    finally:
        connection.retire()
        thread.join(10)
        assert not thread.is_alive()


def test_a_duty_that_comes_up_is_not_slept_through(connection: Connection) -> None:
    done = threading.Event()
    begun = threading.Event()

    def duties(now: float) -> float:
        (done if begun.is_set() else begun).set()
        return math.inf

    with served(connection, duties):
        assert begun.wait(5)
        with connection._lock:
            connection.due_by(time.monotonic())
        # otherwise it wakes when the handshake takes too long: after ten seconds
        assert done.wait(5)


def test_a_caller_leaves_what_is_meant_for_the_thread_of_the_bus(
    connection: Connection,
) -> None:
    connection.connect()
    outcomes: list[bool] = []

    def read() -> None:
        until = time.monotonic() + 10
        outcomes.append(connection.read_while(lambda: True, until, lambda: None))

    thread = threading.Thread(target=read)
    thread.start()
    while not connection._turn.locked():
        time.sleep(0.01)
    connection.interrupt()
    thread.join(5)
    assert outcomes == [False]
    assert connection._wake_read.recv(10) == b"\0"


def test_the_thread_of_the_bus_hears_of_an_end_that_a_caller_has_read(
    connection: Connection,
) -> None:
    with served(connection) as thread:
        connection._end_soon()  # as a caller does that reads the peer's good-bye
        thread.join(5)
        assert not thread.is_alive()
