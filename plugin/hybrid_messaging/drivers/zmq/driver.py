# SPDX-License-Identifier: Apache-2.0
"""The `zmq` driver as oslo.messaging calls it.

URL form:  zmq://[[user]:password@]redis-host[:port][/vhost][?option=value&…]
           zmq+redis://…
           zmq+sentinel://[[user]:password@]host[:port][,host2[:port2]…][/vhost][?…]
           zmq+static:///[vhost]?zmq_static_file=path

The URL names the matchmaker, by which clients find servers; messages go straight
from one to the other, encrypted beyond the loopback interface. Every option of
[oslo_messaging_zmq] may stand in the query.
"""

from __future__ import annotations

import functools
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import zmq
from oslo_messaging.exceptions import ConfigurationError, InvalidTarget
from oslo_messaging.target import Target

from hybrid_messaging.drivers import bodies, errors, forks, oslo, reentry, timeouts
from hybrid_messaging.drivers.driver import Driver, Request
from hybrid_messaging.drivers.listeners import HandOver, RpcListener
from hybrid_messaging.drivers.presence import Presence
from hybrid_messaging.drivers.zmq import matchmaker, wire
from hybrid_messaging.drivers.zmq import options as zmq_options
from hybrid_messaging.drivers.zmq.client import Client
from hybrid_messaging.drivers.zmq.directory import Directory
from hybrid_messaging.drivers.zmq.encryption import Encryption
from hybrid_messaging.drivers.zmq.incoming import Inbox
from hybrid_messaging.drivers.zmq.key_directory import KeyDirectory
from hybrid_messaging.drivers.zmq.keys import DerivedKeys
from hybrid_messaging.drivers.zmq.message import Fanout, Message
from hybrid_messaging.drivers.zmq.proxies import ProxiedDirectory, everybody
from hybrid_messaging.drivers.zmq.proxy import Proxy, Report, reports
from hybrid_messaging.drivers.zmq.server import Server

_NO_NOTIFICATIONS = (
    "zmq:// does not carry notifications, because it stores nothing: set"
    " [oslo_messaging_notifications] transport_url to a broker (rabbit:// or kafka://)"
)
_NO_STATIC_PROXY = (
    "proxies are found through Redis, and zmq+static:// uses a file instead"
)


