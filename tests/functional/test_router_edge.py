# SPDX-License-Identifier: Apache-2.0
"""A router at the edge of another: RPC of two hosts, each with a router of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.functional import routers
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import Worker

from hybrid_messaging import servers, state, urls
from hybrid_messaging.drivers import errors
from hybrid_messaging.engines import (
    HOST,
    Certificates,
    EngineError,
    Options,
    certificates,
    kinds,
)
from hybrid_messaging.engines.kinds import router
from hybrid_messaging.servers import options as server_options
from hybrid_messaging.servers.insight import Look

ROUTER = kinds.get("router")

pytestmark = pytest.mark.skipif(
    routers.native_program() is None,
    reason="the embedded router has no links to other routers",
)
USER, PASSWORD = "openstack@test", "se cret#%"
#: Seconds that a failure may take to become known, on a busy machine.
AT_ONCE = 8.0
ENDS = ("interior", "edge")


class Node:
    """A host's router, configured as `engine prepare` does it."""

    def __init__(self, directory: Path, options: Options) -> None:
        directory.mkdir(parents=True)
        launch = ROUTER.prepare("router", directory, lambda _: 0, None, options)
        self._launch = launch
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.url = launch.url
        self.engine = state.Engine(
            name="router",
            kind="router",
            roles=(),
            host=options.host,
            port=launch.port,
            url=launch.url,
            pid=state.NOT_STARTED,
            started=0.0,
            log="",
            details=launch.details,
            ca_file=options.ca_file,
        )

    def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._launch.command, cwd=self._directory, stdout=log, stderr=log
            )
        until(lambda: ROUTER.is_ready(self.engine), "the router answers")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def __enter__(self) -> Node:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Network(contextlib.ExitStack):
    """A router that lets in another at its edge.

    :param name: what that one knows it by
    """

    def __init__(
        self, directory: Path, tls: Certificates | None = None, name: str = HOST
    ) -> None:
        super().__init__()
        self.edge_port = routers.free_port()
        self.interior = Node(
            directory / "interior", _options(tls, edge_port=self.edge_port)
        )
        self.edge = Node(
            directory / "edge", _options(tls, interior=(name, self.edge_port))
        )

    def __enter__(self) -> Network:
        with contextlib.ExitStack() as starting:
            starting.enter_context(self.interior)
            starting.enter_context(self.edge)
            ROUTER.set_up(self.edge.engine)
            self.push(starting.pop_all())
        return self


def _options(
    tls: Certificates | None, password: str = PASSWORD, **more: object
) -> Options:
    return Options(
        router=routers.native_program(),
        port=routers.free_port(),
        username=USER,
        password=password,
        certificates=tls,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("network")) as made:
        yield made


@pytest.fixture(params=ENDS)
def far(request: pytest.FixtureRequest, network: Network) -> Iterator[Rpc]:
    """Talks where the servers are."""
    with Rpc(getattr(network, request.param).url) as talk:
        yield talk


@pytest.fixture
def near(far: Rpc, network: Network) -> Iterator[Rpc]:
    """Talks at the other end, of the same topic."""
    urls = {network.interior.url, network.edge.url} - {far.url}
    with Rpc(urls.pop()) as talk:
        talk.topic = far.topic
        yield talk


def test_messages_of_every_kind_cross(near: Rpc, far: Rpc) -> None:
    services = {name: Service(name) for name in ("one", "two")}
    for name, service in services.items():
        far.server(service, name=name)
    for name in services:
        assert near.client(server=name).call({}, "name") == name
    assert {near.client().call({}, "name") for _ in range(20)} == set(services)
    near.client(server="one").cast({}, "echo", value="cast")
    near.client(fanout=True).cast({}, "echo", value="fanout")
    until(lambda: len(services["one"].seen) == 2, "cast and fanout are there")
    until(lambda: services["two"].seen == ["fanout"], "the fanout is there")
    assert sorted(services["one"].seen) == ["cast", "fanout"]
    assert len(near.client().call({}, "echo", value="x" * 1_000_000)) == 1_000_000


