# SPDX-License-Identifier: Apache-2.0
"""Strangers attack servers and proxies of `zmq`, while others go on calling."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import zmq
from tests.functional.matchmakers import Redis
from tests.functional.zmq_proxies import Proxy
from tests.fuzz import zmtp
from tests.fuzz.application import Application
from tests.fuzz.siege import MEGABYTE, Attack, Besieged, withstand

from hybrid_messaging.cli.app import main
from hybrid_messaging.drivers.zmq import matchmaker, wire

TOPIC = "besieged"
_NAME = matchmaker.topic(None, "openstack", TOPIC)


class Target(NamedTuple):
    """Where a process listens, and what its requests must name."""

    endpoint: str
    address: bytes
    #: its public key, if it has one
    key: bytes
    besieged: Besieged
    neighbour: Application


def _record(redis: Redis) -> matchmaker.Record:
    """The one server of the topic, as Redis has it."""
    with redis.client() as client:
        (member,) = client.zrange(f"{matchmaker.SERVERS}{_NAME}", 0, -1)
    return matchmaker.Record(*json.loads(member))


@contextlib.contextmanager
def _server(redis: Redis, url: str, directory: Path) -> Iterator[Target]:
    """A service, and a neighbour that calls it."""
    name = f"server-{redis.port}"
    with (
        Application(url, directory / f"{name}.log", topic=TOPIC, calls=False) as server,
        Application(
            url, directory / f"{name}-neighbour.log", topic=TOPIC, serves=False
        ) as neighbour,
    ):
        record = _record(redis)
        yield Target(
            record.endpoint,
            record.address(_NAME),
            record.key.encode(),
            Besieged(server.pid, server.log),
            neighbour,
        )


@pytest.fixture(scope="module")
def open_server(redis: Redis, directory: Path) -> Iterator[Target]:
    """Without keys: strangers may say what they like."""
    with _server(redis, redis.url(), directory) as target:
        yield target


@pytest.fixture(scope="module")
def locked_server(
    tmp_path_factory: pytest.TempPathFactory, directory: Path
) -> Iterator[Target]:
    """With keys: strangers get no further than the handshake."""
    own = Redis(tmp_path_factory.mktemp("redis")).start()
    try:
        assert main(["zmq-keys", str(directory / "keys")]) == 0
        url = own.url(zmq_key_directory=directory / "keys")
        with _server(own, url, directory) as target:
            yield target
    finally:
        own.stop()


@pytest.fixture(scope="module")
def encrypted_server(
    tmp_path_factory: pytest.TempPathFactory, directory: Path
) -> Iterator[Target]:
    """Beyond the loopback interface, with keys that follow from Redis' password."""
    users = ["user default on nopass ~* +@all", "user service on >s3cret ~* +@all"]
    own = Redis(tmp_path_factory.mktemp("redis"), *users).start()
    try:
        options = {"rpc_zmq_bind_address": "0.0.0.0", "rpc_zmq_host": "0.0.0.0"}
        url = own.url("", "service", "s3cret", **options)
        with _server(own, url, directory) as target:
            assert target.key
            yield target
    finally:
        own.stop()


@pytest.fixture(scope="module")
def proxy(redis: Redis, directory: Path) -> Iterator[Target]:
    """A proxy, and a neighbour that calls a server of its own by way of it."""
    made = Proxy(redis.url(), directory / "proxy.log").start()
    try:
        with Application(
            redis.url(use_router_proxy=True), directory / "proxy-neighbour.log"
        ) as neighbour:
            besieged = Besieged(made.pid, directory / "proxy.log")
            yield Target(made.endpoint, b"x/y/z", b"", besieged, neighbour)
        made.stop()
    finally:
        made.kill()


# -- connections ---------------------------------------------------------------


def _garbage(target: Target) -> None:
    chance = random.Random(1)
    hello = zmtp.command(b"HELLO", b"\x01\x00" + chance.randbytes(192))
    openings = [
        b"",
        zmtp.greeting(b"NULL"),
        zmtp.greeting(b"PLAIN"),
        zmtp.greeting(b"CURVE"),
        zmtp.greeting(b"CURVE") + hello,
        zmtp.greeting(b"CURVE") + hello[:50],
        zmtp.greeting(b"CURVE") + zmtp.command(b"INITIATE", chance.randbytes(400)),
        zmtp.greeting(b"NULL")
        + zmtp.command(b"READY", b"\x0bSocket-Type\xff\xff\xff\xff"),
    ]
    for number in range(500):
        noise = chance.randbytes(chance.randrange(2000))
        zmtp.said(target.endpoint, openings[number % len(openings)], noise)


