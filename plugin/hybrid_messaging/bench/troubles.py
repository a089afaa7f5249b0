# SPDX-License-Identifier: Apache-2.0
"""What can go wrong while the load goes on: something dies, something restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hybrid_messaging.bench.assignment import Assignment
from hybrid_messaging.bench.buses import Bus
from hybrid_messaging.bench.crew import Crew
from hybrid_messaging.modes import Mode

#: Seconds that a server hangs before it dies.
HANGING = 1.0


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong.

    :param title: what it is, in a few words
    :param duration: seconds that a measurement has to last to see it end
    :param concerns: whether it can happen in a mode
    :param happen: makes it happen; returns what it was when it is over
    """

    title: str
    duration: float
    concerns: Callable[[Mode], bool]
    happen: Callable[[Crew, Sequence[Assignment], Bus], str]


def _kill_a_server(crew: Crew, assignments: Sequence[Assignment], bus: Bus) -> str:
    name = next(item.name for item in assignments if item.serve)
    # so that there are calls that it has taken and not answered
    crew.pause(name)
    time.sleep(HANGING)
    crew.kill(name)
    return "one of the servers hangs and is killed"


def _restart(role: str) -> Callable[[Crew, Sequence[Assignment], Bus], str]:
    def restart(crew: Crew, assignments: Sequence[Assignment], bus: Bus) -> str:
        name = bus.engine(role).name
        bus.restart(role)
        return f"{name} is restarted"

    return restart


TROUBLES = {
    "server": Trouble(
        "a server dies while it has calls",
        25.0,
        lambda mode: True,
        _kill_a_server,
    ),
    "rpc": Trouble(
        "the engine for RPC restarts",
        45.0,
        lambda mode: any("rpc" in item.roles for item in mode.engines),
        _restart("rpc"),
    ),
    "notify": Trouble(
        "the engine for notifications restarts",
        45.0,
        lambda mode: (
            not mode.shared and any("notify" in item.roles for item in mode.engines)
        ),
        _restart("notify"),
    ),
}
