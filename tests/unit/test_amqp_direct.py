# SPDX-License-Identifier: Apache-2.0
"""A socket that is used without giving the interpreter away."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hybrid_messaging.drivers.amqp.direct import Direct

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_bytes_go_both_ways_and_end(ends: Pair) -> None:
    ours, theirs = ends
    direct = Direct(ours)
    assert direct.send(b"one\0two") == 7
    assert theirs.recv(100) == b"one\0two"
    theirs.sendall(b"three\0")
    assert direct.receive() == b"three\0"
    theirs.close()
    assert direct.receive() == b""


def test_nothing_waits(ends: Pair) -> None:
    direct = Direct(ends[0])
    with pytest.raises(BlockingIOError):
        direct.receive()
    with pytest.raises(BlockingIOError):
        while direct.send(bytes(100_000)):
            pass


def test_an_end_that_is_gone_is_an_error(ends: Pair) -> None:
    ours, theirs = ends
    direct = Direct(ours)
    theirs.close()
    with pytest.raises(BrokenPipeError):
        direct.send(b"late")
    ours.close()
    for use in (lambda: direct.send(b"late"), direct.receive):
        with pytest.raises(OSError, match="Bad file descriptor"):
            use()
