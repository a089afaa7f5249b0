# SPDX-License-Identifier: Apache-2.0
"""Processes whose host of the transport URL has returned."""

from __future__ import annotations

import collections
import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.functional.conftest import MakeRouter
from tests.functional.peer import Peer
from tests.functional.routers import HOST, Router, Settings, free_port
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import until

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.amqp import uplink
from hybrid_messaging.protocol import codec

#: Seconds that anything may take on a busy machine.
FAR = 120.0
#: What may become of a message when a router ends, and may have been executed then.
UNCERTAIN = (errors.BusLost, errors.ServerLost, errors.CastUnconfirmed)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no other routers that have to hear of a listener that moves."""
    monkeypatch.setattr(uplink, "JOINING", 0)
    monkeypatch.setattr(uplink, "OVERLAP", 0.2)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many places the hosts of the next URL are turned by: the first is home."""
    places = [0]

    def turn(hosts: list[Any]) -> None:
        hosts[:] = hosts[places[0] :] + hosts[: places[0]]

    monkeypatch.setattr(random, "shuffle", turn)
    return places


def url(*routers: Router, interval: float = 0.3) -> str:
    hosts = ",".join(f"{HOST}:{router.port}" for router in routers)
    return f"amqp://{hosts}/?rebalance_interval={interval}"


class Load:
    """Calls and casts one after the other in a thread, and keeps a ledger."""

    def __init__(self, rpc: Rpc, pause: float) -> None:
        self.service = Service()
        self.server = rpc.server(self.service)
        self._client = rpc.client(rpc.transport(), timeout=FAR)
        self._pause = pause
        self._over = threading.Event()
        #: what has failed, and what may have been executed nevertheless
        self.failed: dict[str, Exception] = {}
        self.sent = 0
        assert self._client.call({}, "name") == "one"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            for send in (self._client.call, self._client.cast):
                value = f"{send.__name__} {self.sent}"
                self.sent += 1
                try:
                    send({}, "echo", value=value)
                except Exception as error:
                    self.failed[value] = error
            time.sleep(self._pause)

    def end(self) -> None:
        self._over.set()
        self._thread.join(FAR)
        assert not self._thread.is_alive()

    def audit(self) -> None:
        """Look whether all was executed once, but for what is known to have failed."""

        def over() -> bool:
            return not (wanted - {*self.service.seen})

        wanted = {
            f"{kind} {number}"
            for number in range(self.sent)
            for kind in (("call", "cast")[number % 2],)
        } - {*self.failed}
        until(over, "all that was sent is executed", FAR)
        times = collections.Counter(self.service.seen)
        assert not [value for value, count in times.items() if count > 1]
        for value, error in self.failed.items():
            assert isinstance(error, UNCERTAIN) or value not in times, error


@contextlib.contextmanager
def load(rpc: Rpc, pause: float = 0.01) -> Iterator[Load]:
    made = Load(rpc, pause)
    try:
        yield made
    finally:
        made.end()


def clients(router: Router) -> int:
    """How many connections a router has that are the driver's."""
    with router.management() as management:
        names = [each["container"] for each in management.connections()]
    return sum(name.startswith("openstack-") for name in names)


