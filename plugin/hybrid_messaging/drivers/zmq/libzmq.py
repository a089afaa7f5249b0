# SPDX-License-Identifier: Apache-2.0
"""libzmq's functions for messages, called without giving the interpreter away.

pyzmq releases the interpreter lock around each of them, though none of them waits
for anything here. In a process with other busy threads each such release may cost
a switch interval (5 ms), and there are four for a message and its answer. Called
through ctypes with the lock held, a function costs less than a microsecond.
"""

from __future__ import annotations

import ctypes
import errno
from typing import Any

import zmq
from zmq.backend.cython import _zmq

_POINTER = ctypes.c_void_p
_SIZE = ctypes.c_size_t
_INT = ctypes.c_int

# pyzmq's own module: it is linked with the library that its sockets are of
_library = ctypes.PyDLL(_zmq.__file__, use_errno=True)


def _function(name: str, returns: Any, *takes: Any) -> Any:
    function = getattr(_library, name)
    function.restype, function.argtypes = returns, takes
    return function


#: zmq_msg_t
_Message = ctypes.c_uint64 * 8

# Source of the signatures: zmq.h
_send = _function("zmq_send", _INT, _POINTER, ctypes.c_char_p, _SIZE, _INT)
_receive = _function("zmq_recv", _INT, _POINTER, _POINTER, _SIZE, _INT)
_init = _function("zmq_msg_init", _INT, _POINTER)
_receive_message = _function("zmq_msg_recv", _INT, _POINTER, _POINTER, _INT)
_data = _function("zmq_msg_data", _POINTER, _POINTER)
_size = _function("zmq_msg_size", _SIZE, _POINTER)
_more = _function("zmq_msg_more", _INT, _POINTER)
_close = _function("zmq_msg_close", _INT, _POINTER)

_AT_ONCE = int(zmq.DONTWAIT)
_AT_ONCE_WITH_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
#: Bytes of the longest routing id.
_LONGEST_ID = 255


class Handle:
    """A socket as the C library has it; one thread at a time may use it.

    :param socket: a ROUTER socket, or the one of its monitor: the first frame of
        each message is short, and not the last
    """

    __slots__ = ("_first", "_first_at", "_message", "_message_at", "_socket")

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket.underlying
        # kept, as making them takes longer than filling them
        self._first = ctypes.create_string_buffer(_LONGEST_ID)
        self._first_at = ctypes.addressof(self._first)
        self._message = _Message()
        self._message_at = ctypes.addressof(self._message)

    def send(self, routing_id: bytes, frame: bytes) -> None:
        """Send a message of two frames from a ROUTER socket, without waiting.

        :raises zmq.Again: the peer takes no more for now
        :raises zmq.ZMQError: it is not connected
        """
        socket = self._socket
        if (
            _send(socket, routing_id, len(routing_id), _AT_ONCE_WITH_MORE) < 0
            or _send(socket, frame, len(frame), _AT_ONCE) < 0
        ):
            error = ctypes.get_errno()
            raise zmq.Again(error) if error == errno.EAGAIN else zmq.ZMQError(error)

    def receive(self) -> list[bytes] | None:
        """The frames of the next message; None if there is none.

        After None, the socket's descriptor is signalled as soon as there is one.

        :raises zmq.ZMQError: the socket is of no use any more
        """
        socket = self._socket
        while (size := _receive(socket, self._first_at, _LONGEST_ID, _AT_ONCE)) < 0:
            error = ctypes.get_errno()
            if error == errno.EAGAIN:
                return None
            if error != errno.EINTR:
                raise zmq.ZMQError(error)
        frames = [ctypes.string_at(self._first_at, size)]
        # the others have arrived with it
        message = self._message_at
        more = 1
        while more:
            _init(message)
            while _receive_message(message, socket, _AT_ONCE) < 0:
                error = ctypes.get_errno()
                if error != errno.EINTR:
                    raise zmq.ZMQError(error)
            frames.append(ctypes.string_at(_data(message), _size(message)))
            more = _more(message)
            _close(message)
        return frames
