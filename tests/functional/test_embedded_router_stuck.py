# SPDX-License-Identifier: Apache-2.0
"""A listener that is stuck costs only itself; odd peers cost nobody else anything."""

from __future__ import annotations

import time
from collections.abc import Iterator

import proton
import pytest
from tests.functional.peer import Peer
from tests.functional.routers import Router, Settings

from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    REJECTED,
    Delivery,
    Outcome,
    Receiver,
)

pytestmark = pytest.mark.embedded

ANYCAST = "openstack.org/om/rpc/anycast/openstack/stuck"
MULTICAST = "openstack.org/om/rpc/multicast/openstack/stuck"
FAR = 60.0
CAPACITY = 10


@pytest.fixture
def router(make_router) -> Router:
    """One that soon has no room for a listener any more."""
    return make_router(Settings(link_capacity=CAPACITY))


@pytest.fixture
def peer(router: Router) -> Iterator[Peer]:
    with Peer(router.port) as made:
        yield made


@pytest.fixture
def other(router: Router) -> Iterator[Peer]:
    with Peer(router.port) as made:
        yield made


@pytest.fixture
def stuck(router: Router) -> Iterator[Peer]:
    with Peer(router.port) as made:
        yield made


def _missed(router: Router, peer: Peer) -> dict[str, int]:
    """What the router counts for the links of a peer that it sends on."""
    with router.management() as management:
        (connection,) = (
            row["identity"]
            for row in management.connections()
            if row["container"] == peer.endpoint.connection.container
        )
        return {
            row["owningAddr"]: row["droppedPresettledCount"]
            for row in management._page("io.skupper.router.router.link", 0)
            if row["connectionId"] == connection and row["linkDir"] == "out"
        }


def _fan_out(
    peer: Peer, other: Peer, receiver: Receiver, count: int, settled: bool
) -> list[Delivery | None]:
    """Send to all, one after the other, and see that one listener gets them all."""
    sender = peer.sender(MULTICAST)
    sent = []
    for number in range(count):
        peer.until(lambda: sender.credit > 0, "credit", FAR)
        sent.append(peer.send(sender, str(number), settled=settled))
        assert other.accept(receiver) == str(number)
        if not settled:
            assert peer.outcome(sent[-1], FAR) == ACCEPTED
    return sent


@pytest.mark.parametrize("settled", [True, False])
def test_a_listener_without_room_misses_multicasts_which_is_counted_and_logged(
    router: Router, peer: Peer, other: Peer, stuck: Peer, settled: bool
) -> None:
    stuck.receiver(MULTICAST)
    receiver = other.receiver(MULTICAST, credit=1000)
    _fan_out(peer, other, receiver, CAPACITY + 7, settled)
    assert _missed(router, stuck) == {f"M{MULTICAST}": 7}
    assert _missed(router, other) == {f"M{MULTICAST}": 0}
    (line,) = (line for line in router.log().splitlines() if "misses" in line)
    assert stuck.endpoint.connection.container in line
    assert MULTICAST in line
    assert "WARNING" in line
    with router.management() as management:
        assert management.metrics()["droppedPresettledDeliveries"] == 7


def test_a_listener_that_never_decides_uses_up_no_credit_of_senders(
    router: Router, peer: Peer, other: Peer, stuck: Peer
) -> None:
    """It has given more credit than a sender has."""
    stuck.receiver(MULTICAST, credit=10 * CAPACITY)
    receiver = other.receiver(MULTICAST, credit=1000)
    sender = peer.sender(MULTICAST)
    for number in range(5 * CAPACITY):
        peer.until(lambda: sender.credit > 0, "credit", FAR)
        peer.send(sender, str(number))
        assert other.accept(receiver) == str(number)
    few = 5 * CAPACITY - CAPACITY // 2
    peer.until(lambda: len(peer.outcomes) >= few, "the others have decided", FAR)
    stuck.vanish()
    peer.until(lambda: len(peer.outcomes) == 5 * CAPACITY, "all outcomes", FAR)
    assert set(peer.outcomes.values()) == {ACCEPTED}


