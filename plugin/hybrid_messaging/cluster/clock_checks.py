# SPDX-License-Identifier: Apache-2.0
"""Whether the hosts agree on what time it is, as far as their servers say it.

Redis does, and RabbitMQ's management. Routers and Kafka say nothing of the time. The
clock of the host that asks does not matter: those of the cluster are compared with each
other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hybrid_messaging.cluster import rabbitmq_checks, redis_checks
from hybrid_messaging.cluster.findings import Access, Finding, warning
from hybrid_messaging.cluster.topology import RABBITMQ, REDIS, Host

#: Seconds by which clocks may differ.
TOLERANCE = 3.0

#: What asks the server of a role for the time, in seconds since 1970; None: no answer.
_CLOCKS: dict[str, Callable[[Access, Host], float | None]] = {
    REDIS: redis_checks.time_of,
    RABBITMQ: rabbitmq_checks.time_of,
}


def check(access: Access, each: Callable[..., Iterable[Any]]) -> Iterator[Finding]:
    """Look at the clocks of all hosts whose servers say the time.

    :param each: `map`, or one that does it all at once
    """
    places = {
        host: role for role in _CLOCKS for host in access.topology.having(role)
    }.items()
    found = zip(places, each(lambda place: _ahead(access, *place), places), strict=True)
    ahead = {place: seconds for place, seconds in found if seconds is not None}
    if not ahead:
        return
    usual = statistics.median_low(ahead.values())
    for (host, role), seconds in ahead.items():
        if abs(seconds - usual) > TOLERANCE:
            yield warning(
                role,
                host,
                f"its clock is {abs(seconds - usual):.0f} s "
                f"{'ahead of' if seconds > usual else 'behind'} that of most hosts: "
                "have all clocks set by the same servers (NTP)",
            )


def _ahead(access: Access, host: Host, role: str) -> float | None:
    """Seconds by which a clock is ahead of ours; None if nothing is said."""
    began = time.time()
    said = _CLOCKS[role](access, host)
    return None if said is None else said - (began + time.time()) / 2
