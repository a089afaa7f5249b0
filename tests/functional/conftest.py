# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the functional tests: real buses, and what talks over them.

A module whose tests are about what every driver does says so with
`BUSES = ALL_BUSES`; its tests then run over `zmq`, too, but for those with the mark
`routed`. With `BUSES = EVERY_WAY` they go through a proxy of `zmq` as well. The mark
`embedded` is for what other routers do in a way of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.functional import matchmakers, routers, zmq_proxies
from tests.functional.rpc import Rpc

MakeRouter = Callable[..., routers.Router]
Bus = routers.Router | matchmakers.Redis

#: What there is between clients and servers: a router, or with zmq:// a matchmaker.
ALL_BUSES = (*routers.at_hand(), matchmakers.KIND)
#: The same, and a proxy between clients and servers of `zmq`.
EVERY_WAY = (*ALL_BUSES, zmq_proxies.KIND)
#: Marks of tests that see fewer buses than their module does, and which.
NARROWER = {"routed": routers.at_hand(), "embedded": ("embedded",)}


def pytest_report_header() -> str:
    """Say which routers take part: the tests run once with each."""
    return f"routers: {', '.join(map(routers.described, routers.at_hand()))}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have every test see the buses that its module is about."""
    if "router_kind" in metafunc.fixturenames:
        kinds = getattr(metafunc.module, "BUSES", routers.at_hand())
        for mark, narrower in NARROWER.items():
            if metafunc.definition.get_closest_marker(mark):
                kinds = narrower
        metafunc.parametrize("router_kind", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def router_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of bus that there is, in turn."""
    return str(request.param)


def make_bus(kind: str, directory: Path) -> Bus:
    """A bus that has not been started."""
    if kind == matchmakers.KIND:
        return matchmakers.Redis(directory)
    if kind == zmq_proxies.KIND:
        return zmq_proxies.ProxiedRedis(directory)
    return routers.Router(kind, directory)


@pytest.fixture(scope="session")
def bus(router_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    """The bus that all tests share: it is never stopped."""
    shared = make_bus(router_kind, tmp_path_factory.mktemp("bus"))
    shared.start()
    try:
        yield shared
    finally:
        shared.stop()


@pytest.fixture
def make_router(router_kind: str, tmp_path: Path) -> Iterator[MakeRouter]:
    """Starts routers to which one test may do what it likes."""
    made: list[routers.Router] = []

    def make(settings: routers.Settings | None = None) -> routers.Router:
        directory = tmp_path / f"router-{len(made)}"
        directory.mkdir()
        made.append(routers.Router(router_kind, directory, settings))
        return made[-1].start()

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def own_bus(router_kind: str, tmp_path: Path) -> Iterator[Bus]:
    """A bus to which one test may do what it likes."""
    directory = tmp_path / "own-bus"
    directory.mkdir()
    own = make_bus(router_kind, directory)
    own.start()
    yield own
    own.stop()


@pytest.fixture
def rpc(bus: Bus) -> Iterator[Rpc]:
    """Talks over the shared bus."""
    with Rpc(bus.url()) as talk:
        yield talk


@pytest.fixture
def own_rpc(own_bus: Bus) -> Iterator[Rpc]:
    """Talks over the test's own bus."""
    with Rpc(own_bus.url()) as talk:
        yield talk
