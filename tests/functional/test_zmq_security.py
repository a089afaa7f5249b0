# SPDX-License-Identifier: Apache-2.0
"""`zmq` with CURVE keys: who gets in, who does not, and what those are told."""

from __future__ import annotations

import json
import logging
import random
import shutil
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
import zmq
from oslo_messaging.exceptions import ConfigurationError
from tests.functional.commands import run
from tests.functional.matchmakers import Redis
from tests.functional.routers import HOST, free_port
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import until
from tests.fuzz.zmtp import command, greeting

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.zmq import key_directory, matchmaker, wire


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


class Host:
    """A host's key directory.

    :param directory: made
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made = key_directory.make(directory, directory.name)

    def trust(self, *others: Host) -> None:
        for other in others:
            shutil.copy(other.made.public_path, self.directory)

    @property
    def public(self) -> str:
        return self.made.public.decode()


@pytest.fixture
def here(tmp_path: Path) -> Host:
    return Host(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Host:
    return Host(tmp_path / "there")


@pytest.fixture
def rpc(redis: Redis) -> Iterator[Rpc]:
    with Rpc(redis.url(restart_timeout=0.5)) as talk:
        yield talk


def on(host: Host | None, rpc: Rpc, **options: object) -> oslo_messaging.Transport:
    """A transport of a service on a host; None: on one without keys."""
    if host is not None:
        options["zmq_key_directory"] = host.directory
    return rpc.transport(**options)


def topic(rpc: Rpc) -> str:
    return matchmaker.topic(None, "openstack", rpc.topic)


def record(rpc: Rpc) -> matchmaker.Record:
    """The one server of the test's topic, as Redis has it."""
    driver: Any = rpc.default._driver
    maker = driver._open_matchmaker()
    (found,) = maker.read([topic(rpc)])[topic(rpc)].records
    maker.close()
    return found


def works(client: oslo_messaging.RPCClient) -> bool:
    try:
        return bool(client.call({}, "name"))
    except oslo_messaging.MessagingException:
        return False


def assert_refused(client: oslo_messaging.RPCClient, *reasons: str) -> None:
    """It fails fast, and says what to do."""
    with pytest.raises(errors.TargetUnreachable) as caught:
        client.call({}, "echo", value="let me in")
    for reason in reasons:
        assert reason in str(caught.value)


# -- making keys ----------------------------------------------------------------


def test_the_command_makes_keys_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("zmq-keys", tmp_path / "keys", "--name", "me", "-f", "json")
    results = [run(capsys, *words) for _ in range(2)]
    assert [result.code for result in results] == [0, 0]
    first, second = (json.loads(result.out) for result in results)
    assert (first.pop("made"), second.pop("made")) == (True, False)
    assert first == second
    assert first["known"] == ["me"]
    assert "secret_key" not in first
    assert "other hosts" in results[0].err
    result = run(capsys, "zmq-keys", tmp_path / "keys", "--name", "/")
    assert (result.code, "letters" in result.err) == (1, True)


# -- those who know each other -----------------------------------------------


def test_hosts_that_know_each_other_talk(rpc: Rpc, here: Host, there: Host) -> None:
    here.trust(there)
    there.trust(here)
    service = Service()
    rpc.server(service, transport=on(there, rpc))
    transport = on(here, rpc)
    client = rpc.client(transport)
    assert client.call({}, "echo", value="called") == "called"
    client.cast({}, "echo", value="cast")
    rpc.client(transport, fanout=True).cast({}, "echo", value="fanned out")
    until(lambda: len(service.seen) == 3, "everything has arrived")
    text = "x" * 10_000_000
    assert client.call({}, "size", value=text) == len(text)


def test_a_client_has_servers_with_different_keys(
    rpc: Rpc, here: Host, there: Host
) -> None:
    here.trust(there)
    there.trust(here)
    rpc.server(name="one", transport=on(here, rpc))
    rpc.server(name="two", transport=on(there, rpc))
    transport = on(here, rpc)
    for name in ("one", "two"):
        assert rpc.client(transport, server=name).call({}, "name") == name


def test_servers_with_keys_do_not_warn_of_strangers(
    redis: Redis, rpc: Rpc, here: Host, caplog: pytest.LogCaptureFixture
) -> None:
    url = redis.url().replace(f"address={HOST}", "address=0.0.0.0")
    transport = rpc.transport(
        url, rpc_zmq_host=HOST, zmq_key_directory=str(here.directory)
    )
    with caplog.at_level(logging.WARNING):
        rpc.server(transport=transport)
        assert works(rpc.client(transport))
    assert "Listening" not in caplog.text


