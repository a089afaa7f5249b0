# SPDX-License-Identifier: Apache-2.0
"""Notifications that wait where nobody reads them: whether that is a problem yet.

In a new cloud, services publish before anybody reads. Later on, what nobody reads fills
the disk of the server.
"""

from __future__ import annotations

import dataclasses

from hybrid_messaging.servers.insight import ServerProblem

#: Seconds between two looks at a queue whose server does not tell how long messages
#: wait.
MOMENT = 2.0
#: From here on, as many that wait are a problem; so are fewer that become more.
_MANY, _MANY_IF_MORE_COME = 1000, 100
#: Seconds for which they may wait.
_LONG = 3600.0


@dataclasses.dataclass(frozen=True)
class Backlog:
    """What waits in one queue that has no reader.

    :param where: the queue, or the topic of Kafka
    :param waiting: how many
    :param more: how many of them have come within `MOMENT`, None if nobody looked twice
    :param age: seconds for which the oldest has been waiting, None if it is not known
    """

    where: str
    waiting: int
    more: int | None = None
    age: float | None = None

    def problem(self) -> ServerProblem:
        """What to say of it."""
        large = self.waiting >= (_MANY_IF_MORE_COME if self.more else _MANY)
        old = self.age is not None and self.age >= _LONG
        age = "" if self.age is None else f", for {shown(self.age)}"
        wait = " waits" if self.waiting == 1 else "s wait"
        more = f", {self.more:,} more within {MOMENT:g} s" if self.more else ""
        return ServerProblem(
            "notifications-not-read" if large or old else "notifications-waiting",
            f"{self.waiting:,} notification{wait} in {self.where}{age}{more}, which has"
            " no consumer",
            "start the service that reads them; if there is none, set the notification"
            " driver of the publishers to noop, and delete what waits",
        )


def shown(seconds: float) -> str:
    """A time in the largest unit of which there are two."""
    for length, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} seconds"
