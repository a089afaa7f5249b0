# SPDX-License-Identifier: Apache-2.0
"""Are the servers of both transports there, and do they let us in?"""

from __future__ import annotations

from hybrid_messaging import urls
from hybrid_messaging.service_configs import connecting, rabbit_releases
from hybrid_messaging.service_configs.problem import Severity
from hybrid_messaging.service_configs.settings import RABBIT
from hybrid_messaging.service_configs.transports import is_rabbit
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
            if is_rabbit(bus.url):
                _accepted(bus, host, answer)
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


def _accepted(bus: Bus, host: urls.Host, said: str) -> None:
    """See that RabbitMQ takes the queues that the driver will want there.

    The driver would try again and again, and say nothing.
    """
    for rule in rabbit_releases.broken(
        said, bus.url, host, bus.options, bus.role == "rpc", TIMEOUT
    ):
        if rule.severity is Severity.ERROR:
            raise Failure(
                f"{said} {rule.message}",
                rule.cure(lambda name, value: f"set [{RABBIT}] {name} = {value}"),
            )
