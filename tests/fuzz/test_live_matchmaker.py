# SPDX-License-Identifier: Apache-2.0
"""Somebody who has the password of Redis, or an accident, damages what stands there.

The processes under attack are clients: they read what others have written.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis as redis_py
from tests.functional.matchmakers import Redis
from tests.functional.routers import HOST
from tests.fuzz.application import Application
from tests.fuzz.siege import Attack, Besieged, withstand

from hybrid_messaging.drivers.zmq import matchmaker

TOPIC = "besieged"
_NAME = matchmaker.topic(None, "openstack", TOPIC)
_SERVERS = f"{matchmaker.SERVERS}{_NAME}"
_VERSION = _SERVERS.replace("servers:", "version:")
#: Calls of a client within which it has looked at Redis again, since it does so once a
#: second and pauses between calls.
_MANY = 130
_LATER = 4e9

Damage = list[bytes]


class Target(NamedTuple):
    redis: Redis
    client: Application


@pytest.fixture(scope="module")
def service(redis: Redis, directory: Path) -> Iterator[None]:
    log = directory / "service.log"
    with Application(redis.url(), log, topic=TOPIC, calls=False):
        yield


@pytest.fixture(scope="module")
def client(service: None, redis: Redis, directory: Path) -> Iterator[Application]:
    log = directory / "client.log"
    with Application(redis.url(), log, topic=TOPIC, serves=False) as application:
        yield application


def _record(
    server: str = "other",
    endpoint: str = f"tcp://{HOST}:1",
    process: str = "p",
    key: str = "",
) -> bytes:
    return json.dumps([server, endpoint, process, key]).encode()


DAMAGES: dict[str, Damage] = {
    "no UTF-8": [b"\xff\xfe"],
    "no JSON": [b"", b"junk", b"[", b'{"server": 1}', b"\x1b[2J\r\n"],
    "nested lists": [b"[" * 100_000],
    "nested objects": [b'{"a":' * 50_000],
    "other types": [b"[1, 2, 3, 4]", b"[[], {}, null, true]", b'["a"]', b"null"],
    "surrogates": [
        b'["\\ud800", "tcp://127.0.0.1:1", "p", ""]',
        b'["s", "tcp://\\ud800:1", "p", ""]',
        b'["s", "tcp://127.0.0.1:1", "\\ud800", ""]',
    ],
    "long names": [
        _record(server="s" * 70_000),
        _record(process="p" * 70_000),
        _record(endpoint=f"tcp://{'h' * 70_000}:1"),
        _record(key="k" * 70_000),
    ],
    "endpoints that are none": [
        _record(endpoint=endpoint)
        for endpoint in (
            "",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:99999",
            "tcp://[::1",
            "tcp://a\0b:1",
            "tcp://*:1",
            "ipc:///nowhere",
            "inproc://x",
            "tcp://\x1b[2J:1",
        )
    ],
    "keys that are none": [_record(key="x"), _record(key="x" * 40)],
    "thousands of members": [b"junk %d" % number for number in range(20_000)],
    "servers that are dead": [
        _record(f"dead-{number}", f"tcp://127.1.{number // 250}.{number % 250 + 1}:1")
        for number in range(500)
    ],
}


def _damage(writer: redis_py.Redis, members: Damage) -> None:
    writer.zadd(_SERVERS, dict.fromkeys(members, _LATER))
    # so that clients look
    writer.set(_VERSION, uuid.uuid4().hex)


@contextlib.contextmanager
def _damaged(redis: Redis, members: Damage) -> Iterator[None]:
    """Have members in the set of the topic's servers that do not belong there."""
    with redis.client() as writer:
        _damage(writer, members)
        try:
            yield
        finally:
            writer.zrem(_SERVERS, *members)
            writer.set(_VERSION, uuid.uuid4().hex)


def _puts(members: Damage) -> Callable[[Target], None]:
    def carry_out(target: Target) -> None:
        with _damaged(target.redis, members):
            trips = target.client.trips(more=_MANY)
            assert trips.failures == {}, trips.failures

    return carry_out


ATTACKS = [Attack(name, _puts(members)) for name, members in DAMAGES.items()]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_client_withstands(attack: Attack, redis: Redis, client: Application) -> None:
    besieged = Besieged(client.pid, client.log)
    withstand(attack, Target(redis, client), besieged, client)


def test_a_client_that_starts_amid_damage_finds_the_server(
    service: None, redis: Redis, tmp_path: Path
) -> None:
    everything = [member for members in DAMAGES.values() for member in members]
    with (
        _damaged(redis, everything),
        Application(redis.url(), tmp_path / "log", topic=TOPIC, serves=False) as late,
    ):
        assert late.trips(more=10).failures == {}
        assert late.log.stat().st_size < ATTACKS[0].log
        assert "Traceback" not in late.log.read_text(errors="replace")
