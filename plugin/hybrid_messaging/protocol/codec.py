# SPDX-License-Identifier: Apache-2.0
"""The bare AMQP 1.0 messages that oslo.messaging needs, to bytes and back.

A driver encodes and decodes four fields and one string per message, in
threads that compete for the interpreter. Doing that in place costs less than
moving each field through a general message object, and does not give the
interpreter away in between. Anything well-formed is decoded, whoever sent it
(AMQP 1.0, part 1 for types, part 3 section 3.2 for the sections).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Any

#: Types may nest this deep; a message that goes deeper is refused.
MAX_DEPTH = 16


class MalformedMessage(ValueError):
    """Bytes that are no AMQP 1.0 message."""


class Message:
    """A decoded message: the sections and fields that the project reads."""

    __slots__ = (
        "annotations",
        "body",
        "correlation_id",
        "id",
        "reply_to",
        "to",
        "ttl",
    )

    def __init__(self) -> None:
        self.annotations: dict[str, Any] = {}
        self.body: Any = None
        self.id: Any = None
        self.to: str | None = None
        self.reply_to: str | None = None
        self.correlation_id: Any = None
        #: milliseconds
        self.ttl: int | None = None


# -- encoding ----------------------------------------------------------

_HEADER, _ANNOTATIONS, _PROPERTIES = b"\x00\x53\x70", b"\x00\x53\x72", b"\x00\x53\x73"
_VALUE = b"\x00\x53\x77"
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
            _NULL if to is None else _string(to),
            _NULL,
            _NULL if reply_to is None else _string(reply_to),
            _identifier(correlation_id),
            _NULL,
            _NULL,
            _NULL if expiry is None else b"\x83" + _pack_i64(int(expiry * 1000)),
        ]
    )
    value = _NULL if body is None else _string(body)
    return b"".join((header, marks, properties, _VALUE, value))


# -- decoding ----------------------------------------------------------

_U16, _U32, _U64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_I8, _I16 = struct.Struct(">b"), struct.Struct(">h")
_I32, _I64 = struct.Struct(">i"), struct.Struct(">q")
_F32, _F64 = struct.Struct(">f"), struct.Struct(">d")

_CONSTANTS: dict[int, Any] = {
    0x40: None,
    0x41: True,
    0x42: False,
    0x43: 0,
    0x44: 0,
}
_FIXED: dict[int, tuple[int, Callable[[bytes, int], Any]]] = {
    0x50: (1, lambda data, at: data[at]),
    0x51: (1, lambda data, at: _I8.unpack_from(data, at)[0]),
    0x52: (1, lambda data, at: data[at]),
    0x53: (1, lambda data, at: data[at]),
    0x54: (1, lambda data, at: _I8.unpack_from(data, at)[0]),
    0x55: (1, lambda data, at: _I8.unpack_from(data, at)[0]),
    0x56: (1, lambda data, at: data[at] != 0),
    0x60: (2, lambda data, at: _U16.unpack_from(data, at)[0]),
    0x61: (2, lambda data, at: _I16.unpack_from(data, at)[0]),
    0x70: (4, lambda data, at: _U32.unpack_from(data, at)[0]),
    0x71: (4, lambda data, at: _I32.unpack_from(data, at)[0]),
    0x72: (4, lambda data, at: _F32.unpack_from(data, at)[0]),
    0x73: (4, lambda data, at: data[at : at + 4].decode("utf-32-be")),
    0x74: (4, lambda data, at: data[at : at + 4]),
    0x80: (8, lambda data, at: _U64.unpack_from(data, at)[0]),
    0x81: (8, lambda data, at: _I64.unpack_from(data, at)[0]),
    0x82: (8, lambda data, at: _F64.unpack_from(data, at)[0]),
    0x83: (8, lambda data, at: _I64.unpack_from(data, at)[0]),
    0x84: (8, lambda data, at: data[at : at + 8]),
    0x94: (16, lambda data, at: data[at : at + 16]),
    0x98: (16, lambda data, at: uuid.UUID(bytes=data[at : at + 16])),
}
_BINARY, _TEXT = {0xA0: 1, 0xB0: 4}, {0xA1: 1, 0xB1: 4, 0xA3: 1, 0xB3: 4}
_LISTS, _MAPS, _ARRAYS = {0xC0: 1, 0xD0: 4}, {0xC1: 1, 0xD1: 4}, {0xE0: 1, 0xF0: 4}


def _size(data: bytes, at: int, width: int) -> tuple[int, int]:
    return (data[at], at + 1) if width == 1 else (_U32.unpack_from(data, at)[0], at + 4)


def _value(data: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
    """The value whose constructor stands at `at`, and where the next one starts."""
    return _typed(data, at + 1, data[at], depth)


def _typed(data: bytes, at: int, code: int, depth: int) -> tuple[Any, int]:
    width = _TEXT.get(code)
    if width is not None:
        size, at = _size(data, at, width)
        return _slice(data, at, size).decode(), at + size
    if code in _CONSTANTS:
        return _CONSTANTS[code], at
    if code == 0x45:
        return [], at
    fixed = _FIXED.get(code)
    if fixed is not None:
        if at + fixed[0] > len(data):
            raise MalformedMessage("a value runs past the end of the message")
        return fixed[1](data, at), at + fixed[0]
    width = _BINARY.get(code)
    if width is not None:
        size, at = _size(data, at, width)
        return _slice(data, at, size), at + size
    if depth >= MAX_DEPTH:
        raise MalformedMessage(f"values nest deeper than {MAX_DEPTH}")
    if code == 0x00:
        _, at = _value(data, at, depth + 1)
        return _value(data, at, depth + 1)
    return _compound(data, at, code, depth + 1)


def _compound(data: bytes, at: int, code: int, depth: int) -> tuple[Any, int]:
    width = _LISTS.get(code) or _MAPS.get(code) or _ARRAYS.get(code)
    if width is None:
        raise MalformedMessage(f"no such type: 0x{code:02x}")
    size, at = _size(data, at, width)
    end = at + size
    if end > len(data):
        raise MalformedMessage("a value runs past the end of the message")
    count, at = _size(data, at, width)
    if count > size:  # members take a byte at least, but for arrays of constants
        raise MalformedMessage("a collection counts more members than it has bytes")
    items = []
    if code in _ARRAYS:
        kind = data[at]
        at += 1
        if kind == 0x00:
            raise MalformedMessage("arrays of described types are not understood")
        for _ in range(count):
            item, at = _typed(data, at, kind, depth)
            items.append(item)
    else:
        for _ in range(count):
            kind = data[at]
            # what most fields are, without a call for each
            if kind == 0x40:
                item, at = None, at + 1
            elif kind == 0xA1:
                start, at = at + 2, at + 2 + data[at + 1]
                item = data[start:at].decode()
            else:
                item, at = _typed(data, at + 1, kind, depth)
            items.append(item)
    if at > end:
        raise MalformedMessage("a collection runs past its own size")
    if code in _MAPS:
        return dict(zip(map(_key, items[::2]), items[1::2], strict=True)), end
    return items, end


def _key(value: Any) -> Any:
    return repr(value) if isinstance(value, (list, dict)) else value


def _slice(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise MalformedMessage("a value runs past the end of the message")
    return data[at : at + size]


def _section(data: bytes, at: int) -> tuple[int, int]:
    """The descriptor of the section at `at`, and where its value starts."""
    if data[at] != 0x00:
        raise MalformedMessage("a section has no descriptor")
    if data[at + 1] == 0x53:
        return data[at + 2], at + 3
    code, at = _value(data, at + 1)
    if not isinstance(code, int):
        raise MalformedMessage("a section has a descriptor that is no number")
    return code, at


def _skip(data: bytes, at: int) -> int:
    """Where the value at `at` ends, without building it where its size is told."""
    code = data[at]
    width = _LISTS.get(code) or _MAPS.get(code) or _ARRAYS.get(code)
    if width is None:
        return _value(data, at)[1]
    size, start = _size(data, at + 1, width)
    if start + size > len(data):
        raise MalformedMessage("a section runs past the end of the message")
    return start + size


def _fields(data: bytes, at: int) -> tuple[list[Any], int]:
    fields, at = _value(data, at)
    if not isinstance(fields, list):
        raise MalformedMessage("a section is no list")
    return fields, at


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise MalformedMessage("an address is no string")
    return value


def _identity(value: Any) -> Any:
    """A message-id or correlation-id, of one of the types that they may have."""
    if value is None or isinstance(value, (str, bytes, uuid.UUID)):
        return value
    if type(value) is int and 0 <= value < 1 << 64:
        return value
    raise MalformedMessage("an identifier is neither text, number, uuid nor binary")


def decode(data: bytes) -> Message:
    """Decode a message.

    :raises MalformedMessage: whatever the bytes are, nothing else
    """
    message = Message()
    try:
        _decode(data, message)
    except MalformedMessage:
        raise
    except (IndexError, struct.error, ValueError, TypeError) as error:
        raise MalformedMessage(str(error)) from error
    return message


def _decode(data: bytes, message: Message) -> None:
    at, end = 0, len(data)
    while at < end:
        code, at = _section(data, at)
        if code == 0x77:  # amqp-value
            message.body, at = _value(data, at)
        elif code == 0x73:  # properties
            fields, at = _fields(data, at)
            fields += [None] * (6 - len(fields))
            id, _, to, _, reply_to, correlation_id = fields[:6]
            message.id = _identity(id)
            message.correlation_id = _identity(correlation_id)
            message.to, message.reply_to = _text(to), _text(reply_to)
        elif code == 0x75:  # data
            part, at = _value(data, at)
            message.body = part if message.body is None else message.body + part
        elif code == 0x72:  # message-annotations
            message.annotations, at = _value(data, at)
            if not isinstance(message.annotations, dict):
                raise MalformedMessage("message-annotations are no map")
        elif code == 0x70:  # header
            fields, at = _fields(data, at)
            message.ttl = fields[2] if len(fields) > 2 else None
        else:
            at = _skip(data, at)


def peek_to(data: bytes) -> str | None:
    """The `to` field of an encoded message; None where it has none.

    :raises MalformedMessage: the sections before it can't be read
    """
    try:
        at, end = 0, len(data)
        while at < end:
            code, at = _section(data, at)
            if code == 0x73:
                fields, _ = _fields(data, at)
                return _text(fields[2]) if len(fields) > 2 else None
            if code > 0x73:
                return None
            at = _skip(data, at)
    except (IndexError, struct.error, ValueError, TypeError) as error:
        raise MalformedMessage(str(error)) from error
    return None


def peek_ttl(data: bytes) -> float | None:
    """The seconds that an encoded message may live; None: it does not say."""
    try:
        code, at = _section(data, 0)
        if code != 0x70:
            return None
        fields, _ = _fields(data, at)
    except (IndexError, struct.error, ValueError, TypeError):
        return None  # the receiver will say so
    ttl = fields[2] if len(fields) > 2 else None
    return ttl / 1000 if type(ttl) is int and ttl >= 0 else None
