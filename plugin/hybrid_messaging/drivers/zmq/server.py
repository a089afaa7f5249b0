# SPDX-License-Identifier: Apache-2.0
"""The listening side: one socket, bound to a port, for all listeners of a transport."""

from __future__ import annotations

import collections
import contextlib
import errno
import random
import threading
import uuid
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import zmq

from hybrid_messaging import log_safety
from hybrid_messaging.drivers import bodies, logs, reentry
from hybrid_messaging.drivers.zmq import names, wire
from hybrid_messaging.drivers.zmq import options as zmq_options
from hybrid_messaging.drivers.zmq.backlog import Backlog, Entry, Key, State
from hybrid_messaging.drivers.zmq.directory import Directory
from hybrid_messaging.drivers.zmq.encryption import Encryption
from hybrid_messaging.drivers.zmq.keys import Keys
from hybrid_messaging.drivers.zmq.matchmaker import Record
from hybrid_messaging.drivers.zmq.sockets import Socket

LOG = logs.get(__name__)

#: Seconds that answers may take to leave when the transport is closed.
LINGER = 2.0
#: Clients that are told when a listener stops.
MOST_CLIENTS = 10_000


class Listener(Hashable, Protocol):
    """Takes the requests of a target."""

    #: its name in the directory
    topic: str
    #: the listener's own name
    server: str

    def take(
        self, routing_id: bytes, request: wire.Request, body: bodies.Request
    ) -> None:
        """A request has arrived."""


