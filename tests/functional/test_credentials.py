# SPDX-License-Identifier: Apache-2.0
"""Other users for engines that run, while services call each other without a pause."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amqp
import kombu
import pytest
import redis
from tests.functional import routers
from tests.functional.commands import Result, configured, run
from tests.functional.deployments import (
    NOWHERE,
    Deployment,
    deployed,
    router_option,
)
from tests.functional.rpc import Rpc, end
from tests.functional.service import Service
from tests.functional.waiting import until

from hybrid_messaging import state, state_directory, urls
from hybrid_messaging.engines import EngineError, kinds
from hybrid_messaging.engines.amqp_management import Management

SERVERS = ("one", "two")
#: Calls that are made after each step, at the least.
CALLS = 20


class Services:
    """Two servers, and two clients that call them all the time.

    :param url: of all of them at first
    """

    def __init__(self, url: str) -> None:
        self._rpc = Rpc(url)
        #: with a server that stops, RabbitMQ's driver may lose calls, rotation or not
        self._loses_calls = url.startswith("rabbit")
        #: held during a call
        self._calling = [threading.Lock(), threading.Lock()]
        self._servers = [self._serve(url, name) for name in SERVERS]
        self._clients = [self._rpc.transport(url) for _ in range(2)]
        self._over = threading.Event()
        self.answers = [0, 0]
        self.failures: list[str] = []
        self._threads = [
            threading.Thread(target=self._call, args=(number,)) for number in range(2)
        ]
        for thread in self._threads:
            thread.start()

    def _serve(self, url: str, name: str) -> tuple[Any, Any]:
        transport = self._rpc.transport(url)
        service = Service(name)
        return transport, self._rpc.server(service, name=name, transport=transport)

    def _call(self, number: int) -> None:
        while not self._over.is_set():
            client = self._rpc.client(self._clients[number])
            try:
                # each client calls each server, whichever user they have
                for server in SERVERS:
                    with self._calling[number]:
                        assert client.prepare(server=server).call({}, "name") == server
                    self.answers[number] += 1
            except Exception as error:
                self.failures.append(repr(error))

    def carry_on(self) -> None:
        """See that calls succeed."""
        seen = list(self.answers)
        until(
            lambda: (
                self.failures
                or all(a > b + CALLS for a, b in zip(self.answers, seen, strict=True))
            ),
            "calls go on",
            60,
        )
        assert self.failures == []

    def switch_server(self, number: int, url: str) -> None:
        """Restart a server with another URL; its callers wait for it."""
        transport, server = self._servers[number]
        with contextlib.ExitStack() as stack:
            for lock in self._calling if self._loses_calls else ():
                stack.enter_context(lock)
            end(server)
            transport.cleanup()
            self._servers[number] = self._serve(url, SERVERS[number])
        self.carry_on()

    def switch_client(self, number: int, url: str) -> None:
        former, self._clients[number] = self._clients[number], self._rpc.transport(url)
        self.carry_on()
        former.cleanup()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        self._rpc.close()


@contextlib.contextmanager
def services(*found: str) -> Iterator[list[Services]]:
    """Those of several buses."""
    with contextlib.ExitStack() as stack:
        made = []
        for url in found:
            made.append(Services(url))
            stack.callback(made[-1].end)
        yield made


def loaded(place: Deployment) -> state.State:
    found = state_directory.load(place.dir)
    assert found is not None
    return found


class Operator:
    """Runs commands, and sees that none shows a password."""

    def __init__(self, capsys: pytest.CaptureFixture[str], place: Deployment) -> None:
        self._capsys = capsys
        self._place = place

    def __call__(self, command: str, *words: object) -> Result:
        where = ("--state-dir", self._place.dir)
        result = run(self._capsys, "credentials", command, *where, *words, "-f", "json")
        for engine in loaded(self._place).engines:
            if isinstance(engine.details, state.RotatingDetails):
                for login in engine.details.all:
                    assert login.password not in result.out + result.err
        return result


def users(result: Result) -> dict[tuple[str, str], str]:
    assert result.code == 0, result.err
    return {(row["engine"], row["role"]): row["user"] for row in json.loads(result.out)}


def change_all(
    operator: Operator, place: Deployment, carried: list[Services], roles: list[str]
) -> state.State:
    """Rotate and retire with services that go on; returns the state of before."""
    before = loaded(place)
    for each in carried:
        each.carry_on()
    users(operator("rotate"))
    for each in carried:
        each.carry_on()
    after = loaded(place)
    for each, role in zip(carried, roles, strict=True):
        url = after.urls[role]
        assert url != before.urls[role]
        each.switch_server(0, url)
        each.switch_client(0, url)
    # some with each user: nobody may be disconnected
    result = operator("retire")
    assert result.code == 1
    assert "connected as a former user" in result.err
    assert loaded(place) == after
    for each, role in zip(carried, roles, strict=True):
        each.switch_client(1, after.urls[role])
        each.switch_server(1, after.urls[role])

    def retired() -> bool:
        # RabbitMQ shows connections that have gone for a moment
        return operator("retire").code == 0

    until(retired, "nobody is connected as a former user", 60)
    for each in carried:
        each.carry_on()
    return before


@pytest.mark.parametrize("kind", routers.at_hand())
def test_a_router_and_rabbitmq(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    with deployed(tmp_path / "a b", router_option(kind)) as place:
        place.up(tls=True)
        operator = Operator(capsys, place)
        configured(capsys, place, tmp_path / "cinder.conf")
        urls_before = loaded(place).urls
        result = operator("rotate", "--dry-run")
        assert result.err.count("would get a user besides") == 2
        assert loaded(place).urls == urls_before
        with services(*urls_before.values()) as carried:
            before = change_all(operator, place, carried, list(urls_before))
        assert users(operator("show")) == {
            ("router", "present"): "hybrid-2@hybrid-messaging",
            ("rabbitmq", "present"): "hybrid-2",
        }
        row = configured(capsys, place, tmp_path / "cinder.conf")
        # the exchange is that of this test's RPC
        codes = {item["code"] for item in row["problems"]}
        assert codes <= {"not-durable-on-server"}, row["problems"]

        router, rabbitmq = before.engines
        assert not kinds.get("router").is_ready(router)
        with pytest.raises(EngineError):
            Management.of(router)
        with pytest.raises(amqp.AccessRefused), _rabbit(rabbitmq) as old:
            old.connect()
        # as after a reboot
        after = loaded(place).urls
        place.restart("router")
        assert loaded(place).urls == after
        assert place.health() == {"router": "up", "rabbitmq": "up"}


def _rabbit(engine: state.Engine) -> kombu.Connection:
    return kombu.Connection(
        engine.url.partition("?")[0].replace("rabbit://", "amqp://", 1),
        ssl={"ca_certs": engine.ca_file},
    )


def test_zmq_with_keys_that_are_derived(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Services with different passwords trust each other's keys meanwhile."""
    with deployed(tmp_path / "state") as place:
        place.up("zmq-hybrid", {"notify": NOWHERE["notify"]}, tls=True)
        operator = Operator(capsys, place)
        with services(loaded(place).rpc_url) as carried:
            before = change_all(operator, place, carried, ["rpc"])
        (engine,) = before.engines
        assert not kinds.get("redis").is_ready(engine)
        with pytest.raises(redis.AuthenticationError), _redis(engine) as old:
            old.ping()


