# SPDX-License-Identifier: Apache-2.0
"""AMQP 1.0 values, read where they stand in a peer's bytes.

A value shows by its first byte how long it is (AMQP 1.0, part 1, section 1.2). So
only what is wanted is built, all around it is skipped, and what that
costs depends neither on its size nor on what it counts or nests.

A reader takes the bytes and where a value starts, and returns the value and where it
ends. Slices that would run past the bytes are shorter instead: whoever reads a
collection compares where its members end with where it ends itself.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

#: Bytes that a text, a name or an identifier may have.
MAX_TEXT = 32 * 1024

Reader = Callable[[bytes, int], tuple[Any, int]]


class MalformedMessage(ValueError):
    """Bytes that are no AMQP 1.0 message, or none that is read here."""


#: the constructors of lists, of maps, and of strings, in short and long form
LISTS, MAPS, STRINGS = (0xC0, 0xD0, 0x45), (0xC1, 0xD1), (0xA1, 0xB1)

_SIGNED = frozenset({0x51, 0x54, 0x55, 0x61, 0x71, 0x81})
#: the constructors of integers
INTEGERS = frozenset({0x43, 0x44, 0x50, 0x52, 0x53, 0x60, 0x70, 0x80}) | _SIGNED

#: what bytes that are none of AMQP's lead to in here
ERRORS = (IndexError, struct.error, ValueError)

_u32 = struct.Struct(">I").unpack_from
_u64 = struct.Struct(">Q").unpack_from

#: bytes after the constructor, by its first half less 4; larger values name their size
_WIDTHS = (0, 1, 2, 4, 8, 16)


def end_of(data: bytes, at: int, described: bool = False) -> int:
    """Where a value of any type ends.

    :param described: its descriptor has been read, and it has no other
    :raises MalformedMessage: past the end of the bytes
    """
    code = data[at]
    if code > 0x9F:
        # 0xA, 0xC and 0xE have one byte of size, 0xB, 0xD and 0xF four
        wide = code & 0x10
        end = at + 5 + _u32(data, at + 1)[0] if wide else at + 2 + data[at + 1]
    elif code > 0x3F:
        end = at + 1 + _WIDTHS[(code >> 4) - 4]
    elif code or described:
        raise MalformedMessage(f"unknown type 0x{code:02x}")
    else:
        return end_of(data, end_of(data, at + 1, True), True)
    if end > len(data):
        raise MalformedMessage("a value extends beyond the end of the message")
    return end


# -- collections -----------------------------------------------------------------


def fields(
    data: bytes, at: int, end: int, readers: Sequence[Reader], most: int
) -> list[Any]:
    """The first fields of a list; None for those that are null or absent.

    :param end: where the list ends
    :param readers: one for each of the fields
    :param most: fields that such a list may have
    """
    count, at = _members(data, at, LISTS)
    if count > most:
        raise MalformedMessage(f"a list of at most {most} fields has {count}")
    found: list[Any] = [None] * len(readers)
    for index, read in enumerate(readers[:count]):
        if data[at] == 0x40:
            at += 1
        else:
            found[index], at = read(data, at)
    if at > end:
        raise MalformedMessage("a list extends beyond its size")
    return found


def entries(
    data: bytes, at: int, end: int, most: int
) -> Iterator[tuple[str | None, int]]:
    """The keys of a map, with where the value of each starts.

    A key that is no text, or a long one, is None.

    :param end: where the map ends
    :param most: entries that such a map may have
    """
    count, at = _members(data, at, MAPS)
    if count > 2 * most or count % 2:
        raise MalformedMessage(f"a map of at most {most} pairs has {count} members")
    for _ in range(count // 2):
        value_at = end_of(data, at)
        after = end_of(data, value_at)
        if after > end:
            raise MalformedMessage("a map extends beyond its size")
        key = None
        if data[at] in _TEXTS and value_at - at <= MAX_TEXT:
            key = data[at + _TEXTS[data[at]] : value_at].decode()
        yield key, value_at
        at = after


def texts(data: bytes, at: int, end: int, most: int) -> list[str]:
    """A list of texts.

    :param end: where the list ends
    :param most: texts that such a list may have
    """
    count, at = _members(data, at, LISTS)
    if count > most:
        raise MalformedMessage(f"a list of at most {most} texts has {count}")
    found = []
    for _ in range(count):
        each, at = text(data, at)
        found.append(each)
    if at > end:
        raise MalformedMessage("a list extends beyond its size")
    return found


def _members(data: bytes, at: int, kinds: tuple[int, ...]) -> tuple[int, int]:
    """How many members a list or map counts, and where the first one starts."""
    code = data[at]
    if code not in kinds:
        raise MalformedMessage("expected a list or a map")
    if code < 0xC0:
        return 0, at + 1
    if code < 0xD0:
        return data[at + 2], at + 3
    return _u32(data, at + 5)[0], at + 9


# -- readers ---------------------------------------------------------------------

#: where the bytes of strings and symbols start
_TEXTS = {0xA1: 2, 0xB1: 5, 0xA3: 2, 0xB3: 5}


def ignored(data: bytes, at: int) -> tuple[None, int]:
    """Any value, unread."""
    return None, end_of(data, at)


def text(data: bytes, at: int) -> tuple[str, int]:
    """A string."""
    code = data[at]
    if code == 0xA1:
        start = at + 2
        end = start + data[at + 1]
    elif code == 0xB1:
        start = at + 5
        end = start + _size(data, at)
    else:
        raise MalformedMessage("expected a string")
    return data[start:end].decode(), end


def identifier(data: bytes, at: int) -> tuple[Any, int]:
    """A message-id or correlation-id: string, ulong, uuid or binary."""
    code = data[at]
    if code == 0xA1 or code == 0xB1:
        return text(data, at)
    if code == 0x80:
        return _u64(data, at + 1)[0], at + 9
    if code == 0x53:
        return data[at + 1], at + 2
    if code == 0x44:
        return 0, at + 1
    if code == 0x98:
        return uuid.UUID(bytes=data[at + 1 : at + 17]), at + 17
    if code == 0xA0:
        end = at + 2 + data[at + 1]
        return data[at + 2 : end], end
    if code == 0xB0:
        end = at + 5 + _size(data, at)
        return data[at + 5 : end], end
    raise MalformedMessage("an identifier is neither text, number, uuid nor binary")


def milliseconds(data: bytes, at: int) -> tuple[int | None, int]:
    """A duration: uint; None: another type says nothing."""
    code = data[at]
    if code == 0x70:
        return _u32(data, at + 1)[0], at + 5
    if code == 0x52:
        return data[at + 1], at + 2
    if code == 0x43:
        return 0, at + 1
    return ignored(data, at)


def number(data: bytes, at: int) -> tuple[int, int]:
    """An integer of any type."""
    code, end = data[at], end_of(data, at)
    if code not in INTEGERS:
        raise MalformedMessage("expected an integer")
    return int.from_bytes(data[at + 1 : end], "big", signed=code in _SIGNED), end


def _size(data: bytes, at: int) -> int:
    size: int = _u32(data, at + 1)[0]
    if size > MAX_TEXT:
        raise MalformedMessage(f"a text or an identifier exceeds {MAX_TEXT} bytes")
    return size
