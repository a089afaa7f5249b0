# SPDX-License-Identifier: Apache-2.0
"""The control bus: how a controller and the hosts that run its workers talk.

It is RPC of oslo.messaging, over a transport apart from those under test. Events of
a worker are calls, so that each has arrived before the next one is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import oslo_messaging
from oslo_config import cfg

from hybrid_messaging.bench.assignment import PREFIX

EXCHANGE = f"{PREFIX}-control"
#: Topic of the hosts; each is a server of its own there.
HOSTS = f"{PREFIX}-hosts"
#: Seconds that whoever is called may take.
TIMEOUT = 30.0


class Line:
    """One end of the control bus; use it as a context manager.

    :param url: its transport URL
    :param topic: where this end is called
    :param name: of this end, unlike any other's
    :param endpoints: what can be called
    """

    def __init__(
        self, url: str, topic: str, name: str, endpoints: Sequence[object]
    ) -> None:
        # oslo.messaging registers some of its options with the global object only
        cfg.CONF(
            args=[],
            project=PREFIX,
            default_config_files=[],
            default_config_dirs=[],
            use_env=False,
        )
        self._transport = oslo_messaging.get_rpc_transport(cfg.CONF, url)
        self._server = oslo_messaging.get_rpc_server(
            self._transport,
            oslo_messaging.Target(exchange=EXCHANGE, topic=topic, server=name),
            list(endpoints),
            executor="threading",
            access_policy=oslo_messaging.DefaultRPCAccessPolicy,
        )

    def to(self, topic: str, server: str | None = None) -> Any:
        """A client that calls one server, or casts to all of a topic."""
        target = oslo_messaging.Target(
            exchange=EXCHANGE, topic=topic, server=server, fanout=server is None
        )
        return oslo_messaging.get_rpc_client(self._transport, target, timeout=TIMEOUT)

    def __enter__(self) -> Line:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._transport.cleanup()
