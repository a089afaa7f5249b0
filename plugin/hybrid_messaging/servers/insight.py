# SPDX-License-Identifier: Apache-2.0
"""What a server that can be used tells of its state: how that is asked and told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Look(NamedTuple):
    """What to look at.

    :param timeout: seconds for each step of a connection
    :param days: how long certificates have to be good for
    :param management: port of RabbitMQ's management, None if it is not to be asked
    :param queues: those that notifications wait in
    """

    timeout: float
    days: float = 30.0
    management: int | None = None
    queues: Sequence[str] = ()


class ServerProblem(NamedTuple):
    """Something that is wrong with a server.

    :param code: a row of the table of problems, which knows how bad it is
    """

    code: str
    message: str
    cure: str


@dataclass
class Insight:
    """What was found, and what could not be looked at.

    :param network: what the servers call themselves and those that they are linked
        with; servers are one bus if they have any of these names in common
    """

    problems: list[ServerProblem] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    network: set[str] = field(default_factory=set)
