# SPDX-License-Identifier: Apache-2.0
"""One ZeroMQ socket that the threads of a process share.

A ZeroMQ socket may be used by one thread at a time; a lock sees to that. Waiting
is done without it, on the socket's descriptor, which ZeroMQ signals at edges: it
has to be asked for messages after every use, or the signal of one that arrived
meanwhile is lost. So a thread that uses the socket also takes what has arrived.

One thread of the socket's own waits for messages. A caller that has been alone
for a while waits by itself (`hybrid_messaging.drivers.turns`).
"""

from __future__ import annotations

import _socket
import array
import contextlib
import fcntl
import math
import os
import select
import selectors
import termios
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from hybrid_messaging.drivers import forks, logs, reentry
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.turns import CALLERS_READ, REST, Turns
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq import libzmq, names
from hybrid_messaging.drivers.zmq.contexts import contexts
from hybrid_messaging.drivers.zmq.gatekeeper import Gatekeeper
from hybrid_messaging.drivers.zmq.keys import Keys, Pair
from hybrid_messaging.drivers.zmq.message import Message

LOG = logs.get(__name__)

#: Messages that are taken in one go, before others get the lock.
_BATCH = 64
#: ZeroMQ would connect again by itself, to whatever is there by then, and send what
#: is left over: seconds, as good as never.
_NEVER = 24 * 3600
#: Seconds between two attempts of the socket's own thread after one that has failed.
_PAUSE = 1.0
#: Seconds for which a message that is overdue waits for what has arrived to be read,
#: and between two looks whether it is.
HEARING, _HEARING_LOOK = 2.0, 0.01
#: A thread that gets up so many seconds late was stopped, with ZeroMQ's.
_LATE = 0.05

_EVENTS = (
    zmq.Event.CONNECTED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.CONNECT_RETRIED
    | zmq.Event.CLOSED
    | zmq.Event.DISCONNECTED
)

Event = Mapping[str, Any]
_Wait = Callable[[int | None], Iterable[tuple[int, int]]]


