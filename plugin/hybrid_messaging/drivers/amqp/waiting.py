# SPDX-License-Identifier: Apache-2.0
"""The thread that sends a message waits for what becomes of it.

It watches its own deadlines: the thread that reads has no timers for messages,
it only tells what the bus has said about them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from oslo_messaging import exceptions

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.amqp.connection import CALLERS_READ
from hybrid_messaging.drivers.amqp.route import Outgoing, State

if TYPE_CHECKING:
    from hybrid_messaging.drivers.amqp.bus import Bus

#: A router that has confirmed a link grants its credit within this, if anybody
#: listens: seconds before its silence means that nobody does.
SETTLING = 0.25
#: Pauses before a message that came back unseen is sent again, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
#: A thread that has sent alone so many times in a row reads for itself.
LONE_SENDINGS = 4


class Waiting:
    """The threads of a process that wait on one bus."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._threads = 0
        #: messages sent since two threads waited at once
        self.alone = 0

    def send(
        self,
        message: Outgoing,
        timeout: float,
        unreachable_timeout: float | None = None,
    ) -> Any:
        """Send a message and wait until it is over.

        :param timeout: seconds that all of it may take
        :param unreachable_timeout: seconds to wait for somebody to listen; None:
            the option's
        :returns: the body of the reply, for a call
        :raises DeliveryError: it did not get through, its class says why
        :raises MessagingTimeout: the time was up first
        """
        if message.fanout:
            unreachable_timeout = 0  # a fanout to nobody is no error: do not wait
        elif unreachable_timeout is None:
            unreachable_timeout = self.bus.options.unreachable_timeout
        self.bus.start()
        self.bus.lock.leave(self._begin, message)
        try:
            _Wait(self, message, timeout, unreachable_timeout).run()
        finally:
            self.bus.lock.leave(self._end, message)
        if message.error is not None:
            raise message.error
        return message.reply

    def _begin(self, message: Outgoing) -> None:
        # where requests come in, nobody else may keep the bus' thread from reading
        if self._threads or self.bus.subscriptions:
            if self.alone >= LONE_SENDINGS:
                self.step_in()  # whoever has read for itself may not do so now
            self.alone = 0
        else:
            self.alone += 1
        self._threads += 1
        try:
            self.bus.outbox.submit(message)
        except Exception as error:
            message.finish(error)
        if message.state is State.DONE:
            message.waiter.wake()

    def _end(self, message: Outgoing) -> None:
        if message.state is not State.DONE:  # its thread has been torn away
            self.bus.outbox.cancel(message, None)
        self._threads -= 1
        if self._threads:
            self.step_in()

    def step_in(self) -> None:
        """Have the bus' own thread read."""
        connection = self.bus.connection
        if connection is not None:
            connection.step_in()


class _Wait:
    """One thread's wait for one message."""

    def __init__(
        self,
        waiting: Waiting,
        message: Outgoing,
        timeout: float,
        unreachable_timeout: float,
    ) -> None:
        self._waiting = waiting
        self._bus = waiting.bus
        self._message = message
        self._deadline = message.since + timeout
        self._unreachable_timeout = unreachable_timeout
        # when to look whether waiting still makes sense
        self._look_up = message.since + unreachable_timeout
        self._pause = FIRST_PAUSE

    def run(self) -> None:
        message = self._message
        while message.state is not State.DONE:
            self._sleep(
                min(
                    self._look_up,
                    self._deadline,
                    message.monitor_until or self._deadline,
                )
            )
            if message.state is State.RELEASED:
                self._send_again()
            elif message.state is not State.DONE:
                with self._bus.lock:
                    self._watch()

    def _sleep(self, until: float) -> None:
        if CALLERS_READ and self._waiting.alone >= LONE_SENDINGS:
            connection = self._bus.connection
            if connection is not None and connection.read_while(
                self._message.waits, until, self._bus.catch_up
            ):
                return
        self._message.waiter.wait(until - time.monotonic())

    def _send_again(self) -> None:
        """After the message came back unseen: a little later, or never."""
        message, outbox = self._message, self._bus.outbox
        now = time.monotonic()
        unseen_since = message.unseen_since or message.since
        gives_up = min(self._deadline, unseen_since + self._unreachable_timeout)
        if now >= gives_up or not message.may_retry():
            with self._bus.lock:
                if message.state is State.RELEASED:
                    message.finish(self._unreachable())
            return
        self._waiting.step_in()
        message.waiter.wait(0)  # who reads for itself has not taken the wake-up yet
        message.waiter.wait(min(self._pause, gives_up - now))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        with self._bus.lock:
            if message.state is State.RELEASED:
                outbox.submit(message)
                self._bus.flush()

    def _watch(self) -> None:
        """After a sleep that nothing ended: sleep on, or fail."""
        message, outbox = self._message, self._bus.outbox
        if message.state in (State.DONE, State.RELEASED):
            return
        now = time.monotonic()
        if now >= self._deadline:
            outbox.cancel(message, self._timed_out())
        elif message.monitor_until is not None and now >= message.monitor_until:
            outbox.cancel(
                message,
                exceptions.MessagingTimeout(
                    f"{self._what()}: no sign of life from the server within"
                    f" {message.monitor_interval:g} s"
                ),
            )
        elif message.state is State.SENT:
            self._look_up = self._deadline
        else:
            self._watch_queued(now)

    def _watch_queued(self, now: float) -> None:
        message, route = self._message, self._message.route
        if route is None or route.attached is None or not route.deserted:
            self._look_up = now + max(self._unreachable_timeout, SETTLING)
            return
        self._look_up = max(
            message.since + self._unreachable_timeout,
            route.attached + max(self._unreachable_timeout, SETTLING),
        )
        if now >= self._look_up:
            error = None if message.fanout else self._unreachable()
            self._bus.outbox.cancel(message, error)

    # -- what went wrong, for people -------------------------------------------

    def _what(self) -> str:
        return f"{self._message.name} to {self._bus.outbox.where(self._message)}"

    def _unreachable(self) -> Exception:
        hint = ""
        if self._message.service == "notify" and self._bus.routing:
            hint = (
                "; the peer is a router, which stores nothing: notifications need a"
                " broker (set [oslo_messaging_notifications] transport_url)"
            )
        route = self._message.route
        refusal = f" ({route.refusal})" if route is not None and route.refusal else ""
        return errors.TargetUnreachable(
            f"{self._what()}: nobody listens there{refusal}{hint}"
        )

    def _timed_out(self) -> Exception:
        message = self._message
        took = f"{time.monotonic() - message.since:.1f} s"
        if self._bus.addressing is None:
            return errors.BusUnavailable(
                f"{self._what()}: no connection within {took}: {self._bus.reason}"
            )
        if message.state is State.SENT:
            awaited = "reply" if message.id is not None else "confirmation"
            return exceptions.MessagingTimeout(
                f"{self._what()}: no {awaited} within {took}"
            )
        if not self._bus.outbox.has_return(message):
            return errors.MessageRefused(
                f"{self._what()}: the bus has not given an address for the reply"
                f" within {took}"
            )
        return errors.DeliveryError(
            f"{self._what()}: the listeners took no more messages within {took}"
        )
