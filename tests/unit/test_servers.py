# SPDX-License-Identifier: Apache-2.0
"""What a transport URL alone says about its servers."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from hybrid_messaging import servers, urls


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
        ("kafka://", "wants hosts, each with a port"),
        ("kafka://h:1,i/", "wants hosts, each with a port: 9092"),
        ("kafka://h:1/nova", "to 'nova' reach no listener"),
        ("kafka://a:b@h:1,c:d@i:1/", "the same user for all hosts"),
    ],
)
def test_kafka_does_not_take_these(url: str, reason: str) -> None:
    assert reason in defect(url)


@pytest.mark.parametrize("url", ["kafka://h:1/", "kafka://a:b@h:1,a:b@[::1]:2/?x=y"])
def test_kafka_takes_these(url: str) -> None:
    assert not defect(url)


def test_servers_are_compared_with_their_default_ports() -> None:
    assert addresses("rabbit://A,b:5672/x") & addresses("kombu://a/")
    assert not addresses("rabbit://a/") & addresses("amqp://a/")
    assert addresses("rabbit://") == addresses("rabbit://localhost")
    assert addresses("new://a/") == {("new", "a", 0)}
    assert {port for _, _, port in addresses("zmq+redis://a/")} == {6379}
    assert {port for _, _, port in addresses("zmq+sentinel://a/")} == {26379}
