# SPDX-License-Identifier: Apache-2.0
"""Messages to bytes and back, judged by qpid-proton's own encoder and decoder."""

from __future__ import annotations

import contextlib
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import proton
import pytest
from tests import work

from hybrid_messaging.protocol import codec, values
from hybrid_messaging.router import requests

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
    assert message.marks == {"x-opt-one"}


@pytest.mark.parametrize("body", [*BODIES, b"bytes", b"x" * 256])
def test_bodies_that_proton_writes(body: Any) -> None:
    message = proton.Message(body=body, id="after")
    decoded = codec.decode(bytes(message.encode()))
    assert decoded.body == body
    assert decoded.id == "after"


@pytest.mark.parametrize(
    "body",
    [
        True,
        -1,
        2**40,
        1.5,
        [],
        [1, "two", [3.0]],
        {"key": ["value", {"deep": None}]},
        {},
        proton.symbol("symbol"),
        uuid.uuid4(),
        proton.timestamp(1234567890123),
        proton.char("ö"),
        proton.Array(proton.UNDESCRIBED, proton.Data.INT, 1, 2, 3),
        proton.Described(proton.symbol("d"), "text"),
    ],
)
def test_bodies_of_other_types_are_refused(body: Any) -> None:
    """Nobody who speaks oslo.messaging's protocol sends them."""
    data = bytes(proton.Message(body=body, address="to").encode())
    with pytest.raises(codec.MalformedMessage, match="neither a string nor binary"):
        codec.decode(data)
    assert codec.peek_to(data) == "to"


def test_a_body_that_is_a_sequence_is_refused() -> None:
    with pytest.raises(codec.MalformedMessage, match="neither a string nor binary"):
        codec.decode(b"\x00\x53\x76\x45")


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
        annotations={
            proton.symbol("x-opt-mark"): True,
            proton.symbol("x-opt-unset"): False,
            proton.symbol("x-opt-text"): "true",
            proton.symbol("x-opt-deep"): {"a": [1, {"b": 2}]},
            proton.ulong(5): True,
        },
    )
    decoded = codec.decode(bytes(message.encode()))
    assert decoded.body == "body"
    assert (decoded.id, decoded.to) == ("id", "to")
    assert (decoded.reply_to, decoded.correlation_id) == ("reply-to", "correlation")
    assert decoded.ttl == 3000
    assert decoded.marks == {"x-opt-mark"}


def test_data_sections_are_joined() -> None:
    data = b"\x00\x53\x75\xa0\x02ab" + b"\x00\x53\x75\xb0\x00\x00\x00\x01c"
    assert codec.decode(data).body == b"abc"


def test_nothing_is_an_empty_message() -> None:
    message = codec.decode(b"")
    assert message.body is None
    assert message.marks == frozenset()


def test_a_true_annotation_may_have_two_bytes() -> None:
    marks = b"\x00\x53\x72\xc1\x0b\x04\xa3\x01a\x56\x01\xa3\x01b\x56\x00"
    assert codec.decode(marks).marks == {"a"}


def test_sections_may_have_long_descriptors() -> None:
    data = bytes(proton.Message(body="x", address="to").encode())
    long = data.replace(b"\x00\x53", b"\x00\x80" + bytes(7))
    assert len(long) > len(data)
    assert codec.decode(long).body == "x"
    assert codec.peek_to(long) == "to"


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


@pytest.mark.parametrize("field", range(6))
def test_properties_have_typed_fields(field: int) -> None:
    """A list where a text or an identifier belongs; the others are not looked at."""
    fields = b"\x40" * field + b"\xc0\x02\x01\x40"
    data = PROPERTIES + b"\xc0" + bytes((len(fields) + 1, field + 1)) + fields
    if field in (1, 3):
        codec.decode(data)
    else:
        with pytest.raises(codec.MalformedMessage):
            codec.decode(data)


@pytest.mark.parametrize(("count", "fits"), [(13, True), (14, False)])
def test_properties_have_thirteen_fields(count: int, fits: bool) -> None:
    data = PROPERTIES + b"\xc0" + bytes((count + 1, count)) + b"\x40" * count
    for read in (codec.decode, codec.peek_to):
        if fits:
            read(data)
        else:
            with pytest.raises(codec.MalformedMessage, match="13 fields"):
                read(data)


