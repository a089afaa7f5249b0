# SPDX-License-Identifier: Apache-2.0
"""What a topology file says: hosts, their zones and roles, and what all hosts share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

INTERIOR, EDGE = "interior", "edge"
REDIS, SENTINEL = "redis", "sentinel"
RABBITMQ, KAFKA = "rabbitmq", "kafka"
ZMQ_PROXY = "zmq-proxy"
#: What a host can be, and what that is.
ROLES = {
    INTERIOR: "AMQP 1.0 router that is linked to others",
    EDGE: "AMQP 1.0 router for the services of that host",
    REDIS: "Redis, the matchmaker of zmq://",
    SENTINEL: "Redis Sentinel, which appoints the master among several Redis",
    RABBITMQ: "RabbitMQ node",
    KAFKA: "Kafka broker and controller",
    ZMQ_PROXY: "proxy of zmq://",
}

#: The role behind the transport of each purpose.
RPC = {"amqp": INTERIOR, "zmq": REDIS}
NOTIFICATIONS = {"rabbit": RABBITMQ, "kafka": KAFKA}

#: TCP ports by purpose; all roles fit on one host.
PORTS = {
    "router": 5681,
    "router-edge": 5682,
    "router-links": 5683,
    "router-http": 5684,
    "redis": 6379,
    "sentinel": 26379,
    "rabbitmq": 5671,
    "rabbitmq-management": 15671,
    "rabbitmq-distribution": 25672,
    "epmd": 4369,
    "kafka": 9092,
    "kafka-controller": 9093,
    "zmq-proxy": 9501,
}
#: Where packages put the programs that systemd starts.
PROGRAMS = {
    "skrouterd": "/usr/sbin/skrouterd",
    "saslpasswd2": "/usr/sbin/saslpasswd2",
    "redis-server": "/usr/bin/redis-server",
    "rabbitmq-server": "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "kafka": "/opt/kafka",
    "hybrid-messaging": "/usr/local/bin/hybrid-messaging",
}

#: What a link between routers costs per step of distance between their zones. It is
#: more than any detour within a zone, and for `balanced` addresses it is the number of
#: unsettled messages by which a near server may be ahead before a far one is taken.
ZONE_COST = 10


@dataclass(frozen=True)
class Host:
    """One host.

    :param name: its name in the cluster, and of its directory
    :param address: the IP address at which the others and services find it
    """

    name: str
    address: str
    zone: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Topology:
    """A cluster.

    :param zones: for each zone the others, nearest first
    :param rpc: a key of `RPC`, None if no host serves RPC
    :param notifications: a key of `NOTIFICATIONS`, None if no host keeps them
    :param directory: where the rendered directory of a host is put on that host
    :param state: where the servers of a host keep their data
    :param user: the system's user who runs the servers
    :param vhosts: virtual hosts of RabbitMQ; services of the cluster use the first
    :param rabbitmq_release: the oldest release of RabbitMQ in the cluster
    """

    name: str
    hosts: tuple[Host, ...]
    zones: Mapping[str, tuple[str, ...]]
    tls: bool = True
    rpc: str | None = None
    notifications: str | None = None
    directory: str = "/etc/hybrid-messaging"
    state: str = "/var/lib/hybrid-messaging"
    user: str = "hybrid-messaging"
    vhosts: tuple[str, ...] = ("openstack",)
    rabbitmq_release: tuple[int, int] = (3, 10)
    ports: Mapping[str, int] = field(default_factory=lambda: PORTS)
    programs: Mapping[str, str] = field(default_factory=lambda: PROGRAMS)

    def having(self, role: str) -> tuple[Host, ...]:
        """The hosts with a role, in the order of the file."""
        return tuple(host for host in self.hosts if role in host.roles)

    def distance(self, zone: str, other: str) -> int:
        """Steps from a zone to another; one that it does not name is the farthest."""
        if zone == other:
            return 0
        near = self.zones[zone]
        return 1 + (near.index(other) if other in near else len(near))

    def nearest(self, role: str, zone: str) -> tuple[Host, ...]:
        """The hosts with a role, those that are nearest to a zone first."""
        return tuple(
            sorted(self.having(role), key=lambda host: self.distance(zone, host.zone))
        )

    def cost(self, host: Host, other: Host) -> int:
        """The cost of a link between two routers, the same from both ends."""
        steps = max(
            self.distance(host.zone, other.zone), self.distance(other.zone, host.zone)
        )
        return max(1, ZONE_COST * steps)

    @property
    def ca_file(self) -> str | None:
        """Where a host has the certificate to trust; None without TLS."""
        return f"{self.directory}/tls/ca.pem" if self.tls else None
