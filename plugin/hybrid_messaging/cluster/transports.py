# SPDX-License-Identifier: Apache-2.0
"""The transport URLs of services, by zone and by host.

Those of RPC name the nearest servers. Services of `amqp://` take the hosts of a URL in
random order, so that the URL of a zone has only the zone's own routers, as long as
there are two of them. Of clusters and Sentinels, all are named, nearest first.
"""

from __future__ import annotations

from collections.abc import Iterable

from hybrid_messaging import urls
from hybrid_messaging.cluster import credentials, routers
from hybrid_messaging.cluster.credentials import Credentials
from hybrid_messaging.cluster.topology import (
    EDGE,
    INTERIOR,
    KAFKA,
    RABBITMQ,
    REDIS,
    SENTINEL,
    ZMQ_PROXY,
    Host,
    Topology,
)
from hybrid_messaging.engines.kafka_admin import SECURITY

#: Routers of a URL at least, as long as there are so many.
ROUTERS = 2
#: Variables that `configure` and others take URLs from.
RPC_VARIABLE, NOTIFY_VARIABLE = "HYBRID_RPC_URL", "HYBRID_NOTIFY_URL"


def variables(
    topology: Topology, secrets: Credentials, zone: str, host: Host | None = None
) -> dict[str, str]:
    """What the environment of `configure` has to have.

    :param zone: where the services are
    :param host: where they are, if it is one of the cluster
    """
    found = {
        RPC_VARIABLE: rpc(topology, secrets, zone, host),
        NOTIFY_VARIABLE: notifications(topology, secrets, zone),
    }
    return {name: url for name, url in found.items() if url}


def rpc(
    topology: Topology, secrets: Credentials, zone: str, host: Host | None = None
) -> str | None:
    """The URL for RPC, if the cluster serves it; see `variables`."""
    if topology.rpc == "amqp":
        return _amqp(topology, secrets, zone, host)
    if topology.rpc == "zmq":
        return zmq(topology, secrets, zone, host)
    return None


def notifications(topology: Topology, secrets: Credentials, zone: str) -> str | None:
    """The URL for notifications, if the cluster keeps them; see `variables`."""
    if topology.notifications == "rabbit":
        return urls.build(
            "rabbit",
            _at(topology, topology.nearest(RABBITMQ, zone), "rabbitmq"),
            credentials.SERVICE,
            secrets.rabbitmq,
            topology.vhosts[0],
            {"rabbit_quorum_queue": "true", **urls.tls("rabbit", topology.ca_file)},
        )
    if topology.notifications == "kafka":
        return urls.build(
            "kafka",
            _at(topology, topology.nearest(KAFKA, zone), "kafka"),
            credentials.SERVICE,
            secrets.kafka,
            query=urls.tls("kafka", topology.ca_file) or SECURITY,
        )
    return None


def zmq(
    topology: Topology, secrets: Credentials, zone: str, host: Host | None = None
) -> str:
    """The URL for zmq://; see `variables`."""
    role = SENTINEL if topology.having(SENTINEL) else REDIS
    query = urls.tls("zmq", topology.ca_file)
    if host is not None:
        query["rpc_zmq_host"] = host.address
    if topology.having(ZMQ_PROXY):
        query["use_router_proxy"] = "true"
    return urls.build(
        "zmq+sentinel" if role == SENTINEL else "zmq",
        _at(topology, topology.nearest(role, zone), role),
        credentials.SERVICE,
        secrets.redis,
        query=query,
    )


def _amqp(
    topology: Topology, secrets: Credentials, zone: str, host: Host | None
) -> str:
    near = topology.nearest(INTERIOR, zone)
    own = sum(other.zone == zone for other in near)
    chosen = near[: max(own, ROUTERS)]
    if host is not None and EDGE in host.roles:
        chosen = (host,)
    elif host in near:
        # the host's own first, and another one for when it is away
        chosen = (host, *(other for other in near if other != host))[:ROUTERS]
    return urls.build(
        "amqp",
        [(routers.listens_at(other), topology.ports["router"]) for other in chosen],
        f"{credentials.SERVICE}@{credentials.REALM}",
        secrets.services,
        query=urls.tls("amqp", topology.ca_file),
    )


def _at(
    topology: Topology, hosts: Iterable[Host], purpose: str
) -> list[tuple[str, int | None]]:
    return [(host.address, topology.ports[purpose]) for host in hosts]
