# SPDX-License-Identifier: Apache-2.0
"""Does a caller learn soon that it will get no answer?"""

from __future__ import annotations

import threading
import time
from typing import Any

from oslo_messaging.exceptions import MessageDeliveryFailure, MessagingTimeout

from hybrid_messaging.smoke.checks.rpc import START_TIMEOUT
from hybrid_messaging.smoke.context import CALL_TIMEOUT, Context
from hybrid_messaging.smoke.outcome import Failure, Success
from hybrid_messaging.smoke.run import SERVERS

#: Seconds that a call waits where the transport promises nothing.
PATIENCE = 4.0
#: Seconds after which a caller has to know of its server's death.
DEATH_KNOWN = 1.0
#: Seconds that a busy machine may add.
TOLERANCE = 4.0

_NO_ANSWER = (MessageDeliveryFailure, MessagingTimeout)


def nobody(context: Context) -> Success:
    """Call a topic that no server listens on."""
    grace = context.rpc.transport.grace()
    call = _Call(
        context,
        _timeout(grace),
        {"topic": f"{context.run.topic}-nobody"},
        "echo",
        data="",
    )
    call.join()
    took = call.ended - call.begun
    return _judge(call, took, grace, grace, "without a server, a call")


def killed(context: Context) -> Success:
    """Kill a server while it works on a call."""
    grace = context.rpc.transport.grace()
    victim = context.servers.get(SERVERS, START_TIMEOUT)[-1]
    token = context.token()
    timeout = _timeout(grace)
    call = _Call(
        context,
        timeout,
        {"server": victim.name},
        "work",
        token=token,
        seconds=timeout * 2,
    )
    if victim.wait("working", timeout, token=token) is None:
        raise Failure(f"{victim} has not begun the call: {call.error}")
    died = time.monotonic()
    victim.kill()
    call.join()
    promise = None if grace is None else DEATH_KNOWN
    return _judge(
        call, call.ended - died, grace, promise, "after the death of its server, a call"
    )


class _Call(threading.Thread):
    """A call in a thread of its own, which remembers how and when it ended."""

    def __init__(
        self,
        context: Context,
        timeout: float,
        target: dict[str, str],
        method: str,
        **arguments: Any,
    ) -> None:
        super().__init__(daemon=True)
        self._client = context.client(timeout=timeout, **target)
        self._method = method
        self._arguments = arguments
        self.error: Exception | None = None
        self.begun = self.ended = time.monotonic()
        self.start()

    def run(self) -> None:
        self.begun = time.monotonic()
        try:
            self._client.call({}, self._method, **self._arguments)
        except Exception as error:
            self.error = error
        self.ended = time.monotonic()


def _timeout(grace: float | None) -> float:
    """A timeout that cannot be mistaken for failing fast."""
    return PATIENCE if grace is None else grace + CALL_TIMEOUT


def _judge(
    call: _Call, took: float, grace: float | None, promise: float | None, what: str
) -> Success:
    if call.error is None:
        raise Failure(
            "an unknown server answered a call that none should have answered"
        )
    if not isinstance(call.error, _NO_ANSWER):
        raise call.error
    how = f"{what} failed after {took:.2f} s with {type(call.error).__name__}"
    if promise is None:
        return Success(
            f"{how}, which is all that this transport promises", promised=False
        )
    if took > promise + TOLERANCE:
        raise Failure(f"{how} instead of within {promise:g} s: {call.error}")
    return Success(how)
