# SPDX-License-Identifier: Apache-2.0
"""The router's event loop: one thread waits for all sockets with epoll.

What has arrived is read and processed, then each connection that has something
to say is written once, without waiting for its socket to be reported as
writable first.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from hybrid_messaging.log_safety import SELDOM
from hybrid_messaging.protocol.endpoint import Excessive
from hybrid_messaging.router.addresses import AddressTable
from hybrid_messaging.router.config import ConfigError, RouterConfig
from hybrid_messaging.router.connection import CLOSE_TIMEOUT, Connection
from hybrid_messaging.router.newcomers import Newcomers
from hybrid_messaging.router.security import Terms

LOG = logging.getLogger(__name__)

#: Seconds between looks at the connections' timers.
TICK = 1.0
#: Seconds that peers have to move to another router when this one is stopped, if they
#: can.
MOVE_TIME = 30.0
#: Seconds that calls in flight have to be answered after that.
ANSWER_TIME = 2.0
#: Connections that are accepted between two looks at all others.
ACCEPTED_AT_ONCE = 16
#: Peers that have connected and not opened, and the share of all descriptors that they
#: may take.
NEWCOMERS, NEWCOMERS_SHARE = 1000, 2
#: Seconds without accepting after the descriptors ran out.
ACCEPT_PAUSE = 1.0


class Listener:
    """A socket that peers connect to."""

    def __init__(self, sock: socket.socket, terms: Terms) -> None:
        self.socket = sock
        self.terms = terms
        self.address = _where(sock.getsockname())


class Router:
    """A router that accepts connections once it is made.

    :param chores: what its process has to do, called once a second
    :raises ConfigError: it can't listen as it should
    """

    def __init__(
        self, config: RouterConfig, chores: Iterable[Callable[[], None]] = ()
    ) -> None:
        self.config = config
        self._chores = tuple(chores)
        self.started_at = time.monotonic()
        self.table = AddressTable(config.addresses, config.default_distribution)
        #: connections to flush before the next wait
        self.dirty: list[Connection] = []
        self.connections: dict[int, Connection] = {}
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._newcomers: Newcomers[Connection] = Newcomers(
            min(NEWCOMERS, files // NEWCOMERS_SHARE)
        )
        self.accepted = 0
        #: it has been stopped and takes no new links
        self.closing = False
        #: why, once it has been stopped
        self._stopping = ""
        #: it has been stopped twice
        self._hurried = False
        self._poll = select.epoll()
        self._wakeup, self._signalled = socket.socketpair()
        for end in (self._wakeup, self._signalled):
            end.setblocking(False)
        self._poll.register(self._wakeup, select.EPOLLIN)
        self._listeners: dict[int, Listener] = {}
        self._resume_accepting: float | None = None
        self._next_tick = 0.0
        self._later: list[Callable[[], None]] = []
        try:
            for item in config.listeners:
                for sock in _listen(item.host, item.port):
                    listener = Listener(sock, Terms(config, item))
                    self._listeners[sock.fileno()] = listener
                    self._poll.register(sock, select.EPOLLIN)
        except ConfigError:
            self.close()
            raise

    @property
    def listeners(self) -> list[Listener]:
        """The sockets that it listens on."""
        return list(self._listeners.values())

    def run(self) -> None:
        """Route until stop() is called, then end all connections."""
        for listener in self.listeners:
            LOG.info("listening on %s", listener.address)
        self._next_tick = time.monotonic() + TICK
        while not self._stopping:
            self._turn(self._next_tick)
        LOG.info("%s: stopping", self._stopping)
        self._stop_listening()
        self._let_move()
        self._let_answer()
        self._end()

    def stop(self, reason: str = "stopped") -> None:
        """Have run() return soon; may be called from a signal handler or a thread.

        Called again, it has run() wait for nothing more.

        :param reason: for the log
        """
        self._hurried = bool(self._stopping)
        self._stopping = reason
        with contextlib.suppress(OSError):  # it is over already
            self._signalled.send(b"\0")

    def close(self) -> None:
        """Close all sockets at once."""
        for connection in list(self.connections.values()):
            connection.drop()
        for listener in self._listeners.values():
            listener.socket.close()
        self._poll.close()
        self._wakeup.close()
        self._signalled.close()

    # -- for connections -----------------------------------------------

    def watch_output(self, connection: Connection, wanted: bool) -> None:
        """Call the connection's flush() when its socket can be written again."""
        mask = select.EPOLLIN | (select.EPOLLOUT if wanted else 0)
        self._poll.modify(connection.fileno(), mask)

    def forget(self, connection: Connection) -> None:
        """The connection is about to close its socket."""
        self._newcomers.discard(connection)
        self._poll.unregister(connection.fileno())
        del self.connections[connection.fileno()]

    def has_opened(self, connection: Connection) -> None:
        """The connection's peer has opened it."""
        self._newcomers.discard(connection)

    def later(self, action: Callable[[], None]) -> None:
        """Have something done in the next turn, when other peers have been served."""
        self._later.append(action)

    # -- the loop ------------------------------------------------------

    def _turn(self, until: float) -> None:
        """Do what there is to do, and wait for it until a monotonic time."""
        later, self._later = self._later, []
        until = 0.0 if later else min(until, self._next_tick)
        self._step(max(0.0, until - time.monotonic()))
        if later:
            for action in later:
                action()
            self._flush()
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK
            # what has come meanwhile, as while this process was suspended, is read
            # before anybody is taken for silent
            self._step(0)
            self._tick(now)

    def _step(self, timeout: float) -> None:
        for descriptor, mask in self._poll.poll(timeout):
            connection = self.connections.get(descriptor)
            if connection is not None:
                if mask & ~select.EPOLLOUT:
                    self._guard(connection, Connection.read)
                if mask & select.EPOLLOUT:
                    connection.wake()
            elif descriptor in self._listeners:
                self._accept(self._listeners[descriptor])
            elif descriptor == self._wakeup.fileno():
                self._wakeup.recv(64)
        self._flush()

    def _flush(self) -> None:
        while self.dirty:
            connections, self.dirty = self.dirty, []
            for connection in connections:
                if connection.alive:
                    self._guard(connection, Connection.flush)

    def _tick(self, now: float) -> None:
        for connection in list(self.connections.values()):
            self._guard(connection, lambda item: item.look_after(now))
        if self._resume_accepting is not None and now >= self._resume_accepting:
            self._resume_accepting = None
            for descriptor in self._listeners:
                self._poll.register(descriptor, select.EPOLLIN)
        self._flush()
        for chore in self._chores:
            chore()

    def _guard(
        self, connection: Connection, action: Callable[[Connection], None]
    ) -> None:
        # a defect that one peer finds must not end everybody's connections
        try:
            action(connection)
        except UnicodeDecodeError:
            connection.fail("a name is not valid UTF-8")
        except Excessive as error:
            connection.fail(str(error))
        except Exception:
            LOG.exception("%s: internal error", connection)
            connection.drop()

    def _accept(self, listener: Listener) -> None:
        # not all that wait: who connects without end would hold up everybody
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, peer = listener.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_accepting(error)
                return
            self.accepted += 1
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._poll.register(sock, select.EPOLLIN)
            except OSError as error:  # the peer has gone, or the kernel is short
                LOG.info(
                    "a connection from %s: %s", peer[0], error.strerror, extra=SELDOM
                )
                sock.close()
                continue
            connection = self.connections[sock.fileno()] = Connection(
                self,
                self.config.id,
                sock,
                self.accepted,
                _where(peer),
                listener.terms,
            )
            surplus = self._newcomers.add(connection, peer[0])
            if surplus is not None:
                LOG.info(
                    "%s: closed, because too many connections do not open",
                    surplus,
                    extra=SELDOM,
                )
                surplus.drop()

    def _pause_accepting(self, error: OSError) -> None:
        # the peers that wait would be reported again and again
        LOG.error(
            "cannot accept connections: %s; next attempt in %g s%s",
            error.strerror,
            ACCEPT_PAUSE,
            "; raise the limit of open files" if error.errno == errno.EMFILE else "",
        )
        self._resume_accepting = time.monotonic() + ACCEPT_PAUSE
        for descriptor in self._listeners:
            self._poll.unregister(descriptor)

    def _stop_listening(self) -> None:
        self._resume_accepting = None
        for listener in self._listeners.values():
            listener.socket.close()
        self._listeners.clear()

    def _let_move(self) -> None:
        """Serve peers as ever until those that can have moved to another router."""
        for connection in list(self.connections.values()):
            self._guard(connection, Connection.announce_end)
        self._serve_while(lambda connection: connection.leaving, MOVE_TIME)

    def _let_answer(self) -> None:
        """Take nothing new, and give what is under way a moment to end."""
        self.closing = True
        self.table.close()
        self._serve_while(lambda connection: connection.busy, ANSWER_TIME)

    def _serve_while(
        self, needed: Callable[[Connection], bool], longest: float
    ) -> None:
        """Go on while a connection is needed.

        :param longest: seconds
        """
        self._flush()
        deadline = time.monotonic() + longest
        while (
            not self._hurried
            and time.monotonic() < deadline
            and any(map(needed, self.connections.values()))
        ):
            self._turn(deadline)

    def _end(self) -> None:
        # Senders are to see that the router goes, not that receivers do: first of
        # all, nobody is told any more what became of messages.
        for connection in self.connections.values():
            connection.disown()
        for connection in list(self.connections.values()):
            connection.close()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        self._flush()
        while self.connections and time.monotonic() < deadline:
            self._step(deadline - time.monotonic())
        self.close()


def _where(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host: str, port: int) -> list[socket.socket]:
    """Listen on all addresses of a host, or on those that this machine has."""
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, *_, address in found:
            try:
                sockets.append(_bound(family, address))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing is not None and not sockets:
            raise missing
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}"
        ) from error
    return sockets


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(socket.SOMAXCONN)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
