# SPDX-License-Identifier: Apache-2.0
"""Bounds of `zmq`: how many connections there are, and how often a call is executed."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.functional.fakes import Fake, Proxy
from tests.functional.routers import HOST, free_port
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import until

from hybrid_messaging.drivers import errors


def static(path: Path, topic: str, ports: dict[str, int]) -> str:
    """A transport URL whose matchmaker says so of the servers of a topic."""
    path.write_text(
        "".join(
            f"openstack {topic} {server} {HOST}:{port}\n"
            for server, port in ports.items()
        )
    )
    return f"zmq+static:///?zmq_static_file={path}"


@pytest.fixture
def rpc() -> Iterator[Rpc]:
    with Rpc("zmq+static:///") as talk:
        yield talk


def test_a_topic_of_many_servers_takes_few_connections(
    rpc: Rpc, tmp_path: Path
) -> None:
    names = [str(number) for number in range(8)]
    ports = {name: free_port() for name in names}
    rpc.url = static(tmp_path / "servers", rpc.topic, ports)
    services = {name: Service(name) for name in names}
    servers = {name: rpc.server(services[name], name=name) for name in names}
    transport = rpc.transport(connections_per_topic=2)
    client = rpc.client(transport)
    driver: Any = transport._driver

    def connected() -> int:
        return sum(peer.up for peer in driver._client.routes.peers())

    until(
        lambda: bool(client.call({}, "name")) and connected() == 2,
        "two servers share the work",
    )
    until(lambda: len({client.call({}, "name") for _ in range(4)}) == 2, "in turn")
    answered = {client.call({}, "name") for _ in range(4)}
    for name in answered:  # both: others take over
        servers[name].stop()
    assert client.call({}, "name") not in answered
    others = [name for name in names if name not in answered]
    for name in others:  # each server can be had, and all of them
        assert rpc.client(transport, server=name).call({}, "name") == name
    assert connected() == len(names)
    rpc.client(transport, fanout=True).cast({}, "echo", value="all")
    until(lambda: all("all" in services[name].seen for name in others), "all have it")


def test_calls_amid_lost_connections_are_executed_at_most_once(
    rpc: Rpc, tmp_path: Path
) -> None:
    """A call that may have been executed is not sent again, the others are."""
    port = free_port()
    rpc.url = static(tmp_path / "server", rpc.topic, {"one": port})
    service = Service()
    rpc.server(service)
    outcomes: dict[int, str] = {}
    over = threading.Event()
    with Fake(Proxy(port)) as fake:
        url = static(tmp_path / "detour", rpc.topic, {"one": fake.port})
        client = rpc.client(rpc.transport(url, restart_timeout=20))

        def call(first: int) -> None:
            value = first
            while not over.is_set():
                try:
                    assert client.call({}, "echo", value=value) == value
                    outcomes[value] = "answered"
                except errors.ServerLost:
                    outcomes[value] = "lost"
                value += 10

        with ThreadPoolExecutor(10) as pool:
            calls = [pool.submit(call, first) for first in range(10)]
            for _ in range(10):
                before = len(outcomes)
                until(lambda: len(outcomes) > before + 50, "calls get through")  # noqa: B023
                fake.hang_up()
            over.set()
            for each in calls:
                each.result()
    executed = collections.Counter(service.seen)
    assert set(executed.values()) == {1}
    answered = {value for value, outcome in outcomes.items() if outcome == "answered"}
    assert answered <= executed.keys() <= outcomes.keys()
    assert len(answered) < len(outcomes), "no connection was lost amid a call"
