# SPDX-License-Identifier: Apache-2.0
"""What goes through the sockets of `zmq`, wanted and unwanted."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import oslo_messaging
import pytest
import zmq
from tests.functional.matchmakers import Redis
from tests.functional.routers import HOST, free_port
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import ROOT, Worker

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.zmq import matchmaker, wire
from hybrid_messaging.drivers.zmq.message import Message
from hybrid_messaging.drivers.zmq.sockets import Socket


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def rpc(redis: Redis) -> Iterator[Rpc]:
    with Rpc(redis.url()) as talk:
        yield talk


def record(rpc: Rpc) -> matchmaker.Record:
    """The one server of the test's topic, as Redis has it."""
    driver: Any = rpc.default._driver
    topic = matchmaker.topic(None, "openstack", rpc.topic)
    maker = driver._open_matchmaker()
    (found,) = maker.read([topic])[topic].records
    maker.close()
    return found


def address(rpc: Rpc) -> tuple[str, int]:
    host, _, port = record(rpc).endpoint.removeprefix("tcp://").partition(":")
    return host, int(port)


# -- ports -----------------------------------------------------------------


def test_ports_in_use_are_passed_over(redis: Redis, rpc: Rpc) -> None:
    first = free_port()
    with socket.create_server((HOST, first)):
        url = redis.url(rpc_zmq_min_port=first, rpc_zmq_max_port=first)
        with pytest.raises(zmq.ZMQError, match="rpc_zmq_max_port"):
            rpc.server(transport=rpc.transport(url))
        last = min(first + 50, 65535)
        url = redis.url(rpc_zmq_min_port=first, rpc_zmq_max_port=last)
        rpc.server(transport=rpc.transport(url))
    assert first < address(rpc)[1] <= last
    assert rpc.client().call({}, "name") == "one"


