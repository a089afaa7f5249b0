# SPDX-License-Identifier: Apache-2.0
"""The listeners that oslo.messaging's servers get from a driver."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Protocol

from hybrid_messaging.drivers import oslo, reentry

#: Takes a message on its way to the service; raises RuntimeError if that has ended.
HandOver = Callable[[oslo.RpcIncomingMessage], None]


class NotExecuted(BaseException):
    """Ends oslo.messaging's work on a request that is not to be executed.

    `acknowledge()` of a request raises it: its caller has given up, or another
    server has got it. oslo.messaging's server would log any `Exception` with its
    traceback, once per request. This leaves the server's task as `CancelledError`
    leaves a coroutine, and ends in the task's future, which nobody reads.

    Notification servers execute before they acknowledge, so notifications must not
    raise it.
    """


class Inbox(Protocol):
    """Where a driver's messages for one listener arrive."""

    def start(self) -> None:
        """Let messages come."""

    def stop(self) -> None:
        """Let no more messages come."""

    def cleanup(self) -> None:
        """Let go of everything."""


class RpcListener(oslo.Listener):
    """Hands every request to the server straight from the thread that reads.

    oslo.messaging's own adapter would have another thread poll for it, which
    costs a hand-over per request; the server only queues it for its executor. So its
    batches have one request each, as servers ask for.

    :param open_inbox: makes the inbox
    """

    def __init__(self, open_inbox: Callable[[HandOver], Inbox]) -> None:
        super().__init__(1, None)
        self._inbox = open_inbox(self._hand_over)

    @reentry.changes
    def start(
        self, on_incoming_callback: Callable[[list[oslo.RpcIncomingMessage]], None]
    ) -> None:
        super().start(on_incoming_callback)
        self._inbox.start()

    def _hand_over(self, incoming: oslo.RpcIncomingMessage) -> None:
        callback = self.on_incoming_callback
        if callback is None:
            raise RuntimeError("the listener is stopped")
        reentry.outside(callback, [incoming])

    @reentry.changes
    def stop(self) -> None:
        self._inbox.stop()
        super().stop()

    @reentry.changes
    def cleanup(self) -> None:
        self._inbox.cleanup()


class PollingListener(oslo.PollStyleListener):
    """Collects messages into batches; oslo.messaging's adapter polls for them.

    :param open_inbox: makes the inbox
    """

    def __init__(self, open_inbox: Callable[[HandOver], Inbox]) -> None:
        super().__init__()
        self._messages: queue.SimpleQueue[oslo.RpcIncomingMessage | None] = (
            queue.SimpleQueue()
        )
        self._stopped = False
        self._inbox = open_inbox(self._hand_over)
        self._inbox.start()

    def _hand_over(self, incoming: oslo.RpcIncomingMessage) -> None:
        if self._stopped:
            raise RuntimeError("the listener is stopped")
        self._messages.put(incoming)

    @oslo.batch_poll_helper
    def poll(self, timeout: float | None = None) -> oslo.RpcIncomingMessage | None:
        # after the stop, what has been taken is still to be worked on
        try:
            return self._messages.get(timeout=0 if self._stopped else timeout)
        except queue.Empty:
            return None

    @reentry.changes
    def stop(self) -> None:
        self._inbox.stop()
        self._stopped = True
        self._messages.put(None)  # wakes a thread that waits in poll()

    @reentry.changes
    def cleanup(self) -> None:
        self._inbox.cleanup()
