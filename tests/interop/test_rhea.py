# SPDX-License-Identifier: Apache-2.0
"""Routers as rhea sees them, an AMQP 1.0 implementation that shares nothing with ours.

rhea comes from the npm registry, once, into the user's cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.functional.conftest import MakeRouter
from tests.functional.peer import Peer
from tests.functional.routers import Router, Settings
from tests.functional.waiting import until
from tests.interop import others

from hybrid_messaging.protocol.endpoint import REJECTED, RELEASED

SCRIPT = Path(__file__).with_name("rhea_peer.js")

Spawn = Callable[..., "Rhea"]


class Rhea:
    """A process that runs the script."""

    def __init__(self, log: Path, modules: Path, role: str, **options: Any) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["node", SCRIPT, role, json.dumps(options)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NODE_PATH": str(modules)},
            )

    def told(self) -> list[Any]:
        """What it has told so far."""
        lines = self._log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def tells(self, what: Any) -> None:
        """Wait until it tells something."""
        until(lambda: what in self.told() or self._over(), f"rhea tells {what}")
        assert what in self.told(), self._log.read_text()

    def ends(self) -> list[Any]:
        """Wait until it has ended without an error, and return all it told."""
        assert self._process.wait(30) == 0, self._log.read_text()
        return self.told()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _over(self) -> bool:
        return self._process.poll() is not None


@pytest.fixture(scope="session")
def modules() -> Path:
    """The folder with rhea."""
    try:
        return others.rhea_modules()
    except others.NotHere as lack:
        pytest.skip(str(lack))


@pytest.fixture
def spawn(modules: Path, tmp_path: Path) -> Iterator[Spawn]:
    spawned: list[Rhea] = []

    def start(role: str, router: Router, **options: Any) -> Rhea:
        log = tmp_path / f"rhea-{len(spawned)}.log"
        connection = {"port": router.port, **options.pop("connection", {})}
        spawned.append(Rhea(log, modules, role, connection=connection, **options))
        return spawned[-1]

    yield start
    for each in spawned:
        each.kill()


@pytest.fixture
def address() -> str:
    return f"openstack.org/om/rpc/anycast/openstack/{uuid.uuid4().hex}"


@pytest.mark.parametrize("size", [10, 100_000, 10_000_000])
def test_calls(spawn: Spawn, bus: Router, address: str, size: int) -> None:
    spawn("serve", bus, address=address).tells("ready")
    client = spawn(
        "call", bus, address=address, count=20 if size < 10**6 else 2, size=size
    )
    assert client.ends()[-1] in (20, 2)


def test_it_is_told_that_it_speaks_to_a_router(
    spawn: Spawn, bus: Router, address: str
) -> None:
    spawn("serve", bus, address=address)
    client = spawn("call", bus, address=address, count=1, size=1)
    assert client.ends()[0]["product"] not in (None, "qpid-cpp")


def test_nothing_is_sent_before_somebody_listens(
    spawn: Spawn, bus: Router, address: str
) -> None:
    client = spawn("call", bus, address=address, count=3, size=1)
    until(lambda: len(client.told()) == 1, "it is connected")
    assert client.told()[-1] != "sent"
    spawn("serve", bus, address=address)
    assert client.ends()[-1] == 3


def test_outcomes(spawn: Spawn, bus: Router, address: str) -> None:
    with Peer(bus.port) as peer:
        receiver = peer.receiver(address, credit=10)
        client = spawn("send", bus, address=address, count=3)
        peer.accept(receiver)
        refused = REJECTED._replace(condition="test:no", description="no")
        peer.settle(peer.take(receiver)[0], refused)
        peer.settle(peer.take(receiver)[0], RELEASED)
        told = client.ends()
    assert told[-3:] == [
        ["accepted", False],
        ["rejected", "test:no"],
        ["released", False],
    ]


def test_a_lost_receiver_is_told_at_once(
    spawn: Spawn, bus: Router, address: str
) -> None:
    with Peer(bus.port) as peer:
        receiver = peer.receiver(address, credit=10)
        client = spawn("send", bus, address=address, count=1)
        peer.take(receiver)
    assert client.ends()[-1] == ["modified", True]


def test_a_killed_server_is_told_at_once(
    spawn: Spawn, bus: Router, address: str
) -> None:
    server = spawn("serve", bus, address=address)
    server.tells("ready")
    with Peer(bus.port) as peer:
        sender = peer.sender(address)
        server.kill()
        outcome = peer.outcome(peer.send(sender, "are you there"))
        assert outcome.never_forwarded or outcome.receiver_lost


def test_passwords(spawn: Spawn, make_router: MakeRouter, address: str) -> None:
    router = make_router(Settings(users={"nova@hybrid": "right"}))
    for password, welcome in (("right", True), ("wrong", False)):
        login = {"username": "nova@hybrid", "password": password}
        told = spawn("serve", router, address=address, connection=login)
        until(told.told, "it is let in or not")
        assert ("product" in told.told()[0]) == welcome
