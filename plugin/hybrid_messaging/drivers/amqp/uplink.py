# SPDX-License-Identifier: Apache-2.0
"""One side of a transport: the bus that it uses, and its way back to its own host.

A connection stays where it is. So after the hosts of a URL were restarted one after
the other, the last one would have no clients any more. Each side of a transport has a
home, chosen at random among the hosts, and returns to it. It makes a second bus there,
sends and listens on that one, and closes the first when nothing is under way on it any
more. So no message is lost, and none waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.amqp.bus import Bus
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.incoming import Inbox
from hybrid_messaging.drivers.amqp.mailbox import Mailbox

LOG = logs.get(__name__)

#: Called with a bus and the host that it is not connected to, and should be.
Move = Callable[[Bus, Host], None]

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
        #: the one that is tried, or left
        self._other: Bus | None = None

    def listen(self, open: Callable[[Bus], Inbox]) -> Mailbox:
        """Open a mailbox, which comes along when this side moves.

        :param open: opens an inbox on a bus
        """
        mailbox = Mailbox(open, self._mailboxes.discard)
        with self._lock:
            self._mailboxes.add(mailbox)
            bus = self.bus
        try:
            mailbox.move(bus)
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
        return [self.bus] if self._other is None else [self.bus, self._other]

    # -- to another host -------------------------------------------------------

    def _start_moving(self, bus: Bus, host: Host) -> None:
        """Begin to move, in a thread that ends with the move."""
        with self._lock:
            if self._closed.is_set() or bus is not self.bus or self._other is not None:
                return
            self._other = self._make_bus(self._start_moving)
        threading.Thread(
            target=self._move, args=[host], name="amqp-move", daemon=True
        ).start()

    def _move(self, host: Host) -> None:
        new = self._other
        assert new is not None
        if new.connect_to(host) and not self._closed.wait(JOINING) and new.is_at(host):
            with self._lock:
                if self._closed.is_set():
                    return
                self.bus, self._other = new, self.bus
            new.take_over(host)
            self._move_listeners(new)
            self._leave()
        with self._lock:
            other, self._other = self._other, None
        if other is not None:
            other.close()

    def _move_listeners(self, bus: Bus) -> None:
        while not all([self._moves(each, bus) for each in tuple(self._mailboxes)]):
            if self._closed.wait(LOOK):
                return
        if self._mailboxes and not self._closed.wait(OVERLAP):
            for mailbox in tuple(self._mailboxes):
                mailbox.leave()

    def _moves(self, mailbox: Mailbox, bus: Bus) -> bool:
        """Have a mailbox receive on a bus; return whether it does."""
        try:
            mailbox.move(bus)
        except ConfigurationError as error:  # the peer is no bus for it: try again
            LOG.debug("%s", error)
        return mailbox.settled(bus)

    def _leave(self) -> None:
        """Wait until nothing is under way on the old bus."""
        old = self._other
        assert old is not None
        while not all(mailbox.has_left() for mailbox in tuple(self._mailboxes)):
            if self._closed.wait(LOOK):
                return
        old.retire()
        while old.busy:
            if self._closed.wait(LOOK):
                return
