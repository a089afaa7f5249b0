# SPDX-License-Identifier: Apache-2.0
"""The thread that sends a message waits for what becomes of it.

It watches its own deadlines: the thread that reads has no timers for messages,
it only says what the peer has said about them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from oslo_messaging import exceptions

from hybrid_messaging.drivers import errors, reentry
from hybrid_messaging.drivers.amqp.outbox import Outbox
from hybrid_messaging.drivers.amqp.outgoing import Outgoing, State
from hybrid_messaging.drivers.amqp.route import SETTLING
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.turns import Turns

#: Pauses before a message that came back unseen is sent again, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
#: Seconds after which a message that is queued is looked at again at the latest.
LONGEST_LOOK = 2.0
#: Seconds after which a reply counts as lost that its server has sent. As long as parts
#: of large replies come, it may be behind them.
GRACE = 1.0
#: A thread that gets up so many seconds late was held up, and so may be what reads.
HELD_UP = 0.25
#: Seconds for which a message that is overdue waits for what has arrived to be read,
#: and between two looks whether it is.
HEARING, HEARING_LOOK = 2.0, 0.01


class Waiting:
    """The threads of a process that wait on one bus.

    :param start: has the bus connect, and do so now if it is about to
    :param lock: the lock of the bus
    :param outbox: takes the messages
    :param turns: who reads
    :param read: reads in the calling thread while something holds, until a moment;
        returns False if the thread is to wait for what others read
    :param unread: whether something may have arrived by a monotonic time that nobody
        has read
    """

    def __init__(
        self,
        start: Callable[[], None],
        lock: CombiningLock,
        outbox: Outbox,
        turns: Turns,
        read: Callable[[Callable[[], bool], float], bool],
        unread: Callable[[float], bool],
    ) -> None:
        self._start = start
        self.lock = lock
        self.outbox = outbox
        self._turns = turns
        self._read = read
        self._unread = unread

    @reentry.works
    def send(
        self, outgoing: Outgoing, timeout: float, monitor: float | None = None
    ) -> Any:
        """Send a message and wait until it is over.

        :param timeout: seconds that all of it may take
        :param monitor: seconds between two signs of life that the server has to give
        :returns: the body of the reply, for a call
        :raises DeliveryError: it did not get through, its class says why
        :raises MessagingTimeout: the time was up first
        """
        self._start()
        self._turns.begin()
        try:
            self.lock.leave(self._submit, outgoing)
            _Wait(self, outgoing, timeout, monitor).run()
        finally:
            self._turns.end()
            if outgoing.state is not State.DONE:  # its thread has been torn away
                self.lock.leave(self.outbox.cancel, outgoing, None)
        if outgoing.error is not None:
            raise outgoing.error
        return outgoing.reply

    def _submit(self, outgoing: Outgoing) -> None:
        if outgoing.state is State.DONE:  # given up before anybody had the time
            return
        try:
            self.outbox.submit(outgoing)
        except errors.Reentered:
            outgoing.finish(
                errors.BusLost(
                    f"{outgoing.message.name} to {self.outbox.where(outgoing)}: a"
                    " signal handler has interrupted the driver and has failed; the"
                    " message may be under way, and a server may act on it"
                )
            )
        except Exception as error:
            outgoing.finish(error)

    def sleep(
        self, outgoing: Outgoing, waits: Callable[[], bool], until: float
    ) -> None:
        """Wait for news of a message, by reading if nobody else does.

        :param waits: whether there are none yet
        """
        if not self._read(waits, until):
            self.pause(outgoing, until - time.monotonic())

    def hear(
        self, outgoing: Outgoing, waits: Callable[[], bool], moment: float
    ) -> None:
        """Wait until all is read that arrived by a moment, or there is news.

        This process, or its eventlet hub, may have been stopped meanwhile.

        :param waits: whether there are none yet
        :param moment: monotonic time
        """
        limit = time.monotonic() + HEARING
        while waits() and self._unread(moment) and (now := time.monotonic()) < limit:
            self.sleep(outgoing, waits, now + HEARING_LOOK)

    def pause(self, outgoing: Outgoing, seconds: float) -> None:
        """Wait for news of a message that others read."""
        self._turns.follow()
        reentry.outside(outgoing.waiter.wait, seconds)


class _Wait:
    """One thread's wait for one message."""

    def __init__(
        self,
        waiting: Waiting,
        outgoing: Outgoing,
        timeout: float,
        monitor: float | None,
    ) -> None:
        self._waiting = waiting
        self._lock = waiting.lock
        self._outbox = waiting.outbox
        self._outgoing = outgoing
        self._deadline = outgoing.since + timeout
        self._monitor = monitor
        # when to look whether waiting still makes sense
        sent = outgoing.state is State.SENT
        self._look_up = self._deadline if sent else outgoing.since + SETTLING
        self._interval = SETTLING
        self._pause = FIRST_PAUSE

    def run(self) -> None:
        """Wait until the message is over."""
        outgoing = self._outgoing
        while outgoing.state is not State.DONE:
            until = min(self._look_up, self._deadline)
            if self._monitor is not None:
                until = min(until, self._silent_at())
            self._waiting.sleep(outgoing, outgoing.waits, until)
            if outgoing.state is State.RELEASED:
                self._send_again()
            elif outgoing.state is State.REPLIED:
                self._await_reply()
            elif outgoing.state is not State.DONE:
                self._waiting.hear(outgoing, outgoing.waits, until)
                with self._lock:
                    self._watch()

    def _silent_at(self) -> float:
        """When the server has given no sign of life for too long."""
        if self._monitor is None:
            return self._deadline
        return self._outgoing.alive + self._monitor

    def _send_again(self) -> None:
        """After the message came back unseen: a little later, or never."""
        outgoing, outbox = self._outgoing, self._outbox
        now = time.monotonic()
        with self._lock:
            if outgoing.overdue(now) and not outbox.knows_of_nobody(outgoing, now):
                outbox.cancel(outgoing, self._timed_out(now))
                return
            until = outbox.nobody_listens(outgoing, now)
            gives_up = self._deadline if until is None else min(self._deadline, until)
            if now >= gives_up or not outgoing.may_retry():
                outbox.give_up(outgoing)
                return
        self._waiting.pause(outgoing, 0)  # uses up the wake-up of its return
        self._waiting.pause(outgoing, min(self._pause, gives_up - now))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._look_up = time.monotonic() + SETTLING
        with self._lock:
            outbox.submit(outgoing)
            outbox.flush()

    def _await_reply(self) -> None:
        """Wait for a reply that was sent, or find that it is lost."""
        outgoing, outbox = self._outgoing, self._outbox
        since = time.monotonic()
        while outgoing.waits_for_reply():
            until = min(since + GRACE, self._deadline)
            waits = outgoing.waits_for_reply
            self._waiting.sleep(outgoing, waits, until)
            self._waiting.hear(outgoing, waits, until)
            now = time.monotonic()
            with self._lock:
                if not outgoing.waits_for_reply():
                    return
                if now >= self._deadline:
                    outbox.cancel(outgoing, self._timed_out(now))
                elif now >= until + HELD_UP:
                    since = now
                elif now >= until:
                    since = outbox.replies_continued
                    if now >= since + GRACE:
                        outbox.reply_lost(outgoing)

    def _watch(self) -> None:
        """After a sleep that nothing ended: sleep on, or fail."""
        outgoing, outbox = self._outgoing, self._outbox
        if not outgoing.waits():
            return
        now = time.monotonic()
        if now >= self._deadline:
            outbox.cancel(outgoing, self._timed_out(now))
        elif now >= self._silent_at():
            outbox.cancel(
                outgoing,
                exceptions.MessagingTimeout(
                    f"{self._what()}: no sign of life from the server within"
                    f" {self._monitor:g} s"
                ),
            )
        elif outgoing.state is State.SENT:
            self._look_up = self._deadline
        else:
            self._watch_queued(now)

    def _watch_queued(self, now: float) -> None:
        until = self._outbox.nobody_listens(self._outgoing, now)
        if until is None:
            self._look_up = now + self._interval
            self._interval = min(self._interval * 2, LONGEST_LOOK)
        elif now < until:
            self._look_up = until
        else:
            self._outbox.give_up(self._outgoing)

    # -- what went wrong, for people -------------------------------------------

    def _what(self) -> str:
        outgoing = self._outgoing
        return f"{outgoing.message.name} to {self._outbox.where(outgoing)}"

    def _timed_out(self, now: float) -> Exception:
        outgoing, outbox = self._outgoing, self._outbox
        within = f"within {now - outgoing.since:.1f} s"
        if not outbox.connected:
            return errors.BusUnavailable(
                f"{self._what()}: no connection {within}: {outbox.reason}"
            )
        if outgoing.state in (State.SENT, State.REPLIED):
            if outgoing.message.is_call:
                return exceptions.MessagingTimeout(f"{self._what()}: no reply {within}")
            return errors.CastUnconfirmed(
                f"{self._what()}: no confirmation {within}; it was withdrawn, but if a"
                " server that hangs has received it, it may still execute it"
            )
        if not outbox.has_return(outgoing.message):
            return errors.MessageRefused(
                f"{self._what()}: the bus did not provide a reply address {within}"
            )
        if outbox.knows_of_nobody(outgoing, now):
            return outbox.unreachable(outgoing)
        why = f"no server had room for it {within}"
        if self._deadline <= outgoing.since:
            why = "its timeout left no time to send it"
        return errors.make(
            errors.ServersBusy, outgoing.message.is_call, f"{self._what()}: {why}"
        )
