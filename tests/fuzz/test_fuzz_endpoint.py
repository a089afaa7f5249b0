# SPDX-License-Identifier: Apache-2.0
"""Frames that hypothesis makes up, to one end of a connection.

The owner of the endpoint reads what a router or driver reads of what it is told.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests import work
from tests.fuzz import strategies_amqp as amqp

from hybrid_messaging.protocol import desertion
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    Delivery,
    Endpoint,
    Excessive,
    Link,
    Outcome,
    Receiver,
    Sender,
)

#: what an endpoint and its properties raise if a peer says something unreadable
DOCUMENTED = (Excessive, UnicodeDecodeError)
#: Lines of Python that a conversation takes at most, apart from those that each of its
#: bytes may take: a frame has eight at least, an attach that is answered a hundred.
MOST_LINES, LINES_PER_BYTE = 10_000, 20
#: Bytes of an answer for each byte that is said.
MOST_ANSWER = 16

Conversation = tuple[list[bytes], bytes]


class Owner:
    """Answers what a peer does, and remembers what it has said."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.heard: list[bytes] = []
        self.closed = 0

    def on_open(self, endpoint: Endpoint) -> None:
        self.said += [
            endpoint.connection.remote_container,
            endpoint.remote_properties,
            endpoint.remote_product,
            endpoint.relays_anonymously,
        ]
        endpoint.open()

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        self.closed += 1
        self.said.append(condition)

    def on_link_open(self, link: Link) -> None:
        source, target = link.pn.remote_source, link.pn.remote_target
        self.said += [link.name, source.address, source.dynamic, target.address]
        self.said.append(desertion.decode(link.remote_properties))
        if not link.local:
            link.pn.source.copy(source)
            link.pn.target.copy(target)
            link.pn.open()
        if isinstance(link, Receiver):
            link.grant(5)

    def on_link_close(self, link: Link, condition: str) -> None:
        self.said.append(condition)
        link.close()

    def on_flow(self, link: Link) -> None:
        if isinstance(link, Sender) and link.credit > 0:
            link.send(b"\x00\x53\x77\xa1\x01x")

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        self.heard.append(data)
        if delivery is not None:
            receiver.settle(delivery, ACCEPTED)

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        self.said.append(str(outcome))

    def on_withdrawn(self, delivery: Delivery) -> None:
        self.said.append(delivery.link.name)


def _converse(
    conversation: Conversation, size: int = 1 << 20, server: bool = True
) -> None:
    """Hear a peer out and answer it.

    :param size: bytes of what is heard at once
    :param server: the peer has connected to us
    """
    steps, rest = conversation
    chunks = steps + [rest[at : at + size] for at in range(0, len(rest), size)]
    owner = Owner()
    endpoint = Endpoint(owner, "fuzzed", server=server)
    if not server:
        endpoint.open()
        endpoint.sender("a")
        endpoint.receiver("b")
    answered = 0
    try:
        with contextlib.suppress(*DOCUMENTED):
            for chunk in chunks:
                endpoint.receive(chunk)
                answered += _answer(endpoint)
            endpoint.end_of_input()
            answered += _answer(endpoint)
            assert endpoint.closed
            assert owner.closed == 1
    finally:
        endpoint.abandon()
    assert answered <= MOST_ANSWER * sum(map(len, chunks)) + 4096


def _answer(endpoint: Endpoint) -> int:
    count = 0
    while view := endpoint.output():
        count += len(view)
        endpoint.written(len(view))
    return count


@given(amqp.conversations(), st.sampled_from([61, 1000, 1 << 20]), st.booleans())
def test_whatever_a_peer_says_ends_in_order(
    conversation: Conversation, size: int, server: bool
) -> None:
    """Only documented exceptions, one close, and an answer in proportion."""
    _converse(conversation, size, server)


@given(amqp.conversations(), st.booleans())
def test_the_work_for_a_conversation_is_in_proportion(
    conversation: Conversation, server: bool
) -> None:
    said = sum(map(len, conversation[0])) + len(conversation[1])
    done = work.lines(_converse, conversation, 1 << 20, server)
    assert done < MOST_LINES + LINES_PER_BYTE * said


@given(amqp.anything, st.sampled_from([7, 9]))
def test_the_work_for_an_open_has_a_bound(value: bytes, field: int) -> None:
    """Whatever its capabilities and properties claim to be."""
    fields = [amqp.string("x"), *[amqp.NULL] * (field - 1), value]
    said = ([], amqp.HEADER + amqp.frame(amqp.OPEN, *fields))
    assert work.lines(_converse, said) < MOST_LINES
    assert work.allocated(_converse, said) < 256 * 1024


@given(st.binary(max_size=200))
def test_what_is_no_amqp_ends_the_connection(said: bytes) -> None:
    _converse(([], said))
    _converse(([amqp.HEADER], said))


@given(
    st.lists(
        st.tuples(amqp.messages(), st.integers(1, 3), st.booleans(), st.booleans()),
        max_size=4,
    )
)
def test_messages_arrive_as_they_were_sent(
    sent: list[tuple[bytes, int, bool, bool]],
) -> None:
    """In any number of frames, settled or not, whatever they hold; or aborted."""
    owner = Owner()
    endpoint = Endpoint(owner, "fuzzed", server=True)
    for step in amqp.STEPS:
        endpoint.receive(step)
        _answer(endpoint)
    for number, (data, parts, settled, aborted) in enumerate(sent):
        size = len(data) // parts + 1
        cut = [data[at : at + size] for at in range(0, max(len(data), 1), size)]
        for left, part in zip(range(len(cut) - 1, -1, -1), cut, strict=True):
            more, broken = left > 0, left == 0 and aborted
            endpoint.receive(
                amqp.transfer(number, part, settled=settled, more=more, aborted=broken)
            )
    endpoint.abandon()
    assert owner.heard == [data for data, _, _, aborted in sent if not aborted]
