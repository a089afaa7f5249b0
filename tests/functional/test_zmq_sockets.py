# SPDX-License-Identifier: Apache-2.0
"""What goes through the sockets of `zmq`, wanted and unwanted."""

from __future__ import annotations

import errno
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zmq
from tests.functional.matchmakers import Redis
from tests.functional.routers import HOST, free_port
from tests.functional.rpc import PATIENCE, Rpc
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import ROOT, Worker

from hybrid_messaging.drivers import errors, logs, turns
from hybrid_messaging.drivers.zmq import (
    directory,
    matchmaker,
    routes,
    sockets,
    wire,
)
from hybrid_messaging.drivers.zmq.contexts import contexts
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
    with pytest.raises(errors.MessageRefused, match="max_message_size allows 2097152"):
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


# -- who reads -----------------------------------------------------------------


class Pipe:
    """A socket of the driver, and a peer that can fill it at once.

    They are connected within the process, where what is sent has arrived.
    """

    def __init__(
        self, rpc: Rpc, on_frames: Callable[[list[bytes]], None], **how: Any
    ) -> None:
        driver: Any = rpc.default._driver
        context = contexts.borrow()
        self.own = Socket("zmq-test", driver._options, on_frames, **how)
        self.own.run(lambda: self.own._socket.bind("inproc://test"))
        self.peer = context.socket(zmq.DEALER)
        self.peer.setsockopt(zmq.SNDHWM, 0)
        self.peer.connect("inproc://test")

    def fill(self, count: int) -> None:
        """Send so many messages."""
        for number in range(count):
            self.peer.send(b"%d" % number)

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close(linger=0)
        self.own.close(0)
        contexts.give_back()


def awaited(rpc: Rpc) -> Any:
    """A message that waits for its answer."""
    made = Message(wire.CALL, "question", rpc.topic, b"", PATIENCE)
    made.left()
    made.held[0] = made  # type: ignore[assignment]  # somebody has it
    return made


MANY = 500


@pytest.mark.parametrize("filled_by", ["another thread", "the one that reads"])
def test_a_lone_caller_gets_its_answer_behind_many(rpc: Rpc, filled_by: str) -> None:
    """However many messages there are to be read at once, somebody reads on."""
    message = awaited(rpc)
    seen: list[bytes] = []

    def take(frames: list[bytes]) -> None:
        seen.append(frames[-1])
        if frames[-1] == b"more":
            pipe.fill(MANY)
        if len(seen) >= MANY:
            message.held.clear()
            message.was_taken(b"")
            pipe.own.wake(message)

    with Pipe(rpc, take) as pipe:
        for _ in range(turns.LONE_SENDINGS):
            pipe.own.begin()
            pipe.own.end()

        def call() -> None:
            pipe.own.begin()
            pipe.own.wait(message, time.monotonic() + 60)
            pipe.own.end()

        caller = threading.Thread(target=call)
        with Stopwatch() as watch:
            caller.start()
            until(lambda: pipe.own._awaited, "it waits on the socket")
            if filled_by == "another thread":
                pipe.own.run(lambda: pipe.fill(MANY))
            else:
                pipe.peer.send(b"more")
            caller.join()
        assert not message.waits()
        assert watch.seconds < 30


def test_what_a_lone_caller_leaves_is_taken_for_others(rpc: Rpc) -> None:
    """It goes on with its answer, though more has arrived with that."""
    message = awaited(rpc)
    seen: list[bytes] = []

    def take(frames: list[bytes]) -> None:
        seen.append(frames[-1])
        message.held.clear()
        message.was_taken(b"")
        pipe.own.wake(message)

    with Pipe(rpc, take) as pipe:
        for _ in range(turns.LONE_SENDINGS):
            pipe.own.begin()
            pipe.own.end()
        pipe.own.begin()
        caller = threading.Thread(
            target=pipe.own.wait, args=(message, time.monotonic() + 60)
        )
        caller.start()
        until(lambda: pipe.own._awaited, "it waits on the socket")
        pipe.own.begin()  # another one comes
        pipe.own.run(lambda: pipe.fill(2))
        caller.join()
        until(lambda: seen == [b"0", b"1"], "both are taken")


