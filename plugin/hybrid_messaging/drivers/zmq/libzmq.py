# SPDX-License-Identifier: Apache-2.0
"""libzmq's functions for messages, called without giving the interpreter away.

pyzmq releases the interpreter lock around each of them, though none of them waits
for anything here. In a process with other busy threads each such release may cost
a switch interval (5 ms), and there are four for a message and its answer. Called
through ctypes with the lock held, a function costs less than a microsecond.

Where pyzmq is not built with Cython (on PyPy, for example), its own calls are used.

A signal may interrupt any function of libzmq before it has done anything (EINTR).
All of them are called again then.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from typing import Any, Protocol

import zmq

_POINTER = ctypes.c_void_p
_SIZE = ctypes.c_size_t
_INT = ctypes.c_int

_AT_ONCE = int(zmq.DONTWAIT)
_AT_ONCE_WITH_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_MORE = int(zmq.RCVMORE)
#: Bytes of the largest part of a message. What a peer sends before it has proven who it
#: is may be as large, and is kept until then or until it is known to be wrong.
PART = 65536
#: Bytes of a part that sockets take, and which it may have while it is encrypted: CURVE
#: adds 33 of them (https://rfc.zeromq.org/spec/26/).
LARGEST_PART = PART + 64


class Handle(Protocol):
    """A socket that sends and receives without waiting, for one thread at a time.

    It is a ROUTER socket, or the one of its monitor: the first frame of each message
    is not the last. None has more than LARGEST_PART bytes.
    """

    def send(self, routing_id: bytes, frame: bytes) -> None:
        """Send a message from a ROUTER socket: its frame, in parts where it is large.

        :raises zmq.Again: the peer takes no more for now
        :raises zmq.ZMQError: it is not connected
        """

    def receive(self) -> list[bytes] | None:
        """The frames of the next message; None if there is none.

        After None, the socket's descriptor is signalled as soon as there is one.

        :raises zmq.ZMQError: the socket is of no use any more
        """


class PyzmqHandle:
    """A `Handle` by means of pyzmq, whose calls all take EINTR into account.

    :param socket: see `Handle`
    """

    __slots__ = ("_socket",)

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket

    def send(self, routing_id: bytes, frame: bytes) -> None:
        """See `Handle.send`."""
        self._socket.send_multipart([routing_id, *_parts(frame)], zmq.DONTWAIT)

    def receive(self) -> list[bytes] | None:
        """See `Handle.receive`."""
        try:
            return self._socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return None


class Functions:
    """The C functions that messages are sent and received with.

    :param library: the path of a library that has them
    :raises OSError: it cannot be loaded
    :raises AttributeError: it has not
    """

    # Source of the signatures: zmq.h
    def __init__(self, library: str) -> None:
        self._library = ctypes.PyDLL(library, use_errno=True)
        find = self._function
        self.send = find("zmq_send", _INT, _POINTER, ctypes.c_char_p, _SIZE, _INT)
        self.receive = find("zmq_recv", _INT, _POINTER, _POINTER, _SIZE, _INT)
        self.option = find("zmq_getsockopt", _INT, _POINTER, _INT, _POINTER, _POINTER)

    def _function(self, name: str, returns: Any, *takes: Any) -> Any:
        function = getattr(self._library, name)
        function.restype, function.argtypes = returns, takes
        return function


class DirectHandle:
    """A `Handle` by means of the C functions.

    :param functions: of the library that the socket is of
    :param socket: see `Handle`
    """

    __slots__ = (
        "_frame",
        "_frame_at",
        "_functions",
        "_more",
        "_more_at",
        "_size",
        "_size_at",
        "_socket",
    )

    def __init__(self, functions: Functions, socket: zmq.Socket[bytes]) -> None:
        self._functions = functions
        self._socket = socket.underlying
        # kept, as making them takes longer than filling them
        self._frame: Any = ctypes.create_string_buffer(LARGEST_PART)
        self._frame_at = ctypes.addressof(self._frame)
        self._more, self._size = _INT(), _SIZE(ctypes.sizeof(_INT))
        self._more_at = ctypes.addressof(self._more)
        self._size_at = ctypes.addressof(self._size)

    def send(self, routing_id: bytes, frame: bytes) -> None:
        """See `Handle.send`."""
        send, socket = self._functions.send, self._socket
        while send(socket, routing_id, len(routing_id), _AT_ONCE_WITH_MORE) < 0:
            _raise_unless_interrupted()
        # the socket waits for the rest now in any case
        if len(frame) > PART:
            *parts, frame = _parts(frame)
            for part in parts:
                while send(socket, part, len(part), _AT_ONCE_WITH_MORE) < 0:
                    _raise_unless_interrupted()
        while send(socket, frame, len(frame), _AT_ONCE) < 0:
            _raise_unless_interrupted()

    def receive(self) -> list[bytes] | None:
        """See `Handle.receive`."""
        receive, socket, frame = self._functions.receive, self._socket, self._frame_at
        while (size := receive(socket, frame, LARGEST_PART, _AT_ONCE)) < 0:
            if ctypes.get_errno() == errno.EAGAIN:
                return None
            _raise_unless_interrupted()
        frames: list[bytes] = [self._frame[:size]]
        more = True
        while more:
            # the others have arrived with it
            while (size := receive(socket, frame, LARGEST_PART, _AT_ONCE)) < 0:
                _raise_unless_interrupted()
            frames.append(self._frame[:size])
            self._functions.option(socket, _MORE, self._more_at, self._size_at)
            more = bool(self._more.value)
        return frames


def _parts(frame: bytes) -> list[bytes]:
    return [frame[at : at + PART] for at in range(0, len(frame), PART)] or [frame]


def _raise_unless_interrupted() -> None:
    error = ctypes.get_errno()
    if error != errno.EINTR:
        raise zmq.Again(error) if error == errno.EAGAIN else zmq.ZMQError(error)


def _find_functions() -> Functions | None:
    try:
        # pyzmq's own module: it is linked with the library that its sockets are of
        from zmq.backend.cython import _zmq

        return Functions(_zmq.__file__)
    except (ImportError, OSError, AttributeError):
        return None


_functions = _find_functions()


def handle(socket: zmq.Socket[bytes]) -> Handle:
    """Make the fastest handle of a socket that is possible here."""
    return DirectHandle(_functions, socket) if _functions else PyzmqHandle(socket)


def uninterrupted(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of pyzmq's that leaves EINTR to its callers.

    :raises zmq.ZMQError: the function has failed
    """
    while True:
        try:
            return function(*arguments)
        except zmq.ZMQError as error:
            if error.errno != errno.EINTR:
                raise
