# SPDX-License-Identifier: Apache-2.0
"""Whether routers know each other, asked through AMQP management."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from hybrid_messaging.cluster import credentials, mesh
from hybrid_messaging.cluster.findings import (
    Access,
    Finding,
    error,
    ok,
    unequal_versions,
    warning,
)
from hybrid_messaging.cluster.topology import EDGE, INTERIOR, Host, Topology
from hybrid_messaging.engines import EngineError
from hybrid_messaging.engines.amqp_management import Connection, Management


class Router(NamedTuple):
    """What a router says."""

    id: str
    version: str
    #: ids of the routers that it can reach, its own among them
    nodes: frozenset[str]
    #: ids of the routers at its edge
    edges: frozenset[str]
    #: ids of the routers that it has a connection with, whichever of both made it
    linked: frozenset[str]
    #: by host, what the router said last of a connection that it makes
    said: Mapping[str, str]
    #: where it could not listen, and why
    deaf: frozenset[str] = frozenset()


def check(access: Access, each: Callable[..., Iterable[Any]]) -> Iterator[Finding]:
    """Look at all routers; those at the edge are seen by the interior ones.

    :param each: `map`, or one that does it all at once
    """
    interiors = access.topology.having(INTERIOR)
    answers = dict(
        zip(interiors, each(lambda host: _ask(access, host), interiors), strict=True)
    )
    found = {host: said for host, said in answers.items() if isinstance(said, Router)}
    for host, said in answers.items():
        yield from (
            _judge(access.topology, host, said, found)
            if isinstance(said, Router)
            else [error(INTERIOR, host, f"{said}: start its router")]
        )
    yield from unequal_versions(
        INTERIOR, {host.name: said.version for host, said in found.items()}
    )
    yield from _judge_others({host.name for host in interiors}, found)
    for edge in access.topology.having(EDGE) if found else ():
        yield _judge_edge(access, edge, found)


def _judge_others(
    names: Iterable[str], found: Mapping[Host, Router]
) -> Iterator[Finding]:
    """Say which routers are linked to those of the topology, which has them not."""
    nodes = {node for said in found.values() for node in said.nodes}
    expected = {said.id for said in found.values()}.union(names)
    if others := ", ".join(sorted(nodes - expected)):
        yield warning(
            INTERIOR,
            None,
            f"the topology does not have {others}, to which its routers are linked: "
            "stop it before you restart the others, or its services are cut off",
        )


def _judge_edge(access: Access, edge: Host, found: Mapping[Host, Router]) -> Finding:
    uplinks = mesh.uplinks(access.topology, edge)
    lacking = [
        host.name
        for host in uplinks
        if host in found and edge.name not in found[host].edges
    ]
    if not any(edge.name in said.edges for said in found.values()):
        return error(
            EDGE,
            edge,
            "is connected to no interior router: its services reach only those of "
            "their own host; look at the log of its router",
        )
    if lacking:
        return warning(
            EDGE,
            edge,
            f"has no uplink to {', '.join(lacking)}: if it loses the other one, its "
            "services reach only those of their own host",
        )
    return ok(EDGE, edge, f"is connected to {', '.join(host.name for host in uplinks)}")


def _ask(access: Access, host: Host) -> Router | str:
    try:
        with Management(
            host.address,
            access.topology.ports["router"],
            f"{credentials.SERVICE}@{credentials.REALM}",
            access.secrets.services,
            access.ca_file,
            access.timeout,
        ) as asked:
            own = str(asked.router()["id"])
            nodes = frozenset({own, *asked.nodes()})
            connections = asked.connections()
            return Router(
                own,
                f"{asked.product} {asked.version}".strip(),
                nodes,
                _containers(connections, "edge"),
                _containers(connections, "inter-router"),
                {
                    str(row["name"]): str(row["connectionMsg"])
                    for row in asked.connectors()
                },
                frozenset(asked.deaf()),
            )
    except (EngineError, KeyError, IndexError) as failure:
        return (
            str(failure)
            if isinstance(failure, EngineError)
            else (f"{host.address}: the router's management lacks {failure}")
        )


def _containers(connections: Iterable[Connection], role: str) -> frozenset[str]:
    return frozenset(
        str(row["container"]) for row in connections if row["role"] == role
    )


def _judge(
    topology: Topology, host: Host, said: Router, found: Mapping[Host, Router]
) -> Iterator[Finding]:
    if said.id != host.name:
        yield error(
            INTERIOR,
            host,
            f"{host.address} is the router {said.id!r}: copy the rendered directory "
            "there, and restart it",
        )
    for where in sorted(said.deaf):
        yield error(
            INTERIOR,
            host,
            f"cannot listen on {where}: stop what has this port there, and restart the "
            "router, which does not try again",
        )
    strangers = [other.name for other, its in found.items() if its.id not in said.nodes]
    # not what connectors say: one that tries a host that has vanished says SUCCESS
    lacking = {
        other.name
        for pair in mesh.pairs(topology)
        if host in pair
        for other in pair
        if other != host and other.name not in said.linked
    }
    links = ", ".join(
        f"{name} ({said.said[name]})" if said.said.get(name) else name
        for name in sorted(lacking)
    )
    if strangers:
        yield error(
            INTERIOR,
            host,
            f"does not know {', '.join(strangers)}, though they run: services of "
            "these routers do not find each other; look at its links"
            + (f": there is none to {links}" if links else ""),
        )
    elif links:
        yield warning(
            INTERIOR, host, f"has no link to {links}; messages take another way"
        )
    elif not said.deaf:
        yield ok(INTERIOR, host, f"{said.version}, knows {len(said.nodes) - 1} others")
