# SPDX-License-Identifier: Apache-2.0
"""The functional suite that oslo.messaging ships, over amqp:// and rabbit://."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.functional import oslo_suite
from tests.functional.deployments import NOWHERE, deployed
from tests.functional.routers import Router

from hybrid_messaging import state
from hybrid_messaging.engines import rabbitmq

#: Tests in the suite, as of oslo.messaging 16 to 18.
TESTS = 21
#: Seconds that it may take; most of them it sleeps.
TIMEOUT = 280

Runs = dict[str, subprocess.Popen[str]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[state.Engine]:
    """A private RabbitMQ node."""
    with deployed(tmp_path_factory.mktemp("suite")) as made:
        made.up(given={"rpc": NOWHERE["rpc"]})
        yield made.engine("rabbitmq")


@pytest.fixture(scope="module")
def runs(bus: Router, node: state.Engine) -> Iterator[Runs]:
    """The suite in each threading model, all at the same time."""
    started: Runs = {}
    for mode in oslo_suite.MODES:
        # virtual hosts of its own: no other run has left anything there
        vhost = f"{mode}-{bus.kind}"
        urls = {
            "RPC_TRANSPORT_URL": bus.url(vhost),
            "NOTIFY_TRANSPORT_URL": rabbitmq.add_vhost(node, vhost),
        }
        surroundings = {**os.environ, **urls}
        if mode == "eventlet":
            # coverage does not see green threads change
            surroundings.pop("COVERAGE_PROCESS_CONFIG", None)
        started[mode] = subprocess.Popen(
            [sys.executable, "-m", "tests.functional.oslo_suite", mode],
            env=surroundings,
            stdout=subprocess.PIPE,
            text=True,
        )
    yield started
    for suite in started.values():
        suite.kill()
        suite.communicate()


@pytest.mark.parametrize("mode", oslo_suite.MODES)
def test_it_passes(mode: str, runs: Runs) -> None:
    output, _ = runs[mode].communicate(timeout=TIMEOUT)
    assert runs[mode].returncode == 0
    found = json.loads(output.splitlines()[-1])
    assert not found["failed"], "\n".join(found["failed"].values())
    assert (found["run"], found["skipped"]) == (TESTS, 0)
