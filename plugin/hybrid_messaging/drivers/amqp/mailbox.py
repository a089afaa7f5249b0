# SPDX-License-Identifier: Apache-2.0
"""What a listener receives, on the bus of its transport and on those that it leaves."""

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
    :param bus: returns the bus that is used for what is new
    :param closed: called with this when it is closed
    """

    def __init__(
        self,
        open: Callable[[Bus], Inbox],
        bus: Callable[[], Bus],
        closed: Callable[[Mailbox], None],
    ) -> None:
        self._open = open
        self._bus = bus
        self._closed = closed
        #: held while an inbox is opened, which may take seconds
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._phase = Phase.NEW
        self.inboxes: dict[Bus, Inbox] = {}

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
            for inbox in self.inboxes.values():
                function(inbox)

    def cleanup(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._phase = Phase.CLOSED
            inboxes, self.inboxes = self.inboxes, {}
        for inbox in inboxes.values():
            inbox.cleanup()
        self._closed(self)

    # -- moving ----------------------------------------------------------------

    def move(self) -> None:
        """Receive on the bus in use, and for the time being on those before as well."""
        with self._opening:
            # which one that is may change until here
            bus = self._bus()
            if bus in self.inboxes or self._phase in (Phase.STOPPED, Phase.CLOSED):
                return
            inbox = self._open(bus)
            with self._lock:
                if self._phase in (Phase.NEW, Phase.STARTED):
                    self.inboxes[bus] = inbox
                    if self._phase is Phase.STARTED:
                        inbox.start()
                    return
        inbox.cleanup()

    @property
    def settled(self) -> bool:
        """Whether it receives on the bus in use, or nowhere any more."""
        with self._lock:
            if self._phase in (Phase.STOPPED, Phase.CLOSED):
                return True
            inbox = self.inboxes.get(self._bus())
            return inbox is not None and inbox.attached

    def leave(self, bus: Bus) -> None:
        """Take what still comes on a bus, and then no more."""
        with self._lock:
            if bus in self.inboxes:
                self.inboxes[bus].retire()

    def has_left(self, bus: Bus) -> bool:
        """Let go of a bus, if nothing is under way there for this listener.

        After its stop, it may still answer what it has begun.
        """
        with self._lock:
            inbox = self.inboxes.get(bus)
            if inbox is None:
                return True
            if not inbox.done:
                return False
            del self.inboxes[bus]
        inbox.cleanup()
        return True
