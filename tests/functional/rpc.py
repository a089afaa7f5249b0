# SPDX-License-Identifier: Apache-2.0
"""The transports, servers and clients of a test, all closed at its end."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any
from urllib.parse import urlencode

import oslo_messaging
from oslo_config import cfg
from oslo_messaging import Target, conffixture
from tests.functional.service import Service

#: Seconds that a test's calls may take on a busy machine, where it is no matter.
PATIENCE = 60


def configuration() -> cfg.ConfigOpts:
    """A configuration of its own for every user."""
    conf = cfg.ConfigOpts()
    conf([], project="test", default_config_files=[], default_config_dirs=[])
    # registers the options that oslo.messaging has on the global one only
    fixture = conffixture.ConfFixture(conf)
    fixture.setUp()
    return conf


def with_options(url: str, **options: object) -> str:
    """Add driver options to a transport URL."""
    if not options:
        return url
    query = urlencode({key: str(value) for key, value in options.items()})
    return f"{url}{'&' if '?' in url else '?'}{query}"


class Rpc(contextlib.ExitStack):
    """Makes what a test needs to talk over one bus.

    :param url: transport URL of the bus
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        #: no other test uses this topic
        self.topic = f"topic-{uuid.uuid4().hex[:8]}"
        self._default: oslo_messaging.Transport | None = None

    def transport(
        self,
        url: str | None = None,
        *,
        allowed_remote_exmods: list[str] | None = None,
        conf: cfg.ConfigOpts | None = None,
        **options: object,
    ) -> oslo_messaging.Transport:
        """A transport of its own, with options in the URL's query."""
        transport = oslo_messaging.get_rpc_transport(
            conf or configuration(),
            with_options(url or self.url, **options),
            allowed_remote_exmods=allowed_remote_exmods,
        )
        self.callback(transport.cleanup)
        return transport

    @property
    def default(self) -> oslo_messaging.Transport:
        """The transport of clients that bring none."""
        if self._default is None:
            self._default = self.transport(
                allowed_remote_exmods=["tests.functional.service"]
            )
        return self._default

    def server(
        self,
        *endpoints: Any,
        name: str = "one",
        topic: str | None = None,
        exchange: str | None = None,
        transport: oslo_messaging.Transport | None = None,
        executor: str = "threading",
        workers: int | None = None,
    ) -> oslo_messaging.RPCServer:
        """A running server; with an own transport, as in an own process.

        :param endpoints: default: a `Service`
        """
        server = oslo_messaging.get_rpc_server(
            transport or self.transport(),
            Target(topic=topic or self.topic, server=name, exchange=exchange),
            list(endpoints) or [Service(name)],
            executor=executor,
        )
        server.start(override_pool_size=workers)
        # its executor would take a second to end, and dies with it anyway
        self.callback(server.stop)
        return server

    def client(
        self,
        transport: oslo_messaging.Transport | None = None,
        *,
        timeout: float | None = PATIENCE,
        topic: str | None = None,
        retry: int | None = None,
        call_monitor_timeout: float | None = None,
        transport_options: Any = None,
        **target: Any,
    ) -> oslo_messaging.RPCClient:
        return oslo_messaging.get_rpc_client(
            transport or self.default,
            Target(topic=topic or self.topic, **target),
            timeout=timeout,
            retry=retry,
            call_monitor_timeout=call_monitor_timeout,
            transport_options=transport_options,
        )


def end(server: oslo_messaging.MessageHandlingServer) -> None:
    """Stop a server, in whatever state it is."""
    server.stop()
    server.wait()
