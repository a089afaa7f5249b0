# SPDX-License-Identifier: Apache-2.0
"""ZeroMQ's protocol as nobody should speak it, and forged frames of `zmq`.

Source: ZMTP 3.1, https://rfc.zeromq.org/spec/37/.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator

import zmq

from hybrid_messaging.drivers.zmq import wire

#: Seconds in which a server has dealt with what it was told.
TIMEOUT = 200.0
_LAST = 1 << 60


def greeting(mechanism: bytes) -> bytes:
    """What both ends say first."""
    signature = b"\xff" + bytes(8) + b"\x7f"
    return (signature + b"\x03\x00" + mechanism.ljust(20, b"\0")).ljust(64, b"\0")


def command(name: bytes, body: bytes) -> bytes:
    """A command of the handshake."""
    content = bytes([len(name)]) + name + body
    if len(content) < 256:
        return b"\x04" + bytes([len(content)]) + content
    return b"\x06" + len(content).to_bytes(8, "big") + content


def metadata(name: bytes, value: bytes) -> bytes:
    """A property that a peer claims to have."""
    return bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value


def ready(identity: bytes = b"") -> bytes:
    """The handshake of a peer without keys, who says who he is."""
    claims = metadata(b"Socket-Type", b"DEALER") + metadata(b"Identity", identity)
    return greeting(b"NULL") + command(b"READY", claims)


def part(content: bytes) -> bytes:
    """A part of a message that goes on after it."""
    return b"\x03" + len(content).to_bytes(8, "big") + content


def connected(endpoint: str) -> socket.socket:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), TIMEOUT)


def said(endpoint: str, *chunks: bytes) -> None:
    """Say something and hang up."""
    with contextlib.suppress(OSError), connected(endpoint) as stranger:
        for chunk in chunks:
            stranger.sendall(chunk)


@contextlib.contextmanager
def dealer(endpoint: str, server_key: bytes = b"") -> Iterator[zmq.Socket[bytes]]:
    """A stranger with ZeroMQ, who has made keys for himself if the server has some."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.DEALER) as made:
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.SNDHWM, 0)
        if server_key:
            public, secret = zmq.curve_keypair()
            made.setsockopt(zmq.CURVE_PUBLICKEY, public)
            made.setsockopt(zmq.CURVE_SECRETKEY, secret)
            made.setsockopt(zmq.CURVE_SERVERKEY, server_key)
        made.connect(endpoint)
        yield made


def sent(endpoint: str, messages: Iterable[list[bytes]]) -> None:
    """Send messages, each of some parts; return when the server has read them."""
    last = wire.request(wire.CALL, _LAST, b"nobody")
    with dealer(endpoint) as stranger:
        for message in messages:
            stranger.send_multipart(message)
        stranger.send(last)
        while stranger.poll(TIMEOUT * 1000):
            if stranger.recv() == wire.answer(wire.NOBODY, _LAST):
                return
    raise AssertionError(f"{endpoint} does not answer")
