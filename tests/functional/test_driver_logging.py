# SPDX-License-Identifier: Apache-2.0
"""Log handlers that send what drivers log over the bus that it is about."""

from __future__ import annotations

import logging
import threading
import time

import oslo_messaging
import pytest
from oslo_messaging import MessagingException
from tests.functional.conftest import ALL_BUSES, Bus
from tests.functional.rpc import Rpc
from tests.functional.waiting import Stopwatch, until

BUSES = ALL_BUSES


class Publishing(logging.Handler):
    """Sends every record over the transport that it is about."""

    def __init__(self, client: oslo_messaging.RPCClient, level: int) -> None:
        super().__init__(level)
        self._client = client
        self._inside = threading.local()
        self.threads: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(self._inside, "busy", False):
            return
        self._inside.busy = True
        self.threads.add(threading.current_thread().name)
        try:
            self._client.cast({}, "echo", value=record.getMessage())
        except MessagingException:
            pass
        finally:
            self._inside.busy = False


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
def test_records_that_are_sent_over_the_bus_hold_up_nobody(
    own_bus: Bus, own_rpc: Rpc, level: int
) -> None:
    own_rpc.server()
    own_rpc.server(topic=f"{own_rpc.topic}-log")
    transport = own_rpc.transport()
    client = own_rpc.client(transport, timeout=60)
    assert client.call({}, "name") == "one"
    logger = logging.getLogger("hybrid_messaging.drivers")
    before = logger.level
    handler = Publishing(own_rpc.client(transport, topic=f"{own_rpc.topic}-log"), level)
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        own_bus.stop()
        until(lambda: handler.threads, "the loss of the bus is logged", 60)
        time.sleep(1)
        own_bus.start()
        with Stopwatch() as watch:
            assert client.call({}, "name") == "one"
        # a handler that the bus' own thread waits for holds it up for a minute
        assert watch.seconds < 40
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    assert handler.threads == {"driver-log"}
