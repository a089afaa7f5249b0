# SPDX-License-Identifier: Apache-2.0
"""Whether somebody listens on a target, as a bus knows it before anything is sent."""

from __future__ import annotations

from enum import Enum, auto


class Presence(Enum):
    """What a driver's `presence(target)` returns, without waiting for anything."""

    #: somebody listens
    LISTENING = auto()
    #: nobody listens any more: somebody has
    GONE = auto()
    #: nobody listens, or has lately
    ABSENT = auto()
    #: the bus has been asked and has not answered, or is away
    UNKNOWN = auto()
