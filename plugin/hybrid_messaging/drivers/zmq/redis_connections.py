# SPDX-License-Identifier: Apache-2.0
"""Connections to Redis, to Sentinels, and to the master that Sentinels name.

A master that has vanished answers nothing, and its host accepts no connection. Whoever
waits for that asks Sentinels meanwhile, and goes to another master as soon as one of
them names it. A Sentinel may have vanished with the same host.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)

from hybrid_messaging.drivers import forks

#: Seconds without an answer of the master after which Sentinels are asked for another
#: one, and of a Sentinel after which the next one is asked.
IMPATIENCE = 0.5
#: Seconds that the host of a master may take to accept a connection.
ACCEPTING = 1.0
#: The server may have closed a connection that was kept.
ONCE_MORE = Retry(NoBackoff(), 1)

Address = tuple[str, int]
Options = dict[str, Any]


class Connection(redis.Connection):
    """A connection whose socket a child of a fork closes, from its beginning on.

    :param context: makes what TLS is to be like; None: without TLS
    """

    def __init__(
        self, *, context: Callable[[], ssl.SSLContext] | None = None, **options: Any
    ) -> None:
        self._context = context
        super().__init__(**options)

    def _connect(self) -> socket.socket:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        failure = OSError(f"{self.host} has no address")
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                forks.close_in_child(sock)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.settimeout(self.socket_connect_timeout)
                sock.connect(address)
                sock = self._secured(sock)
                sock.settimeout(self.socket_timeout)
                return sock
            except OSError as error:
                failure = error
                sock.close()
            except BaseException:
                sock.close()
                raise
        raise failure

    def _secured(self, sock: socket.socket) -> socket.socket:
        if self._context is None:
            return sock
        secured = self._context().wrap_socket(
            sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        try:
            self._shake_hands(forks.close_in_child(secured))
        except BaseException:
            secured.close()
            raise
        return secured

    def _shake_hands(self, secured: ssl.SSLSocket) -> None:
        secured.do_handshake()


class ManagedConnection(SentinelManagedConnection, Connection):
    """One to the master that Sentinels name, for as long as they name no other."""

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        self._await(self.can_read)
        return super().read_response(*arguments, **options)

    def _shake_hands(self, secured: ssl.SSLSocket) -> None:
        def done(patience: float) -> bool:
            secured.settimeout(patience)
            try:
                secured.do_handshake()
            except TimeoutError:  # goes on where it was
                return False
            return True

        self._await(done)

    def _await(self, done: Callable[[float], bool]) -> None:
        """Wait until something is done, and ask Sentinels in between.

        :param done: waits for some seconds, and returns whether it is done
        :raises redis.ConnectionError: there is another master
        :raises redis.TimeoutError: it takes too long
        """
        assert self.socket_timeout is not None
        until = time.monotonic() + self.socket_timeout
        while (left := until - time.monotonic()) > 0:
            if done(min(IMPATIENCE, left)):
                return
            with contextlib.suppress(MasterNotFoundError):
                master = self.connection_pool.get_master_address()
                if master != (self.host, self.port):
                    raise redis.ConnectionError("another Redis is the master now")
        raise redis.TimeoutError(f"{self.host}:{self.port} does not answer")


class Sentinels(Sentinel):
    """Asks Sentinels who the master is; the one that has known it last is first.

    One that has vanished must not keep us from the others. Where none has answered in a
    moment, all may be slow: they get more time.

    :param hurried: clients of all Sentinels that wait for a moment
    :param patient: those that wait for longer
    """

    def __init__(
        self, hurried: Sequence[redis.Redis], patient: Sequence[redis.Redis]
    ) -> None:
        # what the base makes for itself takes connections of no other class
        super().__init__([])
        self.sentinels = list(patient)
        self._hurried = list(hurried)

    def discover_master(self, service_name: str) -> Address:
        """Return the address of the master.

        :raises MasterNotFoundError: no Sentinel knows one that is there
        """
        silent: list[str] = []
        for clients in (self._hurried, self.sentinels):
            silent = []
            for client in tuple(clients):
                try:
                    masters: Any = client.sentinel_masters()
                except (redis.ConnectionError, redis.TimeoutError) as error:
                    silent.append(str(error))
                    continue
                state = masters.get(service_name)
                if state and self.check_master_state(state, service_name):
                    clients.remove(client)
                    clients.insert(0, client)
                    return state["ip"], state["port"]
            if len(silent) < len(clients):
                break
        reasons = f" ({'; '.join(silent)})" if silent else ""
        raise MasterNotFoundError(
            f"no Sentinel knows a master called {service_name!r} that is up{reasons}"
        )


class _Counts:
    """Counts how many times a pool's connections have connected."""

    connects = 0

    def make_connection(self) -> Any:
        connection = super().make_connection()  # type: ignore[misc]
        connection.register_connect_callback(self._connected)
        return connection

    def _connected(self, connection: object) -> None:
        self.connects += 1


class Pool(_Counts, redis.ConnectionPool):
    """Connections to one server."""


class SentinelPool(_Counts, SentinelConnectionPool):
    """Connections to the master that Sentinels name."""


def server(address: Address, options: Options) -> redis.Redis:
    """A client of one server.

    :param options: those of its connections
    """
    host, port = address
    pool = Pool(connection_class=Connection, host=host, port=port, **options)
    return redis.Redis(connection_pool=pool)


def master(
    group: str,
    sentinels: Sequence[Address],
    options: Options,
    login: Options,
    sentinel_login: Options,
) -> redis.Redis:
    """A client of the master that Sentinels name.

    :param group: what they call it
    :param options: those of all connections
    :param login: those of connections to the master
    :param sentinel_login: those of connections to Sentinels
    """
    patience = options["socket_timeout"]
    moment = min(IMPATIENCE, patience)
    hurry = {
        "socket_timeout": moment,
        "socket_connect_timeout": moment,
        "retry": Retry(NoBackoff(), 0),
    }
    hurried, patient = (
        [server(each, options | sentinel_login | how) for each in sentinels]
        for how in (hurry, {})
    )
    client: redis.Redis = Sentinels(hurried, patient).master_for(
        group,
        connection_pool_class=SentinelPool,
        connection_class=ManagedConnection,
        **options | login | {"socket_connect_timeout": min(ACCEPTING, patience)},
    )
    return client
