# SPDX-License-Identifier: Apache-2.0
"""What routers do with messages: the embedded one as the native one, test by test."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from tests.functional.peer import Peer
from tests.functional.routers import Router

from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    MODIFIED,
    RECEIVER_LOST,
    REJECTED,
    RELEASED,
    Outcome,
)

#: "At once", on a machine that is busy with other things, too.
SOON = 20.0


@pytest.fixture
def peer(bus: Router) -> Iterator[Peer]:
    with Peer(bus.port) as made:
        yield made


@pytest.fixture
def other(bus: Router) -> Iterator[Peer]:
    with Peer(bus.port) as made:
        yield made


def _address(kind: str) -> str:
    return f"openstack.org/om/rpc/{kind}/openstack/{uuid.uuid4().hex}"


@pytest.fixture
def anycast() -> str:
    return _address("anycast")


@pytest.fixture
def unicast() -> str:
    return _address("unicast")


@pytest.fixture
def multicast() -> str:
    return _address("multicast")


# -- credit ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["anycast", "unicast", "multicast"])
def test_senders_get_credit_when_somebody_listens(
    peer: Peer, other: Peer, kind: str
) -> None:
    address = _address(kind)
    sender = peer.sender(address, credit=False)
    peer.round_trip()
    assert sender.credit == 0
    other.receiver(address)
    peer.until(lambda: sender.credit > 0, "credit")
    assert sender.credit <= 250


def test_credit_is_of_no_use_when_the_last_receiver_has_gone(
    peer: Peer, other: Peer, anycast: str
) -> None:
    receiver = other.receiver(anycast, credit=10)
    sender = peer.sender(anycast)
    other.detach(receiver)
    delivery = peer.send(sender, "nobody is there")
    assert peer.outcome(delivery, SOON) == RELEASED
    # a sender that answers a drain has none left
    peer.until(lambda: sender.draining, "the router drains the link")
    sender.drained()
    peer.round_trip()
    assert sender.credit == 0
    other.receiver(anycast, credit=10)
    peer.until(lambda: sender.credit > 0, "credit again")


def test_credit_that_is_given_up_late_is_given_anew(
    peer: Peer, other: Peer, anycast: str
) -> None:
    receiver = other.receiver(anycast, credit=10)
    sender = peer.sender(anycast)
    other.detach(receiver)
    peer.until(lambda: sender.draining, "the router drains the link")
    other.receiver(anycast, credit=10)
    other.round_trip()
    # the answer to the drain is on its way while the next receiver comes
    sender.drained()
    peer.flush()
    assert sender.credit == 0
    peer.until(lambda: sender.credit == 250, "credit again")


def test_credit_lasts_as_long_as_messages_are_settled(
    peer: Peer, other: Peer, anycast: str
) -> None:
    receiver = other.receiver(anycast, credit=2000)
    sender = peer.sender(anycast)
    for number in range(1000):
        peer.until(lambda: sender.credit > 0, "credit")
        delivery = peer.send(sender, str(number))
        assert other.accept(receiver) == str(number)
    assert peer.outcome(delivery) == ACCEPTED


def test_unsettled_messages_use_up_the_credit(
    peer: Peer, other: Peer, anycast: str
) -> None:
    receiver = other.receiver(anycast, credit=1000)
    sender = peer.sender(anycast)
    while sender.credit:
        peer.send(sender)
    peer.round_trip()
    deliveries = [other.take(receiver)[0] for _ in range(250)]
    peer.round_trip()
    assert sender.credit == 0
    for delivery in deliveries:
        other.settle(delivery)
    peer.until(lambda: sender.credit > 0, "credit for settled messages")


def test_presettled_messages_give_their_credit_back(
    peer: Peer, other: Peer, anycast: str
) -> None:
    receiver = other.receiver(anycast, credit=1000)
    sender = peer.sender(anycast)
    for number in range(600):
        peer.until(lambda: sender.credit > 0, "credit")
        peer.send(sender, str(number), settled=True)
        delivery, body = other.take(receiver)
        assert (delivery, body) == (None, str(number))


def test_receivers_may_drain(peer: Peer, other: Peer, anycast: str) -> None:
    receiver = other.receiver(anycast, credit=7)
    sender = peer.sender(anycast)
    peer.send(sender, "one")
    assert other.accept(receiver) == "one"
    receiver.drain()
    other.until(lambda: receiver.credit == 0, "the credit comes back")
    other.grant(receiver, 1)
    peer.send(sender, "two")
    assert other.accept(receiver) == "two"


# -- outcomes --------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [
        ACCEPTED,
        RELEASED,
        REJECTED,
        REJECTED._replace(condition="test:no", description="not like this"),
        MODIFIED,
        MODIFIED._replace(failed=True),
        MODIFIED._replace(undeliverable=True),
        MODIFIED._replace(failed=True, undeliverable=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["anycast", "unicast"])
def test_outcomes_pass_through(
    peer: Peer, other: Peer, router_kind: str, kind: str, outcome: Outcome
) -> None:
    address = _address(kind)
    receiver = other.receiver(address, credit=1)
    delivery = peer.send(peer.sender(address), "decide")
    other.settle(other.take(receiver)[0], outcome)
    if router_kind == "native" and outcome.state == MODIFIED.state:
        outcome = outcome._replace(failed=True)  # whatever the receiver has said
    assert peer.outcome(delivery) == outcome


def test_a_message_stays_unsettled_until_its_receiver_decides(
    peer: Peer, other: Peer, anycast: str
) -> None:
    receiver = other.receiver(anycast, credit=2)
    sender = peer.sender(anycast)
    first, second = peer.send(sender, "1"), peer.send(sender, "2")
    held = other.take(receiver)[0]
    other.settle(other.take(receiver)[0])
    assert peer.outcome(second) == ACCEPTED
    peer.round_trip()
    assert first not in peer.outcomes
    other.settle(held)
    assert peer.outcome(first) == ACCEPTED


@pytest.mark.parametrize("end", ["vanish", "detach", "close"])
@pytest.mark.parametrize("kind", ["anycast", "unicast", "multicast"])
def test_messages_of_a_lost_receiver_are_modified_at_once(
    peer: Peer, other: Peer, kind: str, end: str
) -> None:
    address = _address(kind)
    receiver = other.receiver(address, credit=1)
    delivery = peer.send(peer.sender(address), "lost")
    other.take(receiver)
    start = time.monotonic()
    if end == "detach":
        other.detach(receiver)
    else:
        getattr(other, end)()
    outcome = peer.outcome(delivery, SOON)
    assert outcome == RECEIVER_LOST
    assert time.monotonic() - start < SOON


@pytest.mark.parametrize("kind", ["anycast", "unicast"])
def test_messages_that_were_never_forwarded_are_released(
    peer: Peer, other: Peer, kind: str
) -> None:
    address = _address(kind)
    receiver = other.receiver(address, credit=1)
    sender = peer.sender(address)
    sent = [peer.send(sender, str(number)) for number in range(3)]
    other.take(receiver)
    peer.round_trip()
    other.vanish()
    assert [peer.outcome(item, SOON) for item in sent] == [
        RECEIVER_LOST,
        RELEASED,
        RELEASED,
    ]


def test_a_message_is_never_sent_to_a_second_receiver(
    peer: Peer, other: Peer, bus: Router, anycast: str
) -> None:
    receiver = other.receiver(anycast, credit=1)
    delivery = peer.send(peer.sender(anycast), "once")
    other.take(receiver)
    with Peer(bus.port) as third:
        spare = third.receiver(anycast, credit=10)
        other.vanish()
        assert peer.outcome(delivery, SOON) == RECEIVER_LOST
        third.round_trip()
        assert not third.messages[spare]


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("kind", ["anycast", "unicast", "multicast"])
def test_settlement_arrives_as_it_was_sent(
    peer: Peer, other: Peer, kind: str, settled: bool
) -> None:
    address = _address(kind)
    receiver = other.receiver(address, credit=1)
    peer.send(peer.sender(address), "as it is", settled=settled)
    delivery, body = other.take(receiver)
    assert body == "as it is"
    assert (delivery is None) == settled


@pytest.mark.parametrize("kind", ["anycast", "unicast", "multicast"])
def test_messages_of_a_lost_sender_are_settled_at_their_receiver(
    peer: Peer, other: Peer, kind: str
) -> None:
    address = _address(kind)
    receiver = other.receiver(address, credit=2)
    peer.send(peer.sender(address), "its sender will be gone")
    delivery, _ = other.take(receiver)
    peer.vanish()
    other.until(lambda: delivery in other.withdrawn, "the delivery is settled")
    other.settle(delivery)  # too late, and no error
    other.round_trip()


def test_a_sender_may_settle_first(peer: Peer, other: Peer, anycast: str) -> None:
    receiver = other.receiver(anycast, credit=2)
    sender = peer.sender(anycast)
    delivery = peer.send(sender, "never mind")
    taken, _ = other.take(receiver)
    assert delivery is not None
    sender.forget(delivery)
    peer.flush()
    other.until(lambda: taken in other.withdrawn, "the delivery is settled")
    last = peer.send(sender, "next")
    assert other.accept(receiver) == "next"
    assert peer.outcome(last) == ACCEPTED


# -- distribution ----------------------------------------------------------


def test_multicast_reaches_every_receiver(
    peer: Peer, other: Peer, multicast: str
) -> None:
    receivers = [other.receiver(multicast, credit=5) for _ in range(3)]
    receivers.append(peer.receiver(multicast, credit=5))
    sender = peer.sender(multicast)
    for settled in (True, False):
        peer.send(sender, f"all of you: {settled}", settled=settled)
        for receiver in receivers[:3]:
            assert other.accept(receiver) == f"all of you: {settled}"
        assert peer.accept(receivers[3]) == f"all of you: {settled}"


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([ACCEPTED, ACCEPTED], ACCEPTED.state),
        ([ACCEPTED, RELEASED], ACCEPTED.state),
        ([RELEASED, ACCEPTED], ACCEPTED.state),
        ([ACCEPTED, MODIFIED], ACCEPTED.state),
        ([ACCEPTED, REJECTED], REJECTED.state),
        ([REJECTED, ACCEPTED], REJECTED.state),
        ([RELEASED, MODIFIED], MODIFIED.state),
        ([RELEASED, RELEASED], RELEASED.state),
    ],
    ids=lambda value: (
        "+".join(map(str, value)) if isinstance(value, list) else str(value)
    ),
)
def test_one_outcome_stands_for_all_receivers_of_a_multicast(
    peer: Peer, other: Peer, multicast: str, outcomes: list[Outcome], expected: int
) -> None:
    receivers = [other.receiver(multicast, credit=1) for _ in outcomes]
    delivery = peer.send(peer.sender(multicast), "what do you say")
    taken = [other.take(receiver)[0] for receiver in receivers]
    other.settle(taken[0], outcomes[0])
    other.round_trip()
    peer.round_trip()
    assert delivery not in peer.outcomes
    other.settle(taken[1], outcomes[1])
    assert peer.outcome(delivery).state == expected


def test_a_multicast_is_accepted_although_one_receiver_was_lost(
    peer: Peer, other: Peer, bus: Router, multicast: str
) -> None:
    receiver = other.receiver(multicast, credit=1)
    with Peer(bus.port) as third:
        lost = third.receiver(multicast, credit=1)
        delivery = peer.send(peer.sender(multicast), "hello")
        third.take(lost)
        assert other.accept(receiver) == "hello"
    assert peer.outcome(delivery, SOON) == ACCEPTED


def test_receivers_of_a_unicast_address_take_turns(
    peer: Peer, other: Peer, unicast: str
) -> None:
    receivers = [other.receiver(unicast, credit=100) for _ in range(3)]
    sender = peer.sender(unicast)
    for number in range(30):
        peer.send(sender, str(number), settled=True)
    inboxes = [other.messages[receiver] for receiver in receivers]
    other.until(lambda: sum(map(len, inboxes)) == 30, "all messages")
    assert [len(inbox) for inbox in inboxes] == [10, 10, 10]


def test_the_receiver_with_the_least_to_do_gets_the_next_message(
    peer: Peer, other: Peer, anycast: str
) -> None:
    receivers = [other.receiver(anycast, credit=100) for _ in range(3)]
    sender = peer.sender(anycast)
    for number in range(12):
        peer.send(sender, str(number))
    inboxes = [other.messages[receiver] for receiver in receivers]
    other.until(lambda: sum(map(len, inboxes)) == 12, "all messages")
    assert [len(inbox) for inbox in inboxes] == [4, 4, 4]
    for _ in range(4):
        other.accept(receivers[1])
    other.round_trip()
    for number in range(4):
        peer.send(sender, str(number))
    other.until(lambda: len(inboxes[1]) == 4, "four more for the idle one")


# -- replies ---------------------------------------------------------------


def test_dynamic_addresses_are_unique_and_not_to_be_guessed(peer: Peer) -> None:
    addresses = [peer.receiver(None).pn.remote_source.address for _ in range(50)]
    assert len(set(addresses)) == 50
    assert all(len(address) >= 15 for address in addresses)


def test_an_anonymous_relay_is_offered(peer: Peer) -> None:
    assert peer.endpoint.relays_anonymously


@pytest.mark.parametrize("settled", [True, False])
def test_replies_reach_their_dynamic_address(
    peer: Peer, other: Peer, settled: bool
) -> None:
    replies = peer.receiver(None, credit=1)
    relay = other.sender(None)
    delivery = other.send(
        relay, "reply", to=replies.pn.remote_source.address, settled=settled
    )
    assert peer.accept(replies) == "reply"
    if not settled:
        assert other.outcome(delivery) == ACCEPTED


def test_a_sender_may_attach_to_a_dynamic_address(peer: Peer, other: Peer) -> None:
    replies = peer.receiver(None, credit=1)
    sender = other.sender(replies.pn.remote_source.address)
    other.send(sender, "reply")
    assert peer.accept(replies) == "reply"


@pytest.mark.parametrize("kind", ["anycast", "unicast", "multicast"])
def test_a_relay_distributes_as_the_address_wants_it(
    peer: Peer, other: Peer, kind: str
) -> None:
    address = _address(kind)
    receivers = [other.receiver(address, credit=5) for _ in range(2)]
    relay = peer.sender(None)
    delivery = peer.send(relay, "relayed", to=address)
    inboxes = [other.messages[receiver] for receiver in receivers]
    expected = 2 if kind == "multicast" else 1
    other.until(lambda: sum(map(len, inboxes)) == expected, "the message")
    for receiver in receivers:
        if other.messages[receiver]:
            other.accept(receiver)
    assert peer.outcome(delivery) == ACCEPTED


@pytest.mark.parametrize("kind", ["anycast", "multicast"])
def test_relayed_messages_to_nobody_are_released(peer: Peer, kind: str) -> None:
    relay = peer.sender(None)
    dropped = peer.send(relay, "nobody", to=_address(kind), settled=True)
    delivery = peer.send(relay, "nobody", to=_address(kind))
    assert dropped is None
    assert peer.outcome(delivery, SOON) == RELEASED
    assert relay.credit > 0


def test_replies_to_a_caller_that_has_gone_are_released(
    peer: Peer, other: Peer
) -> None:
    replies = peer.receiver(None, credit=1)
    address = replies.pn.remote_source.address
    relay = other.sender(None)
    peer.vanish()
    other.until(
        lambda: other.outcome(other.send(relay, "late", to=address)) == RELEASED,
        "the address is gone",
    )


# -- size ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["anycast", "multicast", "reply"])
def test_messages_of_twelve_megabytes_pass(peer: Peer, other: Peer, kind: str) -> None:
    body = "x" * 12_000_000
    if kind == "reply":
        receiver = other.receiver(None, credit=2)
        sender, to = peer.sender(None), receiver.pn.remote_source.address
    else:
        to = _address(kind)
        receiver = other.receiver(to, credit=2)
        sender = peer.sender(to)
    for _ in range(2):
        delivery = sender.send(codec.encode(body, to=to))
        while peer.endpoint.buffered or not other.messages[receiver]:
            peer.step(0)
            other.step(0)
        assert other.accept(receiver) == body
        peer.until(lambda: delivery in peer.outcomes, "accepted")  # noqa: B023


# -- who it is -------------------------------------------------------------


def test_it_introduces_itself_as_a_router(peer: Peer) -> None:
    properties = peer.endpoint.remote_properties
    assert properties["product"] not in ("", "qpid-cpp")
    assert properties["version"]
    assert peer.endpoint.connection.remote_container
