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

import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import zmq
from oslo_messaging.exceptions import ConfigurationError, InvalidTarget
from oslo_messaging.target import Target

from hybrid_messaging.drivers import bodies, errors, forks, oslo, reentry, timeouts
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


class ZmqDriver(oslo.BaseDriver):
    """oslo.messaging over ZeroMQ.

    Source of the contract: oslo.messaging, `_drivers/base.py`.
    """

    def __init__(
        self,
        conf: Any,
        url: Any,
        default_exchange: str | None = None,
        allowed_remote_exmods: list[str] | None = None,
    ) -> None:
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        self._options = oslo.read_options(
            conf, url, zmq_options.GROUP, zmq_options.OPTIONS
        )
        oslo.register_options(conf, zmq_options.REDIS_GROUP, zmq_options.REDIS_OPTIONS)
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
        forks.register(self)

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

    def _get_client(self) -> Client:
        return self._client or self._make_client()

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
        """The name of a target's topic in the directory.

        :raises ValueError: the target's names are too long, or are no text
        """
        exchange = target.exchange or self._default_exchange or "openstack"
        topic = matchmaker.topic(self._url.virtual_host, exchange, target.topic)
        names = len(topic) + len(quote(target.server or "", safe=""))
        if names > wire.LONGEST_NAMES:
            raise ValueError(
                f"its names have {names} bytes, and the limit is {wire.LONGEST_NAMES}"
            )
        return topic

    def require_features(self, requeue: bool = False) -> None:
        """Requeueing is for notifications."""
        if requeue:
            raise NotImplementedError(_NO_NOTIFICATIONS)

    def send(
        self,
        target: Target,
        ctxt: dict[str, Any],
        message: dict[str, Any],
        wait_for_reply: bool | None = None,
        timeout: float | None = None,
        call_monitor_timeout: float | None = None,
        retry: int | None = None,
        transport_options: Any = None,
    ) -> Any:
        reentry.refuse_to_send()
        forks.notice()
        timeout = timeouts.of_message(timeout, self._options.default_send_timeout)
        monitor = timeouts.of_monitor(call_monitor_timeout)
        try:
            topic = self._topic(target)
        except ValueError as error:
            raise errors.MessageRefused(f"RPC to {target!r:.200}: {error}") from error
        client = self._get_client()
        body = bodies.request(message, ctxt, monitor).encode()
        if target.fanout:
            name = "RPC fanout"
            if self._proxied:
                spreading = Message(
                    wire.FANOUT, name, target, body, timeout, retry=retry
                )
                client.send(spreading, everybody(topic), None)
            else:
                fanning = Fanout(wire.FANOUT, name, target, body, timeout, retry=retry)
                client.fan_out(fanning, topic)
            return None
        if not wait_for_reply:
            casting = Message(wire.CAST, "RPC cast", target, body, timeout, retry=retry)
            client.send(casting, topic, target.server)
            return None
        calling = Message(
            wire.CALL,
            "RPC call",
            target,
            body,
            timeout,
            retry=retry,
            monitor_interval=monitor,
        )
        reply = client.send(calling, topic, target.server)
        try:
            return bodies.read_reply(reply, self._allowed_remote_exmods)
        except bodies.MalformedBody as error:
            raise errors.ReplyMalformed(
                f"{calling}: the answer is not a valid reply: {error}"
            ) from error

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
        routes = self._get_client().routes
        return routes.presence(routes.get(topic, target.server), time.monotonic())

    def send_notification(
        self,
        target: Target,
        ctxt: dict[str, Any],
        message: dict[str, Any],
        version: float,
        retry: int | None = None,
    ) -> None:
        raise NotImplementedError(_NO_NOTIFICATIONS)

    @reentry.changes
    def listen(
        self, target: Target, batch_size: int, batch_timeout: float | None
    ) -> oslo.Listener:
        forks.notice()
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

    def listen_for_notifications(
        self,
        targets_and_priorities: list[tuple[Target, str]],
        pool: str | None,
        batch_size: int,
        batch_timeout: float | None,
    ) -> oslo.Listener:
        raise NotImplementedError(_NO_NOTIFICATIONS)

    def proxy(self) -> Proxy:
        """A proxy for the servers that the matchmaker of this transport knows.

        :raises ConfigurationError: nobody would find it
        """
        if self._is_static:
            raise ConfigurationError(f"{self._url.transport}: {_NO_STATIC_PROXY}")
        forks.notice()
        return Proxy(self._options, self._encryption, self._make_directory())

    def proxies(self) -> list[Report]:
        """What the proxies tell of themselves that the matchmaker knows.

        :raises BusUnavailable: the matchmaker is away
        """
        forks.notice()
        directory = self._get_directory()
        client = Client(self._options, self._encryption, directory)
        try:
            return reports(client, directory)
        finally:
            client.close()

    @reentry.changes
    def cleanup(self) -> None:
        forks.notice()
        with self._lock:
            ending = [self._client, self._server, self._directory]
            self._client = self._server = self._directory = None
        for each in ending:
            if each is not None:
                each.close()

    def after_fork(self) -> None:
        """In a child: leave to the parent what is the parent's."""
        self._lock = threading.Lock()
        for each in (self._client, self._server, self._directory):
            if each is not None:
                each.after_fork()
        self._client = self._server = self._directory = None
