# SPDX-License-Identifier: Apache-2.0
"""What a listener receives, on the bus of its transport and on one that it leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto

from hybrid_messaging.drivers.amqp.bus import Bus
from hybrid_messaging.drivers.amqp.incoming import Inbox


class Phase(Enum):
    """What the listener has asked for."""

    NEW = auto()
    STARTED = auto()
    STOPPED = auto()
    CLOSED = auto()


class Mailbox:
    """The inboxes of one listener: one on each bus that it receives from.

    :param open: opens an inbox on a bus
    :param closed: called with this when it is closed
    """

    def __init__(
        self, open: Callable[[Bus], Inbox], closed: Callable[[Mailbox], None]
    ) -> None:
        self._open = open
        self._closed = closed
        #: held while an inbox is opened, which may take seconds
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._phase = Phase.NEW
        self._bus: Bus | None = None
        #: the newest is the last
        self.inboxes: list[Inbox] = []

    # -- the listener ----------------------------------------------------------

    def start(self) -> None:
        """Let messages come."""
        self._enter(Phase.STARTED, Inbox.start)

    def stop(self) -> None:
        """Let no more messages come."""
        self._enter(Phase.STOPPED, Inbox.stop)

    def _enter(self, phase: Phase, function: Callable[[Inbox], None]) -> None:
        with self._lock:
            self._phase = phase
            for inbox in self.inboxes:
                function(inbox)

    def cleanup(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._phase = Phase.CLOSED
            inboxes, self.inboxes = self.inboxes, []
        for inbox in inboxes:
            inbox.cleanup()
        self._closed(self)

    # -- moving ----------------------------------------------------------------

    def move(self, bus: Bus) -> None:
        """Receive on a bus, and for the time being on the one before as well."""
        with self._opening:
            if self._bus is bus or self._phase in (Phase.STOPPED, Phase.CLOSED):
                return
            inbox = self._open(bus)
            self._bus = bus
            with self._lock:
                if self._phase in (Phase.NEW, Phase.STARTED):
                    self.inboxes.append(inbox)
                    if self._phase is Phase.STARTED:
                        inbox.start()
                    return
        inbox.cleanup()

    def settled(self, bus: Bus) -> bool:
        """Whether it receives on a bus, or nowhere any more."""
        with self._lock:
            if self._phase in (Phase.STOPPED, Phase.CLOSED):
                return True
            return self._bus is bus and self.inboxes[-1].attached

    def leave(self) -> None:
        """Take what still comes on the bus before, and then no more."""
        with self._lock:
            for inbox in self.inboxes[:-1]:
                inbox.retire()

    def has_left(self) -> bool:
        """Let go of the bus before, if nothing is under way there for this listener."""
        with self._lock:
            left = self.inboxes[:-1]
            if not all(inbox.done for inbox in left):
                return False
            del self.inboxes[:-1]
        for inbox in left:
            inbox.cleanup()
        return True