@pytest.mark.usefixtures("alone")
def test_a_process_returns_to_its_host_and_nothing_is_lost(
    make_router: MakeRouter, order: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hybrid_messaging")
    home, other = make_router(), make_router()
    home.stop()
    with (
        Rpc(url(home, other)) as rpc,
        load(rpc) as ledger,
        ThreadPoolExecutor(2) as pool,
    ):
        service, later = ledger.service, f"{rpc.topic}-later"
        slow = pool.submit(rpc.client(timeout=FAR).call, {}, "wait", value="slow")
        queued = pool.submit(rpc.client(topic=later, timeout=FAR).call, {}, "name")
        until(lambda: "slow" in service.seen, "a call has begun that takes long", FAR)
        home.start()
        # the server, and what sends; the slow call has connections at both ends
        until(lambda: (clients(home), clients(other)) == (3, 2), "all move", FAR)
        sent = ledger.sent
        until(lambda: ledger.sent > sent + 20, "it goes on", FAR)
        service.gate.set()
        assert slow.result(FAR) == "slow"
        # what has waited for a server on the other host, waits at home now
        rpc.server(topic=later, transport=rpc.transport(home.url()))
        assert queued.result(FAR) == "one"
        until(lambda: clients(other) == 0, "all have left the other host", FAR)
        sent = ledger.sent
        until(lambda: ledger.sent > sent + 20, "it goes on", FAR)
        ledger.end()
        service.seen.remove("slow")
        ledger.audit()
        assert ledger.failed == {}
    assert logs.flush(FAR)
    assert f"moving to {home.url()}".rstrip("/") in caplog.text


@pytest.mark.usefixtures("alone")
def test_a_fanout_that_comes_over_both_connections_is_executed_once(
    make_router: MakeRouter, order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink, "OVERLAP", 600)
    home, other = make_router(), make_router()
    home.stop()
    service = Service()
    with Rpc(url(home, other)) as rpc:
        rpc.server(service)
        home.start()
        until(lambda: len(home.addresses(rpc.topic)) == 3, "it listens at home", FAR)
        assert len(other.addresses(rpc.topic)) == 3
        address = f"openstack.org/om/rpc/multicast/openstack/{rpc.topic}"
        for number, router in enumerate((home, other)):
            with Peer(router.port) as peer:
                link = peer.sender(address)
                for value in ("both", number):
                    link.send(fanout(value), settled=True)
                peer.flush()
                until(lambda: number in service.seen, "it has arrived", FAR)  # noqa: B023
    assert sorted(map(str, service.seen)) == ["0", "1", "both"]


def fanout(value: object) -> bytes:
    """A fanout, which has its value as its message-id."""
    message = {"method": "echo", "args": {"value": value}, "version": "1.0"}
    return codec.encode(json.dumps({"request": message, "context": {}}), id=str(value))


HOSTS, PAIRS = 3, 15


@pytest.fixture
def mesh(
    router_kind: str, make_router: MakeRouter, request: pytest.FixtureRequest
) -> list[Router]:
    """Routers that know each other, if they are such as can."""
    if router_kind == "embedded":
        request.getfixturevalue("alone")
        return [make_router() for _ in range(HOSTS)]
    ports = [free_port() for _ in range(HOSTS)]
    return [
        make_router(Settings(mesh=(port, *ports[:number])))
        for number, port in enumerate(ports)
    ]


def test_no_host_stays_empty_after_all_were_restarted_in_turn(
    mesh: list[Router], order: list[int]
) -> None:
    """Clients and servers move together, since the embedded routers are no mesh."""
    with contextlib.ExitStack() as stack:
        ledgers = []
        for number in range(PAIRS):
            order[0] = number % HOSTS
            rpc = stack.enter_context(Rpc(url(*mesh, interval=1)))
            ledgers.append(stack.enter_context(load(rpc, 0.2)))
        for router in mesh:
            router.restart()
            sent = [ledger.sent for ledger in ledgers]
            until(
                lambda: all(
                    ledger.sent > before + 4
                    for ledger, before in zip(ledgers, sent, strict=True)  # noqa: B023
                ),
                "all go on",
                FAR,
            )
        failed = [len(ledger.failed) for ledger in ledgers]
        # each has its home again: a connection of the server, and one of the client
        share = 2 * PAIRS // HOSTS
        until(
            lambda: all(clients(router) == share for router in mesh),
            "each host has its share of the connections",
            FAR,
        )
        for ledger in ledgers:
            ledger.end()
        assert [len(ledger.failed) for ledger in ledgers] == failed
        for ledger in ledgers:
            ledger.audit()


def test_nobody_moves_if_that_is_switched_off(
    make_router: MakeRouter, order: list[int]
) -> None:
    home, other = make_router(), make_router()
    home.stop()
    with Rpc(url(home, other, interval=0)) as rpc, load(rpc) as ledger:
        home.start()
        sent = ledger.sent
        until(lambda: ledger.sent > sent + 50, "it goes on", FAR)
        assert home.connections() == 0
