# SPDX-License-Identifier: Apache-2.0
"""Processes as services have them: forked, with small stacks, many descriptors."""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.functional.conftest import ALL_BUSES, Bus
from tests.functional.routers import Router
from tests.functional.rpc import Rpc
from tests.functional.waiting import until
from tests.functional.worker import ROOT, Worker

BUSES = ALL_BUSES


class Forking:
    """A run of a scene of tests/functional/forking.py."""

    def __init__(self, scene: str, url: str, topic: str) -> None:
        surroundings = {**os.environ, "WORKER_URL": url}
        if scene == "plain":
            # a child would wait for a lock of coverage that another thread held
            # at the fork
            surroundings.pop("COVERAGE_PROCESS_CONFIG", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.functional.forking", scene, topic],
            cwd=ROOT,
            env=surroundings,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told: list[dict[str, Any]] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append(json.loads(line))

    def events(self, name: str) -> list[dict[str, Any]]:
        return [told for told in self.told if told["event"] == name]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise


def pids(bus: Bus) -> list[int]:
    """The processes of the driver's connections; none if there is no router."""
    if not isinstance(bus, Router):
        return []
    with bus.management() as management:
        found = [row.get("properties") or {} for row in management.connections()]
    return [int(row["pid"]) for row in found if "pid" in row]


@pytest.fixture
def served(own_rpc: Rpc) -> Rpc:
    own_rpc.server()
    return own_rpc


@pytest.fixture
def scenes(own_bus: Bus, served: Rpc) -> Iterator[Any]:
    running: list[Forking] = []

    def run(scene: str) -> Forking:
        running.append(Forking(scene, own_bus.url(), served.topic))
        return running[-1]

    yield run
    for each in running:
        each.stop()


def test_a_fork_amid_calls_disturbs_nobody(scenes: Any) -> None:
    scene = scenes("plain")
    assert scene.process.wait(90) == 0
    until(lambda: scene.events("end"), "all is told")
    assert not scene.events("failed")
    (parent,) = scene.events("parent")
    assert parent["failures"] == []
    assert parent["codes"] == [0] * 5
    assert parent["own"] == "one"
    children = scene.events("child")
    assert sorted(child["value"] for child in children) == [
        f"child {number}" for number in range(5)
    ]
    assert [child["inherited"] for child in children] == [0] * 5
    assert sorted(each["value"] for each in scene.events("grandchild")) == list(
        range(5)
    )
    assert [child["left"] for child in scene.events("closed")] == [0] * 5
    assert [told["left"] for told in scene.events("end")] == [0]


@pytest.mark.routed
def test_every_process_has_its_own_connections(
    own_bus: Router, served: Rpc, scenes: Any
) -> None:
    before = set(pids(own_bus))
    scene = scenes("workers")
    until(lambda: len(scene.events("ready")) == 3, "the workers are ready", 60)
    workers = {told["pid"] for told in scene.events("ready")}
    connected = [pid for pid in pids(own_bus) if pid not in before]
    # the manager calls; each worker calls and serves
    assert set(connected) == workers | {scene.process.pid}
    assert sorted(map(connected.count, set(connected))) == [1, 2, 2, 2]
    client = served.client(topic=f"{served.topic}-workers")
    names = {client.call({}, "name") for _ in range(30)}
    assert names == {"worker-0", "worker-1", "worker-2"}
    victim = workers.pop()
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(scene.events("ready")) == 4, "there is a new worker", 60)
    assert {client.call({}, "name") for _ in range(30)} == names
    scene.stop()
    until(lambda: set(pids(own_bus)) == before, "all connections are closed")


def test_workers_of_oslo_service_under_eventlet(
    own_bus: Bus, served: Rpc, scenes: Any
) -> None:
    before = set(pids(own_bus))
    scene = scenes("launcher")
    until(lambda: len(scene.events("ready")) == 3, "the workers are ready", 60)
    workers = {told["pid"] for told in scene.events("ready")}
    connected = [pid for pid in pids(own_bus) if pid not in before]
    if isinstance(own_bus, Router):
        assert set(connected) == workers | {scene.process.pid}
        assert sorted(map(connected.count, set(connected))) == [1, 2, 2, 2]
    client = served.client(topic=f"{served.topic}-workers")
    for worker in workers:
        named = served.client(
            topic=f"{served.topic}-workers", server=f"worker-{worker}"
        )
        assert named.call({}, "name") == "worker"
    assert client.call({}, "name") == "worker"
    scene.stop()
    until(lambda: set(pids(own_bus)) == before, "all connections are closed")


def test_small_stacks_suffice(rpc: Rpc) -> None:
    """As Ironic sets them; name resolution, TLS and JSON all run in threads."""
    with Worker(rpc.url, rpc.topic, stack_size=128 * 1024):
        client = rpc.client()
        assert client.call({}, "name") == "worker"
        value = {"deep": [[[[["x" * 100_000]]]]], "wide": list(range(10_000))}
        assert client.call({}, "echo", value=value) == value


def test_more_descriptors_than_select_can_take(rpc: Rpc) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    pipes = [os.pipe() for _ in range(600)]
    try:
        assert max(max(pair) for pair in pipes) > 1024
        rpc.server()
        assert rpc.client().call({}, "name") == "one"
    finally:
        for pair in pipes:
            for descriptor in pair:
                os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
