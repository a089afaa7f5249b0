# SPDX-License-Identifier: Apache-2.0
"""Do servers and clients come back by themselves after a restart of their bus?"""

from __future__ import annotations

import time

from hybrid_messaging.attempts import attempts
from hybrid_messaging.smoke.checks.rpc import directed, fanout
from hybrid_messaging.smoke.context import Context
from hybrid_messaging.smoke.outcome import Failure, Success

#: Seconds that servers and clients may take to come back.
RECOVERY_TIMEOUT = 45.0
#: Seconds between two attempts.
PAUSE = 0.1


def rpc_restart(context: Context) -> Success:
    """Restart what carries RPC under the servers and the clients."""
    directed(context)
    context.restart(context.rpc)
    begin = time.monotonic()
    took = _recovery(context, begin)
    fanout(context)
    # who has known the servers before may do without what was restarted
    context.renew()
    found = _recovery(context, begin)
    return Success(
        f"{took:.1f} s after {context.rpc.transport.title} was ready again, all"
        f" servers answered; a new client was answered after {found:.1f} s"
    )


def _recovery(context: Context, begin: float) -> float:
    """Call all servers until they answer.

    :param begin: monotonic time of the restart
    :returns: seconds since then
    """
    failure: Exception | None = None
    for _ in attempts(begin + RECOVERY_TIMEOUT - time.monotonic(), PAUSE):
        try:
            directed(context)
            return time.monotonic() - begin
        except Exception as error:
            failure = error
    raise Failure(
        f"no recovery within {RECOVERY_TIMEOUT:g} s of the restart: {failure}"
    ) from failure
