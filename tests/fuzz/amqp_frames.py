# SPDX-License-Identifier: Apache-2.0
"""AMQP 1.0 as nobody should speak it: frames and values, well-formed or not.

Values are the bytes that encode them, so that anything may stand anywhere. Source:
AMQP 1.0, part 1 for types, part 2 for frames and performatives, part 5 for SASL.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

from tests.functional.routers import HOST

#: Bytes of a message that fit into the router's largest frame, which has 32 KiB.
LARGEST_PART = 32_000
#: Seconds in which a router has dealt with what it was told.
TIMEOUT = 60.0

AMQP, SASL = b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00"
NULL, TRUE, FALSE, ZERO, EMPTY = b"\x40", b"\x41", b"\x42", b"\x43", b"\x45"

# -- performatives
OPEN, BEGIN, ATTACH, FLOW, TRANSFER = 0x10, 0x11, 0x12, 0x13, 0x14
DISPOSITION, DETACH, END, CLOSE = 0x15, 0x16, 0x17, 0x18
ERROR, SOURCE, TARGET, SASL_INIT = 0x1D, 0x28, 0x29, 0x41
# -- sections of messages
HEADER, ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES, VALUE = (
    b"\x00\x53" + bytes([code]) for code in (0x70, 0x72, 0x73, 0x74, 0x77)
)


def uint(number: int) -> bytes:
    return b"\x70" + struct.pack(">I", number)


def string(text: str) -> bytes:
    data = text.encode()
    return b"\xb1" + struct.pack(">I", len(data)) + data


def symbol(text: str) -> bytes:
    data = text.encode()
    return b"\xb3" + struct.pack(">I", len(data)) + data


def compound(code: int, count: int, members: bytes) -> bytes:
    """A list (0xd0), a map (0xd1) or an array (0xf0), with a count that may lie."""
    return bytes([code]) + struct.pack(">II", len(members) + 4, count) + members


def listed(*fields: bytes) -> bytes:
    return compound(0xD0, len(fields), b"".join(fields))


def mapped(*keys_and_values: bytes) -> bytes:
    return compound(0xD1, len(keys_and_values), b"".join(keys_and_values))


def described(code: int, value: bytes) -> bytes:
    return b"\x00\x53" + bytes([code]) + value


def frame(body: bytes, channel: int = 0, kind: int = 0) -> bytes:
    return struct.pack(">IBBH", len(body) + 8, 2, kind, channel) + body


def performative(code: int, *fields: bytes, channel: int = 0) -> bytes:
    return frame(described(code, listed(*fields)), channel)


# -- what a stranger says to be let in -----------------------------------------


def opened(
    container: bytes = b"\xa1\x08stranger",
    host: bytes = NULL,
    idle: bytes = NULL,
    offered: bytes = NULL,
    desired: bytes = NULL,
    properties: bytes = NULL,
) -> bytes:
    """Headers and frames up to Open."""
    anonymous = described(SASL_INIT, listed(symbol("ANONYMOUS")))
    channels = b"\x60\xff\xff"
    fields = (container, host, uint(1 << 16), channels, idle, NULL, NULL)
    return (
        SASL
        + frame(anonymous, kind=1)
        + AMQP
        + performative(OPEN, *fields, offered, desired, properties)
    )


def begun(channel: int = 0) -> bytes:
    window = uint(1 << 20)
    return performative(BEGIN, NULL, ZERO, window, window, channel=channel)


def attached(
    name: bytes,
    handle: int,
    *,
    receives: bool = False,
    source: bytes = described(SOURCE, listed(b"\xa1\x01x")),
    target: bytes = described(TARGET, listed(b"\xa1\x01x")),
    unsettled: bytes = NULL,
    properties: bytes = NULL,
) -> bytes:
    role = TRUE if receives else FALSE
    fields = (name, uint(handle), role, NULL, NULL, source, target, unsettled)
    return performative(ATTACH, *fields, NULL, ZERO, NULL, NULL, NULL, properties)


def relay(handle: int = 0) -> bytes:
    """A sender whose messages say themselves where they go."""
    return attached(string("relay"), handle, target=described(TARGET, listed(NULL)))


def transferred(
    message: bytes,
    number: int = 0,
    *,
    handle: int = 0,
    more: bool = False,
    state: bytes = NULL,
) -> bytes:
    """One transfer, or a part of one with `more`."""
    fields = (uint(handle), uint(number), b"\xa0\x01t", ZERO, FALSE)
    goes_on = TRUE if more else FALSE
    body = described(TRANSFER, listed(*fields, goes_on, NULL, state))
    return frame(body + message)


def in_parts(message: bytes, size: int = LARGEST_PART) -> Iterator[bytes]:
    """The transfers of a large message."""
    for start in range(0, len(message), size):
        more = start + size < len(message)
        yield transferred(message[start : start + size], more=more)


_FLOW = described(FLOW, b"")


# -- saying it -----------------------------------------------------------------


def connected(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), TIMEOUT)


def said(port: int, greeting: bytes, *chunks: bytes) -> bytes:
    """Say something, hang up, and return what was answered until the end.

    The other end has dealt with everything when this returns.

    :param greeting: said first
    :param chunks: said when there is credit, or the other end has hung up
    """
    heard = bytearray()
    with contextlib.suppress(ConnectionError), connected(port) as stranger:
        stranger.sendall(greeting)
        while chunks and _FLOW not in heard and (more := stranger.recv(65536)):
            heard += more
        for chunk in chunks:
            stranger.sendall(chunk)
        stranger.shutdown(socket.SHUT_WR)
        while more := stranger.recv(65536):
            heard += more
    return bytes(heard)


# -- values that are not what they should be -----------------------------------


def _nested(level: Callable[[bytes], bytes], innermost: bytes = NULL) -> bytes:
    value = innermost
    while len(value) < 12_000:
        value = level(value)
    return value


#: Values to be put where others belong; two of them fit into a frame.
VALUES = {
    "lists in lists": _nested(listed),
    "maps in maps": _nested(lambda value: mapped(NULL, value)),
    "arrays in arrays": _nested(lambda value: compound(0xF0, 1, value)),
    "descriptors of descriptors": b"\x00" * 12_000 + NULL * 2,
    "descriptions of descriptions": b"\x00\x53\x01" * 4_000 + NULL,
    "array of described": compound(0xF0, 3, b"\x00\x53\x01" * 4_000 + NULL),
    "array of 2**31 nulls": compound(0xF0, 1 << 31, NULL),
    "array of 2**31 empty lists": compound(0xF0, 1 << 31, EMPTY),
    "list of 12,000 nulls": compound(0xD0, 12_000, NULL * 12_000),
    "list that claims 2**32 members": compound(0xD0, (1 << 32) - 1, NULL),
    "map of an odd number": compound(0xD1, 3, NULL * 3),
    "size beyond the end": b"\xd0\xff\xff\xff\xff\x00\x00\x00\x01" + NULL,
    "unknown type": b"\x3f",
    "infinite decimal": b"\x94" + b"\xff" * 16,
    "character beyond Unicode": b"\x73\xff\xff\xff\xff",
    "string without UTF-8": b"\xa1\x02\xff\xfe",
    "symbol without ASCII": b"\xa3\x02\xff\xfe",
    "escape sequences": string("\x1b[2J\r\nforged: line\0" * 100),
    "string of 12,000": string("x" * 12_000),
}

_UP = opened() + begun()


def _attaches(**more: Any) -> bytes:
    return _UP + attached(string("l"), 0, **more)


def _receives(*source: bytes) -> bytes:
    return _attaches(receives=True, source=described(SOURCE, listed(*source)))


#: Where a value can stand in what a stranger says at once.
FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "sasl": lambda value: SASL + frame(described(SASL_INIT, listed(value)), kind=1),
    "open: container-id": lambda value: opened(container=value),
    "open: hostname": lambda value: opened(host=value),
    "open: idle time-out": lambda value: opened(idle=value),
    "open: offered": lambda value: opened(offered=value),
    "open: desired": lambda value: opened(desired=value),
    "open: properties": lambda value: opened(properties=value),
    "open: a property": lambda value: opened(properties=mapped(symbol("a"), value)),
    "attach: name": lambda value: _UP + attached(value, 0),
    "attach: source": lambda value: _attaches(source=value),
    "attach: target": lambda value: _attaches(target=value),
    "attach: unsettled": lambda value: _attaches(unsettled=value),
    "attach: properties": lambda value: _attaches(properties=value),
    "source: address": lambda value: _receives(value),
    "source: dynamic properties": lambda value: _receives(
        NULL, NULL, NULL, NULL, TRUE, value
    ),
    "source: filter": lambda value: _receives(string("x"), *[NULL] * 6, value),
    "target: address": lambda value: _attaches(target=described(TARGET, listed(value))),
    "disposition": lambda value: (
        _attaches()
        + performative(DISPOSITION, TRUE, ZERO, ZERO, TRUE, value)
        + performative(DISPOSITION, FALSE, ZERO, ZERO, TRUE, value)
    ),
    "flow": lambda value: (
        _attaches() + performative(FLOW, ZERO, ZERO, ZERO, ZERO, *[NULL] * 6, value)
    ),
    "detach: error": lambda value: (
        _attaches()
        + performative(DETACH, ZERO, TRUE, described(ERROR, listed(value, value)))
    ),
    "end: error": lambda value: _UP + performative(END, value),
    "close: error": lambda value: (
        _UP + performative(CLOSE, described(ERROR, listed(symbol("a:b"), value, value)))
    ),
    "performative": lambda value: _UP + frame(value),
}

#: Where it can stand in a message to the relay, and in one to the management.
MESSAGES: dict[str, Callable[[bytes], bytes]] = {
    "header": lambda value: HEADER + value,
    "annotations": lambda value: ANNOTATIONS + value,
    "properties": lambda value: PROPERTIES + value,
    "to": lambda value: PROPERTIES + listed(NULL, NULL, value),
    "reply-to": lambda value: PROPERTIES + listed(*[NULL] * 4, value) + VALUE + NULL,
    "application properties": lambda value: (
        APPLICATION_PROPERTIES + value + VALUE + NULL
    ),
    "body": lambda value: VALUE + value,
}


def talks(value: bytes) -> Iterator[tuple[bytes, ...]]:
    """Everything for `said` that has the value where another belongs."""
    for put in FRAMES.values():
        yield (put(value),)
    for address in (NULL, string("$management")):
        attach = _attaches(target=described(TARGET, listed(address)))
        for put in MESSAGES.values():
            yield attach, transferred(put(value))
    yield _UP + relay(), transferred(HEADER + listed(), state=value)
