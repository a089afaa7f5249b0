# SPDX-License-Identifier: Apache-2.0
"""Targets become the addresses that the retired driver used, too."""

from __future__ import annotations

from typing import Any

import pytest
from oslo_config import cfg
from oslo_messaging import Target

from hybrid_messaging.drivers.amqp import options
from hybrid_messaging.drivers.amqp.addressing import Addressing

ANY = Target(topic="topic", exchange="ex")
ONE = Target(topic="topic", exchange="ex", server="host@back.end")
ALL = Target(topic="topic", exchange="ex", fanout=True)


def addressing(
    product: str | None = "skupper-router",
    vhost: str | None = None,
    default_exchange: str | None = None,
    **overrides: Any,
) -> Addressing:
    conf = cfg.ConfigOpts()
    conf.register_opts(options.OPTIONS, group=cfg.OptGroup(options.GROUP.name))
    for name, value in overrides.items():
        conf.set_override(name, value, options.GROUP.name)
    return Addressing(conf.oslo_messaging_amqp, product, vhost, default_exchange)


@pytest.mark.parametrize(
    ("vhost", "target", "service", "expected"),
    [
        (None, ANY, "rpc", "openstack.org/om/rpc/anycast/ex/topic"),
        (None, ONE, "rpc", "openstack.org/om/rpc/unicast/ex/topic/host@back.end"),
        (None, ALL, "rpc", "openstack.org/om/rpc/multicast/ex/topic"),
        ("v", ANY, "rpc", "openstack.org/om/rpc/anycast/v/ex/topic"),
        ("v", ONE, "rpc", "openstack.org/om/rpc/unicast/v/ex/topic/host@back.end"),
        ("v", ALL, "rpc", "openstack.org/om/rpc/multicast/v/ex/topic"),
        ("v", ANY, "notify", "openstack.org/om/notify/anycast/v/ex/topic"),
    ],
)
def test_routable(vhost: str, target: Target, service: Any, expected: str) -> None:
    assert addressing(vhost=vhost).resolve(target, service) == expected


@pytest.mark.parametrize(
    ("vhost", "target", "service", "expected"),
    [
        (None, ANY, "rpc", "unicast.ex.topic"),
        (None, ONE, "rpc", "exclusive.ex.topic.host@back.end"),
        (None, ALL, "rpc", "broadcast.ex.topic.all"),
        ("v", ANY, "rpc", "unicast.v.ex.topic"),
        ("v", ONE, "rpc", "exclusive.v.ex.topic.host@back.end"),
        ("v", ALL, "rpc", "broadcast.v.ex.topic.all"),
        ("v", ANY, "notify", "unicast.v.ex.topic"),
    ],
)
def test_legacy(vhost: str, target: Target, service: Any, expected: str) -> None:
    assert addressing("qpid-cpp", vhost).resolve(target, service) == expected


def test_a_server_listens_where_its_clients_send() -> None:
    for product in ("skupper-router", "qpid-cpp"):
        names = addressing(product)
        assert names.anycast(ONE) == names.resolve(ANY)
        assert names.multicast(ONE) == names.resolve(ALL)
        assert names.unicast(ONE) == names.resolve(ONE)
        assert names.is_multicast(names.multicast(ONE))
        assert not names.is_multicast(names.anycast(ONE))
        assert not names.is_multicast(names.unicast(ONE))


@pytest.mark.parametrize(
    ("product", "mode", "legacy"),
    [
        ("qpid-cpp", "dynamic", True),
        ("skupper-router", "dynamic", False),
        ("anything", "dynamic", False),
        (None, "dynamic", False),
        ("qpid-cpp", "routable", False),
        ("skupper-router", "legacy", True),
    ],
)
def test_mode(product: str | None, mode: str, legacy: bool) -> None:
    address = addressing(product, addressing_mode=mode).resolve(ANY)
    assert address.startswith("unicast.") is legacy


def test_default_exchanges() -> None:
    target = Target(topic="topic")
    assert addressing().resolve(target).endswith("/openstack/topic")
    names = addressing(default_exchange="control")
    assert names.resolve(target).endswith("/control/topic")
    assert names.resolve(target, "notify").endswith("/control/topic")
    names = addressing(
        default_exchange="control",
        default_rpc_exchange="r",
        default_notification_exchange="n",
    )
    assert names.resolve(target).endswith("/r/topic")
    assert names.resolve(target, "notify").endswith("/n/topic")
    assert names.resolve(ANY).endswith("/ex/topic")


def test_prefixes_are_options() -> None:
    names = addressing(
        rpc_address_prefix="r",
        notify_address_prefix="n",
        multicast_address="m",
        unicast_address="u",
        anycast_address="a",
    )
    assert names.resolve(ALL) == "r/m/ex/topic"
    assert names.resolve(ONE) == "r/u/ex/topic/host@back.end"
    assert names.resolve(ANY, "notify") == "n/a/ex/topic"
    names = addressing(
        "qpid-cpp",
        server_request_prefix="s",
        broadcast_prefix="b",
        group_request_prefix="g",
    )
    assert names.resolve(ALL) == "b.ex.topic.all"
    assert names.resolve(ONE) == "s.ex.topic.host@back.end"
    assert names.resolve(ANY) == "g.ex.topic"
