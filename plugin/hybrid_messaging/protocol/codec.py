# SPDX-License-Identifier: Apache-2.0
"""The bare AMQP 1.0 messages that oslo.messaging needs, to bytes and back.

A driver encodes and decodes four fields and one string per message, in
threads that compete for the interpreter. Doing that in place costs less than
moving each field through a general message object, and does not give the
interpreter away in between. Any message whose body is a string or binary is decoded,
whoever sent it (AMQP 1.0, part 3, section 3.2), at a cost that depends on nothing but
what is needed of it: the rest is skipped (`values`).
"""

from __future__ import annotations

import functools
import struct
import uuid
from collections.abc import Iterator
from typing import Any

from hybrid_messaging.protocol import values
from hybrid_messaging.protocol.values import MalformedMessage as MalformedMessage

#: the descriptors of sections
HEADER, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES = 0x70, 0x72, 0x73, 0x74
DATA, SEQUENCE, VALUE = 0x75, 0x76, 0x77

_NONE: frozenset[str] = frozenset()


class Message:
    """A decoded message: the sections and fields that the project reads."""

    __slots__ = (
        "body",
        "correlation_id",
        "id",
        "marks",
        "reply_to",
        "to",
        "ttl",
    )

    def __init__(self) -> None:
        #: the message annotations that are true
        self.marks: frozenset[str] = _NONE
        self.body: str | bytes | None = None
        self.id: Any = None
        self.to: str | None = None
        self.reply_to: str | None = None
        self.correlation_id: Any = None
        #: milliseconds
        self.ttl: int | None = None


# -- encoding ----------------------------------------------------------

_HEADER, _ANNOTATIONS, _PROPERTIES, _VALUE = (
    bytes((0x00, 0x53, code))
    for code in (HEADER, MESSAGE_ANNOTATIONS, PROPERTIES, VALUE)
)
_NULL = b"\x40"
_TRUE, _FALSE = b"\x41", b"\x42"
_pack_u32 = struct.Struct(">I").pack
_pack_i64 = struct.Struct(">q").pack


def _string(value: str, short: bytes = b"\xa1", long: bytes = b"\xb1") -> bytes:
    data = value.encode()
    size = len(data)
    if size < 256:
        return short + bytes((size,)) + data
    return long + _pack_u32(size) + data


#: the same addresses are encoded again and again
_address = functools.lru_cache(maxsize=256)(_string)


def _identifier(value: Any) -> bytes:
    """A message-id or correlation-id: string, ulong, uuid or binary."""
    if value is None:
        return _NULL
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return b"\x80" + struct.pack(">Q", value)
    if isinstance(value, uuid.UUID):
        return b"\x98" + value.bytes
    return b"\xb0" + _pack_u32(len(value)) + bytes(value)


def _list(fields: list[bytes]) -> bytes:
    while fields and fields[-1] == _NULL:
        fields.pop()
    data = b"".join(fields)
    if len(data) < 255 and len(fields) < 256:
        return b"\xc0" + bytes((len(data) + 1, len(fields))) + data
    return b"\xd0" + _pack_u32(len(data) + 4) + _pack_u32(len(fields)) + data


def mark(names: list[str]) -> bytes:
    """A message-annotations section that sets each of the names to true."""
    data = b"".join(_string(name, b"\xa3", b"\xb3") + _TRUE for name in names)
    size, count = len(data) + 4, len(names) * 2
    return _ANNOTATIONS + b"\xd1" + _pack_u32(size) + _pack_u32(count) + data


def encode(
    body: str | None,
    *,
    to: str | None = None,
    id: Any = None,
    reply_to: str | None = None,
    correlation_id: Any = None,
    ttl: float | None = None,
    expiry: float | None = None,
    durable: bool = False,
    marks: bytes = b"",
) -> bytes:
    """Encode a message with a string, or null, as its amqp-value body.

    :param ttl: seconds
    :param expiry: absolute expiry time, seconds since the epoch
    :param durable: ask a broker to store the message on disk
    :param marks: a section made by `mark()`
    """
    header = b""
    if durable or ttl is not None:
        header = _HEADER + _list(
            [
                _TRUE if durable else _FALSE,
                _NULL,
                _NULL
                if ttl is None
                else b"\x70" + _pack_u32(min(int(ttl * 1000), 0xFFFFFFFF)),
            ]
        )
    properties = _PROPERTIES + _list(
        [
            _identifier(id),
            _NULL,
            _NULL if to is None else _address(to),
            _NULL,
            _NULL if reply_to is None else _address(reply_to),
            _identifier(correlation_id),
            _NULL,
            _NULL,
            _NULL if expiry is None else b"\x83" + _pack_i64(int(expiry * 1000)),
        ]
    )
    value = _NULL if body is None else _string(body)
    return b"".join((header, marks, properties, _VALUE, value))


# -- decoding ----------------------------------------------------------