class Server:
    """All that listens in this process, over one transport.

    :param options: the [oslo_messaging_zmq] group
    :param encryption: decides where it may listen, and how
    :param elsewhere: called with requests for others, and the routing ids of their
        senders; None: nobody is there to take them
    :param withdrawn: called with the keys of requests that their senders do not want
        any more
    :raises zmq.ZMQError: there is no port to listen on
    """

    def __init__(
        self,
        options: Any,
        encryption: Encryption,
        directory: Directory,
        elsewhere: Callable[[bytes, wire.Request], None] | None = None,
        withdrawn: Callable[[Key], None] = lambda key: None,
    ) -> None:
        self._options = options
        self._largest: int = options.max_message_size
        self.backlog = Backlog(options.rpc_server_credit, self._largest)
        self._elsewhere = elsewhere or self._nobody
        self._withdrawn = withdrawn
        self._encryption = encryption
        #: our public key; '' in plain text
        self._key = ""
        self._directory = directory
        self._process = uuid.uuid4().hex
        #: listeners by the addresses that requests name; several take turns
        self._listeners: dict[bytes, collections.deque[Listener]] = {}
        #: routing ids of those who have sent something
        self._clients: set[bytes] = set()
        self._records: dict[Listener, Record] = {}
        self._arrived: collections.deque[list[bytes]] = collections.deque()
        #: requests whose withdrawal has arrived and is not yet delivered
        self._unwanted: set[Key] = set()
        self._lock = threading.Lock()
        #: held by the thread that delivers: one, so that the order is kept
        self._delivering = threading.Lock()
        self.forked = False
        #: answers that clients did not take
        self.undelivered = 0
        self._endpoint: str | None = None
        self._bound: set[str] = set()
        self._socket = Socket(
            "zmq-server", options, self._on_frames, afterwards=self._deliver
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
        keys = self._encryption.listening(address)
        first, last = self._options.rpc_zmq_min_port, self._options.rpc_zmq_max_port
        span = range(first, max(first, last) + 1)
        tries = min(len(span), self._options.rpc_zmq_bind_port_retries)
        for port in random.sample(span, tries):
            try:
                self._socket.bind(names.endpoint(address, port), keys)
            except zmq.ZMQError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
            else:
                self._endpoint = names.endpoint(zmq_options.host(self._options), port)
                self._key = keys.own.public.decode() if keys is not None else ""
                self._warn_if_exposed(keys, self._endpoint, address)
                return
        raise zmq.ZMQError(
            errno.EADDRINUSE,
            f"no free port on {address} among {tries} ports from {first} to {last}"
            " (rpc_zmq_min_port, rpc_zmq_max_port, rpc_zmq_bind_port_retries)",
        )

    def _record(self, listener: Listener) -> Record:
        """What a listener is known as; the socket is bound accordingly."""
        assigned = self._directory.assigned(listener.topic, listener.server)
        if assigned is None:
            if self._endpoint is None:
                self._socket.run(self._bind)
            assert self._endpoint is not None
            return Record(listener.server, self._endpoint, self._process, self._key)
        if assigned.endpoint not in self._bound:
            host, port = names.parse(assigned.endpoint)
            address = names.look_up(host)[0]
            keys = self._encryption.listening(address)
            endpoint = names.endpoint(address, port)
            self._socket.run(lambda: self._socket.bind(endpoint, keys))
            self._bound.add(assigned.endpoint)
            self._warn_if_exposed(keys, endpoint, address)
        return assigned

    def _warn_if_exposed(self, keys: Keys | None, endpoint: str, address: str) -> None:
        if keys is None and not names.is_loopback(address):
            LOG.warning(
                "Listening on %s without encryption or authentication, because"
                " [oslo_messaging_zmq] plaintext_beyond_loopback is set: anyone who"
                " reaches the port can call this service",
                endpoint,
            )

    # -- any thread ----------------------------------------------------------

    def add(self, listener: Listener) -> None:
        """Let requests for a listener come."""
        with self._lock:
            record = self._records[listener] = self._record(listener)
            address = record.address(listener.topic)
            self._listeners.setdefault(address, collections.deque()).append(listener)
        self._directory.register([(listener.topic, record)])

    def remove(self, listener: Listener) -> None:
        """Let no more requests for a listener come."""
        with self._lock:
            record = self._records.pop(listener, None)
            if record is None:
                return
            address = record.address(listener.topic)
            listeners = self._listeners[address]
            listeners.remove(listener)
            if not listeners:
                del self._listeners[address]
        # they ask again, and hear that nobody is there
        self._tell_room(self.backlog.close(listener))
        if not listeners:
            # before the process ends with what they would send to it
            self._socket.do(self._tell_gone, address)
            self._directory.unregister([(listener.topic, record)])

    @reentry.works
    def begin(self, entry: Entry) -> bool:
        """A service wants to begin a request; whether it may."""
        room = self.backlog.begin(entry)
        if room:
            self._tell_room(room)
        return room is not None

    @reentry.works
    def end(self, entry: Entry, state: State) -> None:
        """A request waits no longer."""
        self._tell_room(self.backlog.end(entry, state) or [])

    def _tell_room(self, keys: list[Key]) -> None:
        for routing_id, id in keys:
            self.answer(routing_id, wire.ROOM, id)

    def carries(self, body: bytes) -> bool:
        """Whether a request or an answer with this body is not too large."""
        return len(body) <= self._largest

    def too_large(self, what: str, body: bytes) -> str:
        """What to say of one that is."""
        return zmq_options.too_large(what, len(body), self._largest)

    @reentry.works
    def answer(
        self, routing_id: bytes, kind: bytes, id: int, body: bytes = b""
    ) -> None:
        """Send an answer to a request."""
        if not self.forked:
            self._socket.do(self._answer, routing_id, wire.answer(kind, id, body))

    # -- with the socket's lock --------------------------------------------------

    def _tell_gone(self, address: bytes) -> None:
        frame = wire.answer(wire.GONE, 0, address)
        for routing_id in list(self._clients):
            try:
                self._socket.send(routing_id, frame)
            except zmq.ZMQError:  # it has gone, or takes nothing
                self._clients.discard(routing_id)

    def _on_frames(self, frames: list[bytes]) -> None:
        self._arrived.append(frames)
        self._clients.add(frames[0])
        if len(self._clients) > MOST_CLIENTS:
            self._clients.pop()
        if frames[-1][1:2] == wire.WITHDRAW:
            # what has come before it and was not yet delivered need not be
            with contextlib.suppress(wire.MalformedFrame):
                self._unwanted.add((frames[0], wire.read_request(frames[-1]).id))

    def _answer(self, routing_id: bytes, frame: bytes) -> None:
        try:
            self._socket.send(routing_id, frame)
        except zmq.Again:
            self.undelivered += 1
            LOG.warning("A client does not read its answers; one is dropped")
        except zmq.ZMQError as error:
            LOG.debug("No caller waits for this answer any more: %s", error)

    def close(self) -> None:
        """Let go of everything."""
        self._socket.close(LINGER)

    def after_fork(self) -> None:
        """In a child: this server is the parent's."""
        self.forked = True
        self._socket.after_fork()

    # -- whichever thread has used the socket, without its lock ------------------

    def _deliver(self) -> None:
        # A thread that finds another one at it has brought its requests before it
        # looked. The other one looks for more after it has let go.
        while self._arrived and self._delivering.acquire(blocking=False):
            try:
                while self._arrived:
                    try:
                        self._on_request(self._arrived.popleft())
                    except Exception:
                        LOG.exception("A request was lost because of an internal error")
            finally:
                self._delivering.release()

    def _on_request(self, frames: list[bytes]) -> None:
        try:
            routing_id, frame = frames
            request = wire.read_request(frame)
        except ValueError:
            self._mention_stranger()
            return
        key = routing_id, request.id
        if request.kind == wire.WITHDRAW:
            self._unwanted.discard(key)
            self._tell_room(self.backlog.withdraw(key))
            self._withdrawn(key)
            return
        if key in self._unwanted:
            return
        if not self.carries(request.body):
            reason = self.too_large("it", request.body)
            self.answer(routing_id, wire.REFUSED, request.id, reason.encode())
            return
        listeners = self._takers(request)
        if not listeners:
            self._elsewhere(routing_id, request)
            return
        try:
            body = bodies.read_request(request.body)
        except bodies.MalformedBody as error:
            reason = log_safety.quoted(error)
            LOG.warning("Refused a request on %s: %s", listeners[0], reason)
            self.answer(routing_id, wire.REFUSED, request.id, reason.encode())
            return
        for listener in listeners:
            listener.take(routing_id, request, body)

    def _nobody(self, routing_id: bytes, request: wire.Request) -> None:
        self.answer(routing_id, wire.NOBODY, request.id)

    def _takers(self, request: wire.Request) -> Sequence[Listener]:
        """All listeners of an address for a fanout, otherwise the next in turn."""
        listeners = self._listeners.get(request.address)
        if not listeners:
            return ()
        if request.kind == wire.FANOUT:
            return tuple(listeners)
        try:
            listeners.rotate()
            return (listeners[0],)
        except IndexError:  # it has just been removed
            return ()

    def _mention_stranger(self) -> None:
        LOG.warning(
            "%s: ignored a message that is not a request",
            self._endpoint,
            extra=log_safety.SELDOM,
        )
