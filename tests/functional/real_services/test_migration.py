# SPDX-License-Identifier: Apache-2.0
"""Ironic, Cinder and Ceilometer move from bus to bus while users work with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from .baremetal import BareMetal
from .bus import Bus
from .environment import PYTHON_VARIABLE, TOO_OLD
from .rest import STATE_TIMEOUT, RestError
from .rig import SETTLE_TIMEOUT, Rig, running
from .waiting import NotYet, wait_for
from .workload import Ironic, Workload

#: What `rabbit://` says of a call that it lost with a server that stopped, as it does
#: without a migration.
LOST = "Timed out waiting for a reply to message ID"

pytestmark = [
    pytest.mark.skipif(
        TOO_OLD, reason=f"the services need Python 3.11: set {PYTHON_VARIABLE}"
    ),
    pytest.mark.timeout(1800),
]


def test_services_move_from_bus_to_bus_and_back(
    tmp_path: Path, progress: Callable[[str], None]
) -> None:
    """From RabbitMQ to a router, to ZeroMQ, and back, one service after another."""
    router = Bus("qpid-hybrid", tmp_path / "router", progress)
    zmq = Bus("zmq-hybrid", tmp_path / "zmq", progress)
    with running(BareMetal, "rabbit", "native", tmp_path, progress) as rig:
        try:
            for bus in (router, zmq):
                bus.up(rig.bus.single_url)
            with users(rig) as check:
                for old, new in ((rig.bus, router), (router, zmq), (zmq, rig.bus)):
                    move(rig, old, new, check)
            rig.exercise()
            wait_until_all_stored(rig)
        finally:
            for bus in (router, zmq):
                bus.down()


def move(rig: Rig, old: Bus, new: Bus, check: Callable[[], None]) -> None:
    """Move all services: first onto both buses, then away from the old one.

    :param check: raises what has gone wrong
    """
    both = f"{new.rpc_url}{'&' if '?' in new.rpc_url else '?'}from_url="
    for url in (f"migrate+{both}{quote(old.rpc_url, safe='')}", new.rpc_url):
        rig.bus.move_to(url, rig.deployment.configs)
        for command in rig.deployment.commands():
            rig.processes.restart(command.name)
            rig.wait_until_ready()
            check()
    wait_for("the move is complete", lambda: check_moved(rig, old, new), SETTLE_TIMEOUT)


def check_moved(rig: Rig, old: Bus, new: Bus) -> None:
    """Raise NotYet unless the new bus has all servers and the old one none."""
    topics = rig.deployment.SERVERS.values()
    there = new.served()
    missing = [topic for topic in topics if not any(topic in name for name in there)]
    if missing or old.served():
        raise NotYet(f"missing: {missing}; on the old bus: {old.served()}")


@contextmanager
def users(rig: Rig) -> Iterator[Callable[[], None]]:
    """Let users work without a pause; they wait for an API that restarts.

    Yields what raises the error that a user has got.
    """
    end = threading.Event()
    passes = dict.fromkeys((each.title for each in rig.workloads), 0)

    def use(workload: Workload) -> None:
        workload.rest.patience = STATE_TIMEOUT
        # a conductor of Ironic that ends refuses to deploy before it stops to listen
        work = workload.ask if isinstance(workload, Ironic) else workload.exercise
        while not end.is_set():
            try:
                work()
            except RestError as error:
                if LOST not in str(error):
                    raise
            else:
                passes[workload.title] += 1

    with ThreadPoolExecutor(len(passes)) as pool:
        using = [pool.submit(use, workload) for workload in rig.workloads]

        def check() -> None:
            for done in using:
                if done.done():
                    done.result()

        try:
            yield check
        finally:
            end.set()
        for each in using:
            each.result()
    assert all(passes.values()), passes


def wait_until_all_stored(rig: Rig) -> None:
    """Wait until ceilometer has stored, once, what the services have notified."""

    def same() -> None:
        published, stored = rig.published(), rig.stored()
        if published != stored:
            raise NotYet(f"{published - stored} lost, {stored - published} twice")

    wait_for("all notifications stored", same, SETTLE_TIMEOUT)
