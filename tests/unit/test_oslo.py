# SPDX-License-Identifier: Apache-2.0
"""What the drivers need of oslo.messaging's private interface."""

from __future__ import annotations

import subprocess
import sys

import pytest

LACKING = """
import oslo_messaging
from oslo_config import cfg
from oslo_messaging._drivers import base
del base.PollStyleListenerAdapter
try:
    oslo_messaging.get_rpc_transport(cfg.ConfigOpts(), "{scheme}://127.0.0.1/")
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("scheme", ["amqp", "zmq"])
def test_a_release_that_lacks_something_is_named_with_what_it_lacks(
    scheme: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LACKING.format(scheme=scheme)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "oslo.messaging 1" in done.stdout
    assert "PollStyleListenerAdapter" in done.stdout
    assert "install one of these, or a newer hybrid-messaging" in done.stdout
