# SPDX-License-Identifier: Apache-2.0
"""How long callers wait for the servers of a target that nobody listens on.

A server that restarts is back within a minute, and its callers should not notice.
A server that is gone for good should not cost each caller a minute. So patience
belongs to the target: it begins when a target is first found without listeners,
all callers of the target share it, and once it has run out, they fail at once
until somebody listens again.

A request that informs fifty agents, all of them dead, should not wait for each in
turn. So when a thread has just waited for one target in vain, its next casts do not
wait for others; and those of them that were never seen to have listeners count as gone.

Services that start ask again as soon as a call has failed, without a pause: Nova's
do until a conductor answers. Such a loop would do nothing else, and fill the log.
So a call fails no earlier than `PACE` seconds after the one before it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable

#: Missing targets that are remembered; the oldest is forgotten first.
MOST = 10_000
#: Seconds between two calls to a missing target that fail, if they follow each other.
PACE = 1.0
#: Seconds that a thread has between two casts which belong to the same request.
SAME_REQUEST = 1.0


class _Absence:
    """Of the servers of one target."""

    __slots__ = ("failed", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        #: monotonic time at which a call has last failed
        self.failed = -math.inf


class _Thread(threading.local):
    """What one thread has gone through."""

    #: monotonic time at which it has last waited in vain with a cast
    waited = -math.inf


class Patience:
    """The targets of a bus on which nobody listens, and since when.

    Not thread-safe: the owner holds a lock around every call.

    :param seconds: how long callers of a target wait, from the moment when it was
        first found without listeners
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._missing: dict[Hashable, _Absence] = {}
        #: monotonic time until which nobody counts as gone
        self._doubtful_until = -math.inf
        self._thread = _Thread()

    def missing(self, target: Hashable, moment: float) -> None:
        """Note that nobody listens on a target.

        :param moment: monotonic time at which that was seen; the first one counts
        """
        self._absence(target, moment)

    def until(
        self, target: Hashable, moment: float, began: float, is_call: bool
    ) -> float:
        """Return until when this thread waits for somebody to listen on a target.

        :param moment: monotonic time at which nobody was seen there; the first counts
        :param began: monotonic time at which the thread has begun to call or cast
        """
        goes_on = not is_call and self._goes_on(began)
        # nobody knows since when a new one is missing: the next request is not to wait
        # for what this one does not wait for
        absence = self._absence(target, moment - self._seconds if goes_on else moment)
        until = max(absence.since + self._seconds, self._doubtful_until)
        if is_call:
            # what fails after this call has begun does not hold it up any longer
            return max(until, min(absence.failed, began) + PACE)
        return min(until, began) if goes_on else until

    def deserted(self, target: Hashable, moment: float) -> None:
        """Note when a target has lost its last listener, as the bus knows it.

        That counts, whenever this process has first seen that nobody was there:
        somebody may have come and left since.

        :param moment: monotonic time
        """
        self._absence(target, moment).since = moment

    def _absence(self, target: Hashable, moment: float) -> _Absence:
        absence = self._missing.get(target)
        if absence is None:
            absence = self._missing[target] = _Absence(moment)
            if len(self._missing) > MOST:
                del self._missing[next(iter(self._missing))]
        return absence

    def failed(
        self, target: Hashable, moment: float, began: float, is_call: bool
    ) -> None:
        """Note that this thread has failed to reach a missing target.

        :param moment: monotonic time
        :param began: monotonic time at which the thread has begun to call or cast
        """
        absence = self._missing.get(target)
        if absence is not None and is_call:
            absence.failed = moment
        if not is_call and (moment - began > SAME_REQUEST or self._goes_on(began)):
            self._thread.waited = moment

    def _goes_on(self, began: float) -> bool:
        """Whether a cast belongs to a request that has waited in vain already."""
        return began - self._thread.waited < SAME_REQUEST

    def found(self, target: Hashable) -> None:
        """Note that somebody listens on a target."""
        self._missing.pop(target, None)

    def doubt(self, until: float) -> None:
        """Note that who has come back may not be seen yet.

        :param until: monotonic time until which targets are waited for that are gone
        """
        self._doubtful_until = max(self._doubtful_until, until)

    def forget(self) -> None:
        """Note that the bus was lost: what was seen there says nothing any more."""
        self._missing.clear()
