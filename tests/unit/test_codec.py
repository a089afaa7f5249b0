# SPDX-License-Identifier: Apache-2.0
"""Messages to bytes and back, judged by qpid-proton's own encoder and decoder."""

from __future__ import annotations

import contextlib
import random
import struct
import time
import uuid
from typing import Any

import proton
import pytest

from hybrid_messaging.protocol import codec

BODIES = ["", "x", "x" * 255, "x" * 256, "größer ⚙", "x" * 100_000, None]
IDENTIFIERS = ["abc", "x" * 300, 0, 7, 2**64 - 1, uuid.uuid4(), b"\x00\xff" * 200]


def by_proton(data: bytes) -> proton.Message:
    message = proton.Message()
    message.decode(data)
    return message


# -- what we encode ------------------------------------------------------


@pytest.mark.parametrize("body", BODIES)
def test_proton_reads_the_body(body: str | None) -> None:
    assert by_proton(codec.encode(body)).body == body


@pytest.mark.parametrize("id", IDENTIFIERS)
def test_proton_reads_identifiers(id: Any) -> None:
    message = by_proton(codec.encode("x", id=id, correlation_id=id))
    assert message.id == id
    assert message.correlation_id == id


@pytest.mark.parametrize("address", ["a", "a/b" * 100, "ö.@"])
def test_proton_reads_addresses(address: str) -> None:
    message = by_proton(codec.encode("x", to=address, reply_to=address))
    assert message.address == address
    assert message.reply_to == address


def test_proton_reads_times() -> None:
    now = time.time()
    message = by_proton(codec.encode("x", ttl=1.5, expiry=now))
    assert message.ttl == 1.5
    assert message.expiry_time == pytest.approx(now, abs=0.001)


def test_a_ttl_that_is_too_long_is_the_longest() -> None:
    assert by_proton(codec.encode("x", ttl=1e9)).ttl == pytest.approx(4294967.295)


@pytest.mark.parametrize("durable", [True, False])
def test_proton_reads_durability(durable: bool) -> None:
    assert by_proton(codec.encode("x", durable=durable)).durable is durable


def test_proton_reads_marks() -> None:
    marks = codec.mark(["x-opt-one", "x-opt-two"])
    message = by_proton(codec.encode("x", id="1", marks=marks))
    assert message.annotations == {
        proton.symbol("x-opt-one"): True,
        proton.symbol("x-opt-two"): True,
    }
    assert message.body == "x"


# -- what we decode ------------------------------------------------------


def test_everything_comes_back() -> None:
    marks = codec.mark(["x-opt-one"])
    data = codec.encode(
        "body",
        to="to",
        id="id",
        reply_to="reply-to",
        correlation_id=7,
        ttl=2.5,
        expiry=time.time(),
        durable=True,
        marks=marks,
    )
    message = codec.decode(data)
    assert message.body == "body"
    assert (message.to, message.reply_to) == ("to", "reply-to")
    assert (message.id, message.correlation_id) == ("id", 7)
    assert message.ttl == 2500
    assert message.annotations == {"x-opt-one": True}


@pytest.mark.parametrize(
    "body",
    [
        *BODIES,
        True,
        -1,
        2**40,
        1.5,
        b"bytes",
        [],
        [1, "two", [3.0]],
        {"key": ["value", {"deep": None}]},
        {},
        proton.symbol("symbol"),
        uuid.uuid4(),
        proton.timestamp(1234567890123),
        proton.char("ö"),
        proton.ubyte(1),
        proton.ushort(2),
        proton.uint(0),
        proton.uint(300),
        proton.ulong(0),
        proton.ulong(2**40),
        proton.byte(-1),
        proton.short(-2),
        proton.int32(-3),
        proton.float32(1.5),
        proton.Array(proton.UNDESCRIBED, proton.Data.INT, 1, 2, 3),
    ],
)
def test_bodies_that_proton_writes(body: Any) -> None:
    message = proton.Message(body=body, id="after")
    expected = [1, 2, 3] if isinstance(body, proton.Array) else body
    decoded = codec.decode(bytes(message.encode()))
    assert decoded.body == expected
    assert decoded.id == "after"


def test_every_section_of_a_message() -> None:
    message = proton.Message(
        body="body",
        id="id",
        address="to",
        subject="subject",
        reply_to="reply-to",
        correlation_id="correlation",
        content_type=proton.symbol("text/plain"),
        user_id=b"user",
        priority=7,
        ttl=3,
        first_acquirer=True,
        delivery_count=2,
        group_id="group",
        group_sequence=4,
        properties={"application": ["a", {"b": 1}]},
        instructions={proton.symbol("x-opt-deliver"): {"c": [1]}},
        annotations={proton.symbol("x-opt-mark"): "m", proton.ulong(5): 6},
    )
    decoded = codec.decode(bytes(message.encode()))
    assert decoded.body == "body"
    assert (decoded.id, decoded.to) == ("id", "to")
    assert (decoded.reply_to, decoded.correlation_id) == ("reply-to", "correlation")
    assert decoded.ttl == 3000
    assert decoded.annotations == {"x-opt-mark": "m", 5: 6}


def test_data_sections_are_joined() -> None:
    data = b"\x00\x53\x75\xa0\x02ab" + b"\x00\x53\x75\xb0\x00\x00\x00\x01c"
    assert codec.decode(data).body == b"abc"


def test_described_values_are_their_values() -> None:
    assert codec.decode(b"\x00\x53\x77\x00\xa3\x01d\x54\x07").body == 7


def test_nothing_is_an_empty_message() -> None:
    message = codec.decode(b"")
    assert message.body is None
    assert message.annotations == {}


