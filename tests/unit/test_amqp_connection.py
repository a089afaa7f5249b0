# SPDX-License-Identifier: Apache-2.0
"""A connection as its callers see it while it is not there yet, or no more."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from oslo_config import cfg

from hybrid_messaging.drivers.amqp import options
from hybrid_messaging.drivers.amqp.connection import Connection
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.protocol.endpoint import Handler


@pytest.fixture
def connection() -> Iterator[Connection]:
    conf = cfg.ConfigOpts()
    conf.register_opts(options.OPTIONS, options.GROUP)
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = Host("127.0.0.1", server.getsockname()[1], None, None)
        # no byte of a peer arrives here: the handler has nothing to handle
        handler = cast(Handler, None)
        group: Any = conf.oslo_messaging_amqp
        lock = CombiningLock(lambda: None)
        connection = Connection(handler, lock, group, host, None, "container", {})
        yield connection
        connection.close()


def reads(connection: Connection) -> bool:
    """Whether a caller that waits for nothing else reads."""
    return connection.read_while(lambda: True, time.monotonic() + 0.01, lambda: None)


def test_callers_read_only_between_connecting_and_retiring(
    connection: Connection,
) -> None:
    assert not reads(connection)
    connection.connect()
    assert reads(connection)
    connection.retire()
    assert not reads(connection)
