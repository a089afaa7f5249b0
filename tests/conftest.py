# SPDX-License-Identifier: Apache-2.0
"""What all tests need."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from hybrid_messaging.log_safety import RateLimit

# a shell that runs us in the background ignores Ctrl-C for us, and for all we start
signal.signal(signal.SIGINT, signal.default_int_handler)

#: A busy machine makes any example slow: hangs are for pytest's timeout.
settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _written_log_lines() -> Iterator[None]:
    """A thread writes the drivers' log lines: no other test is to see or count them."""
    yield
    logs = sys.modules.get("hybrid_messaging.drivers.logs")
    if logs is not None:
        logs.flush(60)
        logs._writer._rate_limit = RateLimit()
