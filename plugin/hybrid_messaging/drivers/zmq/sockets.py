# SPDX-License-Identifier: Apache-2.0
"""One ZeroMQ socket that the threads of a process share.

A ZeroMQ socket may be used by one thread at a time; a lock sees to that. Waiting
is done without it, on the socket's descriptor, which ZeroMQ signals at edges: it
has to be asked for messages after every use, or the signal of one that arrived
meanwhile is lost. So whoever uses the socket also takes what has arrived.

One thread of the socket's own waits for messages. A caller that has been alone
for a while waits by itself, which saves a hand-over between threads per call.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import math
import os
import select
import selectors
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq
from oslo_utils import eventletutils
from zmq.utils.monitor import parse_monitor_message

from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq import wire
from hybrid_messaging.drivers.zmq.gatekeeper import Gatekeeper
from hybrid_messaging.drivers.zmq.keys import Keys
from hybrid_messaging.drivers.zmq.libzmq import Handle
from hybrid_messaging.drivers.zmq.message import Message

LOG = logging.getLogger(__name__)

#: Seconds after which the socket's own thread waits again when callers do not.
PARKING = 0.25
#: Greenlets may not wait for the same descriptor twice, and switch cheaply.
CALLERS_READ = not eventletutils.is_monkey_patched("thread")
#: Messages that are taken in one go, before others get the lock.
_BATCH = 64
#: ZeroMQ would connect again by itself, to whatever is there by then, and send what
#: is left over: seconds, as good as never.
_NEVER = 24 * 3600

_EVENTS = (
    zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.CONNECT_RETRIED
    | zmq.Event.CLOSED
    | zmq.Event.DISCONNECTED
)

Event = Mapping[str, Any]


class _Contexts:
    """The ZeroMQ context of this process, while somebody uses it."""

    def __init__(self) -> None:
        #: of processes that this one is a child of: theirs to end
        self._inherited: list[zmq.Context[Any] | Gatekeeper | None] = []
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._context: zmq.Context[Any] | None = None
        self._gatekeeper: Gatekeeper | None = None
        self._users = 0

    def borrow(self) -> zmq.Context[Any]:
        with self._lock:
            if self._context is None:
                self._context = zmq.Context()
                self._context.set(zmq.MAX_SOCKETS, 65536)
            self._users += 1
            return self._context

    def gatekeeper(self) -> Gatekeeper:
        """Who answers for the sockets of the context; somebody uses that."""
        with self._lock:
            if self._gatekeeper is None:
                assert self._context is not None
                self._gatekeeper = Gatekeeper(self._context)
            return self._gatekeeper

    def give_back(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            context, self._context = self._context, None
            gatekeeper, self._gatekeeper = self._gatekeeper, None
        if gatekeeper is not None:
            gatekeeper.close()
        if context is not None:
            context.term()  # waits for what lingers

    def after_fork(self) -> None:
        self._inherited += [self._context, self._gatekeeper]
        self._start()


_contexts = _Contexts()
os.register_at_fork(after_in_child=_contexts.after_fork)

#: Sockets of processes that this one is a child of: never to be collected here.
_inherited: list[Socket] = []


class Socket:
    """A ROUTER socket.

    :param name: of its thread
    :param options: the [oslo_messaging_zmq] group
    :param keys: for CURVE; None: without
    :param on_frames: called with every message, with the lock held
    :param on_event: called with what becomes of connections, with the lock held,
        after `on_frames` with all that they brought; None: not of interest
    :param afterwards: called without the lock after every use of the socket
    :raises zmq.ZMQError: it could not be set up
    """

    def __init__(
        self,
        name: str,
        options: Any,
        keys: Keys | None,
        on_frames: Callable[[list[bytes]], None],
        on_event: Callable[[Event], None] | None = None,
        afterwards: Callable[[], None] = lambda: None,
    ) -> None:
        self._keys = keys
        #: by which the gatekeeper knows it
        self._domain = uuid.uuid4().hex.encode()
        self._on_frames = on_frames
        self._on_event = on_event
        self._afterwards = afterwards
        self._lock = CombiningLock(self._take)
        self._closing = False
        #: what tells the descriptors of our connections from others
        self._connections: set[tuple[str, int]] = set()
        self._ports: set[int] = set()
        self._guarded_by: Gatekeeper | None = None
        # Who holds the turn waits on the descriptor.
        self._turn = threading.Lock()
        # A caller has waited there since the socket's own thread last looked.
        self._led = False
        #: what a caller waits for who waits there
        self._awaited: Message | None = None
        #: whether messages may be there that nobody has been told of
        self._untaken = False
        self._parked = Waiter()
        self._monitor: Any = None
        context = _contexts.borrow()
        with contextlib.ExitStack() as undo:
            undo.callback(_contexts.give_back)
            self._socket: Any = context.socket(zmq.ROUTER)
            undo.callback(self._socket.close, linger=0)
            self._handle = Handle(self._socket)
            _configure(self._socket, options)
            if on_event is not None:
                self._monitor = self._socket.get_monitor_socket(_EVENTS)
                undo.callback(self._monitor.close, linger=0)
                self._monitor_handle = Handle(self._monitor)
            self._wakes = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._nudges = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.pop_all()
        self._descriptors = []
        for each in filter(None, (self._socket, self._monitor)):
            self._descriptors.append(int(each.getsockopt(zmq.FD)))
            each.getsockopt(zmq.EVENTS)  # only who has looked once is signalled
        if CALLERS_READ:
            self._wait_leading = _waiting_for(*self._descriptors, self._nudges)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    # -- any thread ----------------------------------------------------------

    def do(self, function: Callable[..., None], *arguments: Any) -> None:
        """Do something with the lock held: now or, if others use it, right after."""
        self._lock.leave(self._guarded, function, arguments)
        self._afterwards()

    def run(self, function: Callable[[], None]) -> None:
        """Do something with the lock held, and wait until it is done.

        :raises Exception: what it has raised
        """
        done = Waiter()
        failures: list[Exception] = []

        def run() -> None:
            try:
                function()
            except Exception as error:
                failures.append(error)
            finally:
                done.wake()

        self._lock.leave(run)
        done.wait(None)
        self._afterwards()
        for failure in failures:
            raise failure

    def _guarded(
        self, function: Callable[..., None], arguments: tuple[Any, ...]
    ) -> None:
        if not self._closing:
            function(*arguments)

    def wake(self, message: Message) -> None:
        """Wake the thread that waits for a message."""
        leader = message.leader
        if leader == threading.get_ident():
            return  # it is awake
        message.waiter.wake()
        if leader is not None:
            _signal(self._nudges)

    def read_while(self, message: Message, until: float) -> bool:
        """Wait in the calling thread, instead of being woken by the one that reads.

        More may have come with the answer, and is taken by the next use of the socket.
        If others wait as well, call `catch_up` for them.

        :param until: monotonic time at which the caller wants to look up
        :returns: False if another thread does so already
        """
        if not self._turn.acquire(blocking=False):
            return False
        try:
            self._led = True
            # before looking at the message: see wake()
            message.leader = threading.get_ident()
            self._awaited = message
            while message.waits() and not self._closing:
                pause = until - time.monotonic()
                if pause <= 0:
                    break
                for descriptor, _ in self._wait_leading(math.ceil(pause * 1000)):
                    self._on_ready(descriptor)
        finally:
            self._awaited = message.leader = None
            self._turn.release()
        return True

    def catch_up(self) -> None:
        """Take what a caller has left there as it had its answer."""
        if self._untaken:
            self.do(_nothing)

    def step_in(self) -> None:
        """Have the socket's own thread wait again: there is more than one caller."""
        if self._led:
            self._led = False
            self._parked.wake()

    def close(self, linger: float) -> None:
        """Let go of everything.

        :param linger: seconds that what is under way may take to leave
        """
        if self._closing:
            return
        self.run(self._end)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        with self._turn:  # a caller that still waited has looked up
            if self._monitor is not None:
                self._socket.disable_monitor()
                self._monitor.close(linger=0)
            self._socket.close(linger=int(linger * 1000))
            self._close_descriptors()
        if self._guarded_by is not None:
            self._guarded_by.leave(self._domain)
        _contexts.give_back()

    def _end(self) -> None:
        self._closing = True
        _signal(self._wakes)
        _signal(self._nudges)
        self._parked.wake()

    def after_fork(self) -> None:
        """In a child: this socket is the parent's; it is only kept from harm."""
        _inherited.append(self)
        self._closing = True
        self._close_connections()
        self._lock = CombiningLock(lambda: None)
        self._close_descriptors()

    def _close_connections(self) -> None:
        """In a child: let the peers notice when the parent ends."""
        for entry in list(Path("/proc/self/fd").iterdir()):
            try:
                # not socket.socket, which eventlet makes non-blocking: most of
                # these are not ours
                found = _socket.socket(fileno=int(entry.name))
            except OSError:
                continue  # not a socket
            ours = False
            with contextlib.suppress(OSError):  # not connected
                if found.family in (_socket.AF_INET, _socket.AF_INET6):
                    ours = found.getsockname()[1] in self._ports
                    ip, port = found.getpeername()[:2]
                    ip = ip.removeprefix("::ffff:")  # IPv4 through an IPv6 socket
                    ours = ours or (ip, port) in self._connections
            descriptor = found.detach()
            if ours:
                os.close(descriptor)

    def _close_descriptors(self) -> None:
        for descriptor in (self._wakes, self._nudges):
            os.close(descriptor)

    # -- with the lock -------------------------------------------------------

    def send(self, routing_id: bytes, frame: bytes) -> None:
        """Send a message.

        :raises zmq.Again: the peer takes no more for now
        :raises zmq.ZMQError: it is not connected
        """
        self._handle.send(routing_id, frame)

    def connect(self, address: str, routing_id: bytes, server_key: str) -> None:
        """Begin to connect; what becomes of it is an event.

        :param address: tcp://ip:port
        :param server_key: the public key that is expected there, with keys
        :raises zmq.ZMQError: there is no such address
        """
        if self._keys is not None:
            self._socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.own.public)
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.own.secret)
            self._socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
        self._socket.setsockopt(zmq.CONNECT_ROUTING_ID, routing_id)
        self._socket.connect(address)
        self._connections.add(_address(address))

    def disconnect(self, address: str) -> None:
        """End a connection, with all that was to be sent over it."""
        self._connections.discard(_address(address))
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disconnect(address)

    def bind(self, address: str) -> None:
        """Take connections.

        :param address: tcp://ip:port
        :raises zmq.ZMQError: that is not possible
        """
        if self._keys is not None:
            self._guarded_by = _contexts.gatekeeper()
            self._guarded_by.guard(self._domain, self._keys)
            self._socket.setsockopt(zmq.CURVE_SERVER, 1)
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.own.secret)
            self._socket.setsockopt(zmq.ZAP_DOMAIN, self._domain)
            # nobody gets in if the gatekeeper cannot be asked
            self._socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._socket.bind(address)
        self._ports.add(_address(address)[1])

    def _take(self) -> None:
        if self._closing:
            return
        awaited = self._awaited
        self._untaken = False
        for _ in range(_BATCH):
            if awaited is not None and not awaited.waits():
                self._untaken = True  # there may be more: let the caller go on first
                return
            frames = self._handle.receive()
            if frames is None:
                return
            try:
                self._on_frames(frames)
            except Exception:
                LOG.exception("A message was lost")
        _signal(self._wakes)

    def look_at_events(self) -> None:
        """Hear what has become of connections."""
        assert self._on_event is not None
        while frames := self._monitor_handle.receive():
            event = parse_monitor_message(frames)
            self._take()  # what came before the end of a connection
            try:
                self._on_event(event)
            except Exception:
                LOG.exception("An event was lost")

    # -- the socket's own thread, or a caller that reads --------------------------

    def _on_ready(self, descriptor: int) -> None:
        if descriptor == self._descriptors[0]:
            self._lock.leave(_nothing)  # taking what is there comes after it
            self._afterwards()
        elif descriptor in self._descriptors:
            self.do(self.look_at_events)
        else:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(descriptor)
            self.do(_nothing)

    def _serve(self) -> None:
        wait = _waiting_for(*self._descriptors, self._wakes)
        while not self._closing:
            if self._led:
                self._parked.wait(PARKING)
                self._led = self._turn.locked()
                continue
            for descriptor, _ in wait(None):
                # If a caller reads, leave it to that one. Said before it is
                # known: it may stop right now, and step_in() must see it.
                self._led = True
                if self._turn.acquire(blocking=False):
                    self._led = False
                    try:
                        self._on_ready(descriptor)
                    finally:
                        self._turn.release()


