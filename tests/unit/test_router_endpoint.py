# SPDX-License-Identifier: Apache-2.0
"""What the router needs of an endpoint: holding back, pieces, withdrawals."""

from __future__ import annotations

import pytest

from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    MAX_FRAME,
    PIECE,
    REJECTED,
    Delivery,
    Endpoint,
    Handler,
    Link,
    Outcome,
    Receiver,
    Sender,
)


class _Side(Handler):
    """One end, which notes what it is told."""

    def __init__(self, server: bool) -> None:
        self.endpoint = Endpoint(self, "server" if server else "client", server=server)
        self.links: list[Link] = []
        self.closed: list[tuple[Link, str]] = []
        self.messages: list[bytes] = []
        self.deliveries: list[Delivery] = []
        self.outcomes: list[Outcome] = []
        self.withdrawn: list[Delivery] = []

    def on_open(self, endpoint: Endpoint) -> None:
        endpoint.open()

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        pass

    def on_link_open(self, link: Link) -> None:
        if not link.local:
            link.pn.target.copy(link.pn.remote_target)
            link.pn.open()
        self.links.append(link)

    def on_link_close(self, link: Link, condition: str) -> None:
        self.closed.append((link, condition))
        link.close()

    def on_flow(self, link: Link) -> None:
        pass

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        self.messages.append(data)
        if delivery is not None:
            delivery.context = self
            self.deliveries.append(delivery)

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def on_withdrawn(self, delivery: Delivery) -> None:
        self.withdrawn.append(delivery)


class _Pair:
    """A client with senders, and the server that receives from them."""

    def __init__(self, senders: int = 1, credit: int = 1000) -> None:
        self.client, self.server = _Side(False), _Side(True)
        self.client.endpoint.open()
        self.senders = [self.client.endpoint.sender(str(n)) for n in range(senders)]
        self.pump()
        self.receivers = [link for link in self.server.links]
        for receiver in self.receivers:
            assert isinstance(receiver, Receiver)
            receiver.grant(credit)
        self.pump()

    def pump(self, limit: int = 1 << 62) -> None:
        """Carry bytes both ways, at most so many from the client."""
        moved = True
        while moved and limit > 0:
            moved = False
            for source, target in (
                (self.client.endpoint, self.server.endpoint),
                (self.server.endpoint, self.client.endpoint),
            ):
                if view := source.output():
                    target.receive(bytes(view))
                    source.written(len(view))
                    moved = True
                    if source is self.client.endpoint:
                        limit -= len(view)


LARGE = bytes(range(256)) * (10 * PIECE // 256)


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 2 * PIECE, 10 * PIECE])
@pytest.mark.parametrize("settled", [True, False])
def test_messages_of_any_size_arrive_whole(size: int, settled: bool) -> None:
    pair = _Pair()
    pair.senders[0].send(LARGE[:size], settled)
    pair.pump()
    assert pair.server.messages == [LARGE[:size]]
    # one that leaves in pieces is settled by its receiver
    assert bool(pair.server.deliveries) != (settled and size <= PIECE)


def test_messages_keep_their_order() -> None:
    pair = _Pair()
    messages = [LARGE, b"small", LARGE[:-1], b"smaller"]
    for message in messages:
        pair.senders[0].send(message)
    pair.pump()
    assert pair.server.messages == messages


def test_a_large_message_keeps_no_other_link_waiting() -> None:
    pair = _Pair(senders=2, credit=0)
    pair.senders[0].send(LARGE)  # for which there is no credit yet
    assert isinstance(pair.server.links[1], Receiver)
    pair.server.links[1].grant(1)
    pair.pump()
    pair.senders[1].send(LARGE[1:])
    pair.pump()
    assert pair.server.messages == [LARGE[1:]]


def test_what_waits_is_counted() -> None:
    pair = _Pair(credit=0)
    for _ in range(3):
        pair.senders[0].send(LARGE)
    pair.pump()
    assert 3 * len(LARGE) <= pair.client.endpoint.buffered <= 3 * len(LARGE) + 1000


def test_a_message_that_is_forgotten_half_way_never_arrives() -> None:
    pair = _Pair()
    first = pair.senders[0].send(LARGE)
    pair.senders[0].send(b"next")
    pair.pump(limit=3 * PIECE)
    assert first is not None
    pair.senders[0].forget(first)
    pair.senders[0].forget(first)
    pair.pump()
    assert pair.server.messages == [b"next"]
    assert pair.client.endpoint.buffered == 0


def test_a_message_that_is_refused_half_way_ends_there() -> None:
    pair = _Pair()
    pair.senders[0].send(LARGE)
    pair.pump(limit=3 * PIECE)
    raw = pair.receivers[0].pn.current
    raw.update(raw.REJECTED)
    raw.settle()
    pair.senders[0].send(b"next")
    pair.pump()
    assert pair.client.outcomes[0].state == REJECTED.state
    assert pair.server.messages == [b"next"]


def test_a_link_that_closes_half_way_takes_the_rest_along() -> None:
    pair = _Pair()
    pair.senders[0].send(LARGE)
    pair.pump(limit=3 * PIECE)
    pair.senders[0].close()
    pair.pump()
    assert pair.server.messages == []
    assert pair.client.endpoint.buffered == 0


def test_a_paused_link_keeps_its_messages_until_it_goes_on() -> None:
    pair = _Pair()
    (receiver,) = pair.receivers
    assert isinstance(receiver, Receiver)
    receiver.paused = True
    sent = [b"one", b"two", LARGE]
    for message in sent:
        pair.senders[0].send(message)
    pair.pump()
    assert pair.server.messages == []
    receiver.resume()
    pair.pump()
    assert pair.server.messages == sent


def test_a_paused_endpoint_reads_no_link() -> None:
    pair = _Pair(senders=2)
    pair.server.endpoint.paused = True
    for sender in pair.senders:
        sender.send(b"message")
    pair.pump()
    assert pair.server.messages == []
    pair.server.endpoint.resume()
    assert pair.server.messages == [b"message"] * 2


def test_a_handler_may_pause_in_the_middle_of_going_on() -> None:
    pair = _Pair(senders=2)
    server = pair.server.endpoint
    server.paused = True
    for sender in pair.senders:
        sender.send(b"message")
    pair.pump()

    def pause(receiver: Receiver, delivery: Delivery | None, data: bytes) -> None:
        pair.server.messages.append(data)
        server.paused = True

    pair.server.on_message = pause  # type: ignore[method-assign]
    for count in (1, 2):
        server.resume()
        assert len(pair.server.messages) == count


def test_a_delivery_that_its_sender_settles_is_withdrawn() -> None:
    pair = _Pair()
    sent = pair.senders[0].send(b"never mind")
    pair.pump()
    assert sent is not None
    pair.senders[0].forget(sent)
    pair.pump()
    assert pair.server.withdrawn == pair.server.deliveries
    (receiver,) = pair.receivers
    assert isinstance(receiver, Receiver)
    receiver.settle(pair.server.deliveries[0], ACCEPTED)  # too late, no harm
    assert receiver.deliveries == []


def test_incomplete_messages_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid_messaging.protocol.endpoint.MAX_MESSAGE", 4 * MAX_FRAME)
    pair = _Pair()
    pair.senders[0].send(LARGE)
    pair.pump()
    assert pair.server.messages == []
    assert pair.client.closed[0][1].startswith("amqp:link:message-size-exceeded")
