# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the functional tests: real routers, and what talks over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.functional import routers
from tests.functional.rpc import Rpc

MakeRouter = Callable[..., routers.Router]


def pytest_report_header() -> str:
    """Say which routers take part: the tests run once with each."""
    return f"routers: {', '.join(map(routers.described, routers.at_hand()))}"


@pytest.fixture(scope="session", params=routers.at_hand())
def router_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of router that there is, in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def bus(
    router_kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[routers.Router]:
    """The bus that all tests share: it is never stopped."""
    shared = routers.Router(router_kind, tmp_path_factory.mktemp("router"))
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
def own_bus(make_router: MakeRouter) -> routers.Router:
    """A bus to which one test may do what it likes."""
    return make_router()


@pytest.fixture
def rpc(bus: routers.Router) -> Iterator[Rpc]:
    """Talks over the shared bus."""
    with Rpc(bus.url()) as talk:
        yield talk


@pytest.fixture
def own_rpc(own_bus: routers.Router) -> Iterator[Rpc]:
    """Talks over the test's own bus."""
    with Rpc(own_bus.url()) as talk:
        yield talk
