# SPDX-License-Identifier: Apache-2.0
"""What waits for a socket without blocking: so that one thread can do several at once.

Each is a generator. It yields the socket and the events that it waits for, and is
resumed when one of them has come. When its time is up, it is given a TimeoutError.
"""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import time
from collections.abc import Generator
from typing import Any, TypeVar

from hybrid_messaging.drivers import forks

T = TypeVar("T")

#: Yields a socket and events (selectors.EVENT_READ, EVENT_WRITE), returns a result.
Steps = Generator[tuple[socket.socket, int], None, T]


def connect(family: socket.AddressFamily, address: Any) -> Steps[socket.socket]:
    """Connect to an address.

    :returns: a socket that does not block
    :raises OSError: it does not answer
    """
    sock = forks.close_in_child(socket.socket(family, socket.SOCK_STREAM))
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        try:
            sock.connect(address)
        except BlockingIOError:
            yield sock, selectors.EVENT_WRITE
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error)) from None
    except BaseException:
        sock.close()
        raise
    return sock


def shake_hands(sock: ssl.SSLSocket) -> Steps[None]:
    """Do the TLS handshake of a socket that does not block.

    :raises OSError: the ends do not agree
    """
    while True:
        try:
            return sock.do_handshake()
        except ssl.SSLWantReadError:
            yield sock, selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            yield sock, selectors.EVENT_WRITE


def finish(steps: Steps[T], seconds: float) -> T:
    """Carry out one of these alone.

    :param seconds: that it may take
    :returns: its result
    :raises TimeoutError: it took longer
    """
    deadline = time.monotonic() + seconds
    try:
        sock, events = next(steps)
        while True:
            with selectors.DefaultSelector() as selector:
                selector.register(sock, events)
                ready = selector.select(max(0.0, deadline - time.monotonic()))
            if ready:
                sock, events = next(steps)
            else:
                sock, events = steps.throw(TimeoutError("timed out"))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
