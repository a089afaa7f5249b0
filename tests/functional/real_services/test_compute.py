# SPDX-License-Identifier: Apache-2.0
"""Nova, Neutron, Cinder, Glance and Keystone work on a hybrid bus.

They need 2 GB of memory and minutes: a stage of its own, for a job of every night.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from . import evidence
from .compute import Compute
from .rig import running

MODES = (
    ("qpid-hybrid", "native", "embedded"),
    ("qpid-hybrid", "eventlet", "embedded"),
    ("zmq-hybrid", "native", ""),
    ("zmq-hybrid", "eventlet", ""),
)
#: A skrouterd or qdrouterd that takes part as well.
ROUTER = os.environ.get("HYBRID_TEST_ROUTER", "")

pytestmark = pytest.mark.timeout(1800)


@pytest.mark.parametrize(
    ("mode", "threading", "router"),
    [*MODES, *([("qpid-hybrid", "native", ROUTER)] if ROUTER else [])],
)
def test_instances_volumes_and_networks(
    mode: str,
    threading: str,
    router: str,
    tmp_path: Path,
    progress: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Users see no error, not even while conductors or the bus of RPC restart."""
    monkeypatch.setenv("HYBRID_ROUTER", router)
    with running(Compute, mode, threading, tmp_path, progress) as rig:
        rig.check()
        rig.exercise()
        rig.wait_until_stored(passes=1)
        rig.wait_until_carried()
        for server, asked in rig.requests().items():
            assert rig.deployment.METHODS.get(server, frozenset()) <= set(asked), server
        left = evidence.not_for_notifications(
            rig.bus.queues(), rig.bus.exchanges(), rig.deployment.EXCHANGES
        )
        assert left == []
        assert rig.errors() == []

        rig.restart_under_requests()
        rig.bus.restart_rpc()
        rig.wait_until_ready()
        rig.exercise()