def test_empty_lists_are_not_shared() -> None:
    empty_properties = b"\x00\x53\x73\x45"
    empty_body = b"\x00\x53\x77\x45"
    codec.decode(empty_properties)
    codec.decode(empty_body).body.append(1)
    assert codec.decode(empty_body).body == []


# -- what we refuse ------------------------------------------------------

VALUE = b"\x00\x53\x77"
PROPERTIES = b"\x00\x53\x73"


@pytest.mark.parametrize(
    "data",
    [
        b"\x01",
        b"\x00",
        b"\x00\x53",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\xa3\x05amqp",
        VALUE,
        VALUE + b"\xff",
        VALUE + b"\xa1",
        VALUE + b"\xa1\x05abc",
        VALUE + b"\xb1\xff\xff\xff\xffabc",
        VALUE + b"\xa1\x02\xff\xfe",
        VALUE + b"\x80\x00",
        VALUE + b"\x73\xff\xff\xff\xff",
        VALUE + b"\xc0\x02\x05\x40",
        VALUE + b"\xc0\xff\x01\x40",
        VALUE + b"\xd0\x00\x00\x00\x04\xff\xff\xff\xff",
        VALUE + b"\xc1\x03\x03\x40\x40\x40",
        VALUE + b"\xe0\x05\x02\x00\x53\x01\x40",
        VALUE + b"\xc0\x03\x01\xa1\x05abcdef",
        b"\x00\x53\x78\xc1\xff\x00",
        b"\x00\x53\x72\x45",
        PROPERTIES + b"\x40",
        PROPERTIES + b"\xc0\x03\x01\x55\xff",
        PROPERTIES + b"\xc0\x02\x01\x41",
        PROPERTIES + b"\xc0\x02\x01\x45",
        PROPERTIES + b"\xc0\x05\x03\x40\x40\x52\x07",
        VALUE + b"\xa0\x01x" + b"\x00\x53\x75\xa1\x01x",
    ],
)
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(codec.MalformedMessage):
        codec.decode(data)


def test_deep_nesting_is_refused() -> None:
    deep = b"\x40"
    for _ in range(codec.MAX_DEPTH):
        deep = b"\xd0" + struct.pack(">II", len(deep) + 4, 1) + deep
    assert str(codec.decode(VALUE + deep).body).count("[") == codec.MAX_DEPTH
    deep = b"\xd0" + struct.pack(">II", len(deep) + 4, 1) + deep
    with pytest.raises(codec.MalformedMessage, match="nest"):
        codec.decode(VALUE + deep)
    with pytest.raises(codec.MalformedMessage, match="nest"):
        codec.decode(VALUE + b"\x00" * 100_000)


def test_a_collection_cannot_count_beyond_its_bytes() -> None:
    """A few bytes must not become millions of objects."""
    claim = VALUE + b"\xf0" + struct.pack(">II", 5, 2**31) + b"\x40"
    with pytest.raises(codec.MalformedMessage):
        codec.decode(claim)


def test_truncated_messages_are_refused_or_shorter() -> None:
    data = codec.encode("x" * 300, id="id", to="to", reply_to="r", ttl=5, durable=True)
    for size in range(len(data)):
        try:
            message = codec.decode(data[:size])
        except codec.MalformedMessage:
            continue
        assert message.body is None, "cut between two sections"


def test_any_bytes_are_decoded_or_refused() -> None:
    chance = random.Random(1)
    valid = [
        codec.encode("x" * 50, id="id", to="to", marks=codec.mark(["m"]), ttl=1),
        proton.Message(body={"a": [1, 2.5, None, {"b": b"c"}]}, id=1).encode(),
    ]
    for round_ in range(20_000):
        if round_ % 2:
            data = bytearray(chance.choice(valid))
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        else:
            data = bytearray(chance.randbytes(chance.randint(0, 60)))
            data[:3] = bytes((0, 0x53, chance.randint(0x70, 0x79)))
        for read in (codec.decode, codec.peek_to):
            with contextlib.suppress(codec.MalformedMessage):
                read(bytes(data))


# -- where a message goes --------------------------------------------------


@pytest.mark.parametrize("to", ["address", None])
def test_peek_to(to: str | None) -> None:
    marks = codec.mark(["x-opt-one"])
    assert codec.peek_to(codec.encode("x", to=to, ttl=1, marks=marks)) == to
    assert codec.peek_to(proton.Message(body="x", address=to, ttl=2).encode()) == to


def test_peek_to_without_properties() -> None:
    assert codec.peek_to(b"") is None
    assert codec.peek_to(VALUE + b"\x40") is None
    assert codec.peek_to(b"\x00\x53\x70\x45") is None


@pytest.mark.parametrize(
    ("ttl", "durable", "expected"),
    [(None, False, None), (None, True, None), (0, False, 0), (1.5, True, 1.5)],
)
def test_the_time_to_live_is_found_without_decoding(
    ttl: float | None, durable: bool, expected: float | None
) -> None:
    data = codec.encode("x" * 500, to="a", ttl=ttl, durable=durable)
    assert codec.peek_ttl(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no message",
        b"\x00\x53\x70",
        b"\x00\x53\x70\x45",
        b"\x00\x53\x70\xc0\x02\x02\x40",
        b"\x00\x53\x70\xc0\x06\x03\x40\x40\xa1\x01x",
        b"\x00\x53\x70\xc0\x05\x03\x40\x40\x54\xff",
        b"\x00\x53\x70\xa1\x01x",
    ],
)
def test_without_a_readable_header_there_is_no_time_to_live(data: bytes) -> None:
    assert codec.peek_ttl(data) is None
