# SPDX-License-Identifier: Apache-2.0
"""Hosts that do not answer."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """The port of a host that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextlib.contextmanager
def vanished() -> Iterator[int]:
    """The port of a host from which packets get no answer.

    Its queue of connections is full.
    """
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(10):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(listening.getsockname())
            selector.register(sock, selectors.EVENT_WRITE)
            if not selector.select(0.1):
                break
            selector.unregister(sock)
        else:
            pytest.skip("a full queue of connections does not keep others out here")
        yield listening.getsockname()[1]
