# SPDX-License-Identifier: Apache-2.0
"""Ironic, Cinder and Ceilometer work on a hybrid bus, and use both its halves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from . import evidence
from .baremetal import BareMetal
from .deployment import THREADING
from .environment import PYTHON_VARIABLE, TOO_OLD
from .rig import running

pytestmark = [
    pytest.mark.skipif(
        TOO_OLD, reason=f"the services need Python 3.11: set {PYTHON_VARIABLE}"
    ),
    # on a machine that has no environment yet, the first test builds it
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize(
    ("mode", "threading"),
    [*(("qpid-hybrid", how) for how in THREADING), ("zmq-hybrid", "eventlet")],
)
def test_rpc_apart_from_notifications(
    mode: str, threading: str, tmp_path: Path, progress: Callable[[str], None]
) -> None:
    """Services that knew one RabbitMQ work on both buses after `configure`."""
    with running(BareMetal, mode, threading, tmp_path, progress) as rig:
        rig.check()
        rig.exercise()
        rig.wait_until_stored(passes=1)
        with rig.without_collector():
            before = rig.stored()
            rig.exercise()
            assert rig.stored() == before
        rig.wait_until_stored(passes=2)

        rig.wait_until_carried()
        for server, asked in rig.requests().items():
            assert rig.deployment.METHODS[server] <= set(asked)

        known = rig.deployment.EXCHANGES
        queues, exchanges = rig.bus.queues(), rig.bus.exchanges()
        assert "notifications.info" in queues
        assert evidence.not_for_notifications(queues, exchanges, known) == []
        assert rig.errors() == []

        rig.bus.restart_rpc()
        rig.wait_until_ready()
        rig.exercise()
        rig.wait_until_stored(passes=3)
        assert evidence.not_for_notifications(rig.bus.queues(), [], known) == []

        rig.restart_under_requests()
