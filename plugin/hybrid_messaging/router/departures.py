# SPDX-License-Identifier: Apache-2.0
"""Which addresses have lost their last consumer, and when."""

from __future__ import annotations

#: Addresses that are remembered; the one deserted first is forgotten first.
MOST = 10_000
#: Characters; addresses with longer names are not remembered.
LONGEST_NAME = 1024


class Departures:
    """The addresses that had consumers and have none now."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}

    def note(self, name: str, moment: float) -> None:
        """The last consumer of an address has left.

        :param moment: monotonic time
        """
        if len(name) > LONGEST_NAME:
            return
        self._moments[name] = moment
        if len(self._moments) > MOST:
            del self._moments[next(iter(self._moments))]

    def clear(self, name: str) -> None:
        """An address has a consumer."""
        self._moments.pop(name, None)

    def moment(self, name: str) -> float | None:
        """Return the monotonic time since which an address has no consumer.

        :returns: None: it has one, never had one, or it is not known any more
        """
        return self._moments.get(name)
