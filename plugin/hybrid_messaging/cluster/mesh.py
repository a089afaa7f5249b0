# SPDX-License-Identifier: Apache-2.0
"""Which routers are linked to which.

Up to `FULL` interior routers, each is linked to each: a message then takes one hop, and
no failure of others comes between two that live. Each link costs both ends a hello per
second and a copy of every change of addresses, so that a full mesh of n costs all of
them together n². Beyond that, each router is linked to those 1, 2, 4, 8 … places
further in a ring. Then a router has about 2·log₂(n) links, two routers are at most
about log₂(n)/2 hops apart, and any two may fail without cutting off a third.

Routers of a zone are neighbours in the ring, so that most links are short, and a zone
is joined to the rest by several of its routers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybrid_messaging.cluster.topology import EDGE, INTERIOR, Host, Topology

#: The most interior routers that are all linked to each other: 15 links, 5 for each.
FULL = 6
#: The most interior routers that skupper-router knows (src/bitmask.c).
MOST = 128
#: Uplinks of an edge router; it uses one, and the other one when that fails.
UPLINKS = 2


def pairs(topology: Topology) -> list[tuple[Host, Host]]:
    """The links between interior routers; the first of each pair connects."""
    order = list(topology.zones)
    ring = sorted(topology.having(INTERIOR), key=lambda host: order.index(host.zone))
    return [(ring[place], ring[other]) for place, other in sorted(_linked(len(ring)))]


def _linked(count: int) -> set[tuple[int, int]]:
    """Places in a ring that are linked, each pair once."""
    return {
        (min(place, other), max(place, other))
        for place in range(count)
        for step in _steps(count)
        if (other := (place + step) % count) != place
    }


def _steps(count: int) -> Iterator[int]:
    if count <= FULL:
        yield from range(1, count // 2 + 1)
        return
    step = 1
    while step <= count // 2:
        yield step
        step *= 2


def uplinks(topology: Topology, edge: Host) -> Sequence[Host]:
    """The interior routers that an edge router connects to, best first.

    The edges of a zone take turns, so that each of its interiors gets its share.
    """
    edges = [host for host in topology.having(EDGE) if host.zone == edge.zone]
    near = topology.nearest(INTERIOR, edge.zone)
    own = [host for host in near if host.zone == edge.zone] or near[:1]
    turn = edges.index(edge) % len(own)
    return ([*own[turn:], *own[:turn], *near[len(own) :]])[:UPLINKS]
