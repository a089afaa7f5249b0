# SPDX-License-Identifier: Apache-2.0
"""`zmq` beyond the loopback interface, with nothing configured but a password.

Servers listen on all addresses here, and tell clients one that is not of the loopback
interface and nevertheless leads to this host: Linux takes 0.0.0.0 for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oslo_messaging
import psutil
import pytest
import zmq
from oslo_messaging.exceptions import ConfigurationError
from tests.functional.commands import run
from tests.functional.matchmakers import Redis
from tests.functional.routers import HOST
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import until
from tests.functional.worker import Worker
from tests.functional.zmq_proxies import Proxy

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.zmq import key_directory, keys, matchmaker, names, wire
from hybrid_messaging.drivers.zmq.keys import DerivedKeys
from hybrid_messaging.drivers.zmq.proxies import PROXIES

ANY = "0.0.0.0"
#: Users of the test's Redis, by their passwords; one comes without.
PASSWORD, OTHER = "first-s3cret", "second-s3cret"
USERS = {PASSWORD: "first", OTHER: "second", None: None}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(
        tmp_path_factory.mktemp("redis"),
        "user default on nopass ~* +@all",
        *(
            f"user {name} on >{password} ~* +@all"
            for password, name in USERS.items()
            if name
        ),
    ).start()
    yield server
    server.stop()


@pytest.fixture
def rpc(redis: Redis) -> Iterator[Rpc]:
    with Rpc(url(redis)) as talk:
        yield talk


def url(redis: Redis, password: str | None = PASSWORD, **options: object) -> str:
    """The transport URL of a service that listens on all addresses."""
    common = {"rpc_zmq_bind_address": ANY, "rpc_zmq_host": ANY, "restart_timeout": 0.5}
    return redis.url("", USERS[password], password, **(common | options))


def topic(rpc: Rpc) -> str:
    return matchmaker.topic(None, "openstack", rpc.topic)


def record(rpc: Rpc) -> matchmaker.Record:
    """The one server of the test's topic, as Redis has it."""
    driver: Any = rpc.default._driver
    with contextlib.closing(driver._open_matchmaker()) as maker:
        (found,) = maker.read([topic(rpc)])[topic(rpc)].records
    return found


def write(redis: Redis, rpc: Rpc, record: matchmaker.Record) -> None:
    """Have Redis know one server of the test's topic, and no other."""
    servers = f"{matchmaker.SERVERS}{topic(rpc)}"
    with redis.client() as writer:
        writer.delete(servers)
        writer.zadd(servers, {json.dumps(record): 2**40})


def assert_refused(client: oslo_messaging.RPCClient, *reasons: str) -> None:
    """It fails fast, and says what to do."""
    with pytest.raises(errors.TargetUnreachable) as caught:
        client.call({}, "echo", value="let me in")
    for reason in reasons:
        assert reason in str(caught.value)


