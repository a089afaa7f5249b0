# SPDX-License-Identifier: Apache-2.0
"""Hosts of transport URLs, and the pauses between attempts to reach them."""

from __future__ import annotations

import itertools
import socket
import threading
import time

import pytest
from oslo_config import cfg
from oslo_messaging import TransportURL

from hybrid_messaging.drivers.amqp import hosts
from hybrid_messaging.drivers.amqp.hosts import Host


def parse(url: str, realm: str = "") -> list[Host]:
    return hosts.parse(TransportURL.parse(cfg.ConfigOpts(), url), realm)


def test_every_host_is_an_alternative() -> None:
    found = parse("amqp://ua:pa@a:1,ub:pb@b:2,c:3/vhost")
    assert sorted(found, key=lambda host: host.port) == [
        Host("a", 1, "ua", "pa"),
        Host("b", 2, "ub", "pb"),
        Host("c", 3, None, None),
    ]


def test_hosts_may_be_ipv6_addresses() -> None:
    assert set(parse("amqp://u:p@[::1]:1,u:p@[::2]:2/")) == {
        Host("::1", 1, "u", "p"),
        Host("::2", 2, "u", "p"),
    }


def test_order_differs_between_processes() -> None:
    url = "amqp://" + ",".join(f"host{number}" for number in range(8))
    orders = {tuple(host.name for host in parse(url)) for _ in range(20)}
    assert len(orders) > 1
    assert len({frozenset(order) for order in orders}) == 1


@pytest.mark.parametrize("url", ["amqp://", "amqp:///", "amqp:///vhost"])
def test_without_a_host_it_is_this_one(url: str) -> None:
    assert parse(url) == [Host("localhost", 5672, None, None)]


def test_port_defaults_to_amqps() -> None:
    assert parse("amqp://host")[0].port == hosts.DEFAULT_PORT == 5672


def test_realm_is_added_to_users_that_have_none() -> None:
    assert parse("amqp://u:p@h", "realm")[0].username == "u@realm"
    assert parse("amqp://u%40own:p@h", "realm")[0].username == "u@own"
    assert parse("amqp://h", "realm")[0].username is None


def test_special_characters_are_decoded() -> None:
    host = parse("amqp://us%2Fer:p%40ss%3A%20%C3%BC%25@h")[0]
    assert (host.username, host.password) == ("us/er", "p@ss: ü%")


def test_text_never_shows_the_password() -> None:
    assert str(Host("h", 1, "user", "secret")) == "amqp://h:1"
    assert str(Host("::1", 1, "user", "secret")) == "amqp://[::1]:1"


def test_all_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(name: str, port: int, **_: object) -> list:
        assert (name, port) == ("several", 7)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 7, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 7)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert Host("several", 7, None, None).addresses() == [
        (socket.AF_INET6, ("::1", 7, 0, 0)),
        (socket.AF_INET, ("127.0.0.1", 7)),
    ]


def test_delays_grow_up_to_the_longest() -> None:
    delays = list(itertools.islice(hosts.delays(1, 2, 30), 10))
    for delay, full in zip(delays, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30], strict=True):
        assert full / 2 <= delay <= full


@pytest.mark.parametrize("factor", [0, 1])
def test_delays_may_stay_the_same_but_never_vanish(factor: float) -> None:
    for delay in itertools.islice(hosts.delays(3, factor, 30), 10):
        assert 1.5 <= delay <= 3


def test_delays_have_jitter() -> None:
    assert len({next(hosts.delays(1, 2, 30)) for _ in range(10)}) > 1


# -- pauses -----------------------------------------------------------------------


def test_pauses_are_short_where_somebody_waits_already() -> None:
    pace = hosts.Pace(0.01, 2, 3600)
    for _ in range(5):  # the last one would take 0.08 s at the least
        next(pace._delays)
    began = time.monotonic()
    for _ in range(20):  # and the last of these until the end of the world
        pace.pause(lambda: True)
    assert time.monotonic() - began < 60


def pausing(pace: hosts.Pace) -> threading.Thread:
    thread = threading.Thread(target=pace.pause, args=[lambda: False])
    thread.start()
    return thread


def test_a_pause_is_cut_short_when_somebody_comes() -> None:
    pace = hosts.Pace(0.01, 1_000_000, 1_000_000)
    next(pace._delays)
    thread = pausing(pace)
    time.sleep(0.02)
    assert thread.is_alive()
    pace.hurry()
    thread.join(60)
    assert not thread.is_alive()


def test_nobody_hurries_an_attempt_after_less_than_the_shortest_pause() -> None:
    pace = hosts.Pace(0.2, 2, 30)
    began = time.monotonic()
    pace.pause(lambda: True)
    assert time.monotonic() - began >= 0.1


def test_closing_ends_a_pause() -> None:
    pace = hosts.Pace(3600, 1, 3600)
    thread = pausing(pace)
    pace.stop()
    thread.join(60)
    assert not thread.is_alive()
