# SPDX-License-Identifier: Apache-2.0
"""Admits clients by their keys: answers what ZeroMQ asks about them.

Source: ZAP, https://rfc.zeromq.org/spec/27/, and for CURVE
https://rfc.zeromq.org/spec/25/. ZeroMQ asks over a socket within the process, of
which there is one for each context; a domain says which socket was connected to.
"""

from __future__ import annotations

import os
import selectors
import threading
from typing import Any

import zmq
from zmq.utils import z85

from hybrid_messaging import log_safety
from hybrid_messaging.drivers import logs, reentry
from hybrid_messaging.drivers.zmq import libzmq
from hybrid_messaging.drivers.zmq.keys import Keys

LOG = logs.get(__name__)

_ADDRESS = "inproc://zeromq.zap.01"
_VERSION = b"1.0"


class Gatekeeper:
    """Answers for all sockets of a context.

    :raises zmq.ZMQError: somebody else in this process does so already
    """

    def __init__(self, context: zmq.Context[Any]) -> None:
        #: the keys that a socket trusts, by its domain
        self._trusting: dict[bytes, Keys] = {}
        self._socket: Any = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_ADDRESS)
        self._handle = libzmq.handle(self._socket)
        self._ends = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(
            target=self._serve, name="zmq-gatekeeper", daemon=True
        )
        self._thread.start()

    def guard(self, domain: bytes, keys: Keys) -> None:
        """Let clients with known public keys connect to a socket."""
        self._trusting[domain] = keys

    def leave(self, domain: bytes) -> None:
        """Forget a socket."""
        self._trusting.pop(domain, None)

    def close(self) -> None:
        """Answer no more, and let go of everything."""
        os.eventfd_write(self._ends, 1)
        self._thread.join()
        os.close(self._ends)
        self._socket.close()

    @reentry.works
    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket.getsockopt(zmq.FD), selectors.EVENT_READ)
            selector.register(self._ends, selectors.EVENT_READ)
            while True:
                try:
                    self._take()
                except zmq.ZMQError:
                    LOG.exception(
                        "Authentication has failed: no client with a key can connect"
                        " any more"
                    )
                    return
                if any(key.fd == self._ends for key, _ in selector.select()):
                    return

    def _take(self) -> None:
        # its descriptor is signalled at edges: empty it before waiting
        while frames := self._handle.receive():
            try:
                self._on_request(frames)
            except Exception:
                LOG.exception(
                    "A client was not admitted, because checking its key failed"
                )

    def _on_request(self, frames: list[bytes]) -> None:
        routing_id, empty, version, request_id, domain, address, _, mechanism, *rest = (
            frames
        )
        admitted = False
        if version == _VERSION and mechanism == b"CURVE":
            public = z85.encode(rest[0])
            keys = self._trusting.get(domain)
            admitted = keys is not None and keys.knows(public)
            if keys is not None and not admitted:
                ip = address.decode().removeprefix("::ffff:")  # IPv4 as IPv6 has it
                self._mention(ip, keys.objection(public.decode()))
        status, text = (b"200", b"OK") if admitted else (b"400", b"unknown key")
        self._socket.send_multipart(
            [routing_id, empty, _VERSION, request_id, status, text, b"", b""]
        )

    def _mention(self, address: str, objection: str) -> None:
        LOG.warning(
            "Refused a client at %s: %s",
            address,
            objection,
            extra=log_safety.SELDOM,
        )
