# SPDX-License-Identifier: Apache-2.0
"""A connection as its callers see it while it is not there yet, or no more."""

from __future__ import annotations

import contextlib
import math
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from oslo_config import cfg

from hybrid_messaging.drivers import turns
from hybrid_messaging.drivers.amqp import connection as amqp_connection
from hybrid_messaging.drivers.amqp import options
from hybrid_messaging.drivers.amqp.connection import Connection
from hybrid_messaging.drivers.amqp.failures import ConnectionFailed
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.security import Security
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.turns import Turns
from hybrid_messaging.protocol.endpoint import Handler


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def connection(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Connection]:
    monkeypatch.setattr(turns, "LONE_SENDINGS", 0)
    conf = cfg.ConfigOpts()
    conf.register_opts(options.OPTIONS, options.GROUP)
    host = Host("127.0.0.1", server.getsockname()[1], None, None)
    # no frame of a peer arrives here: the handler has nothing to handle
    handler = cast(Handler, None)
    group: Any = conf.oslo_messaging_amqp
    lock = CombiningLock(lambda: None)
    made: list[Connection] = []
    shared = Turns(lambda: made[0].wake(), lambda: made[0].wake_reader())
    terms = Security(group, None)
    made.append(Connection(handler, lock, shared, group, host, terms, "me", {}))
    yield made[0]
    made[0].close()


def dialled(connection: Connection) -> socket.socket:
    return socket.create_connection((connection.host.name, connection.host.port))


def reads(connection: Connection) -> bool:
    """Whether a caller that waits for nothing else reads."""
    return connection.read_while(lambda: True, time.monotonic() + 0.01, lambda: None)


def test_callers_read_only_between_connecting_and_retiring(
    connection: Connection,
) -> None:
    assert not reads(connection)
    connection.connect(dialled(connection))
    assert reads(connection)
    connection.retire()
    assert not reads(connection)


def test_callers_may_wait_for_longer_than_poll_can_count(
    server: socket.socket, connection: Connection
) -> None:
    connection.connect(dialled(connection))
    peer, _ = server.accept()
    with peer:
        peer.sendall(b"no AMQP")  # ends the connection, and the wait with it
        assert not connection.read_while(lambda: True, math.inf, lambda: None)


def test_callers_whose_time_is_up_read_what_has_come(
    server: socket.socket, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []
    monkeypatch.setattr(connection.endpoint, "receive", heard.append)
    connection.connect(dialled(connection))
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
    connection: Connection,
    duties: Callable[[float], float] = lambda now: math.inf,
    sock: socket.socket | None = None,
) -> Iterator[threading.Thread]:
    """The bus' own thread reads, until the connection ends."""
    connection.connect(sock or dialled(connection))

    def serve() -> None:
        with contextlib.suppress(ConnectionFailed):
            connection.serve(lambda: None, lambda: 0, duties)

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


def test_the_end_of_a_connection_reaches_the_caller_that_reads(
    connection: Connection,
) -> None:
    connection.connect(dialled(connection))
    outcomes: list[bool] = []
    leading = threading.Event()

    def waits() -> bool:
        leading.set()
        return True

    def read() -> None:
        outcomes.append(connection.read_while(waits, math.inf, lambda: None))

    thread = threading.Thread(target=read)
    thread.start()
    assert leading.wait(60)
    connection.retire()
    thread.join(60)
    assert outcomes == [False]


def test_a_blocked_socket_is_read_although_a_lone_caller_has_left(
    server: socket.socket, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would hear the peer's signs of life, and it would count as gone."""
    heard = threading.Event()
    monkeypatch.setattr(connection.endpoint, "receive", lambda data: heard.set())
    with served(connection):
        peer, _ = server.accept()
        with peer:
            assert reads(connection)  # and rests: it is likely to call again at once
            with connection._lock:
                connection._blocked = True
                monkeypatch.setattr(connection, "flush", lambda: None)
            connection._turns.call()
            while not connection._watched & selectors.EVENT_WRITE:
                time.sleep(0.01)
            peer.sendall(b"AMQP")
            assert heard.wait(60)


def test_a_process_that_was_stopped_reads_before_it_takes_its_peer_for_silent(
    server: socket.socket, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(connection.endpoint, "receive", lambda _: said.append("read"))
    monkeypatch.setattr(connection.endpoint, "tick", lambda now: said.append("tick"))
    connection._due = time.monotonic() - amqp_connection.STOPPED - 1
    with served(connection):
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"a sign of life")
            deadline = time.monotonic() + 60
            while "tick" not in said and time.monotonic() < deadline:
                time.sleep(0.01)
    assert said[0] == "read"


def test_the_thread_of_the_bus_hears_of_an_end_that_a_caller_has_read(
    connection: Connection,
) -> None:
    with served(connection) as thread:
        connection._end_soon()  # as a caller does that reads the peer's good-bye
        thread.join(5)
        assert not thread.is_alive()


def test_what_has_arrived_is_unread_until_it_is_read(
    server: socket.socket, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bool] = []
    moment = time.monotonic()
    monkeypatch.setattr(
        # also while it is being read, where nothing is left to see
        connection.endpoint,
        "receive",
        lambda _: heard.append(connection.unread(time.monotonic())),
    )
    assert not connection.unread(moment)
    connection.connect(dialled(connection))
    assert not connection.unread(time.monotonic())
    peer, _ = server.accept()
    with peer:
        peer.sendall(b"AMQP")
        assert connection._socket is not None
        select.select([connection._socket], [], [], 60)
        assert connection.unread(time.monotonic())
        assert connection.read_while(lambda: True, moment, lambda: None)
    assert heard == [True]
    assert not connection.unread(time.monotonic())
    connection.retire()
    assert not connection.unread(time.monotonic())


@pytest.mark.parametrize("arrived", [True, False])
def test_a_peer_counts_as_silent_only_where_nothing_has_arrived(
    server: socket.socket,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    arrived: bool,
) -> None:
    """However late the thread is: another one may have been a moment late before."""
    said: list[str] = []
    monkeypatch.setattr(connection.endpoint, "receive", lambda _: said.append("read"))
    monkeypatch.setattr(connection.endpoint, "tick", lambda now: said.append("tick"))
    connection._due = time.monotonic()
    sock = dialled(connection)
    peer, _ = server.accept()
    if arrived:
        peer.sendall(b"a sign of life")
        select.select([sock], [], [], 60)
    with served(connection, sock=sock), peer:
        deadline = time.monotonic() + 60
        while "tick" not in said and time.monotonic() < deadline:
            time.sleep(0.01)
    assert said[0] == ("read" if arrived else "tick")
