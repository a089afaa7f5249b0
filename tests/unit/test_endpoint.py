# SPDX-License-Identifier: Apache-2.0
"""Two endpoints that talk without a network, and endpoints that hear nonsense."""

from __future__ import annotations

import gc
import random
import struct
import time
import weakref
from typing import Any

import proton
import pytest
from tests import work

from hybrid_messaging.protocol import endpoint as endpoint_module
from hybrid_messaging.protocol import proton_c
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    MODIFIED,
    NO_OUTCOME,
    RECEIVER_LOST,
    REJECTED,
    RELEASED,
    Delivery,
    Endpoint,
    Excessive,
    Link,
    Outcome,
    Receiver,
    Sender,
)


class Owner:
    """Remembers what its endpoint tells, and grants links what they ask for."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.links: list[Link] = []
        self.messages: list[tuple[Delivery | None, bytes]] = []
        self.outcomes: list[Outcome] = []

    def names(self) -> list[str]:
        return [event[0] for event in self.told]

    def on_open(self, endpoint: Endpoint) -> None:
        self.told.append(("open",))

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        self.told.append(("close", condition))

    def on_link_open(self, link: Link) -> None:
        self.told.append(("link open",))
        self.links.append(link)
        if not link.local:
            link.pn.source.copy(link.pn.remote_source)
            link.pn.target.copy(link.pn.remote_target)
            link.pn.open()

    def on_link_close(self, link: Link, condition: str) -> None:
        self.told.append(("link close", condition))
        link.close()

    def on_flow(self, link: Link) -> None:
        self.told.append(("flow", link.credit))

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        self.told.append(("message", len(data)))
        self.messages.append((delivery, data))

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        self.told.append(("outcome", outcome))
        self.outcomes.append(outcome)

    def on_withdrawn(self, delivery: Delivery) -> None:
        self.told.append(("withdrawn", delivery.context))


class Pair:
    """A client and a server, and the wires between them."""

    def __init__(self, **server: Any) -> None:
        self.a, self.b = Owner(), Owner()
        self.client = Endpoint(self.a, "client")
        self.server = Endpoint(self.b, "server", server=True, **server)
        self.client.open()
        self.server.open()
        self.pump()

    def pump(self, chunk: int = 1 << 20) -> None:
        """Carry bytes to and fro until there are none."""
        busy = True
        while busy:
            busy = False
            for source, sink in (
                (self.client, self.server),
                (self.server, self.client),
            ):
                while view := source.output():
                    data = bytes(view[:chunk])
                    source.written(len(data))
                    sink.receive(data)
                    busy = True

    def link(self, credit: int = 10) -> tuple[Sender, Receiver]:
        """A link from the client to the server."""
        sender = self.client.sender("address")
        self.pump()
        receiver = self.b.links[-1]
        assert isinstance(receiver, Receiver)
        if credit:
            receiver.grant(credit)
        self.pump()
        return sender, receiver


@pytest.fixture
def pair() -> Pair:
    return Pair()


# -- connections -----------------------------------------------------------


def test_both_ends_open(pair: Pair) -> None:
    assert pair.a.told == [("open",)]
    assert pair.b.told == [("open",)]
    assert pair.client.opened and pair.server.opened
    assert pair.server.connection.remote_container == "client"


def test_properties_and_capabilities_arrive() -> None:
    def setup(transport: proton.Transport, connection: proton.Connection) -> None:
        connection.properties = {proton.symbol("product"): "thing", "plain": 1}
        connection.offered_capabilities = [proton.symbol("ANONYMOUS-RELAY")]

    pair = Pair(setup=setup)
    assert pair.client.remote_properties == {"product": "thing", "plain": 1}
    assert pair.client.relays_anonymously
    assert not pair.server.relays_anonymously
    assert pair.server.remote_properties == {}


@pytest.mark.parametrize(("pairs", "fits"), [(31, True), (32, False)])
def test_properties_have_a_bounded_number_of_values(pairs: int, fits: bool) -> None:
    said = {str(number): True for number in range(pairs)}

    def setup(transport: proton.Transport, connection: proton.Connection) -> None:
        connection.properties = said

    client = Pair(setup=setup).client
    if fits:
        assert client.remote_properties == said
    else:
        with pytest.raises(Excessive, match="more than 64 values"):
            client.remote_properties  # noqa: B018


def _open(field: int, value: bytes) -> bytes:
    """A protocol header, and an Open with a value in one of its fields."""
    fields = b"\xa1\x01x" + b"\x40" * (field - 1) + value
    body = b"\x00\x53\x10\xd0" + struct.pack(">II", len(fields) + 4, field + 1) + fields
    return b"AMQP\x00\x01\x00\x00" + struct.pack(">IBBH", len(body) + 8, 2, 0, 0) + body


@pytest.mark.parametrize(
    ("field", "name"), [(7, "relays_anonymously"), (9, "remote_properties")]
)
@pytest.mark.parametrize(
    "value",
    [
        b"\xf0" + struct.pack(">II", 5, 2**31 - 1) + b"\x40",
        b"\xd0" + struct.pack(">II", 30_004, 30_000) + b"\x45" * 30_000,
        b"\xd1" + struct.pack(">II", 30_004, 30_000) + b"\x40" * 30_000,
    ],
    ids=["lying array", "list", "map"],
)
def test_a_field_of_many_values_is_not_converted(
    field: int, name: str, value: bytes
) -> None:
    server = Endpoint(Owner(), "server", server=True)
    server.receive(_open(field, value))
    assert server.opened

    def convert() -> None:
        with pytest.raises(Excessive):
            getattr(server, name)

    assert work.lines(convert) < 2000
    assert work.allocated(convert) < 64 * 1024


def test_nested_and_unreadable_properties_are_no_reason_to_fail() -> None:
    server = Endpoint(Owner(), "server", server=True)
    server.receive(_open(9, b"\xa1\x02\xff\xfe"))
    assert server.remote_properties == {}
    assert server.remote_product is None


@pytest.mark.parametrize(
    ("product", "read"),
    [(proton.symbol("thing"), "thing"), ("thing", "thing"), (7, None), ([7], None)],
)
def test_the_product_is_a_text_or_unknown(product: Any, read: str | None) -> None:
    def setup(transport: proton.Transport, connection: proton.Connection) -> None:
        connection.properties = {proton.symbol("product"): product}

    assert Pair(setup=setup).client.remote_product == read


def test_a_close_is_answered(pair: Pair) -> None:
    pair.client.close()
    pair.pump()
    assert pair.b.told[-1] == ("close", "")
    assert pair.a.told[-1] == ("close", "")
    assert pair.client.closed and pair.server.closed


def test_a_close_tells_its_reason(pair: Pair) -> None:
    pair.server.close(proton.Condition("amqp:connection:forced", "going home"))
    pair.pump()
    assert pair.client.failure == "amqp:connection:forced: going home"
    assert pair.a.told[-1] == ("close", "amqp:connection:forced: going home")


def test_the_end_of_the_input_is_a_loss(pair: Pair) -> None:
    pair.client.end_of_input()
    assert pair.client.closed
    assert "aborted" in pair.client.failure
    assert pair.a.names().count("close") == 1


def test_the_end_of_the_output_is_a_loss(pair: Pair) -> None:
    pair.client.sender("address")
    pair.client.discard_output()
    pair.client.end_of_input()
    assert pair.client.finished
    assert not pair.client.output()
    assert pair.a.names().count("close") == 1


def test_bytes_may_come_one_by_one() -> None:
    pair = Pair()
    sender, _ = pair.link()
    sender.send(b"x" * 3000)
    pair.pump(chunk=1)
    assert pair.b.messages[0][1] == b"x" * 3000


def test_silence_ends_the_connection() -> None:
    silent = Pair(idle_timeout=2).server
    began = now = time.monotonic()
    first = silent.tick(began)
    assert first is not None and began < first <= began + 2
    while not silent.closed and now < began + 10:
        now += 0.5
        silent.tick(now)
    assert silent.closed
    assert now <= began + 2.5
    assert "idle" in silent.failure


def test_silence_begins_with_the_last_byte() -> None:
    pair = Pair(idle_timeout=600)
    pair.server.tick(time.monotonic())
    pair.link()
    heard = time.monotonic()
    # however late it is looked next
    due = pair.server.tick(heard + 540)
    assert due == pytest.approx(heard + 600, abs=60)
    pair.server.tick(heard + 600.1)
    assert pair.server.closed
    assert "idle" in pair.server.failure


def test_signs_of_life_are_sent_as_the_peer_wishes() -> None:
    pair = Pair(idle_timeout=4)
    now = time.monotonic()
    due = pair.client.tick(now)
    assert due is not None and due <= now + 2
    assert not pair.client.output()
    pair.client.tick(now + 2.1)
    assert len(pair.client.output()) == 8, "an empty frame"


def test_without_idle_timeouts_nothing_is_due(pair: Pair) -> None:
    assert pair.client.tick(time.monotonic()) is None


# -- links -----------------------------------------------------------------


def test_links_of_both_directions(pair: Pair) -> None:
    sender = pair.client.sender("to")
    receiver = pair.client.receiver("from")
    pair.pump()
    there_receives, there_sends = pair.b.links
    assert isinstance(there_receives, Receiver) and not there_receives.local
    assert isinstance(there_sends, Sender)
    assert there_receives.pn.remote_target.address == "to"
    assert there_sends.pn.remote_source.address == "from"
    assert pair.a.links == [sender, receiver]


def test_a_dynamic_source_is_asked_for(pair: Pair) -> None:
    pair.client.receiver(None, prepare=lambda pn: setattr(pn.source, "timeout", 7))
    pair.pump()
    source = pair.b.links[0].pn.remote_source
    assert source.dynamic and source.address is None
    assert source.timeout == 7


def test_a_sender_without_address(pair: Pair) -> None:
    pair.client.sender(None)
    pair.pump()
    assert pair.b.links[0].pn.remote_target.address is None


def test_links_are_detached_with_the_reason(pair: Pair) -> None:
    sender, receiver = pair.link()
    receiver.close(proton.Condition("amqp:not-found", "no such thing"))
    pair.pump()
    assert pair.a.told[-1] == ("link close", "amqp:not-found: no such thing")
    assert sender.closed and receiver.closed
    sender.close()
    assert not pair.client._links and not pair.server._links


def test_a_link_can_be_attached_again(pair: Pair) -> None:
    for _ in range(3):
        sender, _ = pair.link()
        sender.send(b"data")
        pair.pump()
        sender.close()
        pair.pump()
    assert len(pair.b.messages) == 3


def test_the_end_of_a_session_detaches_its_links(pair: Pair) -> None:
    sender, receiver = pair.link()
    session = receiver.pn.session
    session.condition = proton.Condition("amqp:internal-error", "oops")
    session.close()
    pair.pump()
    assert ("link close", "amqp:internal-error: oops") in pair.a.told
    assert sender.closed
    sender, _ = pair.link()
    sender.send(b"again")
    pair.pump()
    assert pair.b.messages[-1][1] == b"again"


def test_the_end_of_a_session_looks_at_no_link_of_others(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        pair.client.sender(f"{number}")
    empty, apart = pair.client.connection.session(), pair.client.connection.session()
    empty.open()
    apart.open()
    apart.sender("apart").open()
    pair.pump()
    looked: list[Link] = []

    def spy(link: Link) -> Any:
        looked.append(link)
        return link._pn

    monkeypatch.setattr(Link, "pn", property(spy))
    empty.close()
    pair.pump()
    assert not looked
    apart.close()
    pair.pump()
    assert {link.raw for link in looked} == {pair.a.links[-1].raw, pair.b.links[-1].raw}
    assert pair.b.names().count("link close") == 1


def test_a_link_may_have_a_session_of_its_own(pair: Pair) -> None:
    shared = pair.client.sender("address")
    for number in range(3):
        apart = pair.client.sender("address", apart=True)
        pair.pump()
        receiver = pair.b.links[-1]
        assert isinstance(receiver, Receiver)
        assert apart.pn.session != shared.pn.session
        receiver.grant(1)
        pair.pump()
        apart.send(bytes([number]) * 100_000)
        pair.pump()
        (apart if number < 2 else receiver).close()
        pair.pump()
        assert sessions(pair) == (1, 1)
    assert [data[0] for _, data in pair.b.messages] == [0, 1, 2]
    assert not shared.closed
    del apart, receiver, shared
    gc.collect()
    pair.pump()


def sessions(pair: Pair) -> tuple[int, int]:
    """How many there are on each side."""

    def count(endpoint: Endpoint) -> int:
        found, number = endpoint.connection.session_head(0), 0
        while found is not None:
            found, number = found.next(0), number + 1
        return number

    return count(pair.client), count(pair.server)


@pytest.mark.parametrize(
    ("channel_max", "expected"),
    [(0, 1), (1, 1), (2, 2), (9, 5), (65535, 1 + endpoint_module.MAX_APART)],
)
def test_sessions_are_limited(channel_max: int, expected: int) -> None:
    def setup(transport: proton.Transport, _: proton.Connection) -> None:
        transport.channel_max = channel_max

    pair = Pair(setup=setup)
    pair.client.sender("shared")
    links = [pair.client.sender(f"{n}", apart=True) for n in range(100)]
    pair.pump()
    assert sessions(pair) == (expected, expected)
    assert not pair.client.closed
    assert len(pair.b.links) == 101
    for link in links:
        link.close()
    pair.pump()
    assert sessions(pair) == (1, 1)
    again = pair.client.sender("again", apart=True)
    pair.pump()
    assert again in pair.a.links


def test_the_end_of_a_session_detaches_all_that_share_it() -> None:
    def setup(transport: proton.Transport, _: proton.Connection) -> None:
        transport.channel_max = 2

    pair = Pair(setup=setup)
    links = [pair.client.sender(f"{n}", apart=True) for n in range(3)]
    pair.pump()
    assert sessions(pair) == (1, 1)
    pair.b.links[0].pn.session.close()
    pair.pump()
    assert all(link.closed for link in links)
    assert sessions(pair) == (0, 0)
    pair.client.sender("again", apart=True)
    pair.pump()
    assert sessions(pair) == (1, 1)


def test_what_one_session_does_not_take_holds_up_no_other(pair: Pair) -> None:
    stuck = pair.client.sender("stuck", apart=True)
    free, _ = pair.link()
    pair.pump()
    receiver = next(link for link in pair.b.links if link.pn.session != free.pn.session)
    assert isinstance(receiver, Receiver)
    receiver.paused = True
    receiver.grant(10)
    pair.pump()
    for _ in range(3):
        stuck.send(b"x" * endpoint_module.SESSION_WINDOW)
    pair.pump()
    free.send(b"free")
    pair.pump()
    assert pair.b.messages[-1][1] == b"free"


def test_drain_gives_credit_back(pair: Pair) -> None:
    sender, receiver = pair.link(credit=5)
    sender.send(b"one")
    receiver.drain()
    pair.pump()
    assert sender.draining
    sender.drained()
    pair.pump()
    assert receiver.credit == 0 and sender.credit == 0
    assert ("flow", 0) in pair.b.told


def test_messages_in_pieces_use_up_credit_at_once(pair: Pair) -> None:
    sender, _ = pair.link(credit=2)
    for left in (1, 0):
        sender.send(b"x" * 1_000_000)
        assert sender.credit == left
    pair.pump()
    assert sender.credit == 0
    assert len(pair.b.messages) == 2


def test_drain_leaves_a_message_in_pieces_its_credit(pair: Pair) -> None:
    sender, receiver = pair.link(credit=5)
    sender.send(b"x" * 1_000_000)
    receiver.drain()
    pair.server.output()
    pair.client.receive(bytes(pair.server.output()))
    pair.server.written(len(pair.server.output()))
    assert sender.draining
    sender.drained()
    pair.pump()
    assert [len(data) for _, data in pair.b.messages] == [1_000_000]
    assert receiver.credit == 0 and sender.credit == 0


# -- messages ----------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [1, 100, 65_000, 65_536, 65_537, 1_000_000, 20_000_000]
)
@pytest.mark.parametrize("settled", [True, False])
def test_messages_of_any_size_arrive_whole(
    pair: Pair, size: int, settled: bool
) -> None:
    sender, receiver = pair.link()
    data = random.Random(size).randbytes(size)
    delivery = sender.send(data, settled=settled)
    assert (delivery is None) is settled
    pair.pump()
    (arrived,) = pair.b.messages
    assert arrived[1] == data
    at_once = settled and size <= endpoint_module.PIECE
    assert (arrived[0] is None) is at_once
    assert receiver.unsettled == (not at_once)


def test_of_a_large_message_sent_settled_no_frame_is_settled(pair: Pair) -> None:
    """Some peers detach a link on which a delivery is settled between its frames."""
    sender, receiver = pair.link()
    assert sender.send(b"x" * 1_000_000, settled=True) is None
    assert sender.send(b"small", settled=True) is None
    pair.pump()
    (large, _), (small, _) = pair.b.messages
    assert large is not None and small is None
    receiver.settle(large, ACCEPTED)
    pair.pump()
    assert pair.a.outcomes == []
    assert sender.unsettled == 0 and receiver.unsettled == 0


def test_a_large_message_sent_settled_can_be_decided_before_all_of_it_is_there(
    pair: Pair,
) -> None:
    sender, receiver = pair.link()
    sender.send(b"x" * 1_000_000, settled=True)
    first = bytes(pair.client.output())
    pair.client.written(len(first))
    pair.server.receive(first)
    partial = proton_c.lib.pn_link_current(receiver.raw)
    proton_c.lib.pn_delivery_update(partial, RELEASED.state)
    proton_c.lib.pn_delivery_settle(partial)
    pair.client.receive(bytes(pair.server.output()))
    pair.pump()
    assert pair.a.outcomes == [] and sender.unsettled == 0
    assert not pair.client._unfinished


def test_several_large_messages_may_be_under_way(pair: Pair) -> None:
    first, _ = pair.link()
    second, _ = pair.link()
    for number in range(3):
        first.send(bytes([number]) * 300_000)
        second.send(bytes([number + 100]) * 300_000)
    pair.pump()
    assert sorted(data[0] for _, data in pair.b.messages) == [0, 1, 2, 100, 101, 102]
    assert all(len(set(data)) == 1 for _, data in pair.b.messages)


@pytest.mark.parametrize(
    "outcome",
    [
        ACCEPTED,
        RELEASED,
        MODIFIED,
        RECEIVER_LOST,
        Outcome(MODIFIED.state, failed=False, undeliverable=True),
        REJECTED,
        Outcome(REJECTED.state, condition="amqp:decode-error", description="what?"),
        Outcome(REJECTED.state, condition="amqp:decode-error"),
    ],
)
def test_outcomes_arrive(pair: Pair, outcome: Outcome) -> None:
    sender, receiver = pair.link()
    sender.send(b"data")
    pair.pump()
    delivery = pair.b.messages[0][0]
    assert delivery is not None
    receiver.settle(delivery, outcome)
    receiver.settle(delivery, ACCEPTED)
    pair.pump()
    assert pair.a.outcomes == [outcome]
    assert sender.unsettled == 0 and receiver.unsettled == 0


def test_outcomes_are_told_apart() -> None:
    undeliverable = Outcome(MODIFIED.state, undeliverable=True)
    table = {
        ACCEPTED: (True, False, False),
        RELEASED: (False, True, False),
        MODIFIED: (False, True, False),
        RECEIVER_LOST: (False, False, True),
        undeliverable: (False, False, False),
        REJECTED: (False, False, False),
        Outcome(0): (False, False, True),
    }
    for outcome, expected in table.items():
        assert (
            outcome.accepted,
            outcome.never_forwarded,
            outcome.receiver_lost,
        ) == expected
    assert str(ACCEPTED) == "accepted"
    assert str(Outcome(0)) == "settled without an outcome"
    assert str(Outcome(REJECTED.state, condition="c", description="d")) == (
        "rejected (c: d)"
    )


def test_a_delivery_that_is_settled_without_an_outcome(pair: Pair) -> None:
    sender, receiver = pair.link()
    sender.send(b"data")
    pair.pump()
    delivery = pair.b.messages[0][0]
    assert delivery is not None
    receiver.settle(delivery, Outcome(0))
    pair.pump()
    assert [str(outcome) for outcome in pair.a.outcomes] == [
        "settled without an outcome"
    ]


def test_a_delivery_that_is_withdrawn_is_told_so(pair: Pair) -> None:
    sender, receiver = pair.link()
    deliveries = [sender.send(b"one"), sender.send(b"two")]
    pair.pump()
    first, second = (delivery for delivery, _ in pair.b.messages)
    assert first is not None and second is not None
    second.context = "the owner's"
    for delivery in deliveries:
        assert delivery is not None
        sender.forget(delivery)
        sender.forget(delivery)
    pair.pump()
    assert [told for told in pair.b.told if told[0] == "withdrawn"] == [
        ("withdrawn", None),
        ("withdrawn", "the owner's"),
    ]
    receiver.settle(first, ACCEPTED)
    receiver.settle(second, ACCEPTED)
    pair.pump()
    assert pair.a.outcomes == []
    assert receiver.unsettled == 0 and sender.unsettled == 0


# -- deliveries that come to nothing ------------------------------------------


def test_a_message_withdrawn_before_it_is_sent_is_never_told(pair: Pair) -> None:
    """Its transfer and its settlement arrive in the same bytes."""
    sender, receiver = pair.link(credit=3)
    delivery = sender.send(b"never mind")
    assert delivery is not None
    sender.forget(delivery)
    sender.forget(delivery)
    pair.pump()
    sender.send(b"sent settled", settled=True)
    sender.send(b"sent unsettled")
    pair.pump()
    assert [data for _, data in pair.b.messages] == [b"sent settled", b"sent unsettled"]
    assert "withdrawn" not in pair.b.names()
    assert pair.a.outcomes == []
    assert (sender.unsettled, receiver.credit, sender.credit) == (1, 1, 1)


def test_a_message_sent_settled_may_have_any_other_state(pair: Pair) -> None:
    sender, _ = pair.link()
    delivery = sender.pn.delivery("tag")
    sender.pn.stream(b"data")
    delivery.update(delivery.ACCEPTED)
    delivery.settle()
    pair.pump()
    assert pair.b.messages == [(None, b"data")]


def test_a_message_withdrawn_while_the_window_is_closed_is_not_sent_as_settled(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a peer that does not look at the state of a withdrawal
    monkeypatch.setattr(endpoint_module, "_withdrawn", lambda delivery: False)
    sender, receiver = pair.link()
    receiver.paused = True
    sender.send(b"x" * 2 * endpoint_module.SESSION_WINDOW)
    pair.pump()
    other, _ = pair.link()
    stuck = [other.send(b"x" * 1000) for _ in range(3)]
    pair.pump()
    assert pair.b.messages == []
    for delivery in stuck:
        assert delivery is not None
        other.forget(delivery)
    pair.pump()
    receiver.resume()
    pair.pump()
    told = [delivery for delivery, data in pair.b.messages if len(data) == 1000]
    assert None not in told
    assert pair.b.names().count("withdrawn") == len(told)
    assert other.unsettled == 0 and not pair.client._unfinished


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_messages_withdrawn_while_they_wait_unread_are_never_told(
    pair: Pair, marked: bool, whole: bool
) -> None:
    sender, receiver = pair.link(credit=6)
    if whole:
        pair.server.paused = True
    else:
        receiver.paused = True
    deliveries = [sender.send(bytes([n])) for n in range(4)]
    sender.send(b"sent settled", settled=True)
    pair.pump()
    for n in (0, 2):
        delivery = deliveries[n]
        assert delivery is not None
        if marked:
            sender.forget(delivery)
        else:
            proton_c.lib.pn_delivery_settle(delivery.raw)
    pair.pump()
    (pair.server if whole else receiver).resume()
    pair.pump()
    assert [data for _, data in pair.b.messages] == [b"\1", b"\3", b"sent settled"]
    assert "withdrawn" not in pair.b.names()
    assert receiver.credit == sender.credit == 3


def test_a_message_tells_since_when_it_has_waited_unread(pair: Pair) -> None:
    sender, receiver = pair.link()
    seen: list[float | None] = []
    tell = pair.b.on_message

    def note(link: Receiver, *arguments: Any) -> None:
        seen.append(link.since)
        tell(link, *arguments)

    pair.b.on_message = note  # type: ignore[method-assign]
    sender.send(b"at once")
    pair.pump()
    receiver.paused = True
    before = time.monotonic()
    for settled in (True, False):
        sender.send(b"late", settled)
    pair.pump()
    after = time.monotonic()
    receiver.resume()
    sender.send(b"at once again")
    pair.pump()
    assert seen[0] is None and seen[3] is None
    assert all(since is not None and before <= since <= after for since in seen[1:3])


def test_a_link_that_closes_forgets_what_is_unread(pair: Pair) -> None:
    sender, receiver = pair.link()
    receiver.paused = True
    sender.send(b"unread")
    pair.pump()
    sender.close()
    pair.pump()
    assert receiver.closed
    assert pair.b.messages == []


@pytest.mark.parametrize("paused", [True, False])
def test_aborted_messages_cost_no_credit_and_no_window(
    pair: Pair, paused: bool
) -> None:
    sender, receiver = pair.link(credit=2)
    count = 3 * endpoint_module.SESSION_WINDOW // 500_000
    for _ in range(count):
        receiver.paused = paused
        delivery = sender.send(b"x" * 500_000)
        assert delivery is not None
        for _ in range(3):  # some frames of it
            data = bytes(pair.client.output())
            pair.client.written(len(data))
            pair.server.receive(data)
        sender.forget(delivery)
        pair.pump()
        receiver.resume()
        pair.pump()
        assert receiver.credit == sender.credit == 2
    assert pair.b.messages == []
    sender.send(b"next")
    pair.pump()
    assert pair.b.messages[-1][1] == b"next"


def test_aborted_messages_bring_no_credit_where_none_is_wanted(pair: Pair) -> None:
    sender, receiver = pair.link(credit=2)
    delivery = sender.send(b"x" * 500_000)
    assert delivery is not None
    data = bytes(pair.client.output())
    pair.client.written(len(data))
    pair.server.receive(data)
    receiver.drain()
    sender.forget(delivery)
    pair.pump()
    sender.drained()
    pair.pump()
    assert receiver.credit == sender.credit == 0


@pytest.mark.parametrize("state", [0x23, 0x33, 0x34, 0x7777])
def test_a_state_that_is_no_outcome_is_none(pair: Pair, state: int) -> None:
    """`received`, `declared`, `transactional-state`, and nothing that exists."""
    sender, receiver = pair.link()
    sender.send(b"data")
    pair.pump()
    delivery = pair.b.messages[0][0]
    assert delivery is not None
    receiver.settle(delivery, Outcome(state))
    pair.pump()
    assert pair.a.outcomes == [NO_OUTCOME]
    assert pair.a.outcomes[0].receiver_lost
    assert sender.unsettled == 0


def test_a_peer_that_has_received_only_part_decides_later(pair: Pair) -> None:
    sender, receiver = pair.link()
    sender.send(b"data")
    pair.pump()
    delivery = pair.b.messages[0][0]
    assert delivery is not None
    proton_c.lib.pn_delivery_update(delivery.raw, proton_c.lib.PN_RECEIVED)
    pair.pump()
    assert pair.a.outcomes == []
    receiver.settle(delivery, ACCEPTED)
    pair.pump()
    assert pair.a.outcomes == [ACCEPTED]


def test_the_largest_message_that_a_peer_takes(pair: Pair) -> None:
    sender, _ = pair.link()
    assert sender.max_message_size == 0
    grant = pair.b.on_link_open

    def limit(link: Link) -> None:
        link.pn.max_message_size = 5000
        grant(link)

    pair.b.on_link_open = limit  # type: ignore[method-assign]
    sender, _ = pair.link()
    assert sender.max_message_size == 5000


def test_unsettled_deliveries_die_with_their_link(pair: Pair) -> None:
    sender, receiver = pair.link()
    sender.send(b"data")
    pair.pump()
    delivery = pair.b.messages[0][0]
    assert delivery is not None
    receiver.close()
    receiver.settle(delivery, ACCEPTED)
    pair.pump()
    (outcome,) = pair.a.outcomes
    assert outcome.receiver_lost, "it may have been acted upon"
    assert sender.closed


def test_what_is_under_way_to_a_closed_link_is_ignored(pair: Pair) -> None:
    sender, receiver = pair.link()
    for size in (10, 500_000):
        sender.send(b"x" * size)
    receiver.close()
    pair.pump()
    assert pair.b.messages == []
    sender, _ = pair.link()
    sender.send(b"next")
    pair.pump()
    assert pair.b.messages[-1][1] == b"next"


def test_a_link_detached_in_the_middle_of_a_message(pair: Pair) -> None:
    sender, receiver = pair.link()
    sender.send(b"x" * 300_000)
    while not pair.server._partial:
        part = bytes(pair.client.output())
        pair.client.written(len(part))
        pair.server.receive(part)
    receiver.close()
    assert not pair.server._partial
    pair.pump()
    assert pair.b.messages == []


def test_paused_links_are_not_read(pair: Pair) -> None:
    sender, receiver = pair.link(credit=5)
    receiver.paused = True
    for number in range(3):
        sender.send(bytes([number]) * 70_000)
    pair.pump()
    assert pair.b.messages == []
    receiver.resume()
    assert [data[0] for _, data in pair.b.messages] == [0, 1, 2]
    sender.send(b"more")
    pair.pump()
    assert pair.b.messages[-1][1] == b"more"


def test_paused_while_messages_arrive(pair: Pair) -> None:
    sender, receiver = pair.link(credit=5)
    tell = pair.b.on_message

    def pause(*arguments: Any) -> None:
        tell(*arguments)
        receiver.paused = True

    pair.b.on_message = pause  # type: ignore[method-assign]
    for number in range(3):
        sender.send(bytes([number]))
    pair.pump()
    assert len(pair.b.messages) == 1
    receiver.resume()
    assert len(pair.b.messages) == 2


def test_messages_without_credit_end_the_link(pair: Pair) -> None:
    sender, _ = pair.link(credit=1)
    greedy = sender.pn
    for _ in range(3):
        # qpid-proton itself would wait for credit
        greedy.offered(5)
        sender.send(b"data")
    pair.pump()
    assert len(pair.b.messages) == 1, "proton keeps what has no credit"


def test_messages_that_are_too_large_end_the_link(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "MAX_MESSAGE", 100_000)
    sender, receiver = pair.link()
    sender.send(b"x" * 300_000)
    pair.pump()
    assert pair.b.messages == []
    assert receiver.closed
    assert not pair.server._partial
    assert "message-size-exceeded" in pair.a.told[-1][1]


def test_aborted_messages_are_forgotten(pair: Pair) -> None:
    sender, _ = pair.link()
    pn = sender.pn
    delivery = pn.delivery("tag")
    pn.stream(b"x" * 200_000)
    pair.pump()
    assert pair.server._partial
    delivery.abort()
    pair.pump()
    assert not pair.server._partial
    assert pair.b.messages == []
    sender.send(b"next")
    pair.pump()
    assert pair.b.messages[-1][1] == b"next"


# -- the end -----------------------------------------------------------------


def test_abandoned_endpoints_leave_nothing_behind() -> None:
    def use() -> list[weakref.ref[Any]]:
        pair = Pair()
        sender, receiver = pair.link()
        sender.send(b"settled later")
        sender.send(b"x" * 300_000)
        pair.pump()
        pair.client.abandon()
        pair.server.abandon()
        assert sender.closed and receiver.closed
        return [weakref.ref(thing) for thing in (pair.client, pair.server, pair.a)]

    left = [use() for _ in range(3)]
    gc.collect()
    assert [reference() for references in left for reference in references] == [
        None
    ] * 9


# -- nonsense ----------------------------------------------------------------

NONSENSE = {
    "http": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "tls": bytes.fromhex("16030100a5010000a10303") + b"\x55" * 100,
    "amqp 0-9-1": b"AMQP\x00\x00\x09\x01",
    "amqp 2": b"AMQP\x00\x02\x00\x00",
    "unknown protocol": b"AMQP\x09\x01\x00\x00",
    "zeros": b"\x00" * 500,
    "huge frame": b"AMQP\x00\x01\x00\x00\xff\xff\xff\xff\x02\x00\x00\x00" + b"x" * 99,
    "small frame": b"AMQP\x00\x01\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00",
    "no performative": b"AMQP\x00\x01\x00\x00\x00\x00\x00\x0c\x02\x00\x00\x00junk",
    "transfer first": b"AMQP\x00\x01\x00\x00"
    + b"\x00\x00\x00\x10\x02\x00\x00\x00\x00\x53\x14\xc0\x03\x01\x52\x00",
    "sasl unasked": b"AMQP\x03\x01\x00\x00",
}


@pytest.mark.parametrize("server", [True, False])
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_ends_the_connection(name: str, server: bool) -> None:
    owner = Owner()
    endpoint = Endpoint(owner, "container", server=server)
    endpoint.open()
    endpoint.receive(NONSENSE[name])
    endpoint.end_of_input()
    while view := endpoint.output():
        endpoint.written(len(view))
    assert endpoint.finished
    assert owner.names() in ([], ["close"])
    endpoint.abandon()


def recorded() -> tuple[bytes, bytes]:
    """What a client and a server say to each other in a good conversation."""
    wires: dict[str, bytearray] = {"client": bytearray(), "server": bytearray()}

    class Recorder(Endpoint):
        def written(self, size: int) -> None:
            wires[self.connection.container] += bytes(self.output()[:size])
            super().written(size)

    pair = Pair.__new__(Pair)
    pair.a, pair.b = Owner(), Owner()
    pair.client = Recorder(pair.a, "client")
    pair.server = Recorder(pair.b, "server", server=True)
    pair.client.open()
    pair.server.open()
    sender, receiver = pair.link()
    pair.client.receiver(None)
    for outcome in (ACCEPTED, RELEASED, RECEIVER_LOST, REJECTED):
        sender.send(b"x" * 200)
        pair.pump()
        delivery = pair.b.messages[-1][0]
        assert delivery is not None
        receiver.settle(delivery, outcome)
        pair.pump()
    sender.close()
    pair.client.close()
    pair.pump()
    return bytes(wires["client"]), bytes(wires["server"])


@pytest.mark.parametrize("side", [0, 1])
def test_damaged_conversations_break_nothing(side: int) -> None:
    """Whatever a peer says, the endpoint goes on or ends; it never raises."""
    good = recorded()[side]
    chance = random.Random(side)
    for _ in range(400):
        data = bytearray(good)
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(8, len(data))
            kind = chance.randrange(3)
            if kind == 0:
                data[at] = chance.randrange(256)
            elif kind == 1:
                del data[at : at + chance.randint(1, 20)]
            else:
                data[at:at] = chance.randbytes(chance.randint(1, 20))
        endpoint = Endpoint(Owner(), "container", server=side == 0)
        endpoint.open()
        if side == 1:
            endpoint.sender("address")
            endpoint.receiver(None)
        endpoint.receive(bytes(data))
        endpoint.end_of_input()
        while view := endpoint.output():
            endpoint.written(len(view))
        assert endpoint.finished
        endpoint.abandon()