def _silence(target: Target) -> None:
    with contextlib.ExitStack() as crowd:
        for _ in range(400):
            crowd.enter_context(zmtp.connected(target.endpoint))
        target.neighbour.trips(more=20)


# -- messages without keys -----------------------------------------------------


def _forged(target: Target) -> Iterator[list[bytes]]:
    """Frames such as nobody sends, and some that are cut or changed in one place."""
    chance = random.Random(2)
    address = target.address
    whole = wire.request(wire.CALL, 7, address, b"no JSON")
    for number in range(3000):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] = chance.randrange(256)
        yield [
            chance.choice(
                [
                    b"",
                    chance.randbytes(chance.randrange(60)),
                    whole[: chance.randrange(len(whole))],
                    bytes(changed),
                    wire.request(wire.WITHDRAW, number, address),
                    wire.request(wire.CALL, number, b"\xff\xfe"),
                    wire.request(wire.FANOUT, number, address[:-1]),
                    wire.answer(wire.REPLY, number, b"{}"),
                ]
            )
        ]
    for number in range(300):
        yield [b"more", b"parts", wire.request(wire.CALL, number, address)]


def _bodies(target: Target) -> Iterator[list[bytes]]:
    deep = [b'{"request": ' * 5000, b"[" * 50_000]
    for number in range(1000):
        for body in [b"\x1b[2J\r\n", *(deep if number < 50 else [])]:
            yield [wire.request(wire.CAST, number, target.address, body)]


def _topics(target: Target) -> Iterator[list[bytes]]:
    for number in range(80_000):
        address = f"process//openstack/made-up-{number}/server".encode()
        yield [wire.request(wire.CALL, number, address, b"{}", ttl=1)]


def _sends(
    messages: Callable[[Target], Iterator[list[bytes]]],
) -> Callable[[Target], None]:
    return lambda target: zmtp.sent(target.endpoint, messages(target))


# -- what only keys prevent ----------------------------------------------------


def _message_without_end(target: Target) -> None:
    part = zmtp.part(bytes(MEGABYTE))
    zmtp.said(target.endpoint, zmtp.ready(), *[part] * 300)


def _message_without_end_encrypted(target: Target) -> None:
    """From a stranger whose keys nobody knows."""
    with zmtp.dealer(target.endpoint, target.key) as stranger:
        for _ in range(200):
            stranger.send(bytes(MEGABYTE), zmq.SNDMORE)
        target.neighbour.trips(more=20)


def _claimed_names(target: Target) -> None:
    """The names that libzmq gives the next to come: a second of a name ends a process.

    It counts from what an unseeded rand() returns first.
    """
    with contextlib.ExitStack() as crowd:
        for number in range(100):
            name = b"\0" + (0x6B8B4567 + number).to_bytes(4, "big")
            stranger = crowd.enter_context(zmtp.connected(target.endpoint))
            with contextlib.suppress(OSError):
                stranger.sendall(zmtp.ready(name))
        for _ in range(100):
            stranger = crowd.enter_context(zmtp.connected(target.endpoint))
            with contextlib.suppress(OSError):
                stranger.sendall(zmtp.ready())
        target.neighbour.trips(more=20)


CONNECTIONS = [Attack("garbage", _garbage), Attack("silence", _silence)]
MESSAGES = [
    Attack("forged frames", _sends(_forged)),
    Attack("bodies that are no requests", _sends(_bodies)),
]
FOR_KEYS = [
    Attack("a message without end", _message_without_end),
    Attack("an encrypted one without end", _message_without_end_encrypted),
    Attack("claimed names", _claimed_names),
]
ATTACKS = {
    "open_server": [*CONNECTIONS, *MESSAGES],
    "locked_server": [*CONNECTIONS, *FOR_KEYS],
    "encrypted_server": FOR_KEYS,
    "proxy": [
        *CONNECTIONS,
        MESSAGES[0],
        Attack("topics that are made up", _sends(_topics), memory=48 * MEGABYTE),
    ],
}


@pytest.mark.parametrize(
    ("which", "attack"),
    [
        pytest.param(which, attack, id=f"{which}-{attack.name}")
        for which, attacks in ATTACKS.items()
        for attack in attacks
    ],
)
def test_a_process_of_zmq_withstands(
    which: str, attack: Attack, request: pytest.FixtureRequest
) -> None:
    target: Target = request.getfixturevalue(which)
    withstand(attack, target, target.besieged, target.neighbour)
