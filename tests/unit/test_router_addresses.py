# SPDX-License-Identifier: Apache-2.0
"""The routing table: which rule an address falls under, and how long it lives."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    MODIFIED,
    NO_OUTCOME,
    REJECTED,
    RELEASED,
    Delivery,
    Outcome,
)
from hybrid_messaging.router.addresses import AddressTable, Fanout, Origin, canonical
from hybrid_messaging.router.config import OPENSTACK_ADDRESSES, AddressRule
from hybrid_messaging.router.departures import LONGEST_NAME, MOST, Departures

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


# -- who has left, and when ---------------------------------------------------------


def test_it_is_remembered_when_the_last_consumer_has_left() -> None:
    table, (one, two) = AddressTable(), (_Listener("none"), _Listener("none"))
    address = table.obtain("a")
    assert table.deserted_for(address) is None  # nobody has ever listened
    table.add_consumer(address, one)
    table.add_consumer(address, two)
    table.remove_consumer(address, one)
    assert table.deserted_for(address) is None
    before = time.monotonic()
    table.remove_consumer(address, two)
    table.discard(address)
    deserted_for = table.deserted_for(table.obtain("/a"))
    assert deserted_for is not None
    assert 0 <= deserted_for <= time.monotonic() - before
    table.add_consumer(table.obtain("a"), one)
    assert table.deserted_for(table.obtain("a")) is None


def test_addresses_that_nobody_asks_for_again_are_not_remembered() -> None:
    table, listener = AddressTable(), _Listener("none")
    for address in (table.invent(), table.obtain("a" * (LONGEST_NAME + 1))):
        table.add_consumer(address, listener)
        table.remove_consumer(address, listener)
        assert table.deserted_for(address) is None


def test_the_address_that_was_deserted_first_is_forgotten_first() -> None:
    departures = Departures()
    for number in range(MOST):
        departures.note(str(number), number)
    departures.clear("0")
    departures.note("0", MOST)  # it was there again
    departures.note("new", MOST + 1)
    assert departures.moment("1") is None
    assert departures.moment("0") == MOST
    assert departures.moment("2") == 2


# -- multicasts: who decides, and when --------------------------------------------


class _Sender:
    """A producer, and its delivery at the same time."""

    def __init__(self) -> None:
        self.told: list[Outcome] = []
        self.link = SimpleNamespace(context=self)
        self.context: Any = None

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        self.told.append(outcome)


class _Listener:
    """A consumer that has credit, a queue, or neither."""

    raw = 0

    def __init__(self, room: str, decides: Outcome | None = None) -> None:
        self.room = room
        self.decides = decides
        self.got: list[Origin] = []
        self.missed = 0

    def ready(self) -> bool:
        return self.room == "credit"

    def send(self, data: bytes, origin: Origin) -> None:
        self.got.append(origin)
        if isinstance(origin, Fanout):
            origin.sent(None)
            if self.decides is not None:
                origin.decide(self.decides)

    def offer(self, data: bytes, origin: Origin, since: float | None) -> bool:
        if self.ready():
            self.send(data, origin)
        elif self.room == "queue" and isinstance(origin, Fanout):
            origin.queued()
        return self.room != "none"

    def slows(self) -> bool:
        return self.room == "soon"

    def miss(self) -> None:
        self.missed += 1


def test_a_listener_that_is_slow_is_waited_for() -> None:
    slow, other = _Listener("soon"), _Listener("credit")
    _, forwarded = _multicast(other, slow)
    assert not forwarded
    assert not other.got and not slow.missed


def _multicast(*listeners: _Listener) -> tuple[_Sender, bool]:
    address = AddressTable(RULES).obtain("broadcast")
    for listener in listeners:
        address.add_consumer(listener)
    sender = _Sender()
    forwarded = address.forward(b"data", sender)  # type: ignore[arg-type]
    assert address.messages_in == forwarded
    return sender, forwarded


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        ([ACCEPTED, ACCEPTED], [ACCEPTED]),
        ([ACCEPTED, REJECTED, RELEASED], [REJECTED]),
        ([NO_OUTCOME, RELEASED], [RELEASED]),
        ([MODIFIED, RELEASED], [MODIFIED]),
        ([ACCEPTED, None], []),
    ],
)
def test_the_gravest_outcome_counts_once_all_have_decided(
    outcomes: list[Outcome | None], told: list[Outcome]
) -> None:
    sender, _ = _multicast(*(_Listener("credit", outcome) for outcome in outcomes))
    assert sender.told == told


def test_listeners_without_room_are_passed_over() -> None:
    stuck, free = _Listener("none"), _Listener("credit", ACCEPTED)
    sender, forwarded = _multicast(stuck, free)
    assert forwarded and sender.told == [ACCEPTED]
    assert (stuck.missed, free.missed) == (1, 0)


def test_where_nobody_has_room_nobody_misses_anything() -> None:
    stuck = [_Listener("none"), _Listener("none")]
    sender, forwarded = _multicast(*stuck)
    assert not forwarded and sender.told == []
    assert sum(listener.missed for listener in stuck) == 0


def test_a_copy_that_waits_delays_no_outcome() -> None:
    sender, _ = _multicast(_Listener("queue"), _Listener("credit", ACCEPTED))
    assert sender.told == [ACCEPTED]


def test_if_all_copies_wait_the_first_to_be_taken_decides() -> None:
    sender, _ = _multicast(_Listener("queue"), _Listener("queue"))
    fanout = sender.context
    assert sender.told == []
    fanout.unqueued()
    fanout.sent(None)
    fanout.decide(ACCEPTED)
    assert sender.told == [ACCEPTED]
    assert fanout.state == Fanout.DECIDED


def test_if_nobody_takes_a_copy_the_message_is_released() -> None:
    sender, _ = _multicast(_Listener("queue"), _Listener("queue"))
    fanout = sender.context
    for _ in range(2):
        assert sender.told == []
        fanout.unqueued()
        fanout.conclude()
    assert sender.told == [RELEASED]


def test_a_withdrawn_message_has_no_outcome() -> None:
    sender, _ = _multicast(_Listener("credit"))
    fanout = sender.context
    fanout.state = Fanout.WITHDRAWN
    fanout.decide(ACCEPTED)
    assert sender.told == []


def test_the_end_leaves_only_replies_their_credit() -> None:
    class Producer:
        started = True

        def stop(self) -> None:
            self.started = False

    table = AddressTable(RULES)
    requests, replies = Producer(), Producer()
    table.obtain("broadcast").producers.add(requests)  # type: ignore[arg-type]
    table.invent().producers.add(replies)  # type: ignore[arg-type]
    table.close()
    assert (requests.started, replies.started) == (False, True)
