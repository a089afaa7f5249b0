# SPDX-License-Identifier: Apache-2.0
"""Which bus serves a target, as far as a process knows.

Servers of a target are moved one by one: each listens on the old bus, then on both,
then on the new one alone. On the way back it is the other way round. In each of these
steps a server restarts, and for a while nobody listens. The old bus may store what is
sent meanwhile, for a server that comes back on the new bus alone. So a request is sent
where somebody listens; while nobody does, it is held.

A target that has never been seen on the new bus is left alone: its requests go to the
old bus without a look whether anybody is there, as they would without a migration. That
holds as long as the new bus answers. If it has not for a while, the target may have
moved meanwhile, and the old bus is asked again.

Knows no bus, no thread and no clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum, auto

from hybrid_messaging.drivers.presence import Presence

#: Seconds in which the buses may answer who listens.
LOOK = 1.0
#: Seconds after a target has left the new bus in which the old one may still believe in
#: a server that has been killed.
GRACE = 0.5
#: Seconds for which a target counts as not moved after the last answer of the new bus.
TRUST = 5.0

#: Looks whether somebody listens on the old bus, as of a monotonic time or later.
LookAtOld = Callable[[float], Presence]


class Stage(Enum):
    """What is known of a target."""

    #: nothing: this process has not sent there, or nobody was on either bus
    UNTRIED = auto()
    #: it is served on the old bus, and was not seen on the new one, or has left it
    UNMOVED = auto()
    #: it is served on the new bus
    MOVED = auto()
    #: it was served on the new bus, where nobody listens now or can be seen
    AWAY = auto()


class Way(Enum):
    """Where a request goes."""

    NEW = auto()
    OLD = auto()
    #: nowhere yet
    HOLD = auto()


class Course:
    """What is known of one target. Its owner holds a lock around every call.

    :param now: monotonic time
    :param settling: seconds after which a target that has left the new bus, and is
        served on the old one, counts as moved back
    """

    __slots__ = (
        "_answered",
        "_back_at",
        "_moved_back",
        "_new_is_away",
        "_nowhere",
        "_settling",
        "_since",
        "_taken",
        "_told",
        "held",
        "stage",
    )

    def __init__(self, now: float, settling: float) -> None:
        self._settling = settling
        #: monotonic time at which the stage was entered
        self._since = now
        #: monotonic time of the last answer of the new bus
        self._answered = -math.inf
        #: the new bus did not answer while it was waited for, nor has it since
        self._new_is_away = False
        #: monotonic time since which somebody listens again on the new bus
        self._back_at = math.inf
        #: it has left the new bus for good: that it was there means nothing any more
        self._moved_back = False
        #: no bus has ever had anybody there, as far as both know
        self._nowhere = False
        self.stage = Stage.UNTRIED
        #: requests have been held, and none has been sent since
        self.held = False
        #: the way that was news last
        self._taken: Way | None = None
        #: monotonic time at which each way was news last
        self._told: dict[Way, float] = {}

    def choose(
        self, new: Presence, look_at_old: LookAtOld, began: float, now: float
    ) -> Way:
        """Return where a request goes now.

        :param new: whether somebody listens on the new bus
        :param look_at_old: called if the old one matters
        :param began: monotonic time at which the request was made
        :param now: monotonic time
        """
        if new is not Presence.UNKNOWN:
            self._answered = now
            self._new_is_away = False
        if new is Presence.LISTENING:
            return self._listening(now)
        self._back_at = math.inf
        gone = new is Presence.GONE and not self._moved_back
        if self.stage is Stage.UNMOVED and not gone:
            if now <= max(self._since, self._answered) + TRUST:
                return Way.OLD
            self._enter(Stage.UNTRIED, now)
        if self.stage is Stage.MOVED or gone:
            self._enter(Stage.AWAY, now)
        if self.stage is Stage.AWAY:
            return self._away(new, look_at_old, began, now)
        return self._untried(new, look_at_old, now)

    def _listening(self, now: float) -> Way:
        self._back_at = min(self._back_at, now)
        self._moved_back = False
        # a bus may believe for a while in a server that has left and refuses all
        if self.stage is not Stage.AWAY or now >= self._back_at + GRACE:
            self._enter(Stage.MOVED, now)
        return Way.NEW

    def looking(self, now: float) -> bool:
        """Whether the buses may not have answered yet who listens."""
        if self.stage is Stage.AWAY:
            return now < self._since + GRACE + LOOK
        return self.stage is Stage.UNTRIED and now < self._since + LOOK

    def _away(
        self, new: Presence, look_at_old: LookAtOld, began: float, now: float
    ) -> Way:
        certain = self._since + GRACE
        if new is not Presence.UNKNOWN:
            # servers are on their way from one bus to the other
            certain = max(certain, began)
        if now < certain or look_at_old(certain) is not Presence.LISTENING:
            return Way.HOLD
        moved_back = now >= self._since + self._settling
        if moved_back and new is not Presence.UNKNOWN:
            self._moved_back = True
            self._enter(Stage.UNMOVED, now)
        return Way.OLD

    def _untried(self, new: Presence, look_at_old: LookAtOld, now: float) -> Way:
        looking = self.looking(now)
        old = look_at_old(self._since)
        self._nowhere = new is old is Presence.ABSENT
        if new is Presence.UNKNOWN:
            # it is waited for once, and not each time when the old bus is asked again
            self._new_is_away |= not looking
            if not self._new_is_away:
                return Way.HOLD
        if old is Presence.LISTENING:
            self._enter(Stage.UNMOVED, now)
            return Way.OLD
        if old is Presence.UNKNOWN and new is not Presence.UNKNOWN and not looking:
            return Way.OLD  # it cannot be seen, so it is left to the old bus
        # if neither can be seen, its servers may have moved meanwhile
        return Way.HOLD

    def is_news(self, way: Way, now: float, quiet: float) -> bool:
        """Whether the log is to say that a request goes this way.

        A target may change its way with each request. Each way is news no more often
        than every `quiet` seconds; the one that a target keeps to is so in the end.

        :param now: monotonic time
        """
        if way is self._taken or now < self._told.get(way, -math.inf) + quiet:
            return False
        self._taken, self._told[way] = way, now
        return True

    def give_up(self, is_call: bool, now: float) -> Way:
        """Return where a request goes that has been held for long enough.

        :param is_call: somebody waits for its reply
        :param now: monotonic time
        """
        if self.stage is Stage.AWAY or (
            self.stage is Stage.UNTRIED and self._nowhere and is_call
        ):
            return Way.NEW  # which says that nobody listens
        self._enter(Stage.UNMOVED, now)
        return Way.OLD  # which stores it, or drops it, as it would otherwise

    def refused(self, now: float) -> None:
        """Note that nobody on the old bus has taken a request.

        :param now: monotonic time
        """
        if self.stage is Stage.UNMOVED:
            # the bus has answered: another look would extend the wait without an end
            self._enter(Stage.UNTRIED, now - LOOK)

    def _enter(self, stage: Stage, now: float) -> None:
        if stage is not self.stage:
            self.stage, self._since = stage, now