def test_a_fanout_reaches_both_ends_once(near: Rpc, far: Rpc) -> None:
    here, there = Service("here"), Service("there")
    near.server(here, name="here")
    far.server(there, name="there")
    client = near.client(fanout=True)

    def reaches_both() -> bool:
        client.cast({}, "echo", value="first")
        return bool(here.seen and there.seen)

    # a router that has just met a sender does not yet know who is at the other end
    until(reaches_both, "fanouts cross", interval=0.2)
    client.cast({}, "echo", value="last")
    for service in (here, there):
        until(lambda service=service: "last" in service.seen, "it is at both ends")
        assert service.seen.count("last") == 1


def test_a_call_to_nobody_fails_after_the_grace(near: Rpc) -> None:
    for target in ({}, {"server": "gone"}):
        with Stopwatch() as watch, pytest.raises(errors.TargetUnreachable):
            client = near.client(near.transport(restart_timeout=2), **target)
            client.call({}, "name")
        assert 2 <= watch.seconds < 2 + AT_ONCE


def test_a_killed_server_fails_its_call_at_once(near: Rpc, far: Rpc) -> None:
    with Worker(far.url, far.topic) as worker, ThreadPoolExecutor(1) as pool:
        call = pool.submit(near.client().call, {}, "sleep", seconds=50)
        worker.until("begins")
        worker.kill()
        with Stopwatch() as watch:
            assert isinstance(call.exception(), errors.ServerLost)
        assert watch.seconds < AT_ONCE
        # and the router knows that it is gone
        with Stopwatch() as watch, pytest.raises(errors.TargetUnreachable):
            near.client(near.transport(restart_timeout=2), server="worker").call(
                {}, "name"
            )
        assert watch.seconds < 2 + AT_ONCE


def test_an_edge_that_dies_takes_its_calls_along_and_comes_back(
    tmp_path: Path,
) -> None:
    with (
        Network(tmp_path) as network,
        Rpc(network.interior.url) as middle,
        Worker(network.edge.url, middle.topic) as worker,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(middle.client().call, {}, "sleep", seconds=50)
        worker.until("begins")
        network.edge.kill()
        with Stopwatch() as watch:
            assert isinstance(call.exception(), errors.ServerLost)
        assert watch.seconds < AT_ONCE
        network.edge.start()
        client = middle.client(middle.transport(restart_timeout=20))
        assert client.call({}, "name") == "worker"


@pytest.mark.parametrize("name", [HOST, "localhost"])
def test_with_tls(tmp_path: Path, name: str) -> None:
    made = certificates.ensure(tmp_path / "tls", ())
    with (
        Network(tmp_path / "network", made, name) as network,
        Rpc(network.interior.url) as middle,
        Rpc(network.edge.url) as edge,
    ):
        edge.server(topic=middle.topic)
        client = middle.client(middle.transport(restart_timeout=20))
        assert client.call({}, "name") == "one"


@pytest.mark.parametrize("why", ["refused", "Authentication"])
def test_a_router_that_is_not_let_in_says_where_and_why(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(router, "LINK_TIMEOUT", 1.0)
    port = network.edge_port if why == "Authentication" else routers.free_port()
    options = _options(None, interior=(HOST, port), password="wrong")
    with (
        Node(tmp_path / "lost", options) as lost,
        pytest.raises(EngineError, match=f"router at {HOST}:{port}: .*{why}"),
    ):
        ROUTER.set_up(lost.engine)


def test_a_router_whose_port_is_taken_says_where_and_why(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        options = _options(None, edge_port=port)
        said = f"cannot listen on {HOST}:{port}: Addr"
        with Node(tmp_path / "deaf", options) as deaf:
            with pytest.raises(EngineError, match=said):
                ROUTER.set_up(deaf.engine)
            url = urls.parse(deaf.engine.url)
            options_of_url = server_options.of(server_options.defaults(), url)
            transport = servers.get(url, options_of_url)
            (problem,) = transport.inspect(url.hosts, Look(10)).problems
        assert problem.code == "router-port-taken"
        assert said in problem.message