def test_servers_that_strangers_can_reach_warn(
    redis: Redis, rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        rpc.server()
        assert "without encryption" not in caplog.text
        # an address of this host that is not of the loopback interface, where
        # nothing that the test starts can be reached from outside for long
        url = redis.url().replace(f"address={HOST}", "address=0.0.0.0")
        try:
            rpc.server(transport=rpc.transport(url, rpc_zmq_host=HOST)).stop()
        finally:
            rpc.close()
        assert "without encryption or authentication" in caplog.text


# -- strangers -------------------------------------------------------------


def test_bytes_from_strangers_change_nothing(rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    client = rpc.client()
    assert client.call({}, "name") == "one"
    greeting = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL"
    openings = [b"", b"GET / HTTP/1.1\r\n\r\n", greeting.ljust(64, b"\0")]
    for number in range(60):
        with socket.create_connection(address(rpc), 10) as stranger:
            stranger.sendall(openings[number % 3] + random.randbytes(2000))
    assert client.call({}, "echo", value="still there") == "still there"
    assert service.seen == ["still there"]


def test_frames_from_strangers_change_nothing(rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    name = record(rpc).address(matchmaker.topic(None, "openstack", rpc.topic))
    frames = [
        [b""],
        [b"\0" * 100],
        [b"two", b"frames"],
        [wire.request(wire.CALL, 1, name, b"no JSON")],
        [wire.request(wire.CALL, 2, name, b"[]")],
        [wire.request(wire.CALL, 3, b"nobody", b"{}")],
        [wire.answer(wire.REPLY, 4, b"{}")],
        [random.randbytes(5000)],
    ]
    context: zmq.Context[Any] = zmq.Context()
    with context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(record(rpc).endpoint)
        for frame in frames * 20:
            stranger.send_multipart(frame)
        answers = set()
        while len(answers) < 3:
            assert stranger.poll(20_000), answers
            answer = wire.read_answer(stranger.recv())
            answers.add((answer.kind, answer.id))
    assert answers == {(wire.REFUSED, 1), (wire.REFUSED, 2), (wire.NOBODY, 3)}
    assert rpc.client().call({}, "echo", value="still there") == "still there"
    assert service.seen == ["still there"]


def test_floods_are_answered_to_the_last(rpc: Rpc) -> None:
    transport = rpc.transport()
    rpc.server(transport=transport)
    driver: Any = transport._driver
    count = 900  # as many answers may wait for a client
    context: zmq.Context[Any] = zmq.Context()
    with context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(record(rpc).endpoint)
        with driver._server._socket._lock:  # so that they all come at once
            for number in range(count):
                stranger.send(wire.request(wire.CALL, number, b"nobody", b"{}"))
        answered = set()
        while len(answered) < count:
            assert stranger.poll(20_000), f"only {len(answered)} are answered"
            answered.add(wire.read_answer(stranger.recv()).id)


def test_messages_that_are_too_large_are_not_taken(redis: Redis, rpc: Rpc) -> None:
    rpc.server(transport=rpc.transport(max_message_size=2 * 1024 * 1024))
    client = rpc.client()
    assert client.call({}, "size", value="x" * 1_000_000) == 1_000_000
    with pytest.raises(errors.ServerLost):
        client.call({}, "size", value="x" * 3_000_000)
    assert client.call({}, "name") == "one"


# -- flow --------------------------------------------------------------------


def test_senders_of_casts_wait_for_a_slow_server(rpc: Rpc) -> None:
    service = Service()
    rpc.server(service, workers=1, transport=rpc.transport(rpc_server_credit=2))
    client = rpc.client()
    sent: list[int] = []

    def cast() -> None:
        for number in range(10):
            client.cast({}, "wait", value=number)
            sent.append(number)

    thread = threading.Thread(target=cast)
    thread.start()
    until(lambda: len(sent) == 3, "one is at work and two wait")
    time.sleep(0.5)
    assert len(sent) == 3
    service.gate.set()
    thread.join(30)
    until(lambda: service.seen == list(range(10)), "all have arrived, in order")


def test_every_call_of_many_threads_is_executed_once(rpc: Rpc) -> None:
    services = [Service(str(number)) for number in range(3)]
    for service in services:
        rpc.server(service, name=service.name({}))
    client = rpc.client()
    with ThreadPoolExecutor(30) as pool:
        values = list(range(1500))
        replies = list(pool.map(lambda n: client.call({}, "echo", value=n), values))
    assert replies == values
    assert sorted(value for service in services for value in service.seen) == values


def test_what_a_lone_caller_leaves_in_the_socket_is_taken(rpc: Rpc) -> None:
    """It goes on with its reply, though more has arrived with that."""
    driver: Any = rpc.transport()._driver
    seen: list[bytes] = []
    awaited = Message(wire.CALL, "question", rpc.topic, b"", 30)
    awaited.left()

    def take(frames: list[bytes]) -> None:
        seen.append(frames[-1])
        awaited.finish(reply=frames[-1])

    own = Socket("zmq-test", driver._options, None, take)
    # what has arrived at once, which nobody can see to from outside
    arrived = [[b"peer", b"reply"], [b"peer", b"more"]]
    handle: Any = SimpleNamespace(receive=lambda: arrived.pop(0) if arrived else None)

    def wait_for_reply() -> None:
        own._handle, own._awaited = handle, awaited

    try:
        own.run(wait_for_reply)
        assert seen == [b"reply"]
        own._awaited = None
        own.catch_up()
        assert seen == [b"reply", b"more"]
    finally:
        own.close(0)


# -- what is left behind -----------------------------------------------------


def test_transports_that_are_closed_leave_nothing_behind(rpc: Rpc) -> None:
    rpc.server()
    rpc.client(rpc.transport()).call({}, "name")

    def used() -> tuple[int, int]:
        threads = [each for each in threading.enumerate() if "zmq" in each.name]
        return len(threads), len(list(Path("/proc/self/fd").iterdir()))

    def use() -> None:
        with Rpc(rpc.url) as talk:
            server = talk.server(Service(), topic=f"{rpc.topic}-more")
            assert talk.client(topic=rpc.topic).call({}, "name") == "one"
            server.stop()

    use()
    before = used()
    for _ in range(5):
        use()
    # the server sees a little later than its clients that they are gone
    until(lambda: used() <= before, "what was opened is closed")


def test_connections_that_nobody_uses_are_closed(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybrid_messaging.drivers.zmq import client as zmq_client

    monkeypatch.setattr(zmq_client, "SWEEP_INTERVAL", 0.1)
    rpc.server(topic=f"{rpc.topic}-other")
    rpc.server()
    transport = rpc.transport(idle_connection_timeout=1)
    client = rpc.client(transport)
    other = rpc.client(transport, topic=f"{rpc.topic}-other")
    assert other.call({}, "name") == client.call({}, "name") == "one"
    driver: Any = transport._driver

    def connected() -> int:
        client.call({}, "name")
        return sum(peer.up for peer in driver._client.routes.peers())

    assert connected() == 2
    until(lambda: connected() == 1, "the other connection is closed")
    assert other.call({}, "name") == "one"


def test_children_do_not_hide_that_their_parent_is_gone(rpc: Rpc) -> None:
    """A child that lives on has inherited its parent's sockets."""
    code = """
import os, sys, time
from tests.functional.rpc import Rpc

rpc = Rpc(os.environ["WORKER_URL"])
rpc.server(topic=os.environ["TOPIC"])
child = os.fork()
if child == 0:
    time.sleep(100)
print(child, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env={**os.environ, "WORKER_URL": rpc.url, "TOPIC": rpc.topic},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        client = rpc.client()
        assert client.call({}, "name") == "one"
        call = threading.Thread(target=parent.kill)
        with Stopwatch() as watch, pytest.raises(oslo_messaging.MessagingTimeout):
            call.start()
            client.call({}, "sleep", seconds=20)
        assert watch.seconds < 5
    finally:
        os.kill(child, signal.SIGKILL)
        parent.kill()
        parent.communicate()


def test_worker_that_has_ended_is_not_called(rpc: Rpc) -> None:
    with Worker(rpc.url, rpc.topic) as worker:
        client = rpc.client()
        assert client.call({}, "name") == "worker"
        assert worker.stop() == 0
    with pytest.raises(errors.TargetUnreachable):
        rpc.client(rpc.transport(restart_timeout=0)).call({}, "name")
    with pytest.raises(errors.TargetUnreachable, match="nobody listens"):
        client.call({}, "name")
