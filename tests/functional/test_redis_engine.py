# SPDX-License-Identifier: Apache-2.0
"""A private Redis, really running: what is kept from others, and how it is replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis as client
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry
from tests.functional.deployments import NOWHERE, Deployment, deployed
from tests.functional.rpc import Rpc
from tests.functional.tls_versions import SPOKEN, taken
from tests.functional.waiting import until

from hybrid_messaging import state, urls
from hybrid_messaging.engines import HOST, EngineError, kinds, processes
from hybrid_messaging.servers import options
from hybrid_messaging.servers.zmq import Zmq

REDIS = kinds.get("redis")

MODE = "zmq-hybrid"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Deployment]:
    """One Redis and nothing else, in a place with a difficult name."""
    with deployed(tmp_path / "a b" / "état") as made:
        up(made)
        yield made


def up(place: Deployment, tls: bool | None = None) -> state.Engine:
    place.up(MODE, {"notify": NOWHERE["notify"]}, tls=tls)
    return place.engine("redis")


def connected(engine: state.Engine, **how: str) -> client.Redis:
    once = Retry(NoBackoff(), 0)
    return client.Redis(HOST, engine.port, decode_responses=True, retry=once, **how)


@contextlib.contextmanager
def calling(caller: Any) -> Iterator[list[str]]:
    """One call after the other meanwhile, and what became of them."""
    answers: list[str] = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            try:
                answers.append(caller.call({}, "name"))
            except Exception as error:
                answers.append(repr(error))

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def login(engine: state.Engine) -> dict[str, str]:
    return {name: vars(engine.details)[name] for name in ("username", "password")}


def test_nobody_else_can_read_or_reach_it(place: Deployment) -> None:
    engine = place.engine("redis")
    process = place.process("redis")
    listening = {
        tuple(connection.laddr)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {(HOST, engine.port)}
    assert process.environ()[processes.MARK] == str(place.dir / "redis")
    secret = engine.details.password
    assert secret not in " ".join(process.cmdline()) + Path(engine.log).read_text()
    assert REDIS.is_ready(engine)
    stranger = dataclasses.replace(
        engine, details=state.Details(username="hybrid", password="guess")
    )
    assert not REDIS.is_ready(stranger)
    with pytest.raises(
        EngineError, match=f"Redis at {HOST}:{engine.port} reports an error"
    ):
        REDIS.traffic(stranger)
    with connected(engine) as nobody, pytest.raises(client.AuthenticationError):
        nobody.ping()
    with connected(engine, **login(engine)) as ours:
        assert ours.set("hybrid-messaging:zmq:x", 1, ex=1)
        for forbidden in (
            lambda: ours.set("theirs", 1),
            lambda: ours.config_get("*"),
            ours.flushall,
            ours.shutdown,
        ):
            with pytest.raises(NoPermissionError):
                forbidden()


def test_memory_is_bounded_and_nothing_is_stored(place: Deployment) -> None:
    engine = place.engine("redis")
    with connected(engine, **login(engine)) as ours:
        info = ours.info()
    assert info["maxmemory"] == 64 * 1024 * 1024
    assert info["maxmemory_policy"] == "noeviction"
    assert (info["aof_enabled"], info["rdb_bgsave_in_progress"]) == (0, 0)
    assert place.down()
    assert not place.dir.exists()


def test_calls_go_on_and_servers_come_back_when_it_is_killed(place: Deployment) -> None:
    """Even where somebody else has come to use its port."""
    before = place.engine("redis")
    with Rpc(before.url) as rpc:
        rpc.server()
        caller = rpc.client()
        assert caller.call({}, "name") == "one"
        assert REDIS.traffic(before).destinations == 1
        with calling(caller) as answers:
            process = place.process("redis")
            process.kill()
            process.wait(30)
            assert place.health() == {"redis": "down"}
            seen = len(answers)
            until(lambda: len(answers) > seen + 10, "calls go on")
            assert up(place).url == before.url
            place.restart("redis")
            seen = len(answers)
            until(lambda: len(answers) > seen + 10, "calls go on")
        assert set(answers) == {"one"}
        until(
            lambda: REDIS.traffic(before).destinations == 1,
            "the server has told again that it is there",
        )
        with Rpc(before.url) as stranger:
            found = stranger.client(topic=rpc.topic)
            assert found.call({}, "name") == "one"
    process = place.process("redis")
    process.kill()
    process.wait(30)
    with socket.create_server((HOST, before.port)):
        after = up(place)
        assert after.port != before.port
        assert after.details == before.details
    assert REDIS.traffic(after).version[0].isdigit()


def test_two_at_once_know_nothing_of_each_other(
    place: Deployment, tmp_path: Path
) -> None:
    with deployed(tmp_path / "other") as other:
        first, second = place.engine("redis"), up(other)
        assert first.port != second.port
        with Rpc(first.url) as rpc:
            rpc.server()
            assert REDIS.traffic(first).destinations == 1
            assert REDIS.traffic(second).destinations == 0
        assert not REDIS.is_ready(dataclasses.replace(first, port=second.port))
        other.down()
    assert place.health() == {"redis": "up"}


def test_with_tls_it_refuses_plain_connections(tmp_path: Path) -> None:
    with deployed(tmp_path / "a b" / "état") as place:
        engine = up(place, tls=True)
        zmq = options.transport(options.defaults(), urls.parse(engine.url))
        assert isinstance(zmq, Zmq) and zmq.encrypted
        assert not zmq.takes_plain(zmq.hosts[0], 30)
        with pytest.raises(client.ConnectionError):
            connected(engine, **login(engine)).ping()
        assert taken(engine.host, engine.port) == SPOKEN
        with Rpc(engine.url) as talk:
            talk.server()
            assert talk.client().call({}, "echo", value=1) == 1
            with zmq.matchmaker(zmq.hosts, 30) as found:
                (reading,) = found.read(found.topics()).values()
            # on the loopback interface, too, they encrypt among themselves
            assert reading.records[0].key
        # services that were started before a restart know those started after it
        place.restart("redis")
        assert place.engine("redis").url == engine.url
