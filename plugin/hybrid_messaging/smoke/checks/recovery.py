# SPDX-License-Identifier: Apache-2.0
"""Do servers and clients come back by themselves after a restart of their bus?"""

from __future__ import annotations

import time

from hybrid_messaging.smoke.checks.rpc import directed, fanout
from hybrid_messaging.smoke.context import Context
from hybrid_messaging.smoke.outcome import Failure, Finding

#: Seconds that servers and clients may take to come back.
RECOVERY_TIMEOUT = 45.0
#: Seconds between two attempts.
PAUSE = 0.1


def rpc_restart(context: Context) -> Finding:
    """Restart what carries RPC under the servers and the clients."""
    directed(context)
    context.restart(context.rpc)
    begin = time.monotonic()
    while True:
        try:
            directed(context)
            break
        except Exception as error:
            if time.monotonic() > begin + RECOVERY_TIMEOUT:
                raise Failure(
                    f"no recovery within {RECOVERY_TIMEOUT:g} s of the restart: {error}"
                ) from error
            time.sleep(PAUSE)
    took = time.monotonic() - begin
    fanout(context)
    return Finding(
        f"{took:.1f} s after {context.rpc.title} was back, all servers answered again"
    )
