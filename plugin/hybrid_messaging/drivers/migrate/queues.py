# SPDX-License-Identifier: Apache-2.0
"""Whether somebody consumes from a queue of RabbitMQ.

AMQP 0-9-1 says so in the answer to a passive declaration (`queue.declare`, section
1.7.2.1): how many consumers the queue has, or that there is no such queue. One thread
asks, over a connection of its own: a node that does not answer keeps nobody else
waiting.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, NamedTuple

from amqp.exceptions import NotFound

from hybrid_messaging.drivers import logs, oslo, reentry
from hybrid_messaging.drivers.presence import Presence

LOG = logs.get(__name__)

#: Seconds after which a queue is looked at again that is still of interest.
FRESH = 0.5
#: Seconds between two looks at a queue, however many requests need a new one.
PACE = 0.005
#: Seconds after which what was found says nothing any more.
STALE = 5.0
#: Seconds without a look after a connection has failed.
PAUSE = 1.0
#: Queues that are remembered; the oldest is forgotten first.
MOST = 10_000


class _Found(NamedTuple):
    presence: Presence
    #: monotonic time at which the look began
    at: float


class Queues:
    """The queues of one virtual host.

    :param driver: oslo.messaging's `rabbit` driver
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._lock = threading.Lock()
        self._found: dict[str, _Found] = {}
        self._asked: set[str] = set()
        self._to_do: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    # -- any thread ----------------------------------------------------------

    def presence(self, name: str, since: float) -> Presence:
        """Return whether somebody consumes from a queue, without waiting.

        What was found is used until the next look has an answer, for `STALE` at most.
        Requests that cannot use it share the next look, which follows after `PACE`.

        :param since: monotonic time; what was found before counts no more
        """
        found = self._found.get(name)
        now = time.monotonic()
        if found is None or found.at < min(max(since, now - FRESH), now - PACE):
            self._ask(name)
        if found is None or found.at < max(since, now - STALE):
            return Presence.UNKNOWN
        return found.presence

    def _ask(self, name: str) -> None:
        if name in self._asked:
            return
        with self._lock:
            if self._closed or name in self._asked:
                return
            self._asked.add(name)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="migrate-queues", daemon=True
                )
                self._thread.start()
        self._to_do.put(name)

    def close(self) -> None:
        """Look no more."""
        with self._lock:
            self._closed = True
        self._to_do.put(None)

    # -- its own thread ------------------------------------------------------

    def _run(self) -> None:
        connection: Any = None
        while (name := self._to_do.get()) is not None:
            began = time.monotonic()
            try:
                if connection is None:
                    connection = oslo.open_connection(self._driver)
                presence = _look(connection, name)
            except Exception as error:  # whatever kombu and its parts raise
                LOG.debug("Cannot look at queues: %s", error)
                _close(connection)
                connection = None
                presence = Presence.UNKNOWN
            self._note(name, _Found(presence, began))
            if presence is Presence.UNKNOWN and not self._closed:
                time.sleep(PAUSE)
        _close(connection)

    @reentry.works
    def _note(self, name: str, found: _Found) -> None:
        with self._lock:
            self._found.pop(name, None)
            self._found[name] = found
            if len(self._found) > MOST:
                del self._found[next(iter(self._found))]
            self._asked.discard(name)


def _look(connection: Any, name: str) -> Presence:
    # A channel of its own: the broker closes it where there is no such queue.
    with oslo.locked(connection), connection.connection.channel() as channel:
        try:
            answer = channel.queue_declare(name, passive=True)
        except NotFound:
            return Presence.ABSENT
    return Presence.LISTENING if answer.consumer_count else Presence.GONE


def _close(connection: Any) -> None:
    if connection is not None:
        try:
            connection.close()
        except Exception as error:  # it may be broken in any way
            LOG.debug("Cannot close a connection: %s", error)
