# SPDX-License-Identifier: Apache-2.0
"""One side of a transport: the bus that it uses, and its way back to its own host.

A connection stays where it is. So after the hosts of a URL were restarted one after
the other, the last one would have no clients any more. Each side of a transport has a
home, chosen at random among the hosts, and returns to it. It makes a second bus there,
sends and listens on that one, and closes the first when nothing is under way on it any
more. So no message is lost, and none waits.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.amqp.bus import Bus
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.incoming import Inbox
from hybrid_messaging.drivers.amqp.mailbox import Mailbox

LOG = logs.get(__name__)

#: Called with a bus and the hosts, one of which it should be connected to instead.
Move = Callable[[Bus, list[Host]], None]

#: Seconds that a host has to be there before it is used: a router that has just started
#: needs that to find the others.
JOINING = 10.0
#: Seconds that listeners receive on both buses: other routers hear of a new receiver
#: within one second, and send to the old one until then.
OVERLAP = 3.0
#: Seconds between two looks whether the old bus is still needed.
LOOK = 0.5


class Uplink:
    """One side of a transport.

    :param make_bus: makes a bus
    """

    def __init__(self, make_bus: Callable[[Move], Bus]) -> None:
        self._make_bus = make_bus
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._mailboxes: set[Mailbox] = set()
        #: to be used for what is new
        self.bus = make_bus(self._start_moving)
        #: the one that is tried, to take its place
        self._trial: Bus | None = None
        #: those that are left, which takes as long as the longest call on them
        self._left: set[Bus] = set()

    def listen(self, open: Callable[[Bus], Inbox]) -> Mailbox:
        """Open a mailbox, which comes along when this side moves.

        :param open: opens an inbox on a bus
        """
        mailbox = Mailbox(open, lambda: self.bus, self._mailboxes.discard)
        self._mailboxes.add(mailbox)
        try:
            mailbox.move()
        except BaseException:
            self._mailboxes.discard(mailbox)
            raise
        return mailbox

    def close(self) -> None:
        """Close the connections and let go of everything."""
        with self._lock:
            self._closed.set()
            buses = self._buses()
        for bus in buses:
            bus.close()

    def after_fork(self) -> None:
        """In a child: all of it is the parent's."""
        for bus in self._buses():
            bus.after_fork()

    def _buses(self) -> list[Bus]:
        trial = [] if self._trial is None else [self._trial]
        return [self.bus, *trial, *self._left]

    # -- to another host -------------------------------------------------------

    def _start_moving(self, bus: Bus, hosts: list[Host]) -> None:
        """Begin to move, in a thread that ends with the move."""
        with self._lock:
            if self._closed.is_set() or bus is not self.bus or self._trial is not None:
                return
            trial = self._make_bus(self._start_moving)
            try:
                threading.Thread(
                    target=self._move,
                    args=[trial, hosts],
                    name="amqp-move",
                    daemon=True,
                ).start()
            except RuntimeError as error:  # it has all the threads it may have
                LOG.warning("Cannot move to another host now: %s", error)
            else:
                self._trial = trial

    def _move(self, new: Bus, hosts: list[Host]) -> None:
        moves = False
        with contextlib.suppress(RuntimeError):  # as above, of the bus' own thread
            moves = (
                new.connect_to(hosts)
                and not self._closed.wait(JOINING)
                and new.stays_at(hosts)
            )
        with self._lock:
            self._trial = None
            if self._closed.is_set():
                return
            old = new
            if moves:
                old, self.bus = self.bus, new
            self._left.add(old)
        if moves:
            new.take_over()
            self._move_listeners(old)
            self._leave(old)
        old.close()
        with self._lock:
            self._left.discard(old)

    def _move_listeners(self, old: Bus) -> None:
        while not all([self._moves(each) for each in tuple(self._mailboxes)]):
            if self._closed.wait(LOOK):
                return
        if self._mailboxes and not self._closed.wait(OVERLAP):
            for mailbox in tuple(self._mailboxes):
                mailbox.leave(old)

    def _moves(self, mailbox: Mailbox) -> bool:
        """Have a mailbox receive on the bus in use; return whether it does."""
        try:
            mailbox.move()
        except ConfigurationError as error:  # the peer is no bus for it: try again
            LOG.debug("%s", error)
        return mailbox.settled

    def _leave(self, old: Bus) -> None:
        """Wait until nothing is under way on a bus that is used no longer."""
        while not all([mailbox.has_left(old) for mailbox in tuple(self._mailboxes)]):
            if self._closed.wait(LOOK):
                return
        old.retire()
        while old.busy:
            if self._closed.wait(LOOK):
                return
