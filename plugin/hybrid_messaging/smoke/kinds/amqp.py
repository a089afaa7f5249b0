# SPDX-License-Identifier: Apache-2.0
"""amqp://: an AMQP 1.0 router, asked through its management."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_messaging.engines import EngineError
from hybrid_messaging.engines.amqp_management import Management
from hybrid_messaging.service_configs.connecting import address
from hybrid_messaging.smoke.bus import Bus
from hybrid_messaging.smoke.kinds import Inventory
from hybrid_messaging.smoke.run import Run

_PREFIXES = "the router's configuration: address prefix openstack.org/om/rpc/"
_SETTLED = (
    "[oslo_messaging_amqp] pre_settled: a call that is named there learns nothing"
)

LOOK_AT = {
    "call": f"{_PREFIXES}anycast has to be balanced",
    "round-robin": f"{_PREFIXES}anycast has to be balanced",
    "cast": f"{_PREFIXES}anycast has to be balanced",
    "directed": f"{_PREFIXES}unicast has to be closest",
    "fanout": f"{_PREFIXES}multicast has to be multicast",
    "large": "the router's policies: maxMessageSize",
    "nobody": f"{_SETTLED}; unreachable_timeout",
    "killed": _SETTLED,
    "notify-stored": "the transport URL of notifications: it has to lead to a broker",
}


def query(role: str, configured: bool) -> Mapping[str, str]:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    return {}


def grace(bus: Bus) -> float | None:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    return float(bus.options.unreachable_timeout)


def waiting(bus: Bus, run: Run) -> int | None:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    return None


def inventory(bus: Bus, run: Run) -> Inventory:
    """See `hybrid_messaging.smoke.kinds.Kind`; the first router that answers tells."""
    error = EngineError(f"{bus} names no host")
    for host in bus.hosts:
        name, port = address(bus.url, host)
        try:
            with Management(name, port, host.username, host.password) as management:
                names = sorted(row["name"] for row in management.addresses())
        except EngineError as reason:
            error = reason
        else:
            return Inventory("its management", {"addresses": names})
    raise error


def clean_up(bus: Bus, run: Run) -> None:
    """See `hybrid_messaging.smoke.kinds.Kind`; addresses go with their users."""
