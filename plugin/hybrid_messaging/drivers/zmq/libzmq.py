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

#: zmq_msg_t
_Message = ctypes.c_uint64 * 8

_AT_ONCE = int(zmq.DONTWAIT)
_AT_ONCE_WITH_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
#: Bytes of the longest routing id.
_LONGEST_ID = 255
#: Bytes of the largest part of a message. What a peer sends before it has proven who it
#: is may be as large, and is kept until then or until it is known to be wrong.
PART = 65536


class Handle(Protocol):
    """A socket that sends and receives without waiting, for one thread at a time.

    It is a ROUTER socket, or the one of its monitor: the first frame of each message
    is short, and not the last.
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
        self.init = find("zmq_msg_init", _INT, _POINTER)
        self.receive_message = find("zmq_msg_recv", _INT, _POINTER, _POINTER, _INT)
        self.data = find("zmq_msg_data", _POINTER, _POINTER)
        self.size = find("zmq_msg_size", _SIZE, _POINTER)
        self.more = find("zmq_msg_more", _INT, _POINTER)
        self.close = find("zmq_msg_close", _INT, _POINTER)

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
        "_first",
        "_first_at",
        "_functions",
        "_message",
        "_message_at",
        "_socket",
    )

    def __init__(self, functions: Functions, socket: zmq.Socket[bytes]) -> None:
        self._functions = functions
        self._socket = socket.underlying
        # kept, as making them takes longer than filling them
        self._first = ctypes.create_string_buffer(_LONGEST_ID)
        self._first_at = ctypes.addressof(self._first)
        self._message = _Message()
        self._message_at = ctypes.addressof(self._message)

    def send(self, routing_id: bytes, frame: bytes) -> None:
        """See `Handle.send`."""
        send, socket = self._functions.send, self._socket
        while send(socket, routing_id, len(routing_id), _AT_ONCE_WITH_MORE) < 0:
            _raise_unless_interrupted()
        # the socket waits for the rest now, whatever happens
        if len(frame) > PART:
            *parts, frame = _parts(frame)
            for part in parts:
                while send(socket, part, len(part), _AT_ONCE_WITH_MORE) < 0:
                    _raise_unless_interrupted()
        while send(socket, frame, len(frame), _AT_ONCE) < 0:
            _raise_unless_interrupted()

    def receive(self) -> list[bytes] | None:
        """See `Handle.receive`."""
        functions, socket = self._functions, self._socket
        receive, first = functions.receive, self._first_at
        while (size := receive(socket, first, _LONGEST_ID, _AT_ONCE)) < 0:
            if ctypes.get_errno() == errno.EAGAIN:
                return None
            _raise_unless_interrupted()
        frames = [ctypes.string_at(first, size)]
        # the others have arrived with it
        message = self._message_at
        more = 1
        while more:
            functions.init(message)
            while functions.receive_message(message, socket, _AT_ONCE) < 0:
                _raise_unless_interrupted()
            size = functions.size(message)
            frames.append(ctypes.string_at(functions.data(message), size))
            more = functions.more(message)
            functions.close(message)
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
