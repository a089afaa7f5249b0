# SPDX-License-Identifier: Apache-2.0
"""A broker that `up` has started: private, bounded, and it keeps notifications."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import proton
import pytest
from proton.utils import BlockingConnection
from tests.functional import brokers, commands
from tests.functional.deployments import holding
from tests.functional.rpc import Rpc
from tests.functional.test_amqp_notifications import (
    Endpoint,
    listener,
    notification_transport,
    notifier,
)
from tests.functional.waiting import until

from hybrid_messaging import state
from hybrid_messaging.engines import EngineError, Traffic, kinds
from hybrid_messaging.engines.artemis_management import ArtemisManagement
from hybrid_messaging.engines.kinds import broker
from hybrid_messaging.smoke.run import PREFIX

BROKER = kinds.get("broker")

#: Checks of `smoke`, with what they need.
STORED = ("notify-restart", "notify-delivered", "separation")


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[brokers.Broker]:
    """A running broker, beside a router for RPC."""
    # a path that Java has to be told with care
    directory = tmp_path_factory.mktemp("broker") / 'a "state", of its own'
    with brokers.running(directory, {}) as made:
        yield made


@pytest.fixture
def engine(bus: brokers.Broker) -> state.Engine:
    return bus.place.engine("broker")


@pytest.fixture
def rpc(bus: brokers.Broker) -> Iterator[Rpc]:
    with Rpc(bus.url()) as talk:
        yield talk


def waiting(engine: state.Engine, part: str) -> int:
    """How many messages wait in queues with a part of their name."""
    with ArtemisManagement.of(engine) as management:
        return sum(
            int(row["messageCount"])
            for row in management.queues()
            if part in row["name"]
        )


def test_only_whoever_knows_the_password_is_served(engine: state.Engine) -> None:
    assert BROKER.is_ready(engine)
    details = dataclasses.replace(engine.details, password="guessed")
    assert not BROKER.is_ready(dataclasses.replace(engine, details=details))
    assert not BROKER.is_ready(dataclasses.replace(engine, port=1))
    with pytest.raises(proton.ProtonException):
        BlockingConnection(f"{engine.host}:{engine.port}", timeout=30)


def test_nobody_else_can_read_the_password(
    bus: brokers.Broker, engine: state.Engine
) -> None:
    password = engine.details.password
    holders = holding(bus.place.dir, password)
    names = {path.name for path in holders}
    assert names == {"users.properties", "state.json"}
    assert set(holders.values()) == {0o600}
    assert not any(password in word for word in bus.place.process("broker").cmdline())


def test_memory_is_bounded(bus: brokers.Broker) -> None:
    assert f"-Xmx{broker.HEAP}" in bus.place.process("broker").cmdline()


def test_what_goes_through_is_counted(engine: state.Engine, rpc: Rpc) -> None:
    before = BROKER.traffic(engine)
    rpc.server()
    client = rpc.client()
    for number in range(20):
        assert client.call({}, "echo", value=number) == number

    def counted() -> Traffic | None:
        # the last replies are on their way to being acknowledged
        now = BROKER.traffic(engine)
        return now if now.delivered - before.delivered >= 40 else None

    after = until(counted, "20 requests and 20 replies delivered")
    assert after.received - before.received >= 40
    # those of the client and of the server; the server's addresses, and their replies
    assert after.connections >= 2
    assert after.destinations >= 4
    assert after.version.startswith("ActiveMQ Artemis 2.")


def test_who_names_only_its_url_sees_it_too(
    bus: brokers.Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    result = commands.run(capsys, "status", "--notify-url", bus.url(), "-f", "json")
    assert result.code == 0, result.err
    (row,) = result.rows
    assert (row["kind"], row["status"]) == ("broker", "up")
    assert row["version"].startswith("ActiveMQ Artemis 2.")
    assert row["waiting"] is not None


def test_notifications_outlive_the_brokers_death(
    bus: brokers.Broker, engine: state.Engine
) -> None:
    with Rpc(bus.url()) as talk:
        topic, transport = talk.topic, notification_transport(talk)
        notifier(transport, topic).info({}, "event", {"n": 1})
    assert waiting(engine, topic) == 1
    bus.kill()
    again = bus.place.up("qpid-dual", repair=True).state.engine("broker")
    assert again is not None
    assert (again.port, again.url) == (engine.port, engine.url)
    assert waiting(again, topic) == 1
    with Rpc(bus.url()) as talk:
        talk.topic = topic
        endpoint = Endpoint()
        listener(talk, notification_transport(talk), endpoint)
        until(lambda: endpoint.seen, "it has been delivered")
    assert endpoint.seen == [("info", "event", {"n": 1})]


def test_a_broker_that_is_not_there(engine: state.Engine) -> None:
    with pytest.raises(
        EngineError, match="cannot reach the management of a broker at 127"
    ):
        BROKER.traffic(dataclasses.replace(engine, port=1))


def test_what_the_broker_does_not_know(engine: state.Engine) -> None:
    with ArtemisManagement.of(engine) as management:
        with pytest.raises(EngineError, match=r"refused .*colour"):
            management.get("colour")
        with pytest.raises(EngineError, match=r"refused .*does not exist"):
            management.remove("nowhere")


# -- smoke --------------------------------------------------------------------


def smoke(bus: brokers.Broker, *words: str) -> dict[str, dict[str, Any]]:
    """Run `smoke`, and return its rows by the names of the checks."""
    code, rows, told = bus.place.run("smoke", *words)
    assert code == 0, told
    with ArtemisManagement.of(bus.place.engine("broker")) as management:
        stored = [row["name"] for row in management.queues()]
    assert not [name for name in stored if f"notify/anycast/{PREFIX}" in name]
    return {row["check"]: row for row in rows}


def test_smoke_on_both_sides_of_qpid_dual(bus: brokers.Broker) -> None:
    rows = smoke(bus, "--disruptive", "--only", *STORED)
    assert {rows[name]["result"] for name in STORED} == {"passed"}
    assert rows["notify-stored"]["detail"].endswith("holds 1 notification")
    assert rows["separation"]["detail"].count("by its management") == 2


def test_smoke_over_the_broker_alone(
    bus: brokers.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_RPC_URL", bus.url())
    rows = smoke(bus, "--only", "fanout", "round-robin", "large", "nobody", "killed")
    # it keeps a call for a server that may come
    for name in ("nobody", "killed"):
        assert rows.pop(name)["result"] == "info"
    assert {row["result"] for row in rows.values()} == {"passed"}
