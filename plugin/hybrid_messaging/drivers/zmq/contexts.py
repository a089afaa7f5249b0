# SPDX-License-Identifier: Apache-2.0
"""The ZeroMQ context of this process, while a socket of ours uses it."""

from __future__ import annotations

import threading
from typing import Any

import zmq

from hybrid_messaging.drivers import forks
from hybrid_messaging.drivers.zmq.gatekeeper import Gatekeeper

#: Sockets that a process may have; ZeroMQ needs some for itself.
_MOST = 65536


class Contexts:
    """Lends the context, which it makes and ends as needed."""

    def __init__(self) -> None:
        self._start_anew()
        forks.register(self)

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._context: zmq.Context[Any] | None = None
        self._gatekeeper: Gatekeeper | None = None
        self._users = 0

    def borrow(self) -> zmq.Context[Any]:
        """Return the context; its user gives it back."""
        with self._lock:
            if self._context is None:
                self._context = zmq.Context()
                self._context.set(zmq.MAX_SOCKETS, _MOST)
            self._users += 1
            return self._context

    def gatekeeper(self) -> Gatekeeper:
        """Return the gatekeeper of the context, for one of its users."""
        with self._lock:
            if self._gatekeeper is None:
                assert self._context is not None
                self._gatekeeper = Gatekeeper(self._context)
            return self._gatekeeper

    def give_back(self) -> None:
        """Use the context no longer. The last user waits for what lingers."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            context, self._context = self._context, None
            gatekeeper, self._gatekeeper = self._gatekeeper, None
        if gatekeeper is not None:
            gatekeeper.close()
        if context is not None:
            context.term()

    def after_fork(self) -> None:
        """In a child: the context and the threads in it are the parent's."""
        forks.keep(self._context, self._gatekeeper)
        self._start_anew()


contexts = Contexts()
