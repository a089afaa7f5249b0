# SPDX-License-Identifier: Apache-2.0
"""What is in the frames: requests to a server, and its answers.

Each message is one frame after the routing id. Integers are big-endian::

    request   version (1)  kind (1)  id (8)  length (2)  address  body
    answer    version (1)  kind (1)  id (8)  body

The id is the sender's, unique on its connection. The address names one listener
of one process, so that a request never reaches another process that has got the
same port. Bodies are JSON text in UTF-8, as `hybrid_messaging.drivers.bodies`
makes it; of a refusal it is the reason.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

VERSION = 1

# -- kinds of requests --
#: To be answered with `REPLY`, and before it with any number of `ALIVE`.
CALL = b"C"
#: To be answered with `TAKEN`, once the listener has room for it.
CAST = b"T"

# -- kinds of answers; those in UNSEEN say that nothing was done --
TAKEN = b"A"
REPLY = b"R"
#: The server is at work: a sign of life.
ALIVE = b"H"
#: From a proxy: the server that had the request is gone. The body is its endpoint.
LOST = b"L"
#: Nobody listens on the address.
NOBODY = b"N"
#: The listener is full.
BUSY = b"B"
#: The request cannot be understood.
REFUSED = b"E"

_REQUESTS = frozenset({CALL, CAST})
_ANSWERS = frozenset({TAKEN, REPLY, ALIVE, LOST, NOBODY, BUSY, REFUSED})
_REQUEST = struct.Struct("!BcQH")
_ANSWER = struct.Struct("!BcQ")


class MalformedFrame(ValueError):
    """A frame that no driver has sent."""


class Request(NamedTuple):
    kind: bytes
    id: int
    address: bytes
    body: bytes


class Answer(NamedTuple):
    kind: bytes
    id: int
    body: bytes


def request(kind: bytes, id: int, address: bytes, body: bytes) -> bytes:
    """The frame of a request."""
    return b"".join((_REQUEST.pack(VERSION, kind, id, len(address)), address, body))


def read_request(frame: bytes) -> Request:
    """:raises MalformedFrame: whatever the frame is, nothing else"""
    try:
        version, kind, id, length = _REQUEST.unpack_from(frame)
    except struct.error as error:
        raise MalformedFrame(str(error)) from error
    body = _REQUEST.size + length
    if version != VERSION or kind not in _REQUESTS or len(frame) < body:
        raise MalformedFrame("no request")
    return Request(kind, id, frame[_REQUEST.size : body], frame[body:])


def answer(kind: bytes, id: int, body: bytes = b"") -> bytes:
    """The frame of an answer."""
    return _ANSWER.pack(VERSION, kind, id) + body


def read_answer(frame: bytes) -> Answer:
    """:raises MalformedFrame: whatever the frame is, nothing else"""
    try:
        version, kind, id = _ANSWER.unpack_from(frame)
    except struct.error as error:
        raise MalformedFrame(str(error)) from error
    if version != VERSION or kind not in _ANSWERS:
        raise MalformedFrame("no answer")
    return Answer(kind, id, frame[_ANSWER.size :])