class ZmqDriver(Driver):
    """oslo.messaging over ZeroMQ."""

    def _set_up(self) -> None:
        self._options = oslo.read_options(
            self.conf, self._url, zmq_options.GROUP, zmq_options.OPTIONS
        )
        oslo.register_options(
            self.conf, zmq_options.REDIS_GROUP, zmq_options.REDIS_OPTIONS
        )
        # what is wrong with the configuration shows now
        found = self._open_matchmaker()
        self._encryption = self._choose_encryption(found)
        self._is_static = isinstance(found, matchmaker.StaticMatchmaker)
        self._proxied = self._options.use_router_proxy
        if self._proxied and self._is_static:
            raise ConfigurationError(f"use_router_proxy: {_NO_STATIC_PROXY}")
        self._lock = threading.Lock()
        self._directory: Directory | None = None
        self._client: Client | None = None
        self._server: Server | None = None

    def _open_matchmaker(self) -> matchmaker.Matchmaker:
        return matchmaker.make(self._url, self._options, self.conf.matchmaker_redis)

    def _choose_encryption(self, found: matchmaker.Matchmaker) -> Encryption:
        options = self._options
        if options.zmq_key_directory:
            return Encryption(
                KeyDirectory(Path(options.zmq_key_directory)), everywhere=True
            )
        password, plaintext = found.password, options.plaintext_beyond_loopback
        if not password:
            return Encryption(None, plaintext=plaintext)
        encryption = Encryption(
            DerivedKeys(password),
            everywhere=found.tls and not plaintext,
            plaintext=plaintext,
        )
        encryption.prepare(options.rpc_zmq_bind_address)
        return encryption

    # Made when first needed: a child of a fork gets its own.

    def _get_directory(self) -> Directory:
        if self._directory is None:
            self._directory = self._make_directory()
        return self._directory

    def _make_directory(self) -> Directory:
        return Directory(self._open_matchmaker, self._options, self._encryption.heed)

    @reentry.works
    def _make_client(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = self._open_client()
            return self._client

    def _open_client(self) -> Client:
        directory = self._get_directory()
        try:
            return Client(
                self._options,
                self._encryption,
                ProxiedDirectory(directory) if self._proxied else directory,
            )
        except (OSError, zmq.ZMQError) as error:
            raise errors.BusUnavailable(
                f"{self._url.transport}: cannot open a socket for sending: {error}"
            ) from error

    def _get_server(self) -> Server:
        with self._lock:
            if self._server is None:
                self._server = Server(
                    self._options, self._encryption, self._get_directory()
                )
            return self._server

    def _topic(self, target: Target) -> str:
        """The name of a target's topic in the directory; raises like `_checked`."""
        exchange = target.exchange or self._default_exchange or "openstack"
        return _checked(
            self._url.virtual_host, exchange, target.topic, target.server or ""
        )

    def require_features(self, requeue: bool = False) -> None:
        """Requeueing is for notifications."""
        if requeue:
            raise NotImplementedError(_NO_NOTIFICATIONS)

    def _send(self, request: Request) -> Any:
        target = request.target
        seconds = timeouts.of_message(
            request.timeout, self._options.default_send_timeout
        )
        monitor = timeouts.of_monitor(request.call_monitor_timeout)
        try:
            topic = self._topic(target)
        except ValueError as error:
            raise errors.MessageRefused(f"RPC to {target!r:.200}: {error}") from error
        client = self._client or self._make_client()
        body = bodies.request(request.message, request.context, monitor).encode()
        rest = target, body, seconds, request.began, request.retry
        if target.fanout and not self._proxied:
            client.fan_out(Fanout(wire.FANOUT, "RPC fanout", *rest), topic)
        elif target.fanout:
            message = Message(wire.FANOUT, "RPC fanout", *rest)
            client.send(message, everybody(topic), None)
        elif not request.wait_for_reply:
            client.send(Message(wire.CAST, "RPC cast", *rest), topic, target.server)
        else:
            message = Message(wire.CALL, "RPC call", *rest, monitor)
            reply = client.send(message, topic, target.server)
            return bodies.read_reply(reply, self._allowed_remote_exmods)
        return None

    def presence(self, target: Target) -> Presence:
        """Return whether somebody listens on a target, without waiting.

        The first question for a target asks the matchmaker, and begins to connect: ask
        again a moment later.
        """
        forks.notice()
        try:
            topic = self._topic(target)
        except ValueError:
            return Presence.ABSENT
        routes = (self._client or self._make_client()).routes
        return routes.presence(routes.get(topic, target.server), time.monotonic())

    def _send_notification(self, *_: Any) -> None:
        raise NotImplementedError(_NO_NOTIFICATIONS)

    def _listen_for_notifications(self, *_: Any) -> oslo.Listener:
        raise NotImplementedError(_NO_NOTIFICATIONS)

    def _listen(
        self, target: Target, batch_size: int, batch_timeout: float | None
    ) -> oslo.Listener:
        try:
            topic, name = self._topic(target), target.server or ""
        except ValueError as error:
            raise InvalidTarget(
                f"No server can listen there: {error}", target
            ) from error
        server = self._get_server()

        def open_inbox(hand_over: HandOver) -> Inbox:
            return Inbox(server, topic, name, hand_over)

        return RpcListener(open_inbox)

    @reentry.changes
    def proxy(self) -> Proxy:
        """A proxy for the servers that the matchmaker of this transport knows.

        :raises ConfigurationError: nobody would find it
        """
        forks.notice()
        if self._is_static:
            raise ConfigurationError(f"{self._url.transport}: {_NO_STATIC_PROXY}")
        return Proxy(self._options, self._encryption, self._make_directory())

    @reentry.changes
    def proxies(self) -> list[Report]:
        """The status reports of the proxies that the matchmaker knows.

        :raises BusUnavailable: the matchmaker is away
        """
        forks.notice()
        directory = self._get_directory()
        client = Client(self._options, self._encryption, directory)
        try:
            return reports(client, directory)
        finally:
            client.close()

    def _close(self) -> None:
        with self._lock:
            ending = [self._client, self._server, self._directory]
            self._client = self._server = self._directory = None
        for each in ending:
            if each is not None:
                each.close()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        for each in (self._client, self._server, self._directory):
            if each is not None:
                each.after_fork()
        self._client = self._server = self._directory = None


@functools.lru_cache(maxsize=1024)
def _checked(vhost: str | None, exchange: str, topic: str, server: str) -> str:
    """The name of a topic in the directory.

    :raises ValueError: the target's names are too long, or are no text
    """
    name = matchmaker.topic(vhost, exchange, topic)
    names = len(name) + len(quote(server, safe=""))
    if names > wire.LONGEST_NAMES:
        raise ValueError(
            f"its names have {names} bytes, and the limit is {wire.LONGEST_NAMES}"
        )
    return name