def test_a_listener_that_has_room_again_gets_what_has_waited_for_it(
    peer: Peer, other: Peer, stuck: Peer
) -> None:
    late = stuck.receiver(MULTICAST)
    receiver = other.receiver(MULTICAST, credit=1000)
    sent = _fan_out(peer, other, receiver, CAPACITY + 7, False)
    stuck.grant(late, 1000)
    assert [stuck.accept(late) for _ in range(CAPACITY)] == [
        str(number) for number in range(CAPACITY)
    ]
    _fan_out(peer, other, receiver, 1, False)
    assert stuck.accept(late) == "0"
    assert len(peer.outcomes) == len(sent) + 1


def test_a_multicast_waits_where_nobody_has_room(peer: Peer, stuck: Peer) -> None:
    receiver = stuck.receiver(MULTICAST)
    sender = peer.sender(MULTICAST)
    while sender.credit:
        peer.send(sender, "wait")
    peer.round_trip()
    assert not peer.outcomes
    stuck.grant(receiver, 1000)
    for _ in range(CAPACITY):
        assert stuck.accept(receiver) == "wait"
    peer.until(lambda: len(peer.outcomes) == CAPACITY, "all outcomes", FAR)
    assert set(peer.outcomes.values()) == {ACCEPTED}


def test_a_multicast_of_many_megabytes_to_listeners_of_one_connection(
    peer: Peer, other: Peer
) -> None:
    """The copy of the first leaves no room for that of the second."""
    receivers = [other.receiver(MULTICAST) for _ in range(2)]
    sender = peer.sender(MULTICAST)
    delivery = sender.send(codec.encode("x" * 5_000_000))
    peer.until(lambda: not peer.endpoint.buffered, "it is sent", FAR)
    peer.round_trip()
    for receiver in receivers:
        other.grant(receiver, 1)
    other.until(lambda: any(other.messages.values()), "somebody has it", FAR)
    for receiver in receivers:
        for copy, _ in other.messages[receiver]:
            other.settle(copy)
    assert peer.outcome(delivery, FAR) == ACCEPTED


# -- odd peers -----------------------------------------------------------------


@pytest.mark.parametrize("address", [ANYCAST, MULTICAST])
def test_a_state_that_is_no_outcome_counts_as_a_loss(
    router: Router, peer: Peer, other: Peer, address: str
) -> None:
    receiver = other.receiver(address, credit=2)
    sender = peer.sender(address)
    first = peer.send(sender, "one")
    other.settle(other.take(receiver)[0], Outcome(0x23))
    assert peer.outcome(first, FAR).receiver_lost
    second = peer.send(sender, "two")
    other.settle(other.take(receiver)[0])
    assert peer.outcome(second, FAR) == ACCEPTED
    assert "Traceback" not in router.log()


def _limited(peer: Peer, address: str | None, size: int) -> Receiver:
    def limit(pn: proton.Link) -> None:
        pn.max_message_size = size

    link = peer.endpoint.receiver(address, limit)
    peer.until(lambda: link in peer.attached, "the link is attached", FAR)
    peer.grant(link, 100)
    return link


def test_a_message_larger_than_its_receiver_takes_is_rejected(
    router: Router, peer: Peer, other: Peer
) -> None:
    receiver = _limited(other, ANYCAST, 1000)
    sender = peer.sender(ANYCAST)
    large = peer.send(sender, "x" * 1000)
    small = peer.send(sender, "x" * 900)
    assert other.accept(receiver) == "x" * 900
    assert peer.outcome(small, FAR) == ACCEPTED
    outcome = peer.outcome(large, FAR)
    assert outcome.state == REJECTED.state
    assert outcome.condition == "amqp:link:message-size-exceeded"
    assert "1000 bytes" in (outcome.description or "")
    peer.send(sender, "x" * 1000, settled=True)
    peer.send(sender, "last", settled=True)
    assert other.accept(receiver) == "last"
    assert _missed(router, other) == {f"M{ANYCAST}": 2}


@pytest.mark.parametrize("settled", [True, False])
def test_a_multicast_too_large_for_one_reaches_the_others(
    peer: Peer, other: Peer, settled: bool
) -> None:
    limited = _limited(other, MULTICAST, 1000)
    receiver = other.receiver(MULTICAST, credit=5)
    sender = peer.sender(MULTICAST)
    delivery = peer.send(sender, "x" * 1000, settled=settled)
    assert other.accept(receiver) == "x" * 1000
    if not settled:
        assert peer.outcome(delivery, FAR).condition == (
            "amqp:link:message-size-exceeded"
        )
    peer.send(sender, "small", settled=True)
    assert other.accept(limited) == "small"