#: Sections that a message may have: data sections may repeat, the others may not.
MAX_SECTIONS = 64
#: Message annotations that a message may have.
MAX_ANNOTATIONS = 64

#: fields that the sections have
_HEADER_FIELDS, PROPERTIES_FIELDS = 5, 13
_TO_TTL = (values.ignored, values.ignored, values.milliseconds)
_TO_ADDRESS = (values.ignored, values.ignored, values.text)
#: readers of the fields of properties, up to the correlation-id
TO_CORRELATION_ID = (
    values.identifier,
    values.ignored,
    values.text,
    values.ignored,
    values.text,
    values.identifier,
)


def sections(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The descriptor of each section, and where its value starts and ends.

    :raises MalformedMessage: and `values.ERRORS`: they cannot be told apart
    """
    end, size = 0, len(data)
    for _ in range(MAX_SECTIONS):
        if end == size:
            return
        code, start = _descriptor(data, end)
        end = values.end_of(data, start)
        yield code, start, end
    if end < size:
        raise MalformedMessage(f"a message has more than {MAX_SECTIONS} sections")


def _descriptor(data: bytes, at: int) -> tuple[int, int]:
    """What the section at some place is, and where its value starts."""
    if data[at]:
        raise MalformedMessage("a section has no descriptor")
    if data[at + 1] == 0x53:
        return data[at + 2], at + 3
    if data[at + 1] == 0x80:
        return int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
    raise MalformedMessage("a section has a descriptor that is not a number")


def decode(data: bytes) -> Message:
    """Decode a message.

    What is not read is skipped, so it may be anything: a body that is neither string,
    binary nor null is refused before it is built.

    :raises MalformedMessage: no bytes raise anything else
    """
    message = Message()
    try:
        _decode(data, message)
    except values.ERRORS as error:
        raise MalformedMessage(str(error)) from error
    return message


def _decode(data: bytes, message: Message) -> None:
    parts: list[bytes] = []
    for code, at, end in sections(data):
        if code == VALUE:
            message.body = _body(data, at, end)
        elif code == PROPERTIES:
            (
                message.id,
                _,
                message.to,
                _,
                message.reply_to,
                message.correlation_id,
            ) = values.fields(data, at, end, TO_CORRELATION_ID, PROPERTIES_FIELDS)
        elif code == HEADER:
            _, _, message.ttl = values.fields(data, at, end, _TO_TTL, _HEADER_FIELDS)
        elif code == MESSAGE_ANNOTATIONS:
            section = data[at:end]
            message.marks = (_known if len(section) <= _SHORT else _marks)(section)
        elif code == DATA:
            parts.append(_binary(data, at, end))
        elif code == SEQUENCE:
            raise _no_body()
    if parts:
        if message.body is not None:
            raise MalformedMessage("a message has two bodies")
        message.body = b"".join(parts)


def _body(data: bytes, at: int, end: int) -> str | bytes | None:
    code = data[at]
    if code == 0xB1:
        return data[at + 5 : end].decode()
    if code == 0xA1:
        return data[at + 2 : end].decode()
    return None if code == 0x40 else _binary(data, at, end)


def _binary(data: bytes, at: int, end: int) -> bytes:
    code = data[at]
    if code == 0xB0:
        return data[at + 5 : end]
    if code == 0xA0:
        return data[at + 2 : end]
    raise _no_body()


def _no_body() -> MalformedMessage:
    return MalformedMessage("a body is neither a string nor binary")


def _marks(section: bytes) -> frozenset[str]:
    return frozenset(
        name
        for name, value in values.entries(section, 0, len(section), MAX_ANNOTATIONS)
        if name is not None
        and (section[value] == 0x41 or section[value : value + 2] == b"\x56\x01")
    )


#: most senders set the same few marks; bytes that a section has which is remembered
_known, _SHORT = functools.lru_cache(maxsize=64)(_marks), 128


def peek_to(data: bytes) -> str | None:
    """The `to` field of an encoded message; None where it has none.

    :raises MalformedMessage: the sections before it can't be read
    """
    try:
        for code, at, end in sections(data):
            if code == PROPERTIES:
                to: str | None
                _, _, to = values.fields(data, at, end, _TO_ADDRESS, PROPERTIES_FIELDS)
                return to
            if code > PROPERTIES:
                return None
    except values.ERRORS as error:
        raise MalformedMessage(str(error)) from error
    return None


def peek_ttl(data: bytes) -> float | None:
    """The seconds that an encoded message may live; None: it does not say."""
    try:
        code, at = _descriptor(data, 0)
        if code != HEADER:
            return None
        end = values.end_of(data, at)
        _, _, ttl = values.fields(data, at, end, _TO_TTL, _HEADER_FIELDS)
    except values.ERRORS:
        return None  # the receiver will say so
    return None if ttl is None else ttl / 1000
