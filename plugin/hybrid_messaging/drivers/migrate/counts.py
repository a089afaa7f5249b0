# SPDX-License-Identifier: Apache-2.0
"""How many calls and casts a process sends over either bus, and to which topics.

Operators want to know what still goes over the old bus, and who sends it. Each process
writes that into its log, from time to time and only if there is something: a line of
each process is cheap, and needs no place that all services may write to.
"""

from __future__ import annotations

import collections
import threading

from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.migrate.buses import Request
from hybrid_messaging.drivers.migrate.courses import Way

LOG = logs.get(__name__)

#: Seconds between two lines.
INTERVAL = 600.0
#: Topics that a line names: those with the most requests.
NAMED = 10


class Counts:
    """Requests that a transport has sent since the last line.

    :param new, old: the names of the buses
    """

    def __init__(self, new: str, old: str) -> None:
        self._names = new, old
        self._lock = threading.Lock()
        self._since: float | None = None
        #: over the new bus. Threads that count in the same moment may lose one: the
        #: way of most requests has no lock.
        self._new = 0
        #: over the old bus, by topic
        self._old: collections.Counter[str] = collections.Counter()

    def sent(self, way: Way, request: Request) -> None:
        """Count a request that a bus has taken."""
        now = request.began
        if way is Way.NEW:
            self._new += 1
        else:
            with self._lock:
                self._old[request.target.topic] += 1
        since = self._since
        if since is None:
            self._since = now
        elif now >= since + INTERVAL:
            self._write(now)

    def _write(self, now: float) -> None:
        with self._lock:
            since = self._since
            if since is None or now < since + INTERVAL:
                return  # another thread has just done so
            old, new = self._old, self._new
            self._old, self._new, self._since = collections.Counter(), 0, now
        if old:
            topics = [f"{topic} {count}" for topic, count in old.most_common(NAMED)]
            if len(old) > NAMED:
                topics.append("others")
            LOG.info(
                "RPC of the last %d s: %d requests over %s, %d over %s (%s)",
                now - since,
                new,
                self._names[0],
                old.total(),
                self._names[1],
                ", ".join(topics),
            )