def test_reading_goes_on_after_a_failure(
    rpc: Rpc, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_PAUSE", 0.01)
    seen: list[bytes] = []
    failures = [ValueError("something unforeseen")]

    def fail() -> None:
        if seen and failures:
            raise failures.pop()

    with Pipe(rpc, lambda frames: seen.append(frames[-1]), afterwards=fail) as pipe:
        pipe.fill(1)
        until(lambda: not failures, "it has failed")
        pipe.fill(1)
        until(lambda: len(seen) == 2, "it has gone on")
    assert logs.flush(60)
    assert "something unforeseen" in caplog.text


def test_answers_come_before_the_end_of_their_connection(rpc: Rpc) -> None:
    """However many of them have arrived with it."""
    driver: Any = rpc.default._driver
    order: list[str] = []
    own = Socket(
        "zmq-test",
        driver._options,
        lambda frames: order.append("message"),
        lambda event: order.append(event["event"].name),
    )
    context: zmq.Context[Any] = zmq.Context()
    try:
        with context:
            server = context.socket(zmq.ROUTER)
            port = server.bind_to_random_port(f"tcp://{HOST}")
            own.run(lambda: own.connect(f"tcp://{HOST}:{port}", b"1"))
            until(lambda: order, "it is connected")
            own.run(lambda: own.send(b"1", b"hello"))
            client, _ = server.recv_multipart()

            def answer_and_go() -> None:
                for _ in range(MANY):
                    server.send_multipart([client, b"answer"])
                server.close(linger=60_000)
                # the event can be seen from here, and the messages came before it
                assert select.select([own._descriptors[1]], [], [], 60)[0]

            own.run(answer_and_go)
            until(lambda: "DISCONNECTED" in order, "it is gone")
    finally:
        own.close(0)
    assert order.index("DISCONNECTED") == 1 + MANY


def test_calls_go_on_at_once_when_others_have_gone(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of calling threads falls from two to one, again and again."""
    # a rest that is not ended in time lasts longer than the calls may take
    monkeypatch.setattr(turns, "REST", 1000.0)
    monkeypatch.setattr(sockets, "REST", 1000.0)
    rpc.server(workers=4)
    client = rpc.client(timeout=60)
    for _ in range(20):
        for _ in range(turns.LONE_SENDINGS + 1):
            client.call({}, "name")
        other = threading.Thread(target=client.call, args=({}, "name"))
        long = threading.Thread(
            target=client.call, args=({}, "sleep"), kwargs={"seconds": 0.02}
        )
        long.start()
        other.start()
        client.call({}, "sleep", seconds=0.01)
        other.join()
        client.call({}, "name")
        long.join()


def test_a_lone_caller_goes_on_as_soon_as_another_server_is_connected(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket's own thread rests when the wait for the connection begins."""
    monkeypatch.setattr(turns, "REST", 1000.0)
    monkeypatch.setattr(sockets, "REST", 1000.0)
    monkeypatch.setattr(routes, "LOOK_INTERVAL", 1000.0)
    monkeypatch.setattr(directory, "WATCH_INTERVAL", 1000.0)
    rpc.server()
    others = [
        rpc.server(topic=f"{rpc.topic}-{n}", transport=rpc.transport())
        for n in range(3)
    ]
    client = rpc.client(timeout=60)
    for number, _ in enumerate(others):
        for _ in range(turns.LONE_SENDINGS + 1):
            client.call({}, "name")
        other = rpc.client(topic=f"{rpc.topic}-{number}", timeout=60)
        assert other.call({}, "name") == "one"


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


def test_a_process_without_descriptors_says_that_the_bus_is_away(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc.server()
    client = rpc.client(retry=0)
    made: list[int] = []

    def scarce(*how: int) -> int:
        if made:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        made.append(eventfd(*how))
        return made[-1]

    eventfd = os.eventfd
    with monkeypatch.context() as patched:
        patched.setattr(os, "eventfd", scarce)
        with pytest.raises(errors.BusUnavailable, match="Too many open files"):
            client.call({}, "name")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made[0])
    assert client.call({}, "name") == "one"


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
from tests.functional.rpc import PATIENCE, Rpc
from tests.functional.service import Service

class Telling(Service):
    def sleep(self, ctxt, seconds):
        print("begun", flush=True)
        return super().sleep(ctxt, seconds)

rpc = Rpc(os.environ["WORKER_URL"])
rpc.server(Telling("one"), topic=os.environ["TOPIC"])
print("is there", flush=True)
sys.stdin.readline()
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
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdout.readline()
    client = rpc.client()
    assert client.call({}, "name") == "one"
    parent.stdin.write("fork\n")
    parent.stdin.flush()
    child = int(parent.stdout.readline())
    try:
        with ThreadPoolExecutor(1) as pool:
            patient = rpc.client(timeout=60)
            call = pool.submit(patient.call, {}, "sleep", seconds=100)
            assert parent.stdout.readline() == "begun\n"
            parent.kill()
            assert isinstance(call.exception(), errors.ServerLost)
    finally:
        os.kill(child, signal.SIGKILL)
        parent.kill()
        parent.communicate()


def test_worker_that_has_ended_is_not_called(rpc: Rpc) -> None:
    with Worker(rpc.url, rpc.topic) as worker:
        client = rpc.client(rpc.transport(restart_timeout=2))
        assert client.call({}, "name") == "worker"
        assert worker.stop() == 0
    with pytest.raises(errors.TargetUnreachable):
        rpc.client(rpc.transport(restart_timeout=0)).call({}, "name")
    with pytest.raises(errors.TargetUnreachable, match="nobody listens"):
        client.call({}, "name")


def run(code: str, **environment: str) -> str:
    """Run Python code in a process of its own; what it has printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    return done.stdout.strip()


def test_closing_waits_for_no_events(rpc: Rpc) -> None:
    """More connections end than anybody has read of; nor does anything else wait."""
    code = """
import faulthandler, os, socket
from hybrid_messaging.drivers.zmq.sockets import Socket
from tests.functional.rpc import Rpc

faulthandler.dump_traceback_later(120, exit=True)  # also if Python stands still
driver = Rpc(os.environ["WORKER_URL"]).transport()._driver
own = Socket("zmq-test", driver._options, lambda _: None, lambda _: None)
with socket.create_server(("127.0.0.1", 0)) as listening:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))

        def connect():
            for number in range(5000):
                address = "tcp://%s:%d" % nobody.getsockname()
                own.connect(address, b"%x" % (number + 1))
                own.disconnect(address)
            own.connect("tcp://%s:%d" % listening.getsockname(), b"last")
            listening.settimeout(30)
            try:
                listening.accept()
                print("all have been tried")
            except TimeoutError:
                print("something waits")

        own.run(connect)
        own.close(0)
