# SPDX-License-Identifier: Apache-2.0
"""One connection to one host, from its handshakes to its end.

A connection never comes back: what outlives it is the bus' business. `connect`, `open`
and `serve` run in the bus' own thread, `read_while` in that of a caller. The comments
say which of the other methods are called with the bus' lock held.
"""

from __future__ import annotations

import contextlib
import math
import select
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

import proton

from hybrid_messaging.drivers import forks, logs, reentry
from hybrid_messaging.drivers.amqp import failures, security
from hybrid_messaging.drivers.amqp.direct import CHUNK, Direct
from hybrid_messaging.drivers.amqp.failures import ConnectionFailed
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.security import Security
from hybrid_messaging.drivers.amqp.steps import Steps
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.turns import CALLERS_READ, Turns
from hybrid_messaging.log_safety import quoted
from hybrid_messaging.protocol.endpoint import Endpoint, Excessive, Handler

LOG = logs.get(__name__)

#: After so many seconds without a word, several messages at once may mean that this
#: process was stopped. More is read before any of them begins, for some of them have
#: been withdrawn: until the peer is quiet for a while, and not for long.
PAUSED, QUIET, HEARING = 1.0, 0.05, 1.0
#: Seconds that a wait for the socket takes at the most: poll() cannot count for ever.
LONGEST_WAIT = 3600.0
#: A thread that gets up so many seconds late was stopped, with its process.
STOPPED = 2.0


