# SPDX-License-Identifier: Apache-2.0
"""What is in the frames: requests to a server, and its answers.

Each message is one frame after the routing id, sent in parts of 64 KiB where it is
larger. Integers are big-endian::

    request   version (1)  kind (1)  id (8)  ttl (4)  length (2)  address  body
    answer    version (1)  kind (1)  id (8)  body

The id is the sender's, unique on its connection. The address names one listener
of one process, so that a request never reaches another process that has got the
same port. The ttl is how long the sender of a call still waits, in milliseconds;
it is compared with how long the request waits at the receiver, never with a clock.
Bodies are JSON text in UTF-8, as `hybrid_messaging.drivers.bodies` makes it; of a
refusal it is the reason.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

VERSION = 1

# -- kinds of requests --
#: To be answered with `REPLY`, and before it with any number of `ALIVE`.
CALL = b"C"
#: To be answered with `TAKEN`, if the listener has room for it.
CAST = b"T"
#: A cast that goes to all listeners of a topic: one without room misses it.
FANOUT = b"F"
#: The sender of the request with this id does not want it any more. No answer.
WITHDRAW = b"W"

# -- kinds of answers --
TAKEN = b"A"
REPLY = b"R"
#: The server is at work: a sign of life.
ALIVE = b"H"
#: From a proxy: the server that had the request is gone. The body is its endpoint.
LOST = b"L"
#: Nobody listens on the address; nothing was done.
NOBODY = b"N"
#: The listener has no room; nothing was done. `ROOM` follows, except for a fanout.
BUSY = b"B"
#: There is room again for the request with this id, which was answered with `BUSY`.
ROOM = b"O"
#: The request cannot be understood.
REFUSED = b"E"

_REQUESTS = frozenset({CALL, CAST, FANOUT, WITHDRAW})
#: Not an answer to a request: nobody listens any more on the address that is the body.
GONE = b"G"

_ANSWERS = frozenset({GONE, TAKEN, REPLY, ALIVE, LOST, NOBODY, BUSY, ROOM, REFUSED})
_REQUEST = struct.Struct("!BcQIH")
_ANSWER = struct.Struct("!BcQ")

#: Bytes of the longest address.
LONGEST_ADDRESS = 0xFFFF
#: The longest ttl, in milliseconds; it also stands for longer ones, and for none.
NO_TTL = 0xFFFFFFFF
#: Bytes of the longest topic and server that an address has room for.
LONGEST_NAMES = LONGEST_ADDRESS - 64


class MalformedFrame(ValueError):
    """A frame that no driver has sent."""


class Request(NamedTuple):
    kind: bytes
    id: int
    #: milliseconds
    ttl: int
    address: bytes
    body: bytes


class Answer(NamedTuple):
    kind: bytes
    id: int
    body: bytes


def request(
    kind: bytes, id: int, address: bytes, body: bytes = b"", ttl: int = NO_TTL
) -> bytes:
    """The frame of a request.

    :param address: of no more than `LONGEST_ADDRESS` bytes
    :param ttl: milliseconds
    """
    head = _REQUEST.pack(VERSION, kind, id, ttl, len(address))
    return b"".join((head, address, body))


def read_request(frame: bytes) -> Request:
    """:raises MalformedFrame: no frame raises anything else"""
    try:
        version, kind, id, ttl, length = _REQUEST.unpack_from(frame)
    except struct.error as error:
        raise MalformedFrame(str(error)) from error
    body = _REQUEST.size + length
    if version != VERSION or kind not in _REQUESTS or len(frame) < body:
        raise MalformedFrame("not a request")
    return Request(kind, id, ttl, frame[_REQUEST.size : body], frame[body:])


def answer(kind: bytes, id: int, body: bytes = b"") -> bytes:
    """The frame of an answer."""
    return _ANSWER.pack(VERSION, kind, id) + body


def read_answer(frame: bytes) -> Answer:
    """:raises MalformedFrame: no frame raises anything else"""
    try:
        version, kind, id = _ANSWER.unpack_from(frame)
    except struct.error as error:
        raise MalformedFrame(str(error)) from error
    if version != VERSION or kind not in _ANSWERS:
        raise MalformedFrame("not an answer")
    return Answer(kind, id, frame[_ANSWER.size :])


def ttl(seconds: float) -> int:
    """A time in the milliseconds of a request; what is too long for it counts as none.

    :param seconds: may be infinite
    """
    return max(0, int(min(seconds * 1000, NO_TTL)))
