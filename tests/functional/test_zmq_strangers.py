# SPDX-License-Identifier: Apache-2.0
"""What strangers say to servers of `zmq` without keys changes and costs little."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from tests.functional.routers import HOST, free_port
from tests.functional.rpc import Rpc
from tests.functional.waiting import until

from hybrid_messaging import log_safety
from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.zmq import wire


@pytest.fixture
def rpc(tmp_path: Path) -> Iterator[Rpc]:
    with Rpc("zmq+static:///") as talk:
        file = tmp_path / "servers"
        file.write_text(f"openstack {talk.topic} one {HOST}:{free_port()}\n")
        talk.url = f"zmq+static:///?zmq_static_file={file}"
        yield talk


@pytest.fixture
def stranger() -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.DEALER) as made:
        made.setsockopt(zmq.LINGER, 0)
        yield made


def listening(rpc: Rpc) -> tuple[Any, bytes]:
    """The server of a transport, and the address of its listener."""
    driver: Any = rpc.default._driver
    (address,) = driver._server._listeners
    return driver._server, address


def connect(stranger: zmq.Socket[bytes], rpc: Rpc) -> bytes:
    """Connect to the server; returns the address of its listener."""
    server, address = listening(rpc)
    (endpoint,) = server._bound
    stranger.connect(endpoint)
    return address


def test_bodies_that_are_no_requests_are_refused_and_fill_no_log(
    rpc: Rpc, stranger: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    rpc.server(transport=rpc.default)
    address = connect(stranger, rpc)
    version = {"oslo.version": "\ud800\x1b[2J\n" * 1000, "oslo.message": "{}"}
    bodies = [
        b"no JSON \x1b[2J\n",
        b"\xff" * 1000,
        b"[" * 50_000,
        json.dumps({"request": version}).encode(),
        json.dumps({"request": {}, "context": ["\x1b[2J"] * 1000}).encode(),
    ]
    for number in range(300):
        body = bodies[number % len(bodies)]
        stranger.send(wire.request(wire.CAST, number, address, body))
    for number in range(300):
        assert stranger.poll(60_000)
        answer = wire.read_answer(stranger.recv())
        assert (answer.kind, answer.id) == (wire.REFUSED, number)
        reason = answer.body.decode()
        assert reason.isprintable()
        assert len(reason) <= log_safety.LONGEST_TEXT
    assert rpc.client(timeout=60).call({}, "name") == "one"
    assert logs.flush(60)
    lines = [each for each in caplog.messages if "Refused a request" in each]
    assert 0 < len(lines) <= log_safety.LINES
    assert all(each.isprintable() and len(each) < 300 for each in lines)
    assert not any(each.exc_info or each.exc_text for each in caplog.records)


def test_messages_of_several_parts_are_not_remembered(
    rpc: Rpc, stranger: zmq.Socket[bytes]
) -> None:
    """The last part withdraws a request that there never was."""
    rpc.server(transport=rpc.default)
    address = connect(stranger, rpc)
    for number in range(1000):
        withdrawal = wire.request(wire.WITHDRAW, number, address)
        stranger.send_multipart([b"part", withdrawal])
    stranger.send(wire.request(wire.CALL, 1, b"nobody"))
    assert stranger.poll(60_000)
    server, _ = listening(rpc)
    until(lambda: not server._unwanted, "nothing is remembered")
