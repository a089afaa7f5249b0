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


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[state.Engine]:
    """A private RabbitMQ node."""
    with deployed(tmp_path_factory.mktemp("suite")) as made:
        made.up(given={"rpc": NOWHERE["rpc"]})
        yield made.engine("rabbitmq")


@pytest.mark.parametrize("mode", oslo_suite.MODES)
def test_it_passes(mode: str, bus: Router, node: state.Engine) -> None:
    # virtual hosts of its own: no other run has left anything there
    vhost = f"{mode}-{bus.kind}"
    suite = subprocess.run(
        [sys.executable, "-m", "tests.functional.oslo_suite", mode],
        env={
            **os.environ,
            "RPC_TRANSPORT_URL": bus.url(vhost),
            "NOTIFY_TRANSPORT_URL": rabbitmq.add_vhost(node, vhost),
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=280,
    )
    assert suite.returncode == 0
    found = json.loads(suite.stdout.splitlines()[-1])
    assert not found["failed"], "\n".join(found["failed"].values())
    assert (found["run"], found["skipped"]) == (TESTS, 0)