def _address(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint)
    return parts.hostname or "", parts.port or 0


def _nothing() -> None:
    pass


def _waiting_for(
    *descriptors: int,
) -> Callable[[int | None], Iterable[tuple[int, int]]]:
    """A function that waits for descriptors to become readable.

    It takes the time that it may wait, in milliseconds or None for ever.
    """
    if CALLERS_READ:
        # a selector would take three times as long to tell
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        return poll.poll
    selector = selectors.DefaultSelector()
    for descriptor in descriptors:
        selector.register(descriptor, selectors.EVENT_READ)

    def wait(_: int | None) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in selector.select()]

    return wait


def _signal(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # closed, by now
        os.eventfd_write(descriptor, 1)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _configure(raw: zmq.Socket[bytes], options: Any) -> None:
    raw.setsockopt(zmq.ROUTER_MANDATORY, 1)  # do not drop, but say so
    raw.setsockopt(zmq.LINGER, 0)
    # nothing is held back in here: who has something under way waits for it
    raw.setsockopt(zmq.RCVHWM, 0)
    raw.setsockopt(zmq.IPV6, 1)
    raw.setsockopt(zmq.RECONNECT_IVL, _milliseconds(_NEVER))
    raw.setsockopt(zmq.CONNECT_TIMEOUT, _milliseconds(options.connect_timeout))
    raw.setsockopt(zmq.HANDSHAKE_IVL, _milliseconds(options.connect_timeout))
    raw.setsockopt(zmq.MAXMSGSIZE, options.max_message_size + wire.OVERHEAD)
    if options.idle_timeout:
        raw.setsockopt(zmq.HEARTBEAT_IVL, _milliseconds(options.idle_timeout / 3))
        raw.setsockopt(zmq.HEARTBEAT_TIMEOUT, _milliseconds(options.idle_timeout))
        # the peer lets go of us as soon as we of it
        raw.setsockopt(zmq.HEARTBEAT_TTL, _milliseconds(options.idle_timeout))


def resolve(endpoint: str) -> str:
    """An endpoint with the address of its host: ZeroMQ would block on names.

    :raises OSError: the host has no address
    :raises ValueError: it is no endpoint
    """
    parts = urlsplit(endpoint)
    if parts.scheme != "tcp" or not parts.hostname or not parts.port:
        raise ValueError("no endpoint")
    found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    ip = str(found[0][4][0])
    return f"tcp://[{ip}]:{parts.port}" if ":" in ip else f"tcp://{ip}:{parts.port}"
