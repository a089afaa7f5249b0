# SPDX-License-Identifier: Apache-2.0
"""libzmq's functions, called directly."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from hybrid_messaging.drivers.zmq.libzmq import Handle

Pair = tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]


@pytest.fixture
def sockets() -> Iterator[Pair]:
    """A ROUTER socket, and a DEALER socket that is connected to it as `peer`."""
    context: zmq.Context[Any] = zmq.Context()
    with (
        context,
        context.socket(zmq.ROUTER) as router,
        context.socket(zmq.DEALER) as dealer,
    ):
        for socket in (router, dealer):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, 20_000)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.SNDHWM, 2)
        dealer.setsockopt(zmq.RCVHWM, 2)
        dealer.setsockopt(zmq.ROUTING_ID, b"peer")
        router.bind("inproc://router")
        dealer.connect("inproc://router")
        yield router, dealer


FRAMES = [b"", b"\0", b"few", bytes(range(256)) * 4096]


@pytest.mark.parametrize("frame", FRAMES, ids=len)
def test_what_is_sent_arrives(sockets: Pair, frame: bytes) -> None:
    router, dealer = sockets
    Handle(router).send(b"peer", frame)
    assert dealer.recv() == frame


def test_messages_are_received_whole_and_in_order(sockets: Pair) -> None:
    router, dealer = sockets
    handle = Handle(router)
    assert handle.receive() is None
    dealer.send_multipart(FRAMES)
    dealer.send(b"last")
    assert handle.receive() == [b"peer", *FRAMES]
    assert handle.receive() == [b"peer", b"last"]
    assert handle.receive() is None


def test_the_longest_routing_id_is_whole(sockets: Pair) -> None:
    router, _ = sockets
    handle, longest = Handle(router), b"i" * 255
    with router.context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.ROUTING_ID, longest)
        dealer.connect("inproc://router")
        dealer.send(b"")
        assert handle.receive() == [longest, b""]


def test_descriptor_is_signalled_after_none(sockets: Pair) -> None:
    router, dealer = sockets
    handle = Handle(router)
    assert handle.receive() is None
    poll = select.poll()
    poll.register(router.getsockopt(zmq.FD), select.POLLIN)
    assert not poll.poll(0)
    dealer.send(os.urandom(10))
    assert poll.poll(20_000)
    assert handle.receive() is not None


def test_peers_that_are_not_there_are_told(sockets: Pair) -> None:
    with pytest.raises(zmq.ZMQError, match="unreachable"):
        Handle(sockets[0]).send(b"nobody", b"")


def test_peers_that_take_no_more_are_told(sockets: Pair) -> None:
    router, dealer = sockets
    with pytest.raises(zmq.Again):
        for _ in range(100):
            Handle(router).send(b"peer", b"")
    assert dealer.recv() == b""
