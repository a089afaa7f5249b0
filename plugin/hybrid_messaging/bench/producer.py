# SPDX-License-Identifier: Apache-2.0
"""A producer: calls, casts, fans out and notifies, as fast as it goes or as asked."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import oslo_messaging

from hybrid_messaging.attempts import attempts
from hybrid_messaging.bench.assignment import Assignment, Clock, Timing, interleave
from hybrid_messaging.bench.ledger import Ledger
from hybrid_messaging.bench.parameters import NOTIFY
from hybrid_messaging.bench.tally import Tally
from hybrid_messaging.bench.worker_reports import Produced, Refusal
from hybrid_messaging.drivers import errors

#: Event type of the notifications.
EVENT = "hybrid.bench"
#: Seconds for one attempt to reach the servers before a measurement, and for all.
HELLO_TIMEOUT = 5.0
HELLO_PATIENCE = 60.0
HELLO_PAUSE = 0.1
#: So many exceptions are remembered that promise that a message is not executed.
REFUSALS = 10_000

_NOT_BEGUN = (
    errors.TargetUnreachable,
    errors.ServersBusy,
    errors.BusUnavailable,
    errors.MessageRefused,
)


def not_begun(kind: str, error: Exception) -> bool:
    """Whether an error promises that the message is not executed, now or later.

    An error says when a server may have acted. Without that, a cast that was not sent
    in its time is not executed: its time ends when somebody has taken it. A call that
    has run out of time promises it only if it says so, or was never taken.
    """
    if isinstance(error, _NOT_BEGUN):
        return True
    text = str(error)
    if kind == "fanout" or " may " in text:
        return False
    return isinstance(error, oslo_messaging.MessagingTimeout) and (
        kind == "cast" or "not begun" in text
    )


class Producer:
    """Sends messages in some threads, one at a time in each.

    :param assignment: what to send
    :param clock: tells the time
    """

    def __init__(self, assignment: Assignment, clock: Clock) -> None:
        self._assignment = assignment
        self._clock = clock
        self._numbers = {kind: itertools.count() for kind in assignment.mix}
        self._errors: dict[str, int] = {}
        self._overdue = 0
        self._refusals: deque[Refusal] = deque(maxlen=REFUSALS)
        self._begun, self._succeeded, self._refused = (
            Ledger(assignment.ledger_dir(what))
            for what in ("begun", "succeeded", "refused")
        )
        self._threads: list[threading.Thread] = []
        self._closers: list[Callable[[], Any]] = []
        self._send: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self._sending: Tally | None = None
        self._failing: Tally | None = None

    def connect(self) -> None:
        """Connect, and see that the servers answer.

        :raises MessagingException: if they do not
        """
        conf = self._assignment.conf()
        if self._assignment.mix.keys() - {NOTIFY}:
            self._connect_rpc(conf)
        if NOTIFY in self._assignment.mix:
            self._connect_notifications(conf)

    def _connect_rpc(self, conf: Any) -> None:
        transport = oslo_messaging.get_rpc_transport(conf, self._assignment.rpc_url)
        self._closers.append(transport.cleanup)
        client = oslo_messaging.get_rpc_client(
            transport,
            self._assignment.rpc_target(),
            timeout=self._assignment.timeout,
        )
        everyone = client.prepare(fanout=True)
        assignment = self._assignment
        targets = [{}, *({"server": name} for name in assignment.directed)]
        casting = [client.prepare(**target) for target in targets]
        calling = [
            client.prepare(**target, timeout=timeout)
            for timeout in assignment.timeouts or [assignment.timeout]
            for target in targets
        ]

        def call(data: dict[str, Any]) -> None:
            calling[data["number"] % len(calling)].call({}, "call", data=data)

        def cast(data: dict[str, Any]) -> None:
            casting[data["number"] % len(casting)].cast({}, "cast", data=data)

        self._send["call"], self._send["cast"] = call, cast
        self._send["fanout"] = lambda data: everyone.cast({}, "fanout", data=data)
        hello = client.prepare(timeout=HELLO_TIMEOUT)
        for passed in attempts(HELLO_PATIENCE, HELLO_PAUSE):
            try:
                hello.call({}, "hello")
                return
            except (
                oslo_messaging.MessagingTimeout,
                oslo_messaging.MessageDeliveryFailure,
            ):
                if passed >= HELLO_PATIENCE:
                    raise

    def _connect_notifications(self, conf: Any) -> None:
        transport = oslo_messaging.get_notification_transport(
            conf, self._assignment.notify_url
        )
        self._closers.append(transport.cleanup)
        notifier = oslo_messaging.Notifier(
            transport,
            publisher_id=self._assignment.name,
            driver="messagingv2",
            topics=[self._assignment.notify_topic],
        )
        unsent = Unsent()
        self._closers.append(unsent.close)
        self._send[NOTIFY] = lambda data: unsent.told(notifier.info, {}, EVENT, data)

    def start(self, timing: Timing, done: Callable[[], None]) -> None:
        """Send until the time is over.

        :param done: is called when the last thread has ended
        """
        self._sending, self._failing = Tally(timing), Tally(timing)
        self._threads = [
            threading.Thread(target=self._work, args=(timing, index), daemon=True)
            for index in range(self._assignment.threads)
        ]
        for thread in self._threads:
            thread.start()

        def wait() -> None:
            for thread in self._threads:
                thread.join()
            done()

        threading.Thread(target=wait, daemon=True).start()

    def _work(self, timing: Timing, index: int) -> None:
        assert self._sending is not None
        kinds = interleave(self._assignment.mix)
        sizes = interleave({str(size): w for size, w in self._assignment.sizes})
        self._clock.sleep_until(timing.start)
        for due in self._assignment.dues(timing, index):
            kind, now = next(kinds), self._clock.now()
            if now >= timing.end:
                if due is None:
                    break
                self._sending.overdue(kind, due)
                self._overdue += 1
                continue
            if due is not None:
                self._clock.sleep_until(due)
            self._one(kind, int(next(sizes)), now if due is None else due)

    def _one(self, kind: str, size: int, begin: float) -> None:
        """Send one message that should be sent at `begin`.

        Its latency counts from there: what waits in this thread because the one
        before it took long has waited all the same (coordinated omission).
        """
        assert self._sending is not None and self._failing is not None
        name = self._assignment.name
        number = next(self._numbers[kind])
        data = {"from": name, "number": number, "sent": begin, "data": "x" * size}
        self._begun.tick(name, kind, number)
        try:
            self._send[kind](data)
        except Exception as error:
            self._failing.note(kind, begin, self._clock.now())
            what = f"{kind}: {type(error).__name__}"
            self._errors[what] = self._errors.get(what, 0) + 1
            if not_begun(kind, error):
                self._refused.tick(name, kind, number)
                self._refusals.append(
                    Refusal(kind, number, self._clock.now(), str(error))
                )
        else:
            self._sending.note(kind, begin, self._clock.now())
            self._succeeded.tick(name, kind, number)

    def counts(self) -> dict[str, int]:
        """How many messages of each kind have been sent without an error."""
        return self._succeeded.ticks()

    def report(self) -> Produced:
        """Everything that is known."""
        assert self._sending is not None and self._failing is not None
        return Produced(
            begun=self._begun.encode(),
            succeeded=self._succeeded.encode(),
            sending=self._sending.report(),
            failing=self._failing.report(),
            errors=dict(self._errors),
            overdue=self._overdue,
            refusals=list(self._refusals),
        )

    def close(self) -> None:
        """Close the transports."""
        for closer in reversed(self._closers):
            closer()


class Unsent(logging.Handler):
    """Learns which notifications could not be sent.

    oslo.messaging's notifier logs that and raises nothing, so that its service goes on
    (`oslo_messaging/notify/messaging.py`).
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._errors = threading.local()
        self._logger = logging.getLogger("oslo_messaging.notify.messaging")
        self._logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception for the thread that has notified."""
        if record.exc_info:
            self._errors.last = record.exc_info[1]

    def told(self, notify: Callable[..., None], *arguments: Any) -> None:
        """Notify, and raise what is only logged otherwise."""
        self._errors.last = None
        notify(*arguments)
        if self._errors.last is not None:
            raise self._errors.last

    def close(self) -> None:
        """Look no more."""
        self._logger.removeHandler(self)
        super().close()