class Socket:
    """A ROUTER socket.

    :param name: of its thread
    :param options: the [oslo_messaging_zmq] group
    :param on_frames: called with every message, with the lock held
    :param on_event: called with what becomes of connections, with the lock held,
        after `on_frames` with all that they brought; None: not of interest
    :param afterwards: called without the lock after every use of the socket
    :raises OSError, zmq.ZMQError: it could not be set up
    """

    def __init__(
        self,
        name: str,
        options: Any,
        on_frames: Callable[[list[bytes]], None],
        on_event: Callable[[Event], None] | None = None,
        afterwards: Callable[[], None] = lambda: None,
    ) -> None:
        #: by which the gatekeeper knows it
        self._domain = uuid.uuid4().hex.encode()
        self._on_frames = on_frames
        self._on_event = on_event
        self._afterwards = afterwards
        self._lock = CombiningLock(self._take)
        self._closing = False
        self._connect_timeout: float = options.connect_timeout
        #: the descriptors of connections that we make, by their addresses
        self._connections: dict[str, int | None] = {}
        #: the ports of connections that others have made to us
        self._ports: set[int] = set()
        self._guarded_by: Gatekeeper | None = None
        self._turns = Turns(self._wake_own, self._wake_leader)
        #: what the caller that reads waits for, and its thread
        self._awaited: Message | None = None
        self._leader: int | None = None
        #: messages may be there that ZeroMQ's descriptor does not report any more
        self._untaken = False
        self._monitor: Any = None
        context = contexts.borrow()
        with contextlib.ExitStack() as undo:
            undo.callback(contexts.give_back)
            self._socket: Any = context.socket(zmq.ROUTER)
            undo.callback(self._socket.close, linger=0)
            self._handle = libzmq.handle(self._socket)
            _configure(self._socket, options)
            if on_event is not None:
                self._monitor = _monitor(context, self._socket)
                undo.callback(self._monitor.close, linger=0)
                self._monitor_handle = libzmq.handle(self._monitor)
            self._wakes = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, self._wakes)
            self._nudges = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.pop_all()
        self._descriptors = []
        for each in filter(None, (self._socket, self._monitor)):
            self._descriptors.append(int(each.getsockopt(zmq.FD)))
            each.getsockopt(zmq.EVENTS)  # ZeroMQ signals only after a first look
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
        """Wake the thread that waits for a message; called with the lock held."""
        if message is not self._awaited:
            message.waiter.wake()
        elif self._leader != threading.get_ident():
            message.waiter.wake()
            self._turns.nudge()

    def begin(self) -> None:
        """A thread is about to send something and to wait for the answer."""
        self._turns.begin()

    def end(self) -> None:
        """The thread waits no longer."""
        self._turns.end()

    def wait(self, message: Message, until: float) -> None:
        """Wait in the calling thread until something is said about a message.

        A thread that is alone reads by itself, and leaves what has come with its
        answer to the next use of the socket.

        :param until: monotonic time at which the caller wants to look up anyway
        """
        if message.waits() and self._turns.lead():
            self._read_while(message, until)
        else:
            self.pause(message, until)

    def pause(self, message: Message, until: float) -> None:
        """Wait in the calling thread to be woken for a message, while others read."""
        self._turns.follow()
        reentry.outside(message.waiter.wait, until - time.monotonic())

    def hear(self, message: Message, addresses: list[str], moment: float) -> None:
        """Wait until all is read that arrived by a moment, or there is news.

        This process, or its eventlet hub, may have been stopped meanwhile.

        :param addresses: those that an answer may come from
        :param moment: monotonic time
        """
        began = time.monotonic()
        looks = 2 if began > moment + _LATE else 0
        while message.waits() and time.monotonic() < began + HEARING:
            if self._has_arrived(addresses):
                looks = 2  # ZeroMQ takes a moment between reading and telling
            elif not looks:
                break
            looks -= 1
            self.pause(message, time.monotonic() + _HEARING_LOOK)
            self.do(_nothing)

    def _has_arrived(self, addresses: list[str]) -> bool:
        """Whether something has arrived that ZeroMQ has not read yet."""
        for address in addresses:
            descriptor = self._connections.get(address)
            # what is not our connection any more does no harm: nobody waits for long
            if descriptor is not None and _unread(descriptor):
                return True
        return self._untaken

    def _read_while(self, message: Message, until: float) -> None:
        try:
            self._leader = threading.get_ident()
            self._awaited = message  # before looking at it: see wake()
            while message.waits() and not self._closing:
                if self._untaken:
                    self.do(_nothing)
                    continue
                pause = until - time.monotonic()
                if pause <= 0:
                    break
                milliseconds = math.ceil(pause * 1000)
                for descriptor, _ in reentry.reading(self._wait_leading, milliseconds):
                    if not self._closing:
                        self._on_ready(descriptor)
        finally:
            self._awaited = None
            self._turns.leave()
        if self._untaken and self._turns.crowded:
            self.do(_nothing)

    def close(self, linger: float) -> None:
        """Let go of everything.

        :param linger: seconds that what is under way may take to leave
        """
        if self._closing:
            return
        self.run(self._end)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        reads_here = self._awaited and self._leader == threading.get_ident()
        self._turns.finish(led_here=bool(reads_here))
        if self._monitor is not None:
            libzmq.uninterrupted(self._socket.disable_monitor)
            self._monitor.close(linger=0)
        self._socket.close(linger=int(linger * 1000))
        self._close_descriptors()
        if self._guarded_by is not None:
            self._guarded_by.leave(self._domain)
        contexts.give_back()

    def _end(self) -> None:
        self._closing = True
        self._turns.call()

    def after_fork(self) -> None:
        """In a child: this socket is the parent's; it is only kept from harm."""
        forks.keep(self)
        self._closing = True
        self._close_connections()
        self._lock = CombiningLock(_nothing)
        self._turns = Turns(_nothing, _nothing)
        self._close_descriptors()

    def _close_connections(self) -> None:
        """In a child: let the peers notice when the parent ends."""
        made = {
            descriptor: address for address, descriptor in self._connections.items()
        }
        for entry in list(Path("/proc/self/fd").iterdir()):
            descriptor = int(entry.name)
            try:
                # not socket.socket, which eventlet makes non-blocking: most of
                # these are not ours
                found = _socket.socket(fileno=descriptor)
            except OSError:
                continue  # not a socket
            ours = self._is_ours(found, made.get(descriptor))
            found.detach()
            if ours:
                os.close(descriptor)

    def _is_ours(self, found: _socket.socket, connected_to: str | None) -> bool:
        """Whether a socket of the process is one of this socket's connections.

        :param connected_to: the address of the connection that has its descriptor
        """
        if (
            found.family not in (_socket.AF_INET, _socket.AF_INET6)
            or found.type != _socket.SOCK_STREAM
        ):
            return False
        # the kernel gives nobody else the port of a socket that listens
        if found.getsockname()[1] in self._ports:
            return True
        if connected_to is None:
            return False
        try:
            ip, port = found.getpeername()[:2]
        except OSError:
            return False  # the descriptor has come into other hands
        # IPv4 through an IPv6 socket
        return connected_to == names.endpoint(ip.removeprefix("::ffff:"), port)

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

    def connect(
        self,
        address: str,
        routing_id: bytes,
        longest: float = math.inf,
        pair: Pair | None = None,
        server_key: str = "",
    ) -> None:
        """Begin to connect; what becomes of it is an event.

        :param address: tcp://ip:port
        :param longest: seconds that it may take, if less than the option allows
        :param pair: our keys for CURVE; None: without
        :param server_key: the public key that is expected there, with keys
        :raises zmq.ZMQError: there is no such address
        """
        seconds = min(self._connect_timeout, longest)
        self._socket.setsockopt(zmq.CONNECT_TIMEOUT, _milliseconds(seconds))
        # what is set counts for connections that are made later
        self._socket.setsockopt(zmq.CURVE_SERVER, 0)  # without CURVE
        if pair is not None:
            self._socket.setsockopt(zmq.CURVE_PUBLICKEY, pair.public)
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret)
            self._socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
        self._socket.setsockopt(zmq.CONNECT_ROUTING_ID, routing_id)
        self._socket.connect(address)
        self._connections[address] = None

    def disconnect(self, address: str) -> None:
        """End a connection, with all that was to be sent over it."""
        self._connections.pop(address, None)
        with contextlib.suppress(zmq.ZMQError):
            libzmq.uninterrupted(self._socket.disconnect, address)

    def bind(self, address: str, keys: Keys | None) -> None:
        """Take connections.

        :param address: tcp://ip:port
        :param keys: for CURVE; None: without, which is for sockets that are bound
            without it everywhere
        :raises zmq.ZMQError: that is not possible
        """
        if keys is not None:
            self._guarded_by = contexts.gatekeeper()
            self._guarded_by.guard(self._domain, keys)
            self._socket.setsockopt(zmq.CURVE_SERVER, 1)
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
            self._socket.setsockopt(zmq.ZAP_DOMAIN, self._domain)
            # nobody gets in if the gatekeeper cannot be asked
            self._socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._socket.bind(address)
        self._ports.add(names.parse(address)[1])

    def _take(self) -> None:
        """Take what has arrived, or say that there is more of it."""
        if self._closing:
            return
        awaited = self._awaited
        for _ in range(_BATCH):
            if awaited is not None and not awaited.waits():
                self._untaken = True  # there may be more: let the caller go on first
                return
            if not self._take_one():
                self._untaken = False
                return
        # before they are called: they look at it before they wait
        self._untaken = True
        self._turns.nudge()
        self._turns.call()

    def _take_one(self) -> bool:
        frames = self._handle.receive()
        if frames is None:
            return False
        if len(frames) > 2:
            frames = [frames[0], b"".join(frames[1:])]
        try:
            self._on_frames(frames)
        except Exception:
            LOG.exception("A message was lost because of an internal error")
        return True

    def look_at_events(self) -> None:
        """Hear what has become of connections."""
        while frames := self._monitor_handle.receive():
            event = parse_monitor_message(frames)
            while self._take_one():  # what came before the end of a connection
                pass
            try:
                self._on_monitored(event)
            except Exception:
                LOG.exception("A socket event was lost because of an internal error")

    def _on_monitored(self, event: Event) -> None:
        assert self._on_event is not None
        address = event["endpoint"].decode()
        if event["event"] == zmq.Event.CONNECTED:
            if address in self._connections:  # and has not been ended since
                self._connections[address] = event["value"]
        else:
            self._on_event(event)

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

    def _wake_own(self) -> None:
        _signal(self._wakes)

    def _wake_leader(self) -> None:
        _signal(self._nudges)

    @reentry.works
    def _serve(self) -> None:
        wait = _waiting_for(*self._descriptors, self._wakes)
        while not self._closing:
            try:
                if self._turns.watches(REST) and not self._closing:
                    self._watch(wait)
            except Exception:
                LOG.exception("%s failed; continuing", self._thread.name)
                time.sleep(_PAUSE)

    def _watch(self, wait: _Wait) -> None:
        if self._untaken:
            self.do(_nothing)
        for descriptor, _ in wait(None):
            if self._turns.take():
                try:
                    self._on_ready(descriptor)
                finally:
                    self._turns.done()


