# SPDX-License-Identifier: Apache-2.0
"""amqp://: an AMQP 1.0 router or broker, asked through its management."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from hybrid_messaging.drivers.amqp import security
from hybrid_messaging.drivers.amqp.addressing import ROUTERS
from hybrid_messaging.engines import EngineError, broker
from hybrid_messaging.engines.amqp_management import Management
from hybrid_messaging.service_configs import connecting
from hybrid_messaging.smoke.bus import Bus
from hybrid_messaging.smoke.kinds import RESTART_TIMEOUT, Inventory
from hybrid_messaging.smoke.run import Run

#: Seconds for each step of a connection.
CONNECT_TIMEOUT = 5.0

_PREFIXES = "the configuration of router or broker: address openstack.org/om/rpc/"
_SETTLED = (
    "[oslo_messaging_amqp] pre_settled: a call that is named there learns nothing"
)

_BROKER = "broker"

LOOK_AT = {
    "call": f"{_PREFIXES}anycast has to be balanced, or anycast",
    "round-robin": f"{_PREFIXES}anycast has to be balanced, or anycast",
    "cast": f"{_PREFIXES}anycast has to be balanced, or anycast",
    "directed": f"{_PREFIXES}unicast has to be closest, or anycast",
    "fanout": f"{_PREFIXES}multicast has to be multicast",
    "large": "a router's policies: maxMessageSize; a broker's disk",
    "nobody": f"{_SETTLED}; restart_timeout",
    "killed": _SETTLED,
    "separation": "the addresses that are listed: they are of services that need "
    "`hybrid-messaging configure` or a restart",
    "notify-stored": "the transport URL of notifications: it has to lead to a broker",
}
DROPS_FIRST = False


def query(role: str, configured: bool) -> Mapping[str, str]:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    return {} if configured else {"restart_timeout": str(RESTART_TIMEOUT)}


def grace(bus: Bus) -> float | None:
    """See `hybrid_messaging.smoke.kinds.Kind`.

    A router knows who listens. A broker keeps a call for whoever may come.
    """
    for host in bus.hosts:
        with contextlib.suppress(connecting.ConnectError):
            product = connecting.connect(bus.url, host, bus.options, CONNECT_TIMEOUT)
            return _router_grace(bus) if product in ROUTERS else None
    return _router_grace(bus)


def prepare(bus: Bus, run: Run) -> None:
    """See `hybrid_messaging.smoke.kinds.Kind`; there is nothing to make."""


def waiting(bus: Bus, run: Run) -> int | None:
    """See `hybrid_messaging.smoke.kinds.Kind`; only a broker of ours tells."""
    if bus.engine is None or bus.engine.kind != _BROKER:
        return None
    with broker.management(bus.engine) as management:
        return sum(
            int(row["messageCount"])
            for row in management.queues()
            if row["name"].endswith(f"/{run.notify_exchange}/{run.notify_queue}")
        )


def inventory(bus: Bus, run: Run) -> Inventory:
    """See `hybrid_messaging.smoke.kinds.Kind`; the first server that answers tells."""
    if bus.engine is not None and bus.engine.kind == _BROKER:
        with broker.management(bus.engine) as management:
            names = sorted(row["name"] for row in management.queues())
        return Inventory("its management", {"queues": names})
    error = EngineError(f"{bus} names no host")
    options = bus.options
    trusted = options.ssl_ca_file if security.wants_tls(options) else None
    proven = bus.url.vhost if options.ssl_verify_vhost else None
    for host in bus.hosts:
        name, port = connecting.address(bus.url, host)
        try:
            with Management(
                *(name, port, host.username, host.password, trusted), name=proven
            ) as router:
                names = sorted(row["name"] for row in router.addresses())
        except EngineError as reason:
            error = reason
        else:
            return Inventory("its management", {"addresses": names})
    raise error


def is_rpc(bus: Bus, name: str) -> bool:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    return name.startswith(f"{bus.options.rpc_address_prefix}/")


def clean_up(bus: Bus, run: Run) -> None:
    """See `hybrid_messaging.smoke.kinds.Kind`.

    Addresses of a router go with their users, and so do a broker's for RPC.
    """
    if bus.engine is None or bus.engine.kind != _BROKER:
        return
    with broker.management(bus.engine) as management:
        for row in management.queues():
            if run.notify_queue in row["name"]:
                management.remove(row["name"])


def _router_grace(bus: Bus) -> float:
    return float(bus.options.restart_timeout)
