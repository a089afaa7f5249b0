# SPDX-License-Identifier: Apache-2.0
"""skupper-router on the hosts of a cluster: interiors in a mesh, edges around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from hybrid_messaging import tls
from hybrid_messaging.cluster import credentials, mesh, units
from hybrid_messaging.cluster.credentials import Credentials
from hybrid_messaging.cluster.topology import EDGE, Host, Topology
from hybrid_messaging.cluster.tree import File
from hybrid_messaging.engines import HOST, templates
from hybrid_messaging.engines.kinds.router import ADDRESSES

#: Seconds of silence after which a service's connection is lost, and a link between
#: routers. The latter decides how long a call is under way to a host that has vanished.
SERVICE_IDLE_TIMEOUT, LINK_IDLE_TIMEOUT = 16, 4
#: Seconds that a peer has to authenticate and open its connection.
HANDSHAKE_TIMEOUT = 10
MOST_CONNECTIONS = 20_000

_FOLDER = PurePosixPath("router")
_CONFIG = _FOLDER / "router.conf"


@dataclass(frozen=True)
class Link:
    """A connection that a router makes to another one."""

    host: Host
    port: int
    role: str
    cost: int | None = None


def listens_at(host: Host) -> str:
    """Where services find the router of a host; an edge is there for its own host."""
    return HOST if EDGE in host.roles else host.address


def links(topology: Topology, host: Host) -> list[Link]:
    """The connections that the router of a host makes."""
    ports = topology.ports
    if EDGE in host.roles:
        return [
            Link(interior, ports["router-edge"], "edge")
            for interior in mesh.uplinks(topology, host)
        ]
    return [
        Link(other, ports["router-links"], "inter-router", topology.cost(host, other))
        for one, other in mesh.pairs(topology)
        if one == host
    ]


def files(
    topology: Topology, host: Host, secrets: Credentials
) -> Iterator[File | units.Unit]:
    """What the router of a host needs."""
    edge = EDGE in host.roles
    directory, state = topology.directory, f"{topology.state}/router"
    listeners = (
        ()
        if edge
        else (
            ("edges", topology.ports["router-edge"], "edge"),
            ("routers", topology.ports["router-links"], "inter-router"),
        )
    )
    text = templates.render(
        "cluster-router.conf",
        host=host,
        mode="edge" if edge else "interior",
        listen=listens_at(host),
        ports=topology.ports,
        tls=topology.tls,
        versions=tls.VERSIONS,
        directory=directory,
        link_listeners=listeners,
        connectors=links(topology, host),
        router_user=f"{credentials.ROUTER}@{credentials.REALM}",
        service_idle_timeout=SERVICE_IDLE_TIMEOUT,
        link_idle_timeout=LINK_IDLE_TIMEOUT,
        handshake_timeout=HANDSHAKE_TIMEOUT,
        most_connections=MOST_CONNECTIONS,
        addresses=ADDRESSES,
    )
    yield File(_CONFIG, text.encode(), private=False)
    users = f"{state}/users"
    text = templates.render("cluster-router-sasl.conf", users=users)
    yield File(_FOLDER / "router-sasl.conf", text.encode(), private=False)
    # between routers, certificates do what a password does without TLS
    passwords = {credentials.SERVICE: ("services.password", secrets.services)}
    if not topology.tls:
        passwords[credentials.ROUTER] = ("routers.password", secrets.routers)
    program = topology.programs["saslpasswd2"]
    before = [units.directory(state), f"/bin/rm -f {users}"]
    for user, (name, password) in passwords.items():
        yield File(_FOLDER / name, password.encode())
        # on the host, since the format of the file depends on its libraries
        before.append(
            f"/bin/sh -c '{program} -c -p -f {users} -u {credentials.REALM} {user}"
            f" < {directory}/{_FOLDER / name}'"
        )
    yield units.Unit(
        "router",
        "AMQP 1.0 router",
        f"{topology.programs['skrouterd']} --config {directory}/{_CONFIG}",
        tuple(before),
    )
