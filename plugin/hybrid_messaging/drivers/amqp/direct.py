# SPDX-License-Identifier: Apache-2.0
"""Sending and receiving on a socket without giving the interpreter away.

Python's own sockets release the interpreter lock around each call. These here never
wait, so that buys nothing; but in a process with other busy threads, the one that sends
then waits for its turn, though the bytes have left within microseconds.
"""

from __future__ import annotations

import ctypes
import os
import socket
from typing import Any

#: Bytes that are read at a time.
CHUNK = 256 * 1024

# Source of the signatures: POSIX, sys/socket.h
_libc = ctypes.PyDLL(None, use_errno=True)
_send, _receive = _libc.send, _libc.recv
for _function in (_send, _receive):
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
    )
_AT_ONCE = int(socket.MSG_DONTWAIT)
_PEEK = _AT_ONCE | int(socket.MSG_PEEK)
_AT_ONCE_WITHOUT_SIGNAL = _AT_ONCE | int(getattr(socket, "MSG_NOSIGNAL", 0))


class Direct:
    """The calls of one socket.

    It is not to be closed while one of them is running in another thread.
    """

    __slots__ = ("_chunk", "_chunk_at", "_fileno", "_peeked", "_peeked_at")

    def __init__(self, sock: socket.socket) -> None:
        self._fileno = sock.fileno  # -1 when it is closed
        self._chunk: Any = ctypes.create_string_buffer(CHUNK)
        self._chunk_at = ctypes.addressof(self._chunk)
        self._peeked: Any = ctypes.create_string_buffer(1)
        self._peeked_at = ctypes.addressof(self._peeked)

    def send(self, data: bytes) -> int:
        """Send; return how many of the bytes have been taken.

        :raises BlockingIOError: nothing can be sent at the moment
        :raises OSError: the connection has ended
        """
        fileno = self._fileno()
        count: int = _send(fileno, data, len(data), _AT_ONCE_WITHOUT_SIGNAL)
        if count < 0:
            _fail()
        return count

    def receive(self) -> bytes:
        """Return what has arrived; nothing: there will not be any more.

        :raises BlockingIOError: nothing has arrived
        :raises OSError: the connection has ended
        """
        count = _receive(self._fileno(), self._chunk_at, CHUNK, _AT_ONCE)
        if count < 0:
            _fail()
        data: bytes = self._chunk[:count]
        return data

    def has_arrived(self) -> bool:
        """Whether something has arrived that nobody has received."""
        return bool(_receive(self._fileno(), self._peeked_at, 1, _PEEK) > 0)


def _fail() -> None:
    error = ctypes.get_errno()
    raise OSError(error, os.strerror(error))
