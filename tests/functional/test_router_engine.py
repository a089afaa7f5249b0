# SPDX-License-Identifier: Apache-2.0
"""A router that `up` has started: configured for the driver, asked about itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import proton
import pytest
from proton.reactor import AtMostOnce
from proton.utils import BlockingConnection
from tests.functional.deployments import Deployment, deployed, router_option

from hybrid_messaging import state
from hybrid_messaging.engines import EngineError, kinds
from hybrid_messaging.engines.amqp_management import Management

ROUTER = kinds.get("router")

PREFIX = "openstack.org/om/rpc"
TIMEOUT = 30


@pytest.fixture(scope="module")
def place(
    router_kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment of each kind of router there is."""
    directory = tmp_path_factory.mktemp(router_kind) / "state"
    with deployed(directory, router_option(router_kind)) as made:
        made.up_router()
        yield made


@pytest.fixture
def engine(place: Deployment) -> state.Engine:
    return place.engine("router")


@pytest.fixture
def client(engine: state.Engine) -> Iterator[BlockingConnection]:
    connection = BlockingConnection(f"{engine.host}:{engine.port}", timeout=TIMEOUT)
    yield connection
    connection.close()


@pytest.fixture
def management(engine: state.Engine) -> Iterator[Management]:
    with Management(engine.host, engine.port, timeout=TIMEOUT) as made:
        yield made


@pytest.mark.parametrize(
    ("kind", "copies"), [("multicast", 2), ("unicast", 1), ("anycast", 1)]
)
def test_addresses_travel_as_the_driver_expects(
    client: BlockingConnection, management: Management, kind: str, copies: int
) -> None:
    address = f"{PREFIX}/{kind}/exchange/topic-{kind}"
    receivers = [
        client.create_receiver(address, credit=10, name=f"{kind}-{name}")
        for name in ("one", "two")
    ]
    client.create_sender(address, options=AtMostOnce()).send(proton.Message(body="x"))
    client.wait(lambda: sum(len(each.fetcher.incoming) for each in receivers) >= copies)

    (row,) = [item for item in management.addresses() if item["name"] == address]
    assert row["deliveriesEgress"] == copies
    assert row["deliveriesIngress"] == 1
    assert row["subscriberCount"] == 2
    assert (
        row["distribution"]
        == {
            "multicast": "multicast",
            "unicast": "closest",
            "anycast": "balanced",
        }[kind]
    )


def test_what_goes_through_is_counted(
    engine: state.Engine, client: BlockingConnection
) -> None:
    address = f"{PREFIX}/anycast/exchange/counted"
    before = ROUTER.traffic(engine)
    receiver = client.create_receiver(address, credit=50)
    sender = client.create_sender(address, options=AtMostOnce())
    for number in range(40):
        sender.send(proton.Message(body=number))
        assert receiver.receive().body == number
    after = ROUTER.traffic(engine)
    assert after.received - before.received >= 40
    assert after.delivered - before.delivered >= 40
    assert after.connections == before.connections == 1
    assert after.destinations == before.destinations + 1
    assert after.waiting is None
    assert after.version


def test_connections_tell_who_they_are(
    client: BlockingConnection, management: Management
) -> None:
    rows = {row["container"]: row for row in management.connections()}
    row = rows[client.conn.container]
    assert row["host"].startswith("127.0.0.1:")
    assert row["uptimeSeconds"] >= 0
    assert row["user"] == "anonymous"


def test_more_addresses_than_fit_into_one_answer(
    client: BlockingConnection, management: Management
) -> None:
    names = {f"{PREFIX}/anycast/exchange/many-{number}" for number in range(520)}
    for name in names:
        client.create_receiver(name, credit=1)
    found = [row["name"] for row in management.addresses()]
    assert names <= set(found)
    assert len(found) == len(set(found))


def test_only_our_router_is_ready(engine: state.Engine) -> None:
    assert ROUTER.is_ready(engine)
    assert not ROUTER.is_ready(
        dataclasses.replace(
            engine, details=dataclasses.replace(engine.details, id="another")
        )
    )
    assert not ROUTER.is_ready(dataclasses.replace(engine, port=1))


def test_what_the_router_does_not_know(management: Management) -> None:
    with pytest.raises(EngineError, match=r"does not report its .*sky"):
        management._page("io.skupper.router.sky", 0)


def test_a_router_that_goes_away(place: Deployment, engine: state.Engine) -> None:
    with Management(engine.host, engine.port, timeout=TIMEOUT) as management:
        process = place.process("router")
        process.kill()
        process.wait(TIMEOUT)
        with pytest.raises(EngineError, match="cannot reach AMQP management at"):
            management.metrics()
    place.up_router()
