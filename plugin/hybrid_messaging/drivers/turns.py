# SPDX-License-Identifier: Apache-2.0
"""Which thread reads a socket: its own, or a caller that would only wait for it.

A caller that is alone reads its answer by itself, which saves two hand-overs
between threads per call. As soon as several threads wait, the socket's own thread
reads for all of them. This module decides whose turn it is. It knows no sockets:
its owner says what has happened, and does what it is told.

The states::

    WATCHED   the own thread waits on the socket; no caller does
    OWN       the own thread reads
    SHARED    a caller waits on the socket and will read; so far, the own thread
              waits there as well
    LED       a caller waits on the socket and will read; the own thread rests
    RESTING   nobody waits on the socket: the last caller has its answer and is
              likely to send again at once; the own thread rests, but not for long
    ENDING    no caller may read any more; the last one has not left yet
    ENDED     no caller reads any more

What holds in all of them: at most one thread reads, and as long as a thread waits
for an answer, somebody waits on the socket.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from enum import Enum, auto

from oslo_utils import eventletutils

from hybrid_messaging.drivers.waiter import Waiter

#: Seconds after which the own thread waits on the socket again if no caller does.
REST = 0.25
#: Whether callers read at all: greenlets may not wait for the same descriptor twice,
#: and switch cheaply.
CALLERS_READ = not eventletutils.is_monkey_patched("thread")
#: A thread that has sent alone so many times in a row reads for itself.
LONE_SENDINGS = 4 if CALLERS_READ else math.inf


class State(Enum):
    """Who waits on the socket, and who reads."""

    WATCHED = auto()
    OWN = auto()
    SHARED = auto()
    LED = auto()
    RESTING = auto()
    ENDING = auto()
    ENDED = auto()


class Turns:
    """The turns of the threads that share a socket.

    :param wake_own: makes the own thread return from waiting on the socket
    :param wake_leader: makes a caller return from waiting on the socket
    """

    def __init__(
        self, wake_own: Callable[[], None], wake_leader: Callable[[], None]
    ) -> None:
        self._wake_own = wake_own
        self._wake_leader = wake_leader
        self._lock = threading.Lock()
        self._state = State.WATCHED
        #: threads between begin() and end()
        self._callers = 0
        #: calls begun since two threads were there at once
        self._alone = 0
        self._rests = False
        self._rest = Waiter()
        self._left = Waiter()

    # -- callers -------------------------------------------------------------

    def begin(self) -> None:
        """A thread is about to send something and to wait for the answer."""
        with self._lock:
            self._callers += 1
            self._alone = 0 if self._callers > 1 else self._alone + 1

    def end(self) -> None:
        """The thread waits no longer."""
        with self._lock:
            self._callers -= 1

    @property
    def crowded(self) -> bool:
        """Whether several threads wait, or are about to."""
        return self._callers > 1

    def lead(self) -> bool:
        """Take the turn to read, for a thread that has been alone for a while.

        :returns: False if the thread has to wait for what others read. Otherwise it
            waits on the socket, reads, and calls `leave`
        """
        if self._alone < LONE_SENDINGS:
            return False
        with self._lock:
            if self._state is State.WATCHED:
                self._state = State.SHARED
            elif self._state is State.RESTING:
                self._state = State.LED
            else:
                return False
            return True

    def leave(self) -> None:
        """Give the turn back."""
        with self._lock:
            rests = self._rests
            if self._state is State.ENDING:
                self._state = State.ENDED
                self._left.wake()
                return
            if self._state is State.SHARED:
                self._state = State.WATCHED
                return
            if rests and self._callers <= 1:
                self._state = State.RESTING
                return
            self._state = State.WATCHED
        self._call(rests)

    def follow(self) -> None:
        """See that another thread reads, before this one waits for what that does."""
        # Without the lock: who leaves sees in _callers that we are here.
        if self._state is State.RESTING:
            with self._lock:
                if self._state is not State.RESTING:
                    return
                self._state = State.WATCHED
            self._rest.wake()

    # -- the own thread ------------------------------------------------------

    def watches(self, pause: float) -> bool:
        """Rest while callers read.

        :param pause: seconds that the own thread has time to rest
        :returns: whether the own thread is to wait on the socket now
        """
        if not self._lie_down():
            return True
        self._rest.wait(min(pause, REST))
        return self._get_up()

    def _lie_down(self) -> bool:
        with self._lock:
            self._rests = self._state in (State.LED, State.RESTING)
            return self._rests

    def _get_up(self) -> bool:
        with self._lock:
            self._rests = False
            if self._state is State.RESTING:
                self._state = State.WATCHED
            return self._state is not State.LED

    def stays(self) -> bool:
        """Do not rest, since there is something else to wait for.

        :returns: whether to wait for something to read as well; if not, `wake_own`
            is called when that changes
        """
        return self._get_up()

    def take(self) -> bool:
        """Take the turn to read, as there is something to read.

        :returns: False if a caller reads it. Otherwise the own thread reads, and
            calls `done`
        """
        with self._lock:
            if self._state is State.SHARED:
                self._state = State.LED
            if self._state is not State.WATCHED:
                return False
            self._state = State.OWN
            return True

    def done(self) -> None:
        """Give the turn back."""
        with self._lock:
            self._state = State.WATCHED

    def finish(self, led_here: bool = False) -> None:
        """Wait until no caller reads any more; none will from now on.

        :param led_here: the caller is this thread, which a signal handler interrupts:
            it cannot be waited for
        """
        with self._lock:
            led = self._state in (State.SHARED, State.LED)
            self._state = State.ENDING if led else State.ENDED
        if led and not led_here:
            self._wake_leader()
            self._left.wait(None)

    def anew(self) -> None:
        """There is another socket: callers may read again."""
        with self._lock:
            self._state = State.WATCHED

    # -- any thread ----------------------------------------------------------

    def call(self) -> None:
        """Make the own thread look up, whether it rests or waits on the socket."""
        with self._lock:
            rests = self._rests
        self._call(rests)

    def _call(self, rests: bool) -> None:
        if rests:
            self._rest.wake()
        else:
            self._wake_own()

    def nudge(self) -> None:
        """Make the caller that waits on the socket look up, if there is one."""
        if self._state in (State.SHARED, State.LED, State.ENDING):
            self._wake_leader()