def test_the_end_of_sessions_costs_nothing_for_links_of_others(
    peer: Peer, other: Peer
) -> None:
    for number in range(2000):
        peer.endpoint.receiver(f"{ANYCAST}.{number}")
    peer.until(lambda: len(peer.attached) == 2000, "all links", FAR)
    sessions = [peer.endpoint.connection.session() for _ in range(500)]
    for session in sessions:
        session.open()
    peer.round_trip()
    other.round_trip()
    start = time.monotonic()
    for _ in range(20):
        other.round_trip()
    alone = time.monotonic() - start
    for session in sessions:
        session.close()
    peer.flush()
    start = time.monotonic()
    other.round_trip()
    # to look at each link for each session takes most of a minute
    assert time.monotonic() - start < 25 + alone
    peer.round_trip()


# -- what an answer to an attach shows ---------------------------------------------


def _wishes(pn: proton.Link) -> None:
    pn.source.filter.put_dict(
        {proton.symbol("selector"): proton.Described("selector", "colour = 'red'")}
    )
    pn.source.distribution_mode = proton.Terminus.DIST_MODE_COPY
    pn.source.durability = proton.Terminus.DELIVERIES
    pn.source.expiry_policy = proton.Terminus.EXPIRE_NEVER
    pn.source.timeout = 99
    pn.source.capabilities.put_object(proton.symbol("queue"))


@pytest.mark.parametrize("address", [ANYCAST, None])
def test_what_a_receiver_wishes_and_does_not_get_is_not_confirmed(
    peer: Peer, address: str | None
) -> None:
    link = peer.endpoint.receiver(address, _wishes)
    peer.until(lambda: link in peer.attached, "the link is attached", FAR)
    source = link.pn.remote_source
    assert source.address == address if address else source.address
    assert source.dynamic == (address is None)
    assert not source.filter.next() and not source.capabilities.next()
    assert source.distribution_mode == proton.Terminus.DIST_MODE_UNSPECIFIED
    assert source.durability == proton.Terminus.NONDURABLE
    assert source.expiry_policy != proton.Terminus.EXPIRE_NEVER
    assert source.timeout == 0
    assert link.pn.remote_target.address == link.pn.target.address


def test_what_a_sender_wishes_and_does_not_get_is_not_confirmed(peer: Peer) -> None:
    pn = peer.endpoint.session.sender("wishes")
    pn.target.address = ANYCAST
    pn.target.durability = proton.Terminus.DELIVERIES
    pn.target.expiry_policy = proton.Terminus.EXPIRE_NEVER
    pn.open()
    peer.until(lambda: pn.state & proton.Endpoint.REMOTE_ACTIVE, "attached", FAR)
    target = pn.remote_target
    assert target.address == ANYCAST
    assert target.durability == proton.Terminus.NONDURABLE
    assert target.expiry_policy != proton.Terminus.EXPIRE_NEVER


def test_a_peer_cannot_write_lines_into_the_log(router: Router) -> None:
    def name(transport: proton.Transport, connection: proton.Connection) -> None:
        connection.container = "x)\n2026-01-01 00:00:00,000 WARNING forged" + "y" * 5000

    with Peer(router.port, setup=name) as peer:
        peer.endpoint.receiver("amqp://x\nERROR forged/$management")
        peer.until(lambda: peer.detached, "the link is refused", FAR)
        peer.endpoint.close(proton.Condition("amqp:bye", "\nERROR forged"))
        peer.until(lambda: peer.ended is not None, "closed", FAR)
    peer_lines = [line for line in router.log().splitlines() if "forged" in line]
    assert len(peer_lines) >= 2
    assert all("connection " in line and len(line) < 1000 for line in peer_lines)


def test_a_listener_that_was_stuck_is_waited_for_again(
    router: Router, peer: Peer, other: Peer, stuck: Peer
) -> None:
    late = stuck.receiver(MULTICAST)
    receiver = other.receiver(MULTICAST, credit=1000)
    _fan_out(peer, other, receiver, CAPACITY + 1, settled=True)
    assert _missed(router, stuck) == {f"M{MULTICAST}": 1}
    late.grant(1000)
    for number in range(CAPACITY):
        assert stuck.accept(late) == str(number)
    _fan_out(peer, other, receiver, 2 * CAPACITY, settled=True)
    for number in range(2 * CAPACITY):
        assert stuck.accept(late) == str(number)
    assert _missed(router, stuck) == {f"M{MULTICAST}": 1}
