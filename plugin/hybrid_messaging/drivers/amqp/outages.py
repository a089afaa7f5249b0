# SPDX-License-Identifier: Apache-2.0
"""What the log says of outages: one line when a bus goes, one when it is back."""

from __future__ import annotations

import time

from hybrid_messaging.drivers import logs

LOG = logs.get(__name__)


class Outages:
    """The outages of one bus.

    :param side: which of a transport's connections it is
    """

    def __init__(self, side: str) -> None:
        self._name = f"amqp:// ({side})"
        #: monotonic time at which the outage began that is on
        self._since: float | None = None

    def away(self, reason: str) -> None:
        """There is no connection."""
        if self._since is None:
            self._since = time.monotonic()
            LOG.warning("%s: %s; connecting again", self._name, reason)
        else:
            LOG.debug("%s: %s", self._name, reason)

    def moving(self, host: str) -> None:
        """The bus takes the place of one at another host."""
        LOG.info("%s: moving to %s", self._name, host)

    def up(self, peer: str) -> None:
        """There is a connection, perhaps again."""
        if self._since is None:
            LOG.info("%s: connected to %s", self._name, peer)
        else:
            lasted = time.monotonic() - self._since
            LOG.info("%s: connected to %s after %.1f s", self._name, peer, lasted)
            self._since = None
