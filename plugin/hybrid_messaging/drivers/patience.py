# SPDX-License-Identifier: Apache-2.0
"""How long callers wait for the servers of a target that nobody listens on.

A server that restarts is back within half a minute, and its callers should not
notice. A server that is gone for good should not cost each caller half a minute.
So patience belongs to the target: it begins when a target is first found without
listeners, all callers of the target share it, and once it has run out, they fail
at once until somebody listens again.
"""

from __future__ import annotations

from collections.abc import Hashable

#: Missing targets that are remembered; the oldest is forgotten first.
MOST = 10_000


class Patience:
    """The targets of a bus on which nobody listens, and since when.

    Not thread-safe: the owner holds a lock around every call.

    :param seconds: how long callers of a target wait, from the moment when it was
        first found without listeners
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._missing: dict[Hashable, float] = {}

    def missing(self, target: Hashable, moment: float) -> float:
        """Note that nobody listens on a target.

        :param moment: monotonic time at which that was seen; the first one counts
        :returns: monotonic time until which its callers wait
        """
        since = self._missing.setdefault(target, moment)
        if len(self._missing) > MOST:
            del self._missing[next(iter(self._missing))]
        return since + self.seconds

    def found(self, target: Hashable) -> None:
        """Note that somebody listens on a target."""
        self._missing.pop(target, None)

    def until(self, target: Hashable) -> float | None:
        """Return the monotonic time until which callers wait.

        :returns: None if the target is not known to be without listeners
        """
        since = self._missing.get(target)
        return None if since is None else since + self.seconds

    def forget(self) -> None:
        """Note that the bus was lost: what was seen there says nothing any more."""
        self._missing.clear()
