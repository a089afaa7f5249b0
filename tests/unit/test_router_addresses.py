# SPDX-License-Identifier: Apache-2.0
"""The routing table: which rule an address falls under, and how long it lives."""

from __future__ import annotations

import pytest

from hybrid_messaging.router.addresses import AddressTable, canonical
from hybrid_messaging.router.config import OPENSTACK_ADDRESSES, AddressRule

RULES = (
    AddressRule("openstack.org/om/rpc/multicast", "multicast"),
    AddressRule("openstack.org/om/rpc/multicast/quiet", "closest"),
    AddressRule("broadcast", "multicast"),
    AddressRule("trailing/", "closest"),
)


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("openstack.org/om/rpc/multicast", "multicast"),
        ("openstack.org/om/rpc/multicast/openstack/topic", "multicast"),
        ("openstack.org/om/rpc/multicast.openstack", "multicast"),
        ("openstack.org/om/rpc/multicasting", "balanced"),
        ("openstack.org/om/rpc/multicast/quiet/topic", "closest"),
        ("openstack.org/om/rpc", "balanced"),
        ("broadcast.openstack.topic.all", "multicast"),
        ("broadcast", "multicast"),
        ("broadcaster", "balanced"),
        ("/broadcast.x", "multicast"),
        ("amqp:/broadcast.x", "multicast"),
        ("amqp://host:5672/broadcast.x", "multicast"),
        ("trailing/x", "closest"),
        ("trailing", "closest"),
        ("", "balanced"),
    ],
)
def test_the_longest_prefix_decides(name: str, distribution: str) -> None:
    assert AddressTable(RULES).obtain(name).distribution == distribution


def test_the_default_may_be_another() -> None:
    assert AddressTable(RULES, "closest").obtain("other").distribution == "closest"


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("openstack.org/om/rpc/multicast/nova/compute", "multicast"),
        ("openstack.org/om/rpc/unicast/nova/compute/host.example", "closest"),
        ("openstack.org/om/rpc/anycast/nova/compute", "balanced"),
        ("openstack.org/om/notify/anycast/nova/notifications.info", "balanced"),
        ("broadcast.nova.compute.all", "multicast"),
        ("exclusive.nova.compute.host", "closest"),
        ("unicast.nova.compute", "closest"),
    ],
)
def test_the_addresses_of_openstack(name: str, distribution: str) -> None:
    table = AddressTable(OPENSTACK_ADDRESSES)
    assert table.obtain(name).distribution == distribution


@pytest.mark.parametrize(
    "name", ["a/b", "/a/b", "amqp:/a/b", "amqp://host/a/b", "amqps://h:1/a/b"]
)
def test_one_address_has_several_spellings(name: str) -> None:
    assert canonical(name) == "a/b"
    table = AddressTable()
    assert table.obtain(name) is table.obtain("a/b")
    assert table.find(name) is table.find("a/b") is not None


def test_invented_addresses_differ() -> None:
    table = AddressTable()
    assert len({table.invent().name for _ in range(100)}) == 100


def test_an_unused_address_is_forgotten_but_not_its_counters() -> None:
    table = AddressTable()
    address = table.obtain("a")
    address.messages_in, address.messages_out = 3, 5
    table.discard(address)
    assert len(table) == 0
    assert table.find("a") is None
    assert (table.messages_in, table.messages_out) == (3, 5)
    table.discard(address)
    assert table.messages_in == 3