def test_a_host_gets_another_pair_while_it_is_called(
    rpc: Rpc, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the documentation says: all know both, services restart, one is removed."""
    monkeypatch.setattr(key_directory, "FRESH", 0.0)
    here.trust(there)
    there.trust(here)
    rpc.server(name="one", transport=on(there, rpc))
    client = rpc.client(on(here, rpc))
    assert client.call({}, "name") == "one"
    new = Host(there.directory.with_name("there-2"))
    new.trust(here, there)
    for each in (here, there):
        each.trust(new)
    rpc.server(name="two", transport=on(new, rpc))
    for server, known in (("one", here), ("one", new), ("two", here), ("two", there)):
        caller = rpc.client(on(known, rpc), server=server)
        assert caller.call({}, "name") == server
    for each in (here, new):
        (each.directory / there.made.public_path.name).unlink()
    assert_refused(rpc.client(on(there, rpc), server="two"), "does not know our key")


# -- those who do not -----------------------------------------------------------


def test_unknown_clients_are_refused_until_they_are_known(
    rpc: Rpc, here: Host, there: Host, caplog: pytest.LogCaptureFixture
) -> None:
    here.trust(there)
    service = Service()
    rpc.server(service, transport=on(there, rpc))
    client = rpc.client(on(here, rpc))
    assert_refused(client, "does not know our key", f"copy {here.made.public_path}")
    until(lambda: here.public in caplog.text, "the server has told who it was")
    assert str(there.directory) in caplog.text
    there.trust(here)
    until(lambda: works(client), "it is let in, without a restart")
    assert service.seen == []


def test_unknown_servers_are_not_called(rpc: Rpc, here: Host, there: Host) -> None:
    there.trust(here)
    rpc.server(transport=on(there, rpc))
    client = rpc.client(on(here, rpc))
    assert_refused(client, there.public, f"is not in {here.directory}")
    here.trust(there)
    until(lambda: works(client), "it is trusted, without a restart")


def test_clients_without_keys_are_told_to_make_some(rpc: Rpc, there: Host) -> None:
    rpc.server(transport=on(there, rpc))
    assert_refused(rpc.client(on(None, rpc)), "hybrid-messaging zmq-keys")


def test_servers_without_keys_are_not_called(rpc: Rpc, here: Host) -> None:
    service = Service()
    rpc.server(service, transport=on(None, rpc))
    assert_refused(rpc.client(on(here, rpc)), "has no key", "zmq_key_directory")
    assert service.seen == []


def test_transports_without_usable_keys_are_not_made(rpc: Rpc, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="zmq-keys"):
        rpc.transport(zmq_key_directory=tmp_path / "nowhere")


# -- those who lie ------------------------------------------------------------------


def test_who_writes_to_redis_does_not_become_a_server(
    redis: Redis, rpc: Rpc, here: Host, there: Host, tmp_path: Path
) -> None:
    """He can have nobody connect to him, under a key of his own or of others."""
    here.trust(there)
    public, secret = zmq.curve_keypair()
    context: zmq.Context[Any] = zmq.Context()
    with context, context.socket(zmq.ROUTER) as liar, redis.client() as writer:
        liar.setsockopt(zmq.LINGER, 0)
        liar.setsockopt(zmq.CURVE_SERVER, 1)
        liar.setsockopt(zmq.CURVE_SECRETKEY, secret)
        port = liar.bind_to_random_port(f"tcp://{HOST}")
        for key, reason in (
            (public.decode(), "is not in"),
            (there.public, "does not have the secret key"),
            ("", "has no key"),
        ):
            lie = matchmaker.Record(
                "one", f"tcp://{HOST}:{port}", uuid.uuid4().hex, key
            )
            servers = f"hybrid-messaging:zmq:servers:{topic(rpc)}"
            writer.delete(servers)
            writer.zadd(servers, {json.dumps(lie): 2**40})
            assert_refused(rpc.client(on(here, rpc)), reason)
        assert not liar.poll(100)


@pytest.mark.parametrize("with_keys", [True, False])
def test_strangers_that_speak_zeromq_get_no_answer(
    rpc: Rpc, there: Host, with_keys: bool
) -> None:
    service = Service()
    transport = on(there, rpc)
    rpc.server(service, transport=transport)
    found = record(rpc)
    body = json.dumps({"oslo.version": "2.0", "oslo.message": "{}"}).encode()
    frame = wire.request(wire.CALL, 1, found.address(topic(rpc)), body)
    context: zmq.Context[Any] = zmq.Context()
    with context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        if with_keys:
            public, secret = zmq.curve_keypair()
            stranger.setsockopt(zmq.CURVE_PUBLICKEY, public)
            stranger.setsockopt(zmq.CURVE_SECRETKEY, secret)
            stranger.setsockopt(zmq.CURVE_SERVERKEY, found.key.encode())
        stranger.connect(found.endpoint)
        for _ in range(20):
            stranger.send(frame)
        assert not stranger.poll(500)
    assert works(rpc.client(transport))


def test_bytes_from_strangers_change_nothing(rpc: Rpc, there: Host) -> None:
    """Among them such as begin CURVE's handshake and do not go on with it."""
    service = Service()
    transport = on(there, rpc)
    rpc.server(service, transport=transport)
    client = rpc.client(transport)
    assert works(client)
    host, port = record(rpc).endpoint.removeprefix("tcp://").split(":")
    chance = random.Random(2)
    hello = command(b"HELLO", b"\x01\x00" + chance.randbytes(192))
    openings = [
        b"",
        greeting(b"NULL"),
        greeting(b"PLAIN"),
        greeting(b"CURVE"),
        greeting(b"CURVE") + hello,
        greeting(b"CURVE") + hello[:50],
        greeting(b"CURVE") + command(b"INITIATE", chance.randbytes(400)),
        greeting(b"CURVE") + command(b"READY", b""),
    ]
    for number in range(120):
        with socket.create_connection((host, int(port)), 10) as stranger:
            stranger.sendall(openings[number % len(openings)])
            stranger.sendall(chance.randbytes(chance.randrange(2000)))
    assert client.call({}, "echo", value="still there") == "still there"
    assert service.seen == ["still there"]


# -- a file instead of Redis ---------------------------------------------------------


def test_static_servers_may_have_keys(tmp_path: Path, there: Host) -> None:
    file = tmp_path / "servers"
    query = f"zmq_static_file={file}&zmq_key_directory={there.directory}"
    with Rpc(f"zmq+static:///?{query}") as rpc:
        file.write_text(
            f"openstack {rpc.topic} one {HOST}:{free_port()} {there.public}\n"
        )
        rpc.server()
        assert rpc.client().call({}, "name") == "one"