class Connection:
    """A socket with an AMQP endpoint on it.

    :param handler: is told what the peer does, with the lock held
    :param lock: held around every use of the endpoint
    :param turns: who reads
    :param options: the [oslo_messaging_amqp] group
    :param terms: how both ends show who they are
    """

    def __init__(
        self,
        handler: Handler,
        lock: CombiningLock,
        turns: Turns,
        options: Any,
        host: Host,
        terms: Security,
        container: str,
        properties: dict[str, Any],
    ) -> None:
        self.host = host
        self._lock = lock
        self._turns = turns
        self._timeout: float = options.connect_timeout
        self._socket: socket.socket | None = None
        self._blocked = False
        self._due = 0.0
        self._closing = False
        self._failure: str | None = None
        # how many seconds this process was stopped, and when it went on
        self._stopped, self._went_on = 0.0, -math.inf
        # when something was last read
        self._heard = math.inf
        # when all that had arrived was last read, and whether something is being read
        self._emptied, self._reading = -math.inf, False
        # when duties were due that wait for that, and since when they do
        self._held_up: tuple[float, float] | None = None
        # wakes serve()
        self._wake_read, self._wake_write = socket.socketpair()
        forks.close_in_child(self._wake_read)
        forks.close_in_child(self._wake_write)
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)

        def setup(transport: proton.Transport, connection: proton.Connection) -> None:
            terms.setup(host, transport, connection)
            if options.trace:
                transport.trace(proton.Transport.TRACE_FRM)
            connection.properties = properties

        self._terms = terms
        #: the peer has proven who it is, where it has to
        self._accepted = False

        try:
            self.endpoint = Endpoint(
                handler, container, idle_timeout=options.idle_timeout, setup=setup
            )
        except BaseException:
            self._close_sockets()
            raise

    # -- in the bus' own thread ------------------------------------------

    def connect(self, sock: socket.socket) -> None:
        """Take a socket that is connected to the host."""
        sock.setblocking(False)
        if CALLERS_READ:
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)
        self._direct = Direct(sock)
        self._socket = sock

    def open(self, sock: socket.socket) -> Steps[None]:
        """Open the connection, on a socket that is connected to the host.

        :raises ConnectionFailed: the host does not open it, too
        """
        self.connect(sock)
        with self._lock:
            self.endpoint.open()
        while True:
            with self._lock:
                # what is wrong on our side, as with SASL mechanisms, shows only here
                self.endpoint.tick(time.monotonic())
                self.flush()
            if self._closing or self.endpoint.closed:
                raise self._end()
            if self.endpoint.opened:
                return
            try:
                yield sock, selectors.EVENT_READ | selectors.EVENT_WRITE * self._blocked
            except TimeoutError:
                raise failures.of_silence(self.host, self._timeout) from None
            self._read()

    def serve(
        self,
        deliver: Callable[[], None],
        backlog: Callable[[], int],
        duties: Callable[[float], float],
    ) -> None:
        """Read until the connection ends, after it was opened.

        :param deliver: called without the lock after everything that was read
        :param backlog: returns how many requests there are that it would begin
        :param duties: called with the lock and the monotonic time when it is due:
            does what the owner has to do by then, returns when it is due next
        :raises ConnectionFailed: always, with the reason
        """
        assert self._socket is not None
        with selectors.DefaultSelector() as selector:
            forks.close_in_child(selector)
            selector.register(self._socket, selectors.EVENT_READ)
            self._watched = selectors.EVENT_READ
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                now = time.monotonic()
                if now >= self._due:
                    with self._lock:
                        self._do_duties(now, duties)
                # a peer that is silent takes no last bytes either: do not wait
                if self._closing or self.endpoint.closed or self.endpoint.finished:
                    raise self._end()
                pause = min(max(0.0, self._due - now), LONGEST_WAIT)
                if self._blocked:
                    self._select(selector, pause, self._turns.stays(), backlog)
                elif self._turns.watches(pause):
                    self._select(selector, pause, True, backlog)
                deliver()

    def _do_duties(self, now: float, duties: Callable[[float], float]) -> None:
        late = now - self._due
        # what has come meanwhile is read before the peer is taken for silent
        if self._due and late > STOPPED and now - self._went_on > STOPPED:
            self._stopped, self._went_on = late, now
            self._due = now + STOPPED / 4
            return
        moment, noticed = self._held_up or (self._due, now)
        if moment and self.unread(moment) and now - noticed < HEARING:
            self._held_up = moment, noticed
            self._due = now + QUIET
            return
        self._held_up = None
        self._due = min(self.endpoint.tick(now) or math.inf, duties(now))
        self.flush()

    def _select(
        self,
        selector: selectors.BaseSelector,
        pause: float,
        reads: bool,
        backlog: Callable[[], int],
    ) -> None:
        assert self._socket is not None
        wanted = (selectors.EVENT_READ * reads) | (
            selectors.EVENT_WRITE * self._blocked
        )
        if wanted != self._watched:
            selector.modify(self._socket, wanted)
            self._watched = wanted
        events = selector.select(pause)
        now = time.monotonic()
        for key, ready in events:
            if key.fileobj is self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(CHUNK)
                continue
            if ready & selectors.EVENT_WRITE:
                with self._lock:
                    self.flush()
            if ready & selectors.EVENT_READ and self._turns.take():
                try:
                    self._read()
                    if now - self._heard > PAUSED and backlog() > 1:
                        self._hear_out(selector, now + HEARING)
                    self._heard = time.monotonic()
                finally:
                    self._turns.done()

    def _hear_out(self, selector: selectors.BaseSelector, until: float) -> None:
        """Read until the peer is quiet, or until a moment."""
        while time.monotonic() < until and selector.select(QUIET) and self._read():
            pass

    # -- in a calling thread ---------------------------------------------

    def read_while(
        self, waits: Callable[[], bool], until: float, deliver: Callable[[], None]
    ) -> bool:
        """Read in the calling thread, instead of being woken by the one that reads.

        That saves a lone caller two hand-overs per call.

        :param waits: whether the caller still waits
        :param until: monotonic time at which the caller wants to look up
        :param deliver: as for serve()
        :returns: False if the thread has to wait for what others read
        """
        if self._socket is None or not self._turns.lead():
            return False
        try:
            while waits() and not self._closing:
                # At least once: what has come since anybody read may end the wait.
                pause = min(max(0.0, until - time.monotonic()), LONGEST_WAIT)
                milliseconds = math.ceil(pause * 1000)
                ready = reentry.reading(self._poll.poll, milliseconds)
                if ready and not self._closing:
                    self._read()
                deliver()
                if not pause:
                    break
        finally:
            self._turns.leave()
        return not self._closing

    # -- in the thread that reads ----------------------------------------

    def _read(self) -> bool:
        """Read a chunk; return whether there was one."""
        began = time.monotonic()
        self._reading = True
        try:
            size = self._read_chunk()
        finally:
            self._reading = False
        if size < CHUNK:
            self._emptied = began
        return size > 0

    def _read_chunk(self) -> int:
        """Returns its size, in bytes."""
        try:
            data = self._direct.receive()
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._failure = self._failure or failures.CLOSED
            LOG.debug("%s: %s", self.host, error)
            data = b""
        with self._lock:
            try:
                if data:
                    self.endpoint.receive(data)
                elif not self.endpoint.closed:
                    self._failure = self._failure or failures.CLOSED
                    self.endpoint.end_of_input()
                if self._accepted or self._accepts():
                    self.flush()
            except Excessive as error:
                self._failure = failures.excess(error)
                self._end_soon()
            except Exception as error:
                # the connection fails of this, and not the thread that has read
                LOG.exception("%s sent something unexpected", self.host)
                self._failure = f"sent something unexpected ({quoted(error)})"
                self._end_soon()
            if self.endpoint.closed:
                self._end_soon()
        return len(data)

    def _accepts(self) -> bool:
        """Whether the peer is who it should be, or has not shown yet who it is."""
        accepted = self._terms.accepts(self.host, self.endpoint.transport)
        self._accepted = accepted is True
        if accepted is False:
            self._failure = failures.UNVERIFIED
            self._shut()  # no other thread may send it anything either
            self._end_soon()
        return accepted is not False

    def _end_soon(self) -> None:
        if not self._closing:
            self._closing = True
            self._turns.call()

    def _end(self) -> ConnectionFailed:
        reason = self.endpoint.failure
        if self.endpoint.authentication_failed:
            return failures.of_authentication(
                self.host, reason, security.offers_nothing(self.endpoint.transport)
            )
        if (
            failures.is_silence(reason)
            and time.monotonic() - self._went_on < 2 * STOPPED
        ):
            return failures.of_pause(self._stopped)
        return failures.of_ending(self.host, self._failure, reason)

    # -- in any thread, with the lock held -------------------------------

    def due_by(self, moment: float) -> None:
        """The owner's next duty is due by then."""
        if moment < self._due:
            self._due = moment
            self._turns.call()

    def flush(self) -> None:
        """Hand what the endpoint has to say to the network, without waiting."""
        endpoint = self.endpoint
        if self._socket is None:
            return
        try:
            while data := endpoint.output():
                endpoint.written(self._direct.send(data))
            self._blocked = False
        except (BlockingIOError, InterruptedError):
            if not self._blocked:
                self._blocked = True
                self._turns.call()
        except OSError as error:
            # serve() finds the end of the input, and reports this reason
            self._failure = self._failure or failures.CLOSED
            LOG.debug("%s: %s", self.host, error)
            endpoint.discard_output()
            self._shut()

    # -- in any thread, with the lock held or not ------------------------

    def unread(self, moment: float) -> bool:
        """Whether something may have arrived by a moment that has not been read.

        :param moment: monotonic time
        """
        if self._socket is None or self._closing or self._emptied >= moment:
            return False
        # in this order: what is not there any more may be just being read
        return self._direct.has_arrived() or self._reading

    def wake(self) -> None:
        """Make serve() return from waiting on the socket."""
        with contextlib.suppress(OSError):
            self._wake_write.send(b"\0")

    def wake_reader(self) -> None:
        """Make a caller return from waiting on the socket, as all is over."""
        self._shut()

    def retire(self) -> None:
        """See to it that no caller reads any more; called without the lock."""
        self._closing = True
        self._turns.finish()

    def close(self) -> None:
        """Let go of the sockets and of the endpoint, after retire()."""
        self._close_sockets()
        self.endpoint.abandon()

    def _shut(self) -> None:
        """Send and receive nothing more."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _close_sockets(self) -> None:
        for sock in (self._socket, self._wake_read, self._wake_write):
            if sock is not None:
                sock.close()