@contextlib.contextmanager
def listening_in(endpoint: str) -> Iterator[tuple[str, bytearray]]:
    """Take connections for a server, pass on all bytes, and keep them.

    :returns: the endpoint, and what has gone both ways
    """
    address = names.parse(endpoint)
    seen = bytearray()
    ends: list[socket.socket] = []

    def carry(source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                seen.extend(data)
                to.sendall(data)

    def take() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = tap.accept()
                server = socket.create_connection(address)
                ends.extend((client, server))
                for way in ((client, server), (server, client)):
                    threading.Thread(target=carry, args=way, daemon=True).start()

    with socket.create_server((HOST, 0)) as tap:
        threading.Thread(target=take, daemon=True).start()
        try:
            yield names.endpoint(ANY, tap.getsockname()[1]), seen
        finally:
            tap.shutdown(socket.SHUT_RDWR)
            for end in ends:
                end.close()


# -- with a password --------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"plaintext_beyond_loopback": True}])
def test_who_listens_in_reads_nothing(
    redis: Redis, rpc: Rpc, options: dict[str, object]
) -> None:
    """Unless plain text was asked for, which shows that the test could see it."""
    with Worker(url(redis, **options), rpc.topic):
        known = record(rpc)
        with listening_in(known.endpoint) as (endpoint, seen):
            write(redis, rpc, known._replace(endpoint=endpoint))
            client = rpc.client(rpc.transport(**options))
            assert client.call({}, "echo", value="in confidence") == "in confidence"
    assert (b"in confidence" in seen) == bool(options)
    own = DerivedKeys(PASSWORD).own.public.decode()
    assert known.key == ("" if options else own)


def test_all_kinds_of_messages_pass(redis: Redis, rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    client = rpc.client()
    assert client.call({}, "echo", value="called") == "called"
    client.cast({}, "echo", value="cast")
    rpc.client(fanout=True).cast({}, "echo", value="fanned out")
    until(lambda: len(service.seen) == 3, "everything has arrived", 60)


def test_proxies_encrypt_both_ways(redis: Redis, rpc: Rpc, tmp_path: Path) -> None:
    proxy = Proxy(url(redis), tmp_path / "proxy.log").start()
    try:
        rpc.server()
        client = rpc.client(rpc.transport(use_router_proxy=True))
        with redis.client() as reader:
            (found,) = reader.zrange(f"{matchmaker.SERVERS}{PROXIES}", 0, -1)
        assert matchmaker.Record(*json.loads(found)).key == record(rpc).key
        assert client.call({}, "name") == "one"
    finally:
        proxy.stop()


def test_on_the_loopback_interface_nothing_is_derived(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DerivedKeys, "own", None)
    with Rpc(redis.url("", USERS[PASSWORD], PASSWORD)) as rpc:
        rpc.server()
        assert rpc.client().call({}, "name") == "one"
        assert record(rpc).key == ""


def test_keys_are_there_before_anybody_calls(
    redis: Redis, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And before the process forks: its children need not derive them again."""
    keys.derive.cache_clear()
    transport = rpc.transport()
    monkeypatch.delattr(hashlib, "scrypt")
    rpc.server(transport=transport)
    assert rpc.client(transport).call({}, "name") == "one"
    assert keys.derive.cache_info().misses == 1


def test_logs_show_no_secrets(
    redis: Redis, rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        rpc.server()
        assert rpc.client().call({}, "name") == "one"
        assert_refused(rpc.client(rpc.transport(url(redis, OTHER))))
        assert logs.flush(60)
    assert "Not connecting" in caplog.text
    assert PASSWORD not in caplog.text
    assert DerivedKeys(PASSWORD).own.secret.decode() not in caplog.text


# -- strangers ---------------------------------------------------------------------


def greeting(mechanism: bytes) -> bytes:
    """What ZeroMQ 4 says first. Source: https://rfc.zeromq.org/spec/23/"""
    signature = b"\xff" + bytes(8) + b"\x7f"
    return (signature + b"\x03\x00" + mechanism.ljust(20, b"\0")).ljust(64, b"\0")


READY = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity" + bytes(4)
#: A megabyte: as a part of a message, of which more parts are to follow.
CHUNK = bytes(1_000_000)
PART = b"\x03" + len(CHUNK).to_bytes(8, "big") + CHUNK


@pytest.mark.parametrize(
    ("opening", "more"),
    [
        # a message whose parts never end
        (greeting(b"NULL") + READY, PART),
        (greeting(b"CURVE"), PART),
        # a command of the handshake that is as large as a message may be
        (greeting(b"CURVE") + b"\x06" + (128 * 2**20).to_bytes(8, "big"), CHUNK),
    ],
    ids=["plain", "unproven", "handshake"],
)
def test_a_stranger_gets_no_memory(
    redis: Redis, rpc: Rpc, opening: bytes, more: bytes
) -> None:
    with Worker(url(redis), rpc.topic) as worker:
        process = psutil.Process(worker.process.pid)
        client = rpc.client()
        assert client.call({}, "name") == "worker"
        before, highest = process.memory_info().rss, 0
        with socket.create_connection(
            names.parse(record(rpc).endpoint), 60
        ) as stranger:
            stranger.sendall(opening)
            with pytest.raises(ConnectionError):
                for _ in range(2000):
                    stranger.sendall(more)
                    highest = max(highest, process.memory_info().rss - before)
        assert highest < 50_000_000
        assert client.call({}, "name") == "worker"


def test_a_stranger_with_keys_of_his_own_gets_no_answer(
    redis: Redis, rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if he knows the server's public key. The log names him once a minute."""
    service = Service()
    rpc.server(service)
    found = record(rpc)
    public, secret = zmq.curve_keypair()
    body = json.dumps({"oslo.version": "2.0", "oslo.message": "{}"}).encode()
    frame = wire.request(wire.CALL, 1, found.address(topic(rpc)), body)
    context: zmq.Context[Any] = zmq.Context()
    with context:
        for _ in range(5):
            with context.socket(zmq.DEALER) as stranger:
                stranger.setsockopt(zmq.LINGER, 0)
                stranger.setsockopt(zmq.CURVE_PUBLICKEY, public)
                stranger.setsockopt(zmq.CURVE_SECRETKEY, secret)
                stranger.setsockopt(zmq.CURVE_SERVERKEY, found.key.encode())
                events = stranger.get_monitor_socket(zmq.Event.HANDSHAKE_FAILED_AUTH)
                stranger.connect(found.endpoint)
                stranger.send(frame)
                assert events.poll(60_000)
                assert not stranger.poll(0)
                stranger.disable_monitor()
    assert service.seen == []
    assert logs.flush(60)
    assert 1 <= caplog.text.count(f"Refused a client at {HOST}") < 5
    assert public.decode() in caplog.text
    assert "password of Redis" in caplog.text


# -- without a password -------------------------------------------------------------


def test_servers_without_keys_do_not_start(redis: Redis, rpc: Rpc) -> None:
    transport = rpc.transport(url(redis, None))
    with pytest.raises(ConfigurationError, match=r"refuses to listen on 0\.0\.0\.0"):
        rpc.server(transport=transport)
    with redis.client() as reader:
        assert not reader.exists(f"{matchmaker.SERVERS}{topic(rpc)}")


def test_proxies_without_keys_do_not_start(
    redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, "zmq-proxy", "--rpc-url", url(redis, None))
    assert result.code == 1
    assert "refuses to listen on 0.0.0.0" in result.err


@pytest.mark.parametrize("password", [PASSWORD, None])
def test_plain_text_is_an_option(
    redis: Redis, rpc: Rpc, password: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Of both sides. Servers warn that everybody can call them."""
    plain = url(redis, password, plaintext_beyond_loopback=True)
    rpc.server(transport=rpc.transport(plain))
    assert rpc.client(rpc.transport(plain)).call({}, "name") == "one"
    assert_refused(rpc.client(), "has no key", "0.0.0.0 in plain text")
    assert logs.flush(60)
    assert "without encryption or authentication" in caplog.text


def test_clients_that_allow_plain_text_talk_to_servers_with_our_key(
    redis: Redis, rpc: Rpc
) -> None:
    """So that services can be switched one by one."""
    rpc.server()
    transport = rpc.transport(plaintext_beyond_loopback=True)
    assert rpc.client(transport).call({}, "name") == "one"


# -- who does not fit ----------------------------------------------------------------


@pytest.mark.parametrize("difference", ["password", "no password", "key directory"])
def test_clients_that_do_not_fit_learn_what_is_wrong(
    redis: Redis,
    rpc: Rpc,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    difference: str,
) -> None:
    directory = tmp_path / "keys"
    key_directory.make(directory, "all")
    reason, other = {
        "password": ("the one that this process derives", url(redis, OTHER)),
        "no password": ("this process has none", url(redis, None)),
        "key directory": (
            f"is not in {directory}",
            url(redis, zmq_key_directory=directory),
        ),
    }[difference]
    rpc.server()
    assert_refused(rpc.client(rpc.transport(other)), reason)
    assert logs.flush(60)
    assert f"Not connecting to {record(rpc).endpoint}" in caplog.text
    assert reason in caplog.text
    assert rpc.client().call({}, "name") == "one"


def test_clients_do_not_fit_servers_with_a_key_directory(
    redis: Redis, rpc: Rpc, tmp_path: Path
) -> None:
    key_directory.make(tmp_path, "all")
    rpc.server(transport=rpc.transport(zmq_key_directory=tmp_path))
    assert_refused(
        rpc.client(), "the one that this process derives", "zmq_key_directory"
    )


def test_who_does_not_have_the_secret_key_is_no_server(redis: Redis, rpc: Rpc) -> None:
    """Nor who has none: nothing is sent to him."""
    context: zmq.Context[Any] = zmq.Context()
    with context, context.socket(zmq.ROUTER) as liar:
        liar.setsockopt(zmq.LINGER, 0)
        port = liar.bind_to_random_port(f"tcp://{HOST}")
        lie = matchmaker.Record("one", names.endpoint(ANY, port), uuid.uuid4().hex)
        write(redis, rpc, lie)
        assert_refused(rpc.client(), "has no key")
        own = DerivedKeys(PASSWORD).own.public.decode()
        write(redis, rpc, lie._replace(key=own))
        assert_refused(rpc.client())
        assert not liar.poll(100)
