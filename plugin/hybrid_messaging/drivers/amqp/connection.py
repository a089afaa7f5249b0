# SPDX-License-Identifier: Apache-2.0
"""One connection to one host, from its handshakes to its end.

A connection never comes back: what outlives it is the bus' business. All
methods but `connect` and `serve` are called with the bus' lock
held, by whichever thread has something to say; `serve` runs in the bus' own
thread and reads.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import proton
from oslo_utils import eventletutils

from hybrid_messaging.drivers.amqp import security
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.protocol.endpoint import Endpoint, Handler

LOG = logging.getLogger(__name__)

_CHUNK = 256 * 1024
#: Seconds after which the bus' thread reads again when callers have stopped to.
PARKING = 0.25
#: Greenlets may not wait for the same descriptor twice, and switch cheaply.
CALLERS_READ = not eventletutils.is_monkey_patched("thread")


class ConnectionFailed(Exception):
    """A connection could not be made, or has ended, for the reason in the text."""


class AuthenticationFailed(ConnectionFailed):
    """One end does not accept who the other one says it is."""


class Connection:
    """A socket with an AMQP endpoint on it.

    :param handler: is told what the peer does, with the lock held
    :param lock: held around every use of the endpoint
    :param options: the [oslo_messaging_amqp] group
    """

    def __init__(
        self,
        handler: Handler,
        lock: CombiningLock,
        options: Any,
        host: Host,
        vhost: str | None,
        container: str,
        properties: dict[str, Any],
    ) -> None:
        self.host = host
        self._lock = lock
        self._timeout: float = options.connect_timeout
        self._socket: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._blocked = False
        self._due = 0.0
        self._closing = False
        # Bytes must be read by one thread at a time: who holds the turn.
        self._turn = threading.Lock()
        # A caller has read since the bus' own thread last looked.
        self._led = False
        self._parked = Waiter()
        self._failure: str | None = None
        # wakes serve() when another thread's bytes did not fit into the socket
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)

        def setup(transport: proton.Transport, connection: proton.Connection) -> None:
            security.setup(options, host, vhost, transport, connection)
            if options.trace:
                transport.trace(proton.Transport.TRACE_FRM)
            connection.properties = properties
            if vhost and not options.pseudo_vhost:
                connection.hostname = vhost

        self._get_pin = functools.partial(security.pin, options, host, vhost)
        #: the fingerprint that the peer's certificate must have
        self._pin: str | None = None

        try:
            self.endpoint = Endpoint(
                handler, container, idle_timeout=options.idle_timeout, setup=setup
            )
        except BaseException:
            self._close_sockets()
            raise

    # -- in the bus' own thread ------------------------------------------

    def connect(self) -> None:
        """Connect to the first address of the host that answers.

        :raises ConnectionFailed: none did
        """
        try:
            addresses = self.host.addresses()
        except OSError as error:
            raise ConnectionFailed(f"{self.host}: {error.strerror or error}") from error
        failure: OSError | None = None
        for family, address in addresses:
            dial = functools.partial(_dial, family, address, self._timeout)
            try:
                self._pin = self._get_pin(dial)
                sock = dial()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setblocking(False)
            except OSError as error:
                failure = error
            else:
                if CALLERS_READ:
                    self._poll = select.poll()
                    self._poll.register(sock, select.POLLIN)
                    self._poll.register(self._wake_read, select.POLLIN)
                    self._poll_wake = self._wake_read.fileno()
                self._socket = sock
                return
        raise self._failed(_reason(failure)) from failure

    def serve(
        self, deliver: Callable[[], None], duties: Callable[[float], float]
    ) -> None:
        """Read until the connection ends.

        :param deliver: called without the lock after everything that was read
        :param duties: called with the lock and the monotonic time when it is due:
            does what the owner has to do by then, returns when it is due next
        :raises ConnectionFailed: always, with the reason
        """
        assert self._socket is not None
        opened_by = time.monotonic() + self._timeout
        with selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            with self._lock:
                self.endpoint.open()
            while True:
                now = time.monotonic()
                if now >= self._due:
                    with self._lock:
                        self._due = min(
                            self.endpoint.tick(now) or math.inf, duties(now)
                        )
                        if not self.endpoint.opened:
                            self._check_handshake(now, opened_by)
                            self._due = min(self._due, opened_by)
                        self.flush()
                # a peer that is silent takes no last bytes either: do not wait
                if self._closing or self.endpoint.closed or self.endpoint.finished:
                    raise self._end()
                if self._led and not self._blocked:
                    self._parked.wait(min(self._due - now, PARKING))
                    self._led = self._turn.locked()
                    continue
                self._select(selector, now)
                deliver()

    def _select(self, selector: selectors.BaseSelector, now: float) -> None:
        assert self._socket is not None
        wanted = (selectors.EVENT_READ * (not self._led)) | (
            selectors.EVENT_WRITE * self._blocked
        )
        if selector.get_key(self._socket).events != wanted:
            selector.modify(self._socket, wanted)
        pause = None if self._due == math.inf else self._due - now
        for key, ready in selector.select(pause):
            if key.fileobj is self._wake_read:
                self._drain_wake()
            elif ready & selectors.EVENT_READ:
                # If a caller reads, leave it to that one. Said before it is known:
                # the caller may stop right now, and step_in() must see it.
                self._led = True
                if self._turn.acquire(blocking=False):
                    self._led = False
                    try:
                        self._read()
                    finally:
                        self._turn.release()
            else:
                with self._lock:
                    self.flush()

    # -- in a calling thread ---------------------------------------------

    def read_while(
        self, waits: Callable[[], bool], until: float, deliver: Callable[[], None]
    ) -> bool:
        """Read in the calling thread, instead of being woken by the one that reads.

        That saves a lone caller two hand-overs per call. The bus' own thread
        steps aside and comes back when nobody has read for a while.

        :param waits: whether the caller still waits
        :param until: monotonic time at which the caller wants to look up
        :param deliver: as for serve()
        :returns: False if another thread reads, or is to read from now on
        """
        if self._socket is None or not self._turn.acquire(blocking=False):
            return False
        interrupted = False
        try:
            self._led = True
            while waits() and not (self._closing or interrupted):
                # At least once: what has come since anybody read may end the wait.
                pause = max(0, until - time.monotonic())
                for descriptor, _ in self._poll.poll(math.ceil(pause * 1000)):
                    if descriptor == self._poll_wake:
                        interrupted = True  # serve() is meant: it empties the pipe
                    else:
                        self._read()
                deliver()
                if not pause:
                    break
        finally:
            self._turn.release()
        if interrupted:
            self.step_in()
        return not interrupted

    def step_in(self) -> None:
        """Have the bus' own thread read again: no caller does so for all that wait."""
        if self._led:
            self._led = False
            self._parked.wake()

    def due_by(self, moment: float) -> None:
        """The owner's next duty is due by then; called with the lock held."""
        if moment < self._due:
            self._due = moment
            self.interrupt()

    def _check_handshake(self, now: float, opened_by: float) -> None:
        if now >= opened_by:
            raise ConnectionFailed(
                f"{self.host}: no answer from an AMQP 1.0 peer within"
                f" {self._timeout:g} s"
            )

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._failure = self._failure or _reason(error)
            data = b""
        with self._lock:
            try:
                if data:
                    self.endpoint.receive(data)
                else:
                    self.endpoint.end_of_input()
                if self._pin is None or self._is_pinned(self._pin):
                    self.flush()
            except Exception as error:
                # whoever reads, it is the connection that fails of this
                LOG.exception("%s said something unexpected", self.host)
                self._failure = f"{type(error).__name__}: {error}"
                self._end_soon()
            if self.endpoint.closed:
                self._end_soon()

    def _is_pinned(self, pin: str) -> bool:
        """Whether the peer has shown no other certificate than it should."""
        shown = security.fingerprint(self.endpoint.transport)
        if shown is None:
            return True
        self._pin = None
        if shown == pin:
            return True
        self._failure = "the peer shows one certificate now and another then"
        self._end_soon()
        return False

    def _end_soon(self) -> None:
        if not self._closing:
            self._closing = True
            self.interrupt()

    def _end(self) -> ConnectionFailed:
        reason = self.endpoint.failure or self._failure
        if self.endpoint.authentication_failed:
            user = self.host.username or "(anonymous)"
            detail = f": {reason}" if reason else ""
            return AuthenticationFailed(
                f"{self.host}: the bus refuses user {user}{detail}"
            )
        return self._failed(reason or "closed by the peer")

    def _failed(self, reason: str) -> ConnectionFailed:
        kind = (
            AuthenticationFailed if security.is_distrust(reason) else ConnectionFailed
        )
        return kind(f"{self.host}: {reason}")

    # -- in any thread, with the lock held -------------------------------

    def flush(self) -> None:
        """Hand what the endpoint has to say to the network, without waiting."""
        sock, endpoint = self._socket, self.endpoint
        if sock is None:
            return
        try:
            while view := endpoint.output():
                endpoint.written(sock.send(view))
            self._blocked = False
        except (BlockingIOError, InterruptedError):
            if not self._blocked:
                self._blocked = True
                self.interrupt()
        except OSError as error:
            # serve() finds the end of the input, and reports this reason
            self._failure = self._failure or _reason(error)
            endpoint.discard_output()
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def interrupt(self) -> None:
        """Make the bus' own thread look up, whatever it waits for."""
        self._parked.wake()
        with contextlib.suppress(OSError):
            self._wake_write.send(b"\0")

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(_CHUNK)

    def retire(self) -> None:
        """See to it that no caller reads any more; called without the lock."""
        self._closing = True
        self.interrupt()
        self._turn.acquire()

    def close(self) -> None:
        """Let go of the sockets and of the endpoint, after retire()."""
        self._close_sockets()
        self.endpoint.abandon()

    def close_after_fork(self) -> None:
        """In a child: give back the descriptors, leave the peer and locks alone."""
        if self._selector is not None:
            self._selector.close()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sock in (self._socket, self._wake_read, self._wake_write):
            if sock is not None:
                sock.close()


def _dial(family: socket.AddressFamily, address: Any, timeout: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError | None) -> str:
    if error is None:
        return "the name has no address"
    return error.strerror or str(error) or type(error).__name__
