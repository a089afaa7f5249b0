# SPDX-License-Identifier: Apache-2.0
"""Who answers ZeroMQ when it asks about the keys of clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.zmq import key_directory
from hybrid_messaging.drivers.zmq.gatekeeper import Gatekeeper

DOMAIN = b"domain"


def ask(context: zmq.Context[Any], public: bytes) -> bytes | None:
    """Ask as ZeroMQ does; the status, None without an answer."""
    with context.socket(zmq.REQ) as asking:
        asking.setsockopt(zmq.LINGER, 0)
        asking.connect("inproc://zeromq.zap.01")
        request = [b"1.0", b"id", DOMAIN, b"192.0.2.1", b"", b"CURVE", public]
        asking.send_multipart(request)
        if not asking.poll(60_000 if len(public) == 32 else 500):
            return None
        return asking.recv_multipart()[2]


def test_what_cannot_be_looked_at_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    public = key_directory.make(tmp_path, "host").public
    with zmq.Context() as context:
        gatekeeper = Gatekeeper(context)
        try:
            gatekeeper.guard(DOMAIN, key_directory.KeyDirectory(tmp_path))
            assert ask(context, b"no key") is None
            assert ask(context, z85.decode(public)) == b"200"
            assert ask(context, bytes(32)) == b"400"
        finally:
            gatekeeper.close()
    assert logs.flush(60)
    assert "checking its key failed" in caplog.text
