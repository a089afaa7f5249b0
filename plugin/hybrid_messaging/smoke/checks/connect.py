# SPDX-License-Identifier: Apache-2.0
"""Are the servers of both transports there, and do they let us in?"""

from __future__ import annotations

from hybrid_messaging.service_configs import connecting
from hybrid_messaging.smoke.bus import Bus
from hybrid_messaging.smoke.context import Context
from hybrid_messaging.smoke.outcome import Failure, Finding

#: Seconds for each step of a connection.
TIMEOUT = 5.0


def rpc(context: Context) -> Finding:
    """Connect to what carries RPC."""
    return _connect(context.rpc)


def notifications(context: Context) -> Finding:
    """Connect to what carries notifications."""
    return _connect(context.notify)


def _connect(bus: Bus) -> Finding:
    """Connect to every server; one that is down is made up for by another."""
    products, errors = [], []
    for host in bus.hosts:
        try:
            answer = connecting.connect(bus.url, host, bus.options, TIMEOUT)
        except connecting.ConnectError as error:
            errors.append(error)
        else:
            name, port = connecting.address(bus.url, host)
            user = f"user {host.username}" if host.username else "anonymous user"
            products.append(f"{answer or bus.title} at {name}:{port} takes {user}")
    if not products or any(error.code != "unreachable" for error in errors):
        cure = errors[0].cure
        if bus.engine is not None:
            cure = f"`hybrid-messaging status`; {cure}"
        raise Failure("; ".join(map(str, errors)), cure)
    return Finding("; but ".join([*products, *map(str, errors)]))
