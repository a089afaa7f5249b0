# SPDX-License-Identifier: Apache-2.0
"""How a router says, when it attaches a sender's link, that all listeners have left.

The answering attach (AMQP 1.0, part 2, section 2.7.3) has a property then: how many
milliseconds ago the last one left. A duration, since no two clocks agree.
"""

from __future__ import annotations

from typing import Any

import proton

PROPERTY = "x-opt-deserted-for"

#: Milliseconds; beyond it, a peer's word is nothing to go by.
LIMIT = 1 << 48


def encode(seconds: float) -> dict[Any, Any]:
    """The properties of a link whose address was deserted so many seconds ago."""
    return {proton.symbol(PROPERTY): proton.ulong(int(seconds * 1000))}


def decode(properties: dict[str, Any]) -> float | None:
    """Return how many seconds ago an address was deserted.

    :param properties: those of a peer's attach, of any type
    :returns: None if they do not say so
    """
    value = properties.get(PROPERTY)
    if isinstance(value, proton.ulong) and value < LIMIT:
        return value / 1000
    return None
