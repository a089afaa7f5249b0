# SPDX-License-Identifier: Apache-2.0
"""Whatever Redis holds: what is a server is found, and can be used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
import redis as redis_py
from hypothesis import example, given
from hypothesis import strategies as st
from tests.functional.matchmakers import Redis
from tests.functional.rpc import Rpc

from hybrid_messaging.drivers.zmq import matchmaker, names, wire
from hybrid_messaging.drivers.zmq.matchmaker import Record

TOPIC = matchmaker.topic(None, "openstack", "damaged")
OTHER = matchmaker.topic(None, "openstack", "sound")
GOOD = Record("good", "tcp://127.0.0.1:5000", "p0")
_PREFIX = "hybrid-messaging:zmq:"
#: A score that no clock reaches.
_LATE = 2**40

# -- what may be in a topic's set -------------------------------------------

_TEXTS = st.one_of(
    st.text(st.characters(), max_size=20),  # also surrogates
    st.sampled_from(["", "s9", "a/b", "\0", "\ud800", "é", "%2F", "\x1b[31m"]),
    st.integers(1, 100_000).map("x".__mul__),
)
_HOSTS = st.sampled_from(
    [
        *("127.0.0.1", "host", "HOST", "[::1]", "[::1", "a b", "a\0b", "é", "\ud800"),
        *("", "h" * 255, "h" * 256, "u:p@host"),
    ]
)
_PORTS = st.one_of(
    st.integers(-1, 70_000).map(":{}".format),
    st.sampled_from(["", ":", ":x", ":1/path", ":1?query", ":0001", ":\u0661"]),
)
_SCHEMES = st.sampled_from(["tcp://", "TCP://", "ipc://", "tcp:", ""])
_ENDPOINTS = st.tuples(_SCHEMES, _HOSTS, _PORTS).map("".join)
_KEYS = st.sampled_from(["", "k" * 40, "k" * 39, "é" * 40, " " * 40, "\0" * 40])
_PROCESSES = st.one_of(_TEXTS, st.sampled_from(["p", "p" * 62, "p/q"]))
_ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=4)
    ),
    max_leaves=8,
)
_PARTS = st.one_of(
    st.tuples(_TEXTS, _ENDPOINTS, _PROCESSES, _KEYS),
    st.tuples(_TEXTS, _ENDPOINTS, _PROCESSES),
    st.tuples(_TEXTS, st.just(GOOD.endpoint), st.just("p1"), st.just("")),
    st.lists(st.one_of(_TEXTS, _ENDPOINTS, _ANYTHING), max_size=6),
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """The text of a record, cut or changed in one place."""
    text = bytearray(json.dumps(draw(_PARTS)).encode())
    place = draw(st.integers(0, len(text) - 1))
    text[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(text)


_MEMBERS = st.one_of(
    _PARTS.map(lambda parts: json.dumps(parts).encode()),
    _ANYTHING.map(lambda value: json.dumps(value).encode()),
    _damaged(),
    st.binary(max_size=60),
    st.integers(1, 200_000).map(b"[".__mul__),
)


@pytest.fixture(scope="module")
def reader(redis: Redis) -> Iterator[Any]:
    """Asks Redis as drivers do."""
    with Rpc(redis.url()) as rpc:
        driver: Any = rpc.transport()._driver
        made = driver._open_matchmaker()
        yield made
        made.close()


def _is_usable(topic: str, record: Record) -> None:
    """Nothing that is done with a record later can fail."""
    host, port = names.parse(record.endpoint)
    assert names.endpoint(host, port) == record.endpoint.lower()
    assert record.endpoint.isascii() and record.endpoint.isprintable()
    assert len(record.key.encode()) in (0, 40)
    frame = wire.request(wire.CALL, 1, record.address(topic), b"{}")
    process, *rest, server = wire.read_request(frame).address.decode().split("/")
    assert (process, "/".join(rest), unquote(server)) == (
        record.process,
        topic,
        record.server,
    )


@given(st.lists(_MEMBERS, max_size=20))
@example([b"\xff\xfe"])
@example([b"[" * 100_000])
@example([json.dumps(["\ud800", "tcp://127.0.0.1:1", "p", ""]).encode()])
@example([json.dumps(["s", "tcp://127.0.0.1:1", "p" * 70_000, ""]).encode()])
@example([json.dumps({"s": 1, "tcp://127.0.0.1:1": 1, "p": 1}).encode()])
def test_servers_are_found_amid_junk(
    redis: Redis, reader: Any, members: list[bytes]
) -> None:
    with redis.client() as client:
        client.flushall()
        good = json.dumps(GOOD)
        for topic in (TOPIC, OTHER):
            client.zadd(f"{matchmaker.SERVERS}{topic}", {good: _LATE})
        if members:
            client.zadd(f"{matchmaker.SERVERS}{TOPIC}", dict.fromkeys(members, _LATE))
    for _ in range(2):  # again, as what is known of junk is used
        found = reader.read([OTHER, TOPIC])
        assert found[OTHER].records == (GOOD,)
        assert GOOD in found[TOPIC].records
        for record in found[TOPIC].records:
            _is_usable(TOPIC, record)


# -- what may be under a key ------------------------------------------------

_VALUES = ("string", "list", "set", "hash", "sorted set", "number")


def _put(client: redis_py.Redis, key: str, kind: str) -> None:
    client.delete(key)
    if kind == "string":
        client.set(key, "\ud800".encode(errors="surrogatepass") * 100)
    elif kind == "number":
        client.set(key, 2**63 - 1)
    elif kind == "list":
        client.lpush(key, "x")
    elif kind == "set":
        client.sadd(key, "x")
    elif kind == "hash":
        client.hset(key, "x", "y")
    else:
        client.zadd(key, {"x": 1})


@given(
    st.dictionaries(
        st.sampled_from([f"servers:{TOPIC}", f"version:{TOPIC}", "epoch"]),
        st.sampled_from(_VALUES),
        min_size=1,
    )
)
def test_a_key_that_is_damaged_harms_its_own_topic_only(
    redis: Redis, reader: Any, damage: dict[str, str]
) -> None:
    entries = [(topic, GOOD) for topic in (TOPIC, OTHER)]
    with redis.client() as client:
        client.flushall()
        for name, kind in damage.items():
            _put(client, _PREFIX + name, kind)
        reader.write(entries, 60, True)
        before = reader.news([TOPIC, OTHER])
        found = reader.read([TOPIC, OTHER])
        assert found[OTHER].records == (GOOD,)
        key = f"{matchmaker.SERVERS}{TOPIC}"
        # what hides servers goes by itself
        assert found[TOPIC].records == (GOOD,) or 0 < client.ttl(key) <= 60
        reader.remove(entries)
        after = reader.news([TOPIC, OTHER])
    for topic in (TOPIC, OTHER):
        assert after.versions[topic] != before.versions[topic]
    assert reader.read([OTHER])[OTHER].records == ()
