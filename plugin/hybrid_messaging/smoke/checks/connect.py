# SPDX-License-Identifier: Apache-2.0
"""Are the servers of both transports there, and do they let us in?"""

from __future__ import annotations

from hybrid_messaging import urls
from hybrid_messaging.servers import rabbit_releases
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.servers.transport import TIMEOUT, ConnectError
from hybrid_messaging.smoke.bus import Bus
from hybrid_messaging.smoke.context import Context
from hybrid_messaging.smoke.outcome import Failure, Success


def rpc(context: Context) -> Success:
    """Connect to what carries RPC."""
    return _connect(context.rpc)


def notifications(context: Context) -> Success:
    """Connect to what carries notifications."""
    return _connect(context.notify)


def _connect(bus: Bus) -> Success:
    """Connect to every server; one that is down is made up for by another."""
    products, errors = [], []
    transport = bus.transport
    for host in transport.hosts:
        try:
            answer = transport.connect(host, TIMEOUT)
            if isinstance(transport, Rabbit):
                _accepted(transport, host, answer, bus.role == "rpc")
        except ConnectError as error:
            errors.append(error)
        else:
            name, port = transport.address(host)
            user = f"user {host.username}" if host.username else "anonymous user"
            products.append(
                f"{answer or transport.title} at {name}:{port} accepts {user}"
            )
    if not products or any(error.code != "unreachable" for error in errors):
        cure = errors[0].cure
        if transport.engine is not None:
            cure = f"`hybrid-messaging status`; {cure}"
        raise Failure("; ".join(map(str, errors)), cure)
    return Success("; but ".join([*products, *map(str, errors)]))


def _accepted(rabbit: Rabbit, host: urls.Host, said: str, rpc: bool) -> None:
    """See that RabbitMQ takes the queues that the driver will want there.

    The driver would try again and again, and say nothing.
    """
    for rule in rabbit_releases.broken(rabbit, host, said, rpc, TIMEOUT):
        if rule.refused is not None:
            raise Failure(
                f"{said} {rule.message}",
                rule.cure(lambda name, value: f"set [{rabbit.group}] {name} = {value}"),
            )