@pytest.mark.parametrize(("count", "fits"), [(64, True), (65, False)])
def test_message_annotations_are_bounded(count: int, fits: bool) -> None:
    names = [f"x-opt-{number}" for number in range(count)]
    data = codec.encode("x", marks=codec.mark(names))
    if fits:
        assert codec.decode(data).marks == set(names)
    else:
        with pytest.raises(codec.MalformedMessage, match="64 pairs"):
            codec.decode(data)


@pytest.mark.parametrize(("count", "fits"), [(64, True), (65, False)])
def test_the_number_of_sections_is_bounded(count: int, fits: bool) -> None:
    data = b"\x00\x53\x75\xa0\x01x" * count
    if fits:
        assert codec.decode(data).body == b"x" * count
    else:
        with pytest.raises(codec.MalformedMessage, match="64 sections"):
            codec.decode(data)


@pytest.mark.parametrize("name", ["to", "reply_to", "id", "correlation_id"])
def test_texts_and_identifiers_are_bounded(name: str) -> None:
    for text in ("x" * values.MAX_TEXT, b"x" * values.MAX_TEXT):
        if isinstance(text, bytes) and "id" not in name:
            continue
        fitting: dict[str, Any] = {name: text}
        assert getattr(codec.decode(codec.encode("", **fitting)), name) == text
        excessive: dict[str, Any] = {name: text + text[:1]}
        with pytest.raises(codec.MalformedMessage, match="exceeds"):
            codec.decode(codec.encode("", **excessive))


# -- what it costs -----------------------------------------------------------------

MEGABYTE = 1024 * 1024


def _list(member: bytes, size: int = MEGABYTE) -> bytes:
    count = size // len(member)
    data = member * count
    return b"\xd0" + struct.pack(">II", len(data) + 4, count) + data


def _map(member: bytes) -> bytes:
    return b"\xd1" + _list(member)[1:]


def _array(count: int) -> bytes:
    return b"\xf0" + struct.pack(">II", 5, count) + b"\x40"


def _nested(depth: int) -> bytes:
    data = b"\x45"
    for _ in range(depth):
        data = b"\xd0" + struct.pack(">II", len(data) + 4, 1) + data
    return data


HUGE = [
    _list(b"\x45"),
    _list(b"\x40"),
    _list(b"\xa1\x00"),
    _map(b"\xa3\x01a\x41"),
    _map(b"\x45\x45"),
    _array(2**31),
    _nested(1000),
    b"\x00" * MEGABYTE,
    b"\x00\x53\x01" * (MEGABYTE // 3),
    b"\xb0" + struct.pack(">I", MEGABYTE) + bytes(MEGABYTE),
]


def _one_field(value: bytes, at: int) -> bytes:
    data = b"\x40" * at + value
    return b"\xd0" + struct.pack(">II", len(data) + 4, at + 1) + data


def _huge_messages() -> Iterator[bytes]:
    end = VALUE + b"\xa1\x02{}"
    for value in HUGE:
        for code in range(0x70, 0x7A):
            yield bytes((0, 0x53, code)) + value + end
        for field in range(6):
            yield PROPERTIES + _one_field(value, field) + end
            yield b"\x00\x53\x70" + _one_field(value, field) + end
        entry = b"\xa3\x01a" + value
        members = struct.pack(">II", len(entry) + 4, 2) + entry
        yield b"\x00\x53\x72\xd1" + members + end
    yield b"\x00\x53\x78\x45" * (MEGABYTE // 4)
    yield b"\x00\x53\x75\xa0\x00" * (MEGABYTE // 5)
    yield b"\x00\x53\x77\x40" * (MEGABYTE // 4)


def test_the_cost_of_a_message_does_not_depend_on_its_size() -> None:
    """What is not needed is neither built nor counted."""
    for data in _huge_messages():
        for read in (codec.decode, codec.peek_to, codec.peek_ttl, requests.read):
            assert work.lines(_attempt, read, data) < 3000, (read, data[:40])
            bound = 64 * 1024
            if read is codec.decode:  # a binary body is needed, joined once
                bound += 2 * MEGABYTE
            assert work.allocated(_attempt, read, data) < bound, (read, data[:40])


def _attempt(read: Callable[[bytes], Any], data: bytes) -> None:
    with contextlib.suppress(codec.MalformedMessage):
        read(data)


def test_truncated_messages_are_refused_or_shorter() -> None:
    data = codec.encode("x" * 300, id="id", to="to", reply_to="r", ttl=5, durable=True)
    for size in range(len(data)):
        try:
            message = codec.decode(data[:size])
        except codec.MalformedMessage:
            continue
        assert message.body is None, "cut between two sections"


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
