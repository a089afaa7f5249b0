# SPDX-License-Identifier: Apache-2.0
"""The listening side: one socket, bound to a port, for all listeners of a transport."""

from __future__ import annotations

import collections
import errno
import ipaddress
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import zmq

from hybrid_messaging.drivers import bodies
from hybrid_messaging.drivers.zmq import options as zmq_options
from hybrid_messaging.drivers.zmq import wire
from hybrid_messaging.drivers.zmq.directory import Directory
from hybrid_messaging.drivers.zmq.keys import Keys
from hybrid_messaging.drivers.zmq.matchmaker import Record
from hybrid_messaging.drivers.zmq.sockets import Socket, resolve

if TYPE_CHECKING:
    from hybrid_messaging.drivers.zmq.incoming import Inbox

LOG = logging.getLogger(__name__)

#: Seconds that answers may take to leave when the transport is closed.
LINGER = 2.0
#: Seconds in which a stranger's messages are mentioned once.
_QUIET = 60.0


class Server:
    """All that listens in this process, over one transport.

    :param options: the [oslo_messaging_zmq] group
    :param keys: for CURVE; None: without
    :param elsewhere: called with requests for others, and the routing ids of their
        senders; None: nobody is there to take them
    :raises zmq.ZMQError: there is no port to listen on
    """

    def __init__(
        self,
        options: Any,
        keys: Keys | None,
        directory: Directory,
        elsewhere: Callable[[bytes, wire.Request], None] | None = None,
    ) -> None:
        self._options = options
        #: how many requests may wait per listener
        self.capacity: int = options.rpc_server_credit
        self._elsewhere = elsewhere or self._nobody
        self._key = keys.own.public.decode() if keys is not None else ""
        self._directory = directory
        self._process = uuid.uuid4().hex
        #: listeners by the addresses that requests name; several take turns
        self._inboxes: dict[bytes, collections.deque[Inbox]] = {}
        self._arrived: collections.deque[list[bytes]] = collections.deque()
        self._lock = threading.Lock()
        #: whether this thread is delivering
        self._here = threading.local()
        self._quiet_until = 0.0
        self.forked = False
        #: answers that clients did not take
        self.undelivered = 0
        self._endpoint: str | None = None
        self._bound: set[str] = set()
        self._socket = Socket(
            "zmq-server", options, keys, self._arrived.append, afterwards=self._deliver
        )

    @property
    def endpoint(self) -> str:
        """What clients connect to, once there is a listener."""
        return self._endpoint or ""

    @property
    def process(self) -> str:
        """How addresses name this process."""
        return self._process

    def _bind(self) -> None:
        """Listen on a port of our own choice."""
        address = self._options.rpc_zmq_bind_address
        first, last = self._options.rpc_zmq_min_port, self._options.rpc_zmq_max_port
        span = range(first, max(first, last) + 1)
        tries = min(len(span), self._options.rpc_zmq_bind_port_retries)
        for port in random.sample(span, tries):
            try:
                self._socket.bind(_endpoint(address, port))
            except zmq.ZMQError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
            else:
                self._endpoint = _endpoint(zmq_options.host(self._options), port)
                self._warn_if_exposed(self._endpoint, address)
                return
        raise zmq.ZMQError(
            errno.EADDRINUSE,
            f"no free port on {address} among {tries} from {first} to {last}"
            " (rpc_zmq_min_port, rpc_zmq_max_port, rpc_zmq_bind_port_retries)",
        )

    def _record(self, inbox: Inbox) -> Record:
        """What a listener is known as; the socket is bound accordingly."""
        assigned = self._directory.assigned(inbox.topic, inbox.server)
        if assigned is None:
            if self._endpoint is None:
                self._socket.run(self._bind)
            assert self._endpoint is not None
            return Record(inbox.server, self._endpoint, self._process, self._key)
        if assigned.endpoint not in self._bound:
            address = resolve(assigned.endpoint)
            self._socket.run(lambda: self._socket.bind(address))
            self._bound.add(assigned.endpoint)
            self._warn_if_exposed(address, urlsplit(address).hostname or "")
        return assigned

    def _warn_if_exposed(self, endpoint: str, address: str) -> None:
        if not self._key and not _is_loopback(address):
            LOG.warning(
                "Listening on %s without encryption or authentication: whoever reaches"
                " the port can call this service. Make keys with `hybrid-messaging"
                " zmq-keys DIRECTORY` and set [oslo_messaging_zmq] zmq_key_directory,"
                " or set rpc_zmq_bind_address to an address in a network of the"
                " services alone",
                endpoint,
            )

    # -- any thread ----------------------------------------------------------

    def add(self, inbox: Inbox) -> None:
        """Let requests for a listener come."""
        with self._lock:
            record = self._record(inbox)
            address = record.address(inbox.topic)
            self._inboxes.setdefault(address, collections.deque()).append(inbox)
        self._directory.register([(inbox.topic, record)])

    def remove(self, inbox: Inbox) -> None:
        """Let no more requests for a listener come."""
        with self._lock:
            record = self._record(inbox)
            address = record.address(inbox.topic)
            inboxes = self._inboxes.get(address)
            if not inboxes or inbox not in inboxes:
                return
            inboxes.remove(inbox)
            if inboxes:
                return
            del self._inboxes[address]
        self._directory.unregister([(inbox.topic, record)])

    def answer(
        self, routing_id: bytes, kind: bytes, id: int, body: bytes = b""
    ) -> None:
        """Send an answer to a request."""
        if not self.forked:
            self._socket.do(self._answer, routing_id, wire.answer(kind, id, body))

    def _answer(self, routing_id: bytes, frame: bytes) -> None:
        try:
            self._socket.send(routing_id, frame)
        except zmq.Again:
            self.undelivered += 1
            LOG.warning("A client takes no more answers; one is lost")
        except zmq.ZMQError as error:
            LOG.debug("Nobody waits for an answer any more: %s", error)

    def close(self) -> None:
        """Let go of everything."""
        self._socket.close(LINGER)

    def after_fork(self) -> None:
        """In a child: this server is the parent's."""
        self.forked = True
        self._socket.after_fork()

    # -- whichever thread has used the socket, without its lock ------------------

    def _deliver(self) -> None:
        if getattr(self._here, "delivering", False):
            return  # an answer was given meanwhile; the loop below goes on
        self._here.delivering = True
        try:
            while self._arrived:
                try:
                    frames = self._arrived.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    self._on_request(frames)
                except Exception:
                    LOG.exception("A request was lost")
        finally:
            self._here.delivering = False

    def _on_request(self, frames: list[bytes]) -> None:
        try:
            routing_id, frame = frames
            request = wire.read_request(frame)
        except ValueError:
            self._mention_stranger()
            return
        inbox = self._inbox(request.address)
        if inbox is None:
            self._elsewhere(routing_id, request)
            return
        try:
            body = bodies.read_request(request.body)
        except bodies.MalformedBody as error:
            LOG.warning("Refused a request on %s: %s", inbox, error)
            self.answer(routing_id, wire.REFUSED, request.id, str(error).encode())
            return
        inbox.take(routing_id, request, body)

    def _nobody(self, routing_id: bytes, request: wire.Request) -> None:
        self.answer(routing_id, wire.NOBODY, request.id)

    def _inbox(self, address: bytes) -> Inbox | None:
        inboxes = self._inboxes.get(address)
        if not inboxes:
            return None
        try:
            inboxes.rotate()
            return inboxes[0]
        except IndexError:  # it has just been removed
            return None

    def _mention_stranger(self) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            LOG.warning("%s: ignored what is no request", self._endpoint)


def _endpoint(host: str, port: int) -> str:
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
