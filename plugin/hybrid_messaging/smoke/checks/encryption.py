# SPDX-License-Identifier: Apache-2.0
"""Does a server that is used with TLS refuse whoever comes without it?"""

from __future__ import annotations

from hybrid_messaging.servers.transport import TIMEOUT
from hybrid_messaging.smoke.context import Context
from hybrid_messaging.smoke.outcome import Failure, Skip, Success


def plain_refused(context: Context) -> Success:
    """Try to use the servers of both transports without TLS."""
    buses = (context.rpc, context.notify)
    encrypted = [bus for bus in buses if bus.transport.encrypted]
    plain = [bus for bus in buses if bus not in encrypted]
    if not encrypted:
        raise Skip("neither transport uses TLS")
    # one server may carry both
    doors = {(str(bus), host): bus for bus in encrypted for host in bus.transport.hosts}
    open_doors = [
        name
        for (name, host), bus in doors.items()
        if bus.transport.takes_plain(host, TIMEOUT)
    ]
    if open_doors:
        raise Failure(
            "connections without TLS are accepted by"
            f" {' and '.join(dict.fromkeys(open_doors))}"
        )
    servers = " and ".join(dict.fromkeys(map(str, encrypted)))
    told = f"{servers} refuse connections without TLS"
    return Success("; ".join([told, *(f"{bus} does not use TLS" for bus in plain)]))
