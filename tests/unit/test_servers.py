# SPDX-License-Identifier: Apache-2.0
"""What a transport URL alone says about its servers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from hybrid_messaging import servers, urls
from hybrid_messaging.engines import EngineError, amqp_management
from hybrid_messaging.servers import options
from hybrid_messaging.servers.amqp import Amqp
from hybrid_messaging.servers.insight import Insight, Look
from hybrid_messaging.servers.rabbit import Rabbit


def defect(url: str) -> str:
    return servers.get(urls.parse(url)).defect


def addresses(url: str) -> frozenset[tuple[str, str, int]]:
    return servers.get(urls.parse(url)).servers


@pytest.mark.parametrize("secret", ["a@b:c", "%2F", "ü;,?#", "a b", "$x", "'\""])
def test_rabbit_takes_any_other_password(secret: str) -> None:
    assert not defect(urls.build("rabbit", [("h", 1)], secret, secret))


@pytest.mark.parametrize("vhost", ["/", "a/b", "a b", "nova_cell1", None])
def test_rabbit_takes_these_virtual_hosts(vhost: str | None) -> None:
    assert not defect(urls.build("rabbit", [("h", 1)], vhost=vhost))


@pytest.mark.parametrize("vhost", ["a?b", "a#b", "a%41"])
def test_rabbit_does_not_take_these_virtual_hosts(vhost: str) -> None:
    url = f"rabbit://u:p@h/{quote(vhost, safe='')}"
    assert "virtual host" in defect(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("kafka://", "needs a port for every host"),
        ("kafka://h:1,i/", "needs a port for every host: Kafka's usual port is 9092"),
        ("kafka://h:1/nova", "to 'nova' reach no listener"),
        ("kafka://a:b@h:1,c:d@i:1/", "the same user for all hosts"),
    ],
)
def test_kafka_does_not_take_these(url: str, reason: str) -> None:
    assert reason in defect(url)


@pytest.mark.parametrize("url", ["kafka://h:1/", "kafka://a:b@h:1,a:b@[::1]:2/?x=y"])
def test_kafka_takes_these(url: str) -> None:
    assert not defect(url)


@pytest.mark.parametrize("query", ["", "?amqp_auto_delete=true"])
def test_rabbit_declares_as_its_driver_does(query: str) -> None:
    class Channel:
        def __init__(self) -> None:
            self.auto_delete: list[bool] = []

        def exchange_declare(self, *_: Any, auto_delete: bool, **how: Any) -> None:
            self.auto_delete.append(auto_delete)

        queue_declare = exchange_declare

        def close(self) -> None:
            pass

    url = urls.parse(f"rabbit://h/{query}")
    rabbit = servers.get(url, options.of(options.defaults(), url))
    assert isinstance(rabbit, Rabbit)
    channel = Channel()
    connection: Any = SimpleNamespace(channel=lambda: channel)
    assert rabbit._differing(connection, "e", ["q"]) == {}
    assert set(channel.auto_delete) == {bool(query)}


def test_servers_are_compared_with_their_default_ports() -> None:
    assert addresses("rabbit://A,b:5672/x") & addresses("kombu://a/")
    assert not addresses("rabbit://a/") & addresses("amqp://a/")
    assert addresses("rabbit://") == addresses("rabbit://localhost")
    assert addresses("new://a/") == {("new", "a", 0)}
    assert {port for _, _, port in addresses("zmq+redis://a/")} == {6379}
    assert {port for _, _, port in addresses("zmq+sentinel://a/")} == {26379}


# -- routers of one URL ----------------------------------------------------------


def inspected(
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    nodes: dict[str, str | None],
    taken: tuple[str, ...] = (),
) -> Insight:
    """What routers of a URL say.

    :param nodes: whom each knows, or what it is instead of an interior router; None: it
        is away
    :param taken: where each cannot listen
    """

    class Management:
        def __init__(self, name: str, *more: Any) -> None:
            said = nodes[name]
            if said is None:
                raise EngineError("it is away")
            self.name, self.said = name, said

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *what: object) -> None:
            pass

        def router(self) -> dict[str, str]:
            alone = self.said in ("edge", "standalone")
            return {"id": self.name, "mode": self.said if alone else "interior"}

        def nodes(self) -> list[str]:
            return list(self.said)

        def connections(self) -> list[dict[str, str]]:
            return [
                {"role": "edge", "container": "uplink"},
                {"role": "normal", "container": "a service"},
            ]

        def deaf(self) -> list[str]:
            return list(taken)

    monkeypatch.setattr(amqp_management, "Management", Management)
    monkeypatch.setattr(Amqp, "connect", lambda *arguments: "skupper-router")
    url = urls.parse(text)
    transport = servers.get(url, options.of(options.defaults(), url))
    return transport.inspect(url.hosts, Look(1))


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ({"a": "abc", "b": "abc", "c": "abc"}, []),
        ({"a": "ab", "b": "abc", "c": "bc"}, [("a:5672", "c:5672")]),
        ({"a": "ab", "b": "ab", "c": None}, []),
        (
            {"a": "", "b": "", "c": "standalone"},
            [("a:5672", "b:5672"), ("a:5672", "c:5672"), ("b:5672", "c:5672")],
        ),
        ({"a": "abc", "b": "abc", "c": "edge"}, []),
    ],
    ids=["mesh", "one link lacks", "one is away", "no links", "an edge"],
)
def test_routers_say_whether_they_know_each_other(
    monkeypatch: pytest.MonkeyPatch,
    nodes: dict[str, str | None],
    expected: list[tuple[str, str]],
) -> None:
    insight = inspected(monkeypatch, "amqp://a,b,c/", nodes)
    there = {name for name, said in nodes.items() if said is not None}
    said_by_edges = {"uplink"} if "edge" in nodes.values() else set()
    assert insight.network == there | said_by_edges
    said = [(one.code, one.message) for one in insight.problems]
    assert len(said) == len(expected)
    for (code, message), (name, other) in zip(said, expected, strict=True):
        assert code == "routers-apart"
        assert f"the routers {name} and {other} are not connected" in message


def test_a_router_says_that_the_port_of_its_links_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = ("192.0.2.1:5683: Address already in use",)
    (problem,) = inspected(monkeypatch, "amqp://a/", {"a": "abc"}, taken).problems
    assert problem.code == "router-port-taken"
    assert f"the router a:5672 cannot listen on {taken[0]}:" in problem.message


def test_routers_without_links_say_nothing_of_their_ports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a router that nobody links with may lack the port of its metrics
    for mode in ("standalone", "edge"):
        insight = inspected(monkeypatch, "amqp://a/", {"a": mode}, ("taken",))
        assert insight.problems == []
