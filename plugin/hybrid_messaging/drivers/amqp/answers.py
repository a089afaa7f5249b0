# SPDX-License-Identifier: Apache-2.0
"""The replies of a server on their way to its callers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.amqp.duties import Duties
from hybrid_messaging.drivers.amqp.outbox import Outbox
from hybrid_messaging.drivers.amqp.outgoing import Message, Outgoing, State

#: Seconds between two looks for replies that nobody has taken in time.
SWEEP_INTERVAL = 1.0

#: Called with the lock held and the reason why a reply could not be sent, or None.
OnEnd = Callable[[Exception | None], None]


class _Answer(Outgoing):
    """A reply that no thread waits for.

    :param queued: those that wait to be sent, to which it may belong
    """

    __slots__ = ("_on_end", "_queued")

    def __init__(
        self, message: Message, queued: dict[_Answer, None], on_end: OnEnd
    ) -> None:
        super().__init__(message)
        self._queued = queued
        self._on_end = on_end

    def sent(self) -> None:
        super().sent()
        # it is not sent again, and its caller may take for ever to settle it
        self.message = self.message._replace(body=None)

    def come_back(self) -> None:
        self.finish(
            errors.CastUnreachable(
                f"The {self.message.name} to {self.message.target} was returned"
                " undelivered"
            )
        )

    def finish(self, error: Exception | None = None) -> None:
        super().finish(error)
        self._queued.pop(self, None)
        self._on_end(error)


class Answers:
    """The replies of the servers on one bus.

    :param options: the [oslo_messaging_amqp] group
    :param duties: those of the bus
    :param outbox: that of the bus
    :param send: sends a message and waits until it is over, within some seconds
    """

    def __init__(
        self,
        options: Any,
        duties: Duties,
        outbox: Outbox,
        send: Callable[[Outgoing, float], object],
    ) -> None:
        self._duties = duties
        self._outbox = outbox
        self._send = send
        self._timeout = options.default_reply_timeout
        self._retry = options.default_reply_retry
        self._settled = "rpc-reply" in options.pre_settled
        #: what waits for a link or for credit, oldest first
        self._queued: dict[_Answer, None] = {}
        self._next_sweep = 0.0

    def reply(self, address: str, id: Any, body: str, marked: bool) -> Message:
        """A reply to the call with an id.

        :param marked: the call is settled with it
        """
        return self._message(
            address, "RPC reply", id, body, settled=self._settled, marked=marked
        )

    def sign_of_life(self, address: str, id: Any, ttl: float | None) -> Message:
        """Says that the server still works on a call."""
        return self._message(address, "RPC heartbeat", id, None, ttl=ttl)

    def _message(
        self,
        address: str,
        name: str,
        id: Any,
        body: str | None,
        settled: bool = True,
        ttl: float | None = None,
        marked: bool = False,
    ) -> Message:
        return Message(
            self._outbox.reply_route(address),
            address,
            name,
            body,
            settled=settled,
            correlation_id=id,
            marked=marked,
            ttl=ttl,
            retry=self._retry,
        )

    def deliver(self, message: Message) -> Exception | None:
        """Send a reply and wait until its caller has it; called without the lock.

        :returns: why it has not
        """
        try:
            self._send(Outgoing(message), self._timeout)
        except Exception as error:
            return error
        return None

    def post(self, message: Message, on_end: OnEnd) -> None:
        """Send a reply without waiting; called with the lock held."""
        # a large one does not leave at once, and its outcome comes in any case
        settled = not message.large
        if message.settled != settled:
            message = message._replace(settled=settled)
        answer = _Answer(message, self._queued, on_end)
        try:
            self._outbox.submit(answer)
        except Exception as error:
            answer.finish(error)
        if answer.state is State.QUEUED:
            self._queued[answer] = None
            self._sweep_later()

    def _sweep_later(self) -> None:
        # a duty is dropped with the connection: no flag that would stay
        now = time.monotonic()
        if self._next_sweep <= now:
            self._next_sweep = now + SWEEP_INTERVAL
            self._duties.later(SWEEP_INTERVAL, self._sweep)

    def _sweep(self) -> None:
        """End what nobody has taken in time."""
        oldest = time.monotonic() - self._timeout
        for answer in list(self._queued):
            if answer.state is not State.QUEUED:
                del self._queued[answer]
            elif answer.since <= oldest:
                message = answer.message
                self._outbox.cancel(
                    answer,
                    errors.CastUnreachable(
                        f"No client accepted the {message.name} to {message.target}"
                        f" within {time.monotonic() - answer.since:.0f} s"
                    ),
                )
        if self._queued:
            self._sweep_later()
