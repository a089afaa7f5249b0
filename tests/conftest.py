# SPDX-License-Identifier: Apache-2.0
"""What all tests need."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from hybrid_messaging.log_safety import RateLimit


@pytest.fixture(autouse=True)
def _written_log_lines() -> Iterator[None]:
    """A thread writes the drivers' log lines: no other test is to see or count them."""
    yield
    logs = sys.modules.get("hybrid_messaging.drivers.logs")
    if logs is not None:
        logs.flush(60)
        logs._writer._rate_limit = RateLimit()
