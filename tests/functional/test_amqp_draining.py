# SPDX-License-Identifier: Apache-2.0
"""Services move to another router before the embedded one ends."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.functional.routers import Router, free_port
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import until

from hybrid_messaging import urls
from hybrid_messaging.drivers.amqp import uplink

CALLERS = 20


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Router]]:
    """The first of them runs."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(Router("embedded", tmp_path / name))
    made[0].start()
    yield made
    for router in made:
        router.kill()


def test_no_call_fails_when_a_router_is_drained(
    two: list[Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither those under way nor new ones, with callers that never pause."""
    # embedded routers have no other routers to learn from
    monkeypatch.setattr(uplink, "JOINING", 0.1)
    monkeypatch.setattr(random, "shuffle", lambda hosts: None)
    first, second = two
    # the next host of the URL is away
    ports = first.port, free_port(), second.port
    url = urls.build("amqp", [("127.0.0.1", port) for port in ports])
    over = threading.Event()
    with Rpc(url) as rpc, ThreadPoolExecutor(CALLERS + 1) as pool:
        service = Service()
        rpc.server(service)
        transports = [rpc.transport() for _ in range(2)]

        def call_on(number: int) -> int:
            client = rpc.client(transports[number % 2], timeout=60)
            done = 0
            while not over.is_set():
                assert client.call({}, "echo", value=done) == done
                done += 1
            return done

        calling = [pool.submit(call_on, number) for number in range(CALLERS)]
        slow = pool.submit(rpc.client(transports[0]).call, {}, "sleep", seconds=4)
        try:
            until(lambda: len(service.seen) > CALLERS, "calls go on", 60)
            second.start()
            first.stop()
            seen = len(service.seen)
            until(
                lambda: (
                    any(each.done() for each in calling)
                    or len(service.seen) > seen + 10 * CALLERS
                ),
                "calls go on at the other router",
                60,
            )
        finally:
            over.set()
        assert all(each.result(60) for each in calling)
        slow.result(60)