print("closed")
"""
    assert run(code, WORKER_URL=rpc.url) == "all have been tried\nclosed"


def test_children_close_only_what_is_the_drivers(rpc: Rpc) -> None:
    code = """
import os, socket
from tests.functional.rpc import Rpc
from tests.functional.test_zmq_sockets import address

rpc = Rpc(os.environ["WORKER_URL"])
rpc.server()
assert rpc.client().call({}, "name") == "one"
listens = address(rpc)
with socket.socket(type=socket.SOCK_DGRAM) as same, socket.socket() as other:
    same.bind(listens)
    # on another server that the driver is connected to as well
    other.connect((listens[0], int(os.environ["WORKER_PORT"])))
    rpc.client(topic=os.environ["WORKER_TOPIC"]).call({}, "name")
    child = os.fork()
    if child == 0:
        closed = []
        for each in (same, other):
            try:
                os.fstat(each.fileno())
            except OSError:
                closed.append(each)
        os._exit(len(closed))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("closed:", code, flush=True)
os._exit(0)
"""
    rpc.server()
    port = str(address(rpc)[1])
    printed = run(code, WORKER_URL=rpc.url, WORKER_PORT=port, WORKER_TOPIC=rpc.topic)
    assert printed == "closed: 0"


def test_forks_that_python_is_not_told_of(rpc: Rpc) -> None:
    """As uWSGI makes them: the child's first call works, and so do the parent's."""
    code = """
import os, signal
from tests.functional import c_fork
from tests.functional.rpc import Rpc

rpc = Rpc(os.environ["WORKER_URL"])
client = rpc.client(timeout=60, topic=os.environ["WORKER_TOPIC"])
for _ in range(10):
    client.call({}, "name")
child = c_fork.fork()
if child == 0:
    signal.alarm(100)
    names = [client.call({}, "name") for _ in range(3)]
    client.cast({}, "echo", value="from the child")
    os._exit(0 if names == ["one"] * 3 else 1)
for _ in range(3):
    print(client.call({}, "name"))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(client.call({}, "name"), flush=True)
os._exit(0)
"""
    service = Service()
    rpc.server(service)
    printed = run(code, WORKER_URL=rpc.url, WORKER_TOPIC=rpc.topic)
    assert printed.split() == ["one", "one", "one", "0", "one"]
    until(lambda: service.seen == ["from the child"], "its cast has arrived")
