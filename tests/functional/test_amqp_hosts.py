# SPDX-License-Identifier: Apache-2.0
"""Several hosts, several addresses of a host, hosts that do not answer."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from oslo_messaging import MessagingException
from tests.functional import fakes
from tests.functional.conftest import MakeRouter
from tests.functional.fakes import Fake, Thrower
from tests.functional.routers import Router, Settings, free_port
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.amqp import dialling


def url(*ports: int, **query: object) -> str:
    options = "&".join(f"{key}={value}" for key, value in query.items())
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"amqp://{hosts}/?{options}"


def calls_until_it_works(client: object, seconds: float = 30) -> str:
    with Stopwatch() as watch:
        while True:
            try:
                return str(client.call({}, "name"))  # type: ignore[attr-defined]
            except MessagingException:
                assert watch.elapsed() < seconds
                time.sleep(0.05)


@contextlib.contextmanager
def silent_host() -> Iterator[int]:
    """A port whose owner accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield listening.getsockname()[1]


def test_hosts_that_are_away_are_passed_over(own_bus: Router) -> None:
    for _ in range(5):  # their order is random
        with Rpc(url(free_port(), own_bus.port, free_port())) as rpc:
            rpc.server()
            with Stopwatch() as watch:
                assert rpc.client().call({}, "name") == "one"
            assert watch.seconds < 40


def test_hosts_that_are_silent_are_passed_over(own_bus: Router) -> None:
    with (
        silent_host() as first,
        silent_host() as second,
        Rpc(url(first, own_bus.port, second, connect_timeout=600)) as rpc,
    ):
        rpc.server()
        assert rpc.client(timeout=120).call({}, "name") == "one"


def test_servers_and_clients_move_to_the_other_bus(make_router: MakeRouter) -> None:
    first, second = make_router(), make_router()
    # the second router only takes over: while both are there, a server is on one
    second.stop()
    with Rpc(url(first.port, second.port)) as rpc:
        service = Service()
        rpc.server(service)
        client = rpc.client()
        assert client.call({}, "name") == "one"
        moves = [(first, second), (second, first), (first, second)]
        for number, (down, up) in enumerate(moves):
            down.kill()
            up.start()
            assert calls_until_it_works(client) == "one"
            rpc.client(fanout=True).cast({}, "echo", value=number)
            until(lambda: len(service.seen) > number, "the fanout has arrived")  # noqa: B023
        # nothing of the former links is left: each cast is taken once
        assert service.seen == [0, 1, 2]
        assert len(second.addresses(rpc.topic)) == 3


def test_a_host_that_has_vanished_is_tried_after_the_others(
    make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "shuffle", lambda _: None)
    # who begins with it has to wait for it
    monkeypatch.setattr(dialling, "OPENING", 600)
    first, second = make_router(), make_router()
    places = url(first.port, second.port, idle_timeout=2, connect_timeout=600)
    with Rpc(places) as rpc:
        rpc.server()
        client = rpc.client()
        assert client.call({}, "name") == "one"
        first.pause()  # it takes connections, and does not say a word
        try:
            assert calls_until_it_works(client, 120) == "one"
            assert second.addresses(rpc.topic)
        finally:
            first.resume()


def test_all_addresses_of_a_name_are_tried(
    own_bus: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retired driver tried the first only, often that of IPv6."""
    real = socket.getaddrinfo

    def several(name: str, port: int, *rest: object, **options: object) -> list:
        if name != "several.example.org":
            return real(name, port, *rest, **options)  # type: ignore[arg-type]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", own_bus.port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", own_bus.port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", own_bus.port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    with Rpc(f"amqp://several.example.org:{own_bus.port}/") as rpc:
        rpc.server()
        assert rpc.client().call({}, "name") == "one"


def test_name_that_does_not_resolve_says_so() -> None:
    with Rpc("amqp://no-such-host.invalid/") as rpc:
        client = rpc.client(timeout=2)
        with pytest.raises(errors.BusUnavailable, match="no-such-host"):
            client.call({}, "name")


def test_a_process_without_descriptors_says_so_and_goes_on(
    own_bus: Router, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def scarce() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with Rpc(own_bus.url()) as rpc:
        rpc.server()
        client = rpc.client()
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socketpair", scarce)
            with pytest.raises(errors.BusUnavailable, match=r"(?i)too many open files"):
                rpc.client(timeout=5).call({}, "name")
        assert client.call({}, "name") == "one"
    assert logs.flush(60)
    assert "Traceback" not in caplog.text


def test_resolver_that_hangs_keeps_nobody_from_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()

    def hang(*_: object, **__: object) -> list:
        gate.wait(120)
        raise socket.gaierror("at last")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with Rpc("amqp://hangs.example.org/") as rpc:
            client = rpc.client(timeout=0.5)
            with Stopwatch() as watch, pytest.raises(errors.BusUnavailable):
                client.call({}, "name")
            assert watch.seconds < 40
            with Stopwatch() as watch:
                rpc.default.cleanup()
            assert watch.seconds < 40
    finally:
        gate.set()


def test_ipv6(make_router: MakeRouter) -> None:
    try:
        router = make_router(Settings(host="::1"))
    except OSError:
        pytest.skip("no IPv6 here")
    with Rpc(f"amqp://[::1]:{router.port}/") as rpc:
        rpc.server()
        assert rpc.client().call({}, "name") == "one"


def test_a_bus_that_was_not_there_at_first(make_router: MakeRouter) -> None:
    router = make_router()
    router.stop()
    with Rpc(router.url()) as rpc:
        service = Service()
        with Stopwatch() as watch:
            rpc.server(service)
        assert watch.seconds < 40, "a server need not wait for the bus"
        router.start()
        assert calls_until_it_works(rpc.client()) == "one"


def test_a_peer_that_says_too_much_about_itself_is_no_bus(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Talker(fakes.Peer):
        product = list(range(100))

    with Fake(Talker) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(timeout=3)
        with pytest.raises(errors.BusUnavailable, match=r"a limit .*64 values"):
            client.call({}, "name")
    assert "Traceback" not in caplog.text


def test_peers_that_let_in_and_out_are_not_hammered() -> None:
    """A bus that refuses its clients after they have opened, as policies do."""
    with Fake(Thrower) as fake:
        with Rpc(fake.url) as rpc:
            client = rpc.client(timeout=3)
            with pytest.raises(errors.BusUnavailable, match="not you"):
                client.call({}, "name")
        assert 2 <= fake.connections <= 6
