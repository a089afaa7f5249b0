# SPDX-License-Identifier: Apache-2.0
"""A listener on both buses."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hybrid_messaging.drivers import logs, oslo
from hybrid_messaging.drivers.listeners import NotExecuted
from hybrid_messaging.drivers.migrate.buses import LeftOver
from hybrid_messaging.drivers.migrate.sending import FANOUT_ID, FANOUT_SENT
from hybrid_messaging.drivers.seen import Seen

LOG = logs.get(__name__)

#: Seconds that opening the listeners may take before a service starts without one of
#: them, which follows as soon as its bus is there: `rabbit` waits for ever.
OPENING = 10.0
#: Fanouts that are remembered, and for how many seconds: one bus may be away while the
#: other has delivered them.
FANOUTS, FANOUT_MEMORY = 10_000, 600.0
#: Seconds before a late listener is opened anew that has failed: at first, at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0

OnIncoming = Callable[[list[oslo.RpcIncomingMessage]], None]


class Half:
    """The listener on one bus, opened in a thread of its own.

    :param name: of the bus
    :param listen: opens the listener
    :param left_over: returns what the listener has taken while it was stopped and
        cleaned up, which is done at once; None: it is cleaned up when the service has
        ended
    """

    def __init__(
        self,
        name: str,
        listen: Callable[[], oslo.Listener],
        left_over: LeftOver | None = None,
    ) -> None:
        self.name = name
        self._listen = listen
        self._left_over = left_over
        self._lock = threading.Lock()
        self._listener: oslo.Listener | None = None
        self._on_incoming: OnIncoming | None = None
        self._stopped = threading.Event()
        #: why it could not be opened
        self.failure: Exception | None = None
        #: it is open, or has failed
        self._settled = threading.Event()
        #: nobody waits for it any longer
        self._late = False
        threading.Thread(target=self._run, name="migrate-listen", daemon=True).start()

    def wait(self, until: float) -> None:
        """Wait until it is open, or has failed to.

        :param until: monotonic time at which to go on without it
        """
        self._settled.wait(max(0.0, until - time.monotonic()))
        with self._lock:
            self._late = not self._settled.is_set()
        if self._late:
            LOG.warning(
                "%s is away; listening there begins as soon as it is back", self.name
            )

    def _run(self) -> None:
        for pause in _pauses():
            try:
                listener = self._listen()
            except Exception as error:
                if not self._is_to_go_on(error):
                    return
                LOG.warning(
                    "Cannot listen on %s, next attempt in %.0f s: %s",
                    self.name,
                    pause,
                    error,
                )
                if self._stopped.wait(pause):
                    return
            else:
                self._take(listener)
                return

    def _is_to_go_on(self, error: Exception) -> bool:
        """Note a failure; whoever waits for the listener is to know of the first."""
        with self._lock:
            if not self._late:
                self.failure = error
                self._settled.set()
            return self._late

    def _take(self, listener: oslo.Listener) -> None:
        with self._lock:
            if not self._stopped.is_set():
                self._listener = listener
                if self._on_incoming is not None:
                    listener.start(self._on_incoming)
            self._settled.set()
        if self._listener is None:
            _clean_up(self.name, listener)

    def start(self, on_incoming: OnIncoming) -> None:
        with self._lock:
            self._on_incoming = on_incoming
            if self._listener is not None:
                self._listener.start(on_incoming)

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            listener, on_incoming = self._listener, self._on_incoming
        if listener is None or on_incoming is None:
            return
        listener.stop()
        if self._left_over is None:
            return
        self._listener = None
        _clean_up(self.name, listener)
        for incoming in self._left_over(listener):
            try:
                on_incoming([incoming])
            except Exception:  # the others are executed all the same
                LOG.exception("Cannot hand on a request from %s", self.name)

    def cleanup(self) -> None:
        with self._lock:
            self._stopped.set()
            listener, self._listener = self._listener, None
        if listener is not None:
            _clean_up(self.name, listener)


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)


def _clean_up(name: str, listener: oslo.Listener) -> None:
    try:
        listener.cleanup()
    except Exception as error:  # it is kombu's, where the broker is away
        LOG.warning("Cannot stop listening on %s cleanly: %s", name, error)


class BothListener(oslo.Listener):
    """Hands on what comes in over either bus; each fanout once.

    What another bus has delivered before this began to listen was for others: perhaps
    for this server, before it restarted.

    The old bus is left first: whoever sends meanwhile finds the new one.

    :param old, new: the halves
    :raises Exception: one of them cannot be opened, and that is known in time
    """

    def __init__(
        self, old: Half, new: Half, batch_size: int, batch_timeout: float | None
    ) -> None:
        super().__init__(batch_size, batch_timeout)
        self._began = time.time()
        self._halves: Sequence[Half] = (old, new)
        self._seen = Seen(FANOUTS, FANOUT_MEMORY)
        until = time.monotonic() + OPENING
        for half in self._halves:
            half.wait(until)
        failures = [half.failure for half in self._halves if half.failure]
        if failures:
            self.cleanup()
            raise failures[0]

    def start(self, on_incoming_callback: OnIncoming) -> None:
        super().start(on_incoming_callback)
        for half in self._halves:
            half.start(self._on_incoming)

    def _on_incoming(self, batch: list[oslo.RpcIncomingMessage]) -> None:
        callback = self.on_incoming_callback
        if callback is None:
            raise RuntimeError("the listener is stopped")
        new = [incoming for incoming in batch if self._is_new(incoming)]
        if new:
            callback(new)

    def _is_new(self, incoming: oslo.RpcIncomingMessage) -> bool:
        id: Any = incoming.message.pop(FANOUT_ID, None)
        sent: Any = incoming.message.pop(FANOUT_SENT, None)
        if not isinstance(id, str):
            return True
        is_for_others = isinstance(sent, float) and sent < self._began
        if not is_for_others and self._seen.is_new(id):
            return True
        with contextlib.suppress(Exception, NotExecuted):
            incoming.acknowledge()
        return False

    def stop(self) -> None:
        for half in self._halves:
            half.stop()
        super().stop()

    def cleanup(self) -> None:
        for half in self._halves:
            half.cleanup()
