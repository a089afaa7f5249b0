# SPDX-License-Identifier: Apache-2.0
"""Messages that their senders give up, or whose time is up: they go nowhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from oslo_messaging import MessagingTimeout
from tests.functional.peer import Peer, text
from tests.functional.routers import Router
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import until

from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    RELEASED,
    Delivery,
    Receiver,
    Sender,
)

pytestmark = pytest.mark.embedded

ANYCAST = "openstack.org/om/rpc/anycast/openstack/giving-up"
MULTICAST = "openstack.org/om/rpc/multicast/openstack/giving-up"
FAR = 60.0


@pytest.fixture
def peer(own_bus: Router) -> Iterator[Peer]:
    with Peer(own_bus.port) as made:
        yield made


@pytest.fixture
def other(own_bus: Router) -> Iterator[Peer]:
    with Peer(own_bus.port) as made:
        yield made


def _send(
    peer: Peer, sender: Sender, bodies: str, to: str | None = None
) -> list[Delivery]:
    """Send a message of each letter, and see that the router has read the socket."""
    sent = [sender.send(codec.encode(body, to=to)) for body in bodies]
    peer.flush()
    peer.round_trip()
    return [delivery for delivery in sent if delivery is not None]


def _forget(peer: Peer, *deliveries: Delivery) -> None:
    for delivery in deliveries:
        assert isinstance(delivery.link, Sender)
        delivery.link.forget(delivery)
    peer.flush()
    peer.round_trip()


def _arrived(other: Peer, *receivers: Receiver) -> list[list[str]]:
    """What has come so far on each link."""
    other.round_trip()
    return [[text(data) for _, data in other.messages[link]] for link in receivers]


# -- withdrawn -----------------------------------------------------------------


def test_a_message_that_waits_for_a_receiver_is_dropped(
    peer: Peer, other: Peer
) -> None:
    """One is held by the router, the others wait unread; a stranger may be first."""
    receiver = other.receiver(ANYCAST)
    sent = _send(peer, peer.sender(ANYCAST), "abcdef")
    _forget(peer, sent[0], sent[1], sent[3])
    other.grant(receiver, 10)
    assert _arrived(other, receiver) == [["c", "e", "f"]]
    for delivery, _ in other.messages[receiver]:
        other.settle(delivery)
    assert [peer.outcome(sent[n]) for n in (2, 4, 5)] == [ACCEPTED] * 3


def test_what_was_withdrawn_costs_no_credit(peer: Peer, other: Peer) -> None:
    receiver = other.receiver(ANYCAST)
    sender = peer.sender(ANYCAST)
    for _ in range(3):
        _forget(peer, *_send(peer, sender, "x" * sender.credit))
        peer.until(lambda: sender.credit > 200, "the credit comes back", FAR)
    other.grant(receiver, 1000)
    assert _arrived(other, receiver) == [[]]


def test_calls_that_a_paused_router_finds_given_up_are_not_forwarded(
    peer: Peer, other: Peer, own_bus: Router
) -> None:
    """It reads the messages and their withdrawal at once, from many callers."""
    receiver = other.receiver(ANYCAST, credit=100)
    sender = peer.sender(ANYCAST)
    own_bus.pause()
    try:
        sent = [sender.send(codec.encode(body)) for body in "abcd"]
        peer.flush()
        for delivery in sent[:3]:
            assert delivery is not None
            sender.forget(delivery)
        peer.flush()
    finally:
        own_bus.resume()
    assert other.accept(receiver) == "d"
    assert peer.outcome(sent[3]) == ACCEPTED
    assert _arrived(other, receiver) == [[]]


def test_a_reply_that_waits_for_its_caller_is_dropped(peer: Peer, other: Peer) -> None:
    receiver = other.receiver(None)
    to = receiver.pn.remote_source.address
    sent = _send(peer, peer.sender(None), "abc", to)
    _forget(peer, sent[0], sent[2])
    other.grant(receiver, 10)
    assert _arrived(other, receiver) == [["b"]]


def test_a_multicast_that_waits_is_dropped_and_settled_where_it_is(
    peer: Peer, other: Peer
) -> None:
    quick, slow = other.receiver(MULTICAST, credit=9), other.receiver(MULTICAST)
    sent = _send(peer, peer.sender(MULTICAST), "ab")
    taken, _ = other.take(quick)
    _forget(peer, sent[0])
    other.until(lambda: taken in other.withdrawn, "it is settled at its receiver")
    other.grant(slow, 9)
    assert _arrived(other, slow) == [["b"]]


@pytest.mark.parametrize("end", ["close", "vanish", "detach"])
@pytest.mark.parametrize("kind", ["reply", "multicast"])
def test_what_waits_for_credit_goes_with_its_sender(
    peer: Peer, other: Peer, own_bus: Router, kind: str, end: str
) -> None:
    quick = other.receiver(MULTICAST, credit=1)
    slow = other.receiver(None if kind == "reply" else MULTICAST)
    to = slow.pn.remote_source.address
    with Peer(own_bus.port) as gone:
        sender = gone.sender(None if kind == "reply" else MULTICAST)
        _send(gone, sender, "a", to)
        if kind == "multicast":
            assert other.take(quick)[1] == "a"
        if end == "detach":
            gone.detach(sender)
        else:
            getattr(gone, end)()
        other.round_trip()
        other.grant(slow, 5)
        assert _arrived(other, slow) == [[]]
    _send(peer, peer.sender(None), "b", to)
    assert other.accept(slow) == "b"
    assert "internal error" not in own_bus.log()


def test_calls_given_up_behind_a_busy_server_are_not_executed(own_bus: Router) -> None:
    """Callers that wait have used up its credit; the calls of others are held."""
    service = Service()
    with Rpc(own_bus.url()) as rpc, ThreadPoolExecutor(20) as pool:
        rpc.server(service, transport=rpc.transport(rpc_server_credit=1), workers=1)
        patient, hasty = rpc.client(timeout=FAR), rpc.client(timeout=1)

        def forwarded() -> int:
            rows = own_bus.addresses(rpc.topic).values()
            return sum(int(row["deliveriesEgress"]) for row in rows)

        waiting = []
        for value in range(2):
            waiting.append(pool.submit(patient.call, {}, "wait", value=value))
            until(lambda: forwarded() == len(waiting), "the server has it", FAR)
        given_up = [
            pool.submit(hasty.call, {}, "wait", value=value) for value in range(2, 12)
        ]
        for call in given_up:
            assert isinstance(call.exception(FAR), MessagingTimeout)
        service.gate.set()
        assert [call.result(FAR) for call in waiting] == [0, 1]
        assert patient.call({}, "echo", value="last") == "last"
    assert service.seen == [0, 1, "last"]


# -- too late --------------------------------------------------------------------


def _late(body: str, to: str | None = None, ttl: float = 0.5) -> bytes:
    return codec.encode(body, to=to, ttl=ttl)


def test_a_message_is_returned_when_its_time_is_up(peer: Peer) -> None:
    peer.receiver(ANYCAST)
    sender = peer.sender(ANYCAST)
    delivery = sender.send(_late("late"))
    assert peer.outcome(delivery, FAR) == RELEASED


def test_what_has_waited_too_long_is_not_forwarded(peer: Peer, other: Peer) -> None:
    """Held, unread, in a queue for a caller or for a listener: settled or not."""
    replies, slow = other.receiver(None), other.receiver(MULTICAST)
    busy = other.receiver(ANYCAST)
    to = replies.pn.remote_source.address
    links = [
        (peer.sender(ANYCAST), ANYCAST),
        (peer.sender(MULTICAST), MULTICAST),
        (peer.sender(None), to),
    ]
    for sender, address in links:
        for settled in (True, False):
            sender.send(_late("late", to=address), settled)
        sender.send(_late("in time", to=address, ttl=600))
        sender.send(codec.encode("for ever", to=address))
    peer.flush()
    peer.round_trip()
    start = time.monotonic()
    peer.until(lambda: time.monotonic() > start + 1, "their time is up")
    for receiver in (replies, slow, busy):
        other.grant(receiver, 10)
    assert _arrived(other, replies, slow, busy) == [["in time", "for ever"]] * 3
    peer.until(lambda: len(peer.outcomes) == 3, "the late ones come back", FAR)
    assert set(peer.outcomes.values()) == {RELEASED}


def test_messages_that_are_too_late_make_room_for_others(
    peer: Peer, other: Peer, own_bus: Router
) -> None:
    receiver = other.receiver(None)
    to = receiver.pn.remote_source.address
    relay = peer.sender(None)
    for _ in range(250):  # as many as wait for one caller
        relay.send(_late("late", to=to), settled=True)
        peer.step(0)
    peer.round_trip()
    start = time.monotonic()
    peer.until(lambda: time.monotonic() > start + 1, "their time is up")
    peer.until(lambda: relay.credit > 0, "credit")
    relay.send(codec.encode("in time", to=to), settled=True)
    peer.flush()
    peer.round_trip()
    with own_bus.management() as management:
        (waiting,) = (
            row["undeliveredCount"]
            for row in management._page("io.skupper.router.router.link", 0)
            if row["owningAddr"] == f"L{to}"
        )
    assert waiting == 1
    other.grant(receiver, 10)
    assert _arrived(other, receiver) == [["in time"]]


@pytest.mark.parametrize("ttl", [0, 0xFFFFFFFF / 1000])
def test_the_time_counts_from_the_arrival_at_the_router(
    peer: Peer, other: Peer, ttl: float
) -> None:
    receiver = other.receiver(ANYCAST, credit=1)
    delivery = peer.sender(ANYCAST).send(_late("at once", ttl=ttl))
    peer.flush()
    assert other.accept(receiver) == "at once"
    assert peer.outcome(delivery) == ACCEPTED


# -- aborted ---------------------------------------------------------------------


def test_messages_broken_off_cost_no_credit(peer: Peer, other: Peer) -> None:
    receiver = other.receiver(ANYCAST, credit=1000)
    sender = peer.sender(ANYCAST)
    for _ in range(2 * sender.credit):
        peer.until(lambda: sender.credit > 0, "credit")
        delivery = sender.send(codec.encode("x" * 200_000))
        assert delivery is not None
        view = peer.endpoint.output()
        peer.endpoint.written(peer.socket.send(view))
        sender.forget(delivery)
        peer.step(0)
    peer.until(lambda: sender.credit > 0, "credit")
    last = peer.send(sender, "whole")

    def arrives() -> bool:
        peer.step(0)  # the session's window may have been used up
        return bool(other.messages[receiver])

    other.until(arrives, "it arrives", FAR)
    assert other.accept(receiver) == "whole"
    assert peer.outcome(last) == ACCEPTED
