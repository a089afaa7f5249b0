# SPDX-License-Identifier: Apache-2.0
"""How a process of `zmq` finds the addresses of hosts: without waiting for them."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_messaging.drivers.zmq import names
from hybrid_messaging.drivers.zmq.names import Found, Names

PLENTY = 60.0


class NameServer:
    """Answers for the resolver of the system.

    :param hosts: addresses by host
    """

    def __init__(self, **hosts: list[str]) -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        #: closed while it is away
        self.answers = threading.Event()
        self.answers.set()

    def getaddrinfo(self, host: str, port: Any, **_: Any) -> list[Any]:
        self.asked.append(host)
        assert self.answers.wait(PLENTY)
        if host not in self.hosts:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
        # each once for every protocol, as some resolvers have it
        return [(0, 0, 0, "", (ip, 0)) for ip in self.hosts[host] * 2]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    made = NameServer(both=["::1", "127.0.0.1"], one=["192.0.2.1"])
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.answers.set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(names, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def find(known: Names, endpoint: str) -> Found:
    found: queue.Queue[Found] = queue.Queue()
    known.find(endpoint, found.put)
    return found.get(timeout=PLENTY)


def test_addresses_are_known_at_once(server: NameServer) -> None:
    found: list[Found] = []
    for endpoint in ("tcp://192.0.2.7:5", "tcp://[2001:db8::7]:5"):
        Names().find(endpoint, found.append)
    assert [each.addresses for each in found] == [
        ("tcp://192.0.2.7:5",),
        ("tcp://[2001:db8::7]:5",),
    ]
    assert server.asked == []


def test_all_addresses_of_a_name_are_found(server: NameServer) -> None:
    found = find(Names(), "tcp://both:5")
    assert found == Found(("tcp://[::1]:5", "tcp://127.0.0.1:5"))


@pytest.mark.parametrize(
    "endpoint", ["", "one", "tcp://one", "udp://one:5", "tcp://one:x", "tcp://[one:5"]
)
def test_what_is_no_endpoint_is_told(server: NameServer, endpoint: str) -> None:
    found: list[Found] = []
    Names().find(endpoint, found.append)
    assert found[0].addresses == ()
    assert found[0].failure


def test_names_that_cannot_be_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "a..b" in find(Names(), "tcp://a..b:5").failure


def test_names_without_addresses_are_told_and_not_asked_for_at_once(
    server: NameServer, clock: list[float]
) -> None:
    known = Names()
    for _ in range(3):
        assert find(known, "tcp://none:5") == Found((), "none: Temporary failure")
    assert server.asked == ["none"]
    clock[0] += names.FRESH_FAILURE
    find(known, "tcp://none:5")
    assert server.asked == ["none"] * 2


def test_hosts_are_asked_for_once(server: NameServer) -> None:
    """However many processes of theirs are wanted at once."""
    known, found = Names(), queue.Queue[Found]()
    server.answers.clear()
    for port in range(1, 101):
        known.find(f"tcp://one:{port}", found.put)
    server.answers.set()
    addresses = {found.get(timeout=PLENTY).addresses for _ in range(100)}
    assert addresses == {(f"tcp://192.0.2.1:{port}",) for port in range(1, 101)}
    assert server.asked == ["one"]


def test_what_was_known_is_used_while_it_is_asked_for(
    server: NameServer, clock: list[float]
) -> None:
    known = Names()
    find(known, "tcp://one:5")
    clock[0] += names.FRESH
    server.answers.clear()
    found: list[Found] = []
    known.find("tcp://one:5", found.append)
    assert found == [Found(("tcp://192.0.2.1:5",))]
    server.answers.set()


def test_what_was_known_is_used_without_a_name_server(
    server: NameServer, clock: list[float]
) -> None:
    known = Names()
    before = find(known, "tcp://one:5")
    server.hosts.clear()
    for _ in range(3):
        clock[0] += names.FRESH
        assert find(known, "tcp://one:5").addresses == before.addresses


def test_names_that_take_long_keep_no_others_waiting(server: NameServer) -> None:
    known, gate = Names(), threading.Event()
    answer = server.getaddrinfo

    def slow(host: str, *arguments: Any, **how: Any) -> list[Any]:
        if host.startswith("dead"):
            assert gate.wait(PLENTY)
        return answer(host, *arguments, **how)

    socket.getaddrinfo = slow  # type: ignore[assignment]  # undone by the fixture
    for number in range(names.THREADS - 1):
        known.find(f"tcp://dead{number}:5", lambda _: None)
    assert find(known, "tcp://one:5").addresses
    gate.set()
