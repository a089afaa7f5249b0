# SPDX-License-Identifier: Apache-2.0
"""`up --nodes`: several native routers on one machine, which know each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.functional import commands, routers
from tests.functional.deployments import NOWHERE, Deployment, deployed, smoke
from tests.functional.rpc import Rpc
from tests.functional.waiting import until

from hybrid_messaging import modes, state_directory, urls
from hybrid_messaging.engines import EngineError, Options
from hybrid_messaging.engines.deployment import Deployment as Engines
from hybrid_messaging.engines.kinds.router import management

NODES = ["router-1", "router-2", "router-3"]
CHECKS = ("call", "cast", "fanout")

native = pytest.mark.skipif(
    routers.native_program() is None, reason="no native router is on PATH"
)


def up(place: Deployment, nodes: int | None = None, tls: bool | None = None) -> bool:
    """Routers and nothing else; whether they had been there already."""
    engines = Engines(place.dir, place.told.append)
    options = Options(router=place.router, nodes=nodes, tls=tls)
    given = {"notify": NOWHERE["notify"]}
    return engines.up(modes.get("qpid-hybrid"), given, options, repair=True).already


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path / "a b", str(routers.native_program())) as made:
        yield made


def assert_mesh(place: Deployment) -> None:
    """Each router knows all three."""

    def known() -> list[int]:
        found = []
        for name in NODES:
            with management(place.engine(name)) as asked:
                found.append(len(asked.nodes()))
        return found

    until(lambda: known() == [3, 3, 3], "all routers know each other", 60)


@native
def test_three_routers_are_one_bus(
    place: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up(place, 3, tls=True)
    assert place.health() == dict.fromkeys(NODES, "up")
    assert_mesh(place)
    found = state_directory.load(place.dir)
    assert found is not None
    ports = [place.engine(name).port for name in NODES]
    assert [host.port for host in urls.parse(found.rpc_url).hosts] == ports
    assert up(place)

    result = commands.run(capsys, "urls", "--state-dir", place.dir, "-f", "json")
    assert all(str(port) in json.loads(result.out)["rpc"] for port in ports)
    file = tmp_path / "cinder.conf"
    shutil.copy(commands.SAMPLE, file)
    result = commands.run(capsys, "configure", "--state-dir", place.dir, file)
    assert result.code == 0, result.err
    (row,) = commands.run(capsys, "check", file, "-f", "json").rows
    # nothing is wrong with the routers; there is no RabbitMQ
    codes = {item["code"] for item in row["problems"]}
    assert codes <= {"unreachable", "waits-without-end"}, row["problems"]
    smoke(place, *CHECKS)

    # a server at one of them is called from the others
    one, two, three = (place.engine(name).url for name in NODES)
    with Rpc(one) as rpc:
        rpc.server()
        for url in (two, three):
            client = rpc.client(rpc.transport(url))
            assert client.call({}, "name") == "one"

    result = commands.run(
        capsys, "engine", "drain", "router-2", "--state-dir", place.dir
    )
    assert (result.code, "router-2 has ended" in result.err) == (0, True)
    assert place.health() == {"router-1": "up", "router-2": "down", "router-3": "up"}
    smoke(place, "call")
    assert not up(place)
    assert state_directory.load(place.dir).urls == found.urls  # type: ignore[union-attr]
    assert_mesh(place)

    result = commands.run(capsys, "down", "--state-dir", place.dir, "--keep-data")
    assert result.code == 0
    with pytest.raises(state_directory.StateError, match="in use with 3 routers"):
        up(place, 1)
    assert not up(place)
    assert_mesh(place)
    assert state_directory.load(place.dir).urls == found.urls  # type: ignore[union-attr]


@native
def test_without_tls_too(place: Deployment) -> None:
    up(place, 3)
    assert_mesh(place)
    smoke(place, "call")


def test_the_embedded_router_has_no_links(tmp_path: Path) -> None:
    with deployed(tmp_path / "state") as place:
        with pytest.raises(
            EngineError,
            match=r"embedded router cannot connect to other routers: .* --router",
        ):
            up(place, 3)
        assert not place.dir.exists()


def test_nodes_are_about_routers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("up", "zmq-hybrid", "--nodes", 3, "--state-dir", tmp_path / "state")
    result = commands.run(capsys, *words)
    assert result.code == 1
    assert "mode zmq-hybrid starts none here" in result.err
