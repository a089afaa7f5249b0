# SPDX-License-Identifier: Apache-2.0
"""libzmq's functions, called directly."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from hybrid_messaging.drivers.zmq import libzmq
from hybrid_messaging.drivers.zmq.libzmq import DirectHandle, PyzmqHandle

Pair = tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]


def interrupted(function: Callable[..., int]) -> Callable[..., int]:
    """A function that a signal interrupts twice each time."""
    calls = 0

    def interrupt(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            ctypes.set_errno(errno.EINTR)
            return -1
        return function(*arguments)

    return interrupt


def interrupted_handle(socket: zmq.Socket[bytes]) -> libzmq.Handle:
    functions: Any = SimpleNamespace(**vars(libzmq._functions))
    for name in ("send", "receive"):
        setattr(functions, name, interrupted(getattr(functions, name)))
    return DirectHandle(functions, socket)


MakeHandle = Callable[["zmq.Socket[bytes]"], libzmq.Handle]


@pytest.fixture(
    params=[libzmq.handle, PyzmqHandle, interrupted_handle],
    ids=["direct", "pyzmq", "interrupted"],
)
def make_handle(request: pytest.FixtureRequest) -> MakeHandle:
    made: MakeHandle = request.param
    return made


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


LARGE = bytes(range(256)) * 4096
FRAMES = [b"", b"\0", b"few", LARGE]
PARTS = [LARGE[: libzmq.PART + more] for more in (-1, 0, 1)]


@pytest.mark.parametrize("frame", FRAMES + PARTS, ids=len)
def test_what_is_sent_arrives(
    sockets: Pair, make_handle: MakeHandle, frame: bytes
) -> None:
    router, dealer = sockets
    make_handle(router).send(b"peer", frame)
    parts = dealer.recv_multipart()
    assert b"".join(parts) == frame
    assert max(map(len, parts)) <= libzmq.PART


def test_messages_are_received_whole_and_in_order(
    sockets: Pair, make_handle: MakeHandle
) -> None:
    router, dealer = sockets
    handle = make_handle(router)
    assert handle.receive() is None
    frames = [*FRAMES[:-1], *PARTS[:2], LARGE[: libzmq.LARGEST_PART]]
    dealer.send_multipart(frames)
    dealer.send(b"last")
    assert handle.receive() == [b"peer", *frames]
    assert handle.receive() == [b"peer", b"last"]
    assert handle.receive() is None


def test_the_longest_routing_id_is_whole(
    sockets: Pair, make_handle: MakeHandle
) -> None:
    router, _ = sockets
    handle, longest = make_handle(router), b"i" * 255
    with router.context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.ROUTING_ID, longest)
        dealer.connect("inproc://router")
        dealer.send(b"")
        assert handle.receive() == [longest, b""]


def test_descriptor_is_signalled_after_none(
    sockets: Pair, make_handle: MakeHandle
) -> None:
    router, dealer = sockets
    handle = make_handle(router)
    assert handle.receive() is None
    poll = select.poll()
    poll.register(router.getsockopt(zmq.FD), select.POLLIN)
    assert not poll.poll(0)
    dealer.send(os.urandom(10))
    assert poll.poll(20_000)
    assert handle.receive() is not None


def test_peers_that_are_not_there_are_told(
    sockets: Pair, make_handle: MakeHandle
) -> None:
    with pytest.raises(zmq.ZMQError, match="unreachable"):
        make_handle(sockets[0]).send(b"nobody", b"")


def test_peers_that_take_no_more_are_told(
    sockets: Pair, make_handle: MakeHandle
) -> None:
    router, dealer = sockets
    with pytest.raises(zmq.Again):
        for _ in range(100):
            make_handle(router).send(b"peer", b"")
    assert dealer.recv() == b""


def test_direct_calls_are_what_is_used_here(sockets: Pair) -> None:
    assert isinstance(libzmq.handle(sockets[0]), DirectHandle)


def test_other_builds_of_pyzmq_will_do() -> None:
    """As on PyPy, where pyzmq has no module that was built with Cython."""
    code = """
import sys
import zmq.backend.cython as cython

del cython._zmq
sys.modules["zmq.backend.cython._zmq"] = None
import zmq
from hybrid_messaging.drivers.zmq import libzmq

with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
    print(type(libzmq.handle(socket)).__name__)
"""
    run = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.check_output(run, text=True).strip() == "PyzmqHandle"


def test_interrupted_functions_are_called_again() -> None:
    errors = [errno.EINTR, errno.EINTR, 0]

    def disconnect(address: str) -> str:
        if error := errors.pop(0):
            raise zmq.ZMQError(error)
        return address

    assert libzmq.uninterrupted(disconnect, "tcp://127.0.0.1:1") == "tcp://127.0.0.1:1"

    def fail() -> None:
        raise zmq.ZMQError(errno.ENOENT)

    with pytest.raises(zmq.ZMQError):
        libzmq.uninterrupted(fail)