def _redis(engine: state.Engine) -> redis.Redis:
    return redis.Redis(
        engine.host,
        engine.port,
        username=engine.details.username,
        password=engine.details.password,
        ssl=True,
        ssl_ca_certs=engine.ca_file,
    )


def test_a_command_that_was_ended_half_way_is_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever had been done: each engine has one new user, and the former one."""
    with deployed(tmp_path / "state") as place:
        place.up("zmq-hybrid", {"notify": NOWHERE["notify"]})
        operator = Operator(capsys, place)
        kind = kinds.get("redis")

        def ended(kind: object, engine: state.Engine, login: state.Login) -> None:
            raise EngineError("ended")

        with monkeypatch.context() as patch:
            patch.setattr(type(kind), "admit", ended)
            assert operator("rotate").code == 1
        assert users(operator("show")) == {
            ("redis", "present"): "hybrid",
            ("redis", "next"): "hybrid-2",
        }
        # a new one after a reboot knows all of them
        place.restart("redis")
        expected = {("redis", "present"): "hybrid-2", ("redis", "former"): "hybrid"}
        assert users(operator("rotate")) == expected
        after = loaded(place)
        assert users(operator("rotate")) == expected
        assert loaded(place) == after

        place.restart("redis")
        former = after.engines[0].details_as(state.RedisDetails).former
        assert former is not None
        kind.dismiss(after.engines[0], former)
        assert users(operator("retire")) == {("redis", "present"): "hybrid-2"}
        assert users(operator("retire")) == {("redis", "present"): "hybrid-2"}
        assert urls.parse(loaded(place).rpc_url).hosts[0].username == "hybrid-2"


def test_what_has_no_users_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with deployed(tmp_path / "state") as place:
        place.up_router()
        operator = Operator(capsys, place)
        for words in ([], ["router"]):
            result = operator("rotate", *words)
            assert result.code == 1
            assert "router: it accepts everyone without a password" in result.err
        result = operator("rotate", "nothing")
        assert "no engine nothing" in result.err
