# SPDX-License-Identifier: Apache-2.0
"""Kafka for tests, fetched with Maven once for all of them."""

from __future__ import annotations

import functools

from hybrid_messaging.engines import Options, kinds
from hybrid_messaging.engines.kinds import kafka

KAFKA = kinds.get("kafka")


@functools.cache
def fetched() -> None:
    """Have Kafka on this machine."""
    if any(item.what.startswith(kafka.TITLE) for item in KAFKA.missing(Options())):
        kafka.fetch_with_maven(print)
    assert KAFKA.missing(Options()) == []