def _nothing() -> None:
    pass


def _unread(descriptor: int) -> bool:
    """Whether the socket with this descriptor has received what nobody has read."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, count)
    except OSError:
        return False
    return count[0] > 0


def _waiting_for(*descriptors: int) -> _Wait:
    """A function that waits for descriptors to become readable.

    It takes the time that it may wait, in milliseconds or None for ever.
    """
    if CALLERS_READ:
        # a selector would take three times as long
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


def _monitor(context: zmq.Context[Any], raw: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """Have a socket report what becomes of its connections.

    ZeroMQ's own thread waits for room to report an event, and all connections of the
    process with it: so there is always room.
    """
    address = f"inproc://monitor-{uuid.uuid4().hex}"
    libzmq.uninterrupted(raw.monitor, address, _EVENTS)
    monitor = context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.RCVHWM, 0)
    monitor.setsockopt(zmq.LINGER, 0)
    monitor.connect(address)
    return monitor


def _configure(raw: zmq.Socket[bytes], options: Any) -> None:
    raw.setsockopt(zmq.ROUTER_MANDATORY, 1)  # do not drop, but say so
    raw.setsockopt(zmq.LINGER, 0)
    # without a limit: senders wait for what they have under way
    raw.setsockopt(zmq.RCVHWM, 0)
    raw.setsockopt(zmq.IPV6, 1)
    raw.setsockopt(zmq.RECONNECT_IVL, _milliseconds(_NEVER))
    raw.setsockopt(zmq.HANDSHAKE_IVL, _milliseconds(options.connect_timeout))
    # of a part, and of a handshake's command
    raw.setsockopt(zmq.MAXMSGSIZE, libzmq.LARGEST_PART)
    if options.idle_timeout:
        raw.setsockopt(zmq.HEARTBEAT_IVL, _milliseconds(options.idle_timeout / 3))
        raw.setsockopt(zmq.HEARTBEAT_TIMEOUT, _milliseconds(options.idle_timeout))
        # the peer lets go of us as soon as we of it
        raw.setsockopt(zmq.HEARTBEAT_TTL, _milliseconds(options.idle_timeout))
