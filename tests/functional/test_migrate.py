# SPDX-License-Identifier: Apache-2.0
"""`migrate+…://` between a real RabbitMQ, the embedded router and ZeroMQ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from tests.functional import matchmakers
from tests.functional.deployments import NOWHERE, deployed
from tests.functional.routers import Router
from tests.functional.rpc import Rpc, with_options
from tests.functional.service import Service, Trouble
from tests.functional.waiting import until

from hybrid_messaging import state
from hybrid_messaging.engines import rabbitmq

#: Seconds that a call may take that waits for nobody, on a busy machine.
AT_ONCE = 15.0


class Sides(NamedTuple):
    """The transport URLs of a service: before, during and after its move."""

    old: str
    both: str
    new: str


def sides(old: str, new: str) -> Sides:
    """The URLs of a move from one bus to another."""
    return Sides(old, with_options(f"migrate+{new}", from_url=old), new)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[state.Engine]:
    """A private RabbitMQ node."""
    with deployed(tmp_path_factory.mktemp("migrate")) as made:
        made.up(given={"rpc": NOWHERE["rpc"]})
        yield made.engine("rabbitmq")


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router that all tests share."""
    shared = Router("embedded", tmp_path_factory.mktemp("router"))
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[matchmakers.Redis]:
    """A matchmaker that all tests share."""
    shared = matchmakers.Redis(tmp_path_factory.mktemp("redis"))
    shared.start()
    yield shared
    shared.stop()


#: Virtual hosts of RabbitMQ: each test has its own.
_vhosts = itertools.count()


@pytest.fixture
def urls(node: state.Engine) -> dict[str, str]:
    """A RabbitMQ of the test's own, and another."""
    number = next(_vhosts)
    return {
        name: rabbitmq.add_vhost(node, f"{name}-{number}") for name in ("old", "newer")
    }


@pytest.fixture(params=["amqp", "zmq", "rabbit"])
def move(request: pytest.FixtureRequest, urls: dict[str, str]) -> Sides:
    """From RabbitMQ to each kind of bus."""
    if request.param == "rabbit":
        return sides(urls["old"], urls["newer"])
    bus = "router" if request.param == "amqp" else "redis"
    return sides(urls["old"], request.getfixturevalue(bus).url())


@pytest.fixture
def to_router(urls: dict[str, str], router: Router) -> Sides:
    """From RabbitMQ to a router."""
    return sides(urls["old"], router.url())


@pytest.fixture
def rpc() -> Iterator[Rpc]:
    with Rpc("") as talk:
        yield talk


def client(rpc: Rpc, url: str, **more: Any) -> Any:
    transport = rpc.transport(url, allowed_remote_exmods=["tests.functional.service"])
    return rpc.client(transport, **more)


def test_everyone_talks_with_everyone(rpc: Rpc, move: Sides) -> None:
    """Unmoved, moving and moved services, in both directions."""
    services = {}
    for name, url in move._asdict().items():
        services[name] = Service(name)
        rpc.server(services[name], name=name, transport=rpc.transport(url))
    reachable = {
        "old": {"old", "both"},
        "both": {"old", "both", "new"},
        "new": {"both", "new"},
    }
    for caller, servers in reachable.items():
        calling = client(rpc, getattr(move, caller))
        for server in servers:
            directed = calling.prepare(server=server)
            assert directed.call({}, "name") == server
            with pytest.raises(Trouble, match="on purpose"):
                directed.call({}, "fail", value="on purpose")
            directed.cast({}, "echo", value=(mark := f"{caller} to {server}"))
            until(lambda: mark in services[server].seen, mark)  # noqa: B023


def test_a_fanout_is_executed_once_by_each(rpc: Rpc, move: Sides) -> None:
    services = {}
    for name, url in move._asdict().items():
        services[name] = Service(name)
        rpc.server(services[name], name=name, transport=rpc.transport(url))
    sending = client(rpc, move.both).prepare(fanout=True)
    for number in range(20):
        sending.cast({}, "echo", value=number)
    for name, service in services.items():
        until(lambda: len(service.seen) >= 20, f"{name} has all")  # noqa: B023
    # what comes after them has overtaken none
    for caller in ("old", "new"):
        client(rpc, getattr(move, caller)).prepare(server="both").call({}, "name")
    for service in services.values():
        assert sorted(service.seen) == list(range(20))
