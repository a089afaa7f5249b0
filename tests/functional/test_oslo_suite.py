# SPDX-License-Identifier: Apache-2.0
"""The functional suite that oslo.messaging ships, with rabbit:// for notifications."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.functional import matchmakers, oslo_suite
from tests.functional.conftest import ALL_BUSES, Bus, make_bus
from tests.functional.deployments import NOWHERE, deployed

from hybrid_messaging import state
from hybrid_messaging.engines import rabbitmq_management

#: Tests in the suite, as of oslo.messaging 16 to 18.
TESTS = 21
#: Seconds that it may take; most of them it sleeps.
TIMEOUT = 600
pytestmark = pytest.mark.timeout(TIMEOUT)
#: The test cases that send RPC, and how many tests they have.
RPC_CASES = tuple(
    f"{oslo_suite.SUITE}.{case}"
    for case in ("CallTestCase", "CastTestCase", "MetricsTestCase")
)
RPC_TESTS = 14

Suite = subprocess.Popen[str]
Suites = dict[tuple[str, str], Suite]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[state.Engine]:
    """A private RabbitMQ node."""
    with deployed(tmp_path_factory.mktemp("suite")) as made:
        made.up(given={"rpc": NOWHERE["rpc"]})
        yield made.engine("rabbitmq")


@pytest.fixture(scope="module")
def buses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Bus]]:
    """Each kind of bus."""
    with contextlib.ExitStack() as running:
        started = {}
        for kind in ALL_BUSES:
            started[kind] = make_bus(kind, tmp_path_factory.mktemp("bus"))
            started[kind].start()
            running.callback(started[kind].stop)
        yield started


@pytest.fixture(scope="module")
def suites(buses: dict[str, Bus], node: state.Engine) -> Iterator[Suites]:
    """The suite over each bus and in each threading model, all at the same time."""
    started: Suites = {}

    def start(kind: str, mode: str) -> Suite:
        # virtual hosts of its own: no other run has left anything there
        vhost = f"{kind}-{mode}"
        surroundings = {
            **os.environ,
            "RPC_TRANSPORT_URL": buses[kind].url(vhost),
            "NOTIFY_TRANSPORT_URL": rabbitmq_management.add_vhost(node, vhost),
        }
        if mode == "eventlet":
            # coverage does not see green threads change
            surroundings.pop("COVERAGE_PROCESS_CONFIG", None)
        # what sees nothing but RabbitMQ is run beside a router
        tests = RPC_CASES if _is_zmq(kind) else ()
        return subprocess.Popen(
            [sys.executable, "-m", "tests.functional.oslo_suite", mode, *tests],
            env=surroundings,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    try:
        for kind, mode in itertools.product(ALL_BUSES, oslo_suite.MODES):
            started[kind, mode] = start(kind, mode)
        yield started
    finally:
        for suite in started.values():
            # with the server of oslo.metrics that a test leaves when it fails
            with contextlib.suppress(ProcessLookupError):
                os.killpg(suite.pid, signal.SIGKILL)
            suite.communicate()


def _is_zmq(kind: str) -> bool:
    return kind == matchmakers.KIND


def outcome(suite: Suite) -> dict[str, Any]:
    """Wait for a suite, and return what it found."""
    output, _ = suite.communicate(timeout=TIMEOUT)
    assert suite.returncode == 0
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


@pytest.mark.parametrize("mode", oslo_suite.MODES)
@pytest.mark.parametrize("kind", ALL_BUSES)
def test_it_passes(kind: str, mode: str, suites: Suites) -> None:
    found = outcome(suites[kind, mode])
    expected = RPC_TESTS if _is_zmq(kind) else TESTS
    assert (found["run"], found["skipped"]) == (expected, 0)
    assert not found["failed"], "\n".join(found["failed"].values())
