# SPDX-License-Identifier: Apache-2.0
"""A relay between an AMQP client and a router that changes frames on their way."""

from __future__ import annotations

import contextlib
import enum
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from tests.functional.routers import HOST
from tests.fuzz import amqp_frames as amqp
from tests.fuzz.amqp_frames import (
    FALSE,
    NULL,
    TRUE,
    described,
    listed,
    performative,
    uint,
)

#: One of so many frames is changed.
RARITY = 30
#: Seconds after which a connection is cut, so that many beginnings are changed, too.
LIFE = 1.5
_LARGEST_FRAME = 10_000_000
_NUMBERS = [0, 1, 7, 8, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
_HEADER = 8


class Direction(enum.Enum):
    """Whose frames are changed."""

    TO_ROUTER = "to the router"
    TO_CLIENT = "to the client"


# -- changes to one frame ------------------------------------------------------

Change = Callable[[random.Random, bytearray], bytes]


def _resized(frame: bytes) -> bytes:
    return struct.pack(">I", len(frame)) + frame[4:]


def _flip(chance: random.Random, frame: bytearray) -> bytes:
    for _ in range(chance.randint(1, 4)):
        frame[chance.randrange(_HEADER, len(frame))] = chance.randrange(256)
    return bytes(frame)


def _number(chance: random.Random, frame: bytearray) -> bytes:
    at = chance.randrange(_HEADER, len(frame))
    frame[at : at + 4] = struct.pack(">I", chance.choice(_NUMBERS))
    return _resized(frame)


def _type(chance: random.Random, frame: bytearray) -> bytes:
    codes = (
        b"\x00\x40\x41\x43\x45\x53\x56\x70\x80\x94\xa0\xa1\xa3\xb0\xb1\xc0\xd0\xd1\xf0"
    )
    frame[chance.randrange(_HEADER, len(frame))] = chance.choice(codes)
    return bytes(frame)


def _performative(chance: random.Random, frame: bytearray) -> bytes:
    frame[_HEADER + 2 : _HEADER + 3] = bytes([chance.randrange(0x10, 0x19)])
    return bytes(frame)


def _size(chance: random.Random, frame: bytearray) -> bytes:
    near = [len(frame) - 1, len(frame) + 1, len(frame) + 100]
    frame[:4] = struct.pack(">I", chance.choice([*_NUMBERS, *near]))
    return bytes(frame)


def _offset(chance: random.Random, frame: bytearray) -> bytes:
    frame[4] = chance.choice([0, 1, 3, 255])
    return bytes(frame)


def _kind(chance: random.Random, frame: bytearray) -> bytes:
    frame[5] = chance.choice([0, 1, 2, 255])
    return bytes(frame)


def _channel(chance: random.Random, frame: bytearray) -> bytes:
    frame[6:8] = struct.pack(">H", chance.choice([0, 1, 2, 500, 1023, 1024, 65535]))
    return bytes(frame)


def _duplicate(chance: random.Random, frame: bytearray) -> bytes:
    return bytes(frame) * chance.choice([2, 3, 50])


def _drop(chance: random.Random, frame: bytearray) -> bytes:
    return b""


def _cut(chance: random.Random, frame: bytearray) -> bytes:
    return _resized(frame[: chance.randrange(_HEADER, len(frame))])


def _insert(chance: random.Random, frame: bytearray) -> bytes:
    at = chance.randrange(_HEADER, len(frame))
    frame[at:at] = chance.randbytes(chance.randint(1, 8))
    return _resized(frame)


def _noise(chance: random.Random, frame: bytearray) -> bytes:
    return chance.randbytes(chance.randint(1, 200)) + frame


def _value(chance: random.Random, frame: bytearray) -> bytes:
    value = chance.choice(list(amqp.VALUES.values()))
    return bytes(frame) + performative(chance.randrange(0x10, 0x19), value)


def _extra(chance: random.Random, frame: bytearray) -> bytes:
    """A frame that is right in itself, at a time when nobody expects it."""
    handle, number = uint(chance.randrange(4)), uint(chance.choice(_NUMBERS))
    role, settled = chance.choice([TRUE, FALSE]), chance.choice([TRUE, FALSE])
    state = described(chance.choice([0x23, 0x24, 0x25, 0x26, 0x27]), listed())
    credit = (uint(0), uint(1 << 20), uint(0), uint(1 << 20), handle, number, number)
    return bytes(frame) + chance.choice(
        [
            performative(amqp.OPEN, amqp.string("again")),
            amqp.begun(chance.randrange(4)),
            amqp.attached(amqp.string("a"), chance.choice(_NUMBERS)),
            performative(amqp.FLOW, *credit),
            performative(amqp.DISPOSITION, role, uint(0), number, settled, state),
            performative(amqp.TRANSFER, handle, number, b"\xa0\x01t", uint(0), settled),
            performative(amqp.DETACH, handle, settled),
            performative(amqp.END, NULL),
            performative(amqp.CLOSE, NULL),
        ]
    )


CHANGES: list[Change] = [
    _flip,
    _number,
    _type,
    _performative,
    _size,
    _offset,
    _kind,
    _channel,
    _duplicate,
    _drop,
    _cut,
    _insert,
    _noise,
    _value,
    _extra,
]


# -- the relay -----------------------------------------------------------------


class Relay:
    """Passes on what clients and a router say to each other, and changes some of it.

    :param port: of the router
    :param direction: whose frames are changed
    :param seed: which frames, and how
    """

    def __init__(self, port: int, direction: Direction, seed: int) -> None:
        self._router = port
        self._direction = direction
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._changing = False
        self._ends: set[socket.socket] = set()
        #: what has been done to frames, by the name of the change
        self.changes: dict[str, int] = {}
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        # close() alone would not wake the thread that accepts
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()

    @property
    def changed(self) -> int:
        """How many frames have been changed."""
        return sum(self.changes.values())

    def change(self) -> None:
        """Change frames from now on, those of new connections as well."""
        self._changing = True
        self._cut()

    def behave(self) -> None:
        """Change nothing more, and cut what has been disturbed."""
        self._changing = False
        self._cut()

    def _cut(self) -> None:
        with self._lock:
            ends = list(self._ends)
        _hang_up(ends)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                router = socket.create_connection((HOST, self._router), 30)
            except OSError:
                client.close()
                continue
            threading.Thread(
                target=self._serve, args=(client, router), daemon=True
            ).start()

    def _serve(self, client: socket.socket, router: socket.socket) -> None:
        with client, router:
            ends = (client, router)
            with self._lock:
                self._ends.update(ends)
            back = threading.Thread(
                target=self._pump,
                args=(router, client, self._direction is Direction.TO_CLIENT),
                daemon=True,
            )
            back.start()
            if self._changing:
                timer = threading.Timer(LIFE, self._end_of_life, [ends])
                timer.daemon = True
                timer.start()
            self._pump(client, router, self._direction is Direction.TO_ROUTER)
            back.join()
            with self._lock:
                self._ends.difference_update(ends)

    def _end_of_life(self, ends: tuple[socket.socket, ...]) -> None:
        if self._changing:
            _hang_up(ends)

    def _pump(self, source: socket.socket, sink: socket.socket, changes: bool) -> None:
        """Pass on what one end says to the other until either hangs up."""
        waiting = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if changes:
                    *whole, waiting = _frames(waiting + data)
                    data = b"".join(map(self._passed, whole))
                sink.sendall(data)
        _hang_up((source, sink))

    def _passed(self, frame: bytes) -> bytes:
        """What becomes of a frame, or of a protocol header."""
        with self._lock:
            if (
                not self._changing
                or len(frame) <= _HEADER + 2
                or self._chance.randrange(RARITY)
            ):
                return frame
            change = self._chance.choice(CHANGES)
            name = change.__name__.strip("_")
            self.changes[name] = self.changes.get(name, 0) + 1
            return change(self._chance, bytearray(frame))


def _frames(data: bytes) -> Iterator[bytes]:
    """Take bytes apart; last comes what is no whole frame yet."""
    start = 0
    while len(data) - start >= _HEADER:
        size = _HEADER
        if data[start : start + 4] != b"AMQP":
            (size,) = struct.unpack_from(">I", data, start)
        if not _HEADER <= size <= _LARGEST_FRAME:
            break  # no AMQP: it is passed on when more comes, or never
        if len(data) - start < size:
            break
        yield data[start : start + size]
        start += size
    yield data[start:]


def _hang_up(ends: tuple[socket.socket, ...] | list[socket.socket]) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
