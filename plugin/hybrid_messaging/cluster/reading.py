# SPDX-License-Identifier: Apache-2.0
"""Read a topology file strictly: what is not understood is an error with its line.

The file is YAML. Its nodes are read instead of its values, for their lines, and because
a node has the text that was written: `no` can be a name, and a version stays `4.10`.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

import yaml

from hybrid_messaging.cluster import ClusterError, mesh
from hybrid_messaging.cluster.topology import (
    EDGE,
    INTERIOR,
    KAFKA,
    NOTIFICATIONS,
    PORTS,
    PROGRAMS,
    RABBITMQ,
    REDIS,
    ROLES,
    RPC,
    SENTINEL,
    ZMQ_PROXY,
    Host,
    Topology,
)

T = TypeVar("T")

#: Bytes that a topology file may have: thousands of hosts.
LARGEST = 1 << 20
#: The zone of hosts where the file has no zones.
ONLY_ZONE = "default"

_SHOWN = 60
# collections within each other; the parser takes much time for many
_DEEPEST = 10
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_VHOST = re.compile(r"[A-Za-z0-9_./-]{1,64}")
# what needs no quoting in any configuration file and no unit
_PATH = re.compile(r"(/[A-Za-z0-9._+@-]+)+")
_RELEASE = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})(\.[0-9]+)*")
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}
_KEYS = (
    "cluster",
    "zones",
    "hosts",
    "tls",
    "rpc",
    "notifications",
    "directory",
    "state",
    "user",
    "vhosts",
    "rabbitmq-release",
    "ports",
    "programs",
)
_HOST_KEYS = ("address", "zone", "roles")
#: The ports that a host with a role listens on.
_LISTENING = {
    INTERIOR: ("router", "router-edge", "router-links", "router-http"),
    EDGE: ("router", "router-http"),
    REDIS: ("redis",),
    SENTINEL: ("sentinel",),
    RABBITMQ: ("rabbitmq", "rabbitmq-management", "rabbitmq-distribution", "epmd"),
    KAFKA: ("kafka", "kafka-controller"),
    ZMQ_PROXY: ("zmq-proxy",),
}


class TopologyError(ClusterError):
    """A topology file is not understood.

    :param line: the line of the file, counted from 1, where there is one
    :param cure: what to write instead
    """

    def __init__(self, path: Path, line: int | None, wrong: str, cure: str) -> None:
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {wrong}: {cure}")
        self.line = line


class _Entry:
    """A key of a mapping with its value."""

    def __init__(self, key: yaml.ScalarNode, value: yaml.Node) -> None:
        self.name: str = key.value
        self.key = key
        self.value = value


def read(path: Path) -> Topology:
    """Read a topology file.

    :raises TopologyError: it cannot be read, or something in it is not understood
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise TopologyError(
            path, None, f"cannot be read ({error.strerror})", "name a topology file"
        ) from error
    if len(data) > LARGEST:
        raise TopologyError(
            path, None, f"is larger than {LARGEST >> 10} kB", "name a topology file"
        )
    return _Reader(path).topology(data)


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def topology(self, data: bytes) -> Topology:
        root = self._composed(data)
        found = self._mapping(root, "a topology", _KEYS)
        zones = self._zones(found)
        hosts = self._hosts(root, found, zones)
        name = self._key(
            found, "cluster", lambda node: self._word(node, _NAME, "a name"), None
        )
        if name is None:
            self._fail(root, "the cluster has no name", "cluster: NAME")
        topology = Topology(
            name=name,
            hosts=hosts,
            zones=zones,
            tls=self._key(found, "tls", self._truth, True),
            rpc=self._purpose(root, found, "rpc", RPC, hosts),
            notifications=self._purpose(
                root, found, "notifications", NOTIFICATIONS, hosts
            ),
            directory=self._key(found, "directory", self._file, Topology.directory),
            state=self._key(found, "state", self._file, Topology.state),
            user=self._key(
                found,
                "user",
                lambda node: self._word(node, _USER, "a user of the system"),
                Topology.user,
            ),
            vhosts=self._key(found, "vhosts", self._vhosts, Topology.vhosts),
            rabbitmq_release=self._key(
                found, "rabbitmq-release", self._release, Topology.rabbitmq_release
            ),
            ports=self._known(found, "ports", PORTS, self._port),
            programs=self._known(found, "programs", PROGRAMS, self._file),
        )
        self._judge(found["hosts"].key, topology)
        self._judge_ports(found.get("ports", found["hosts"]).key, topology)
        return topology

    # -- YAML ----------------------------------------------------------------

    def _composed(self, data: bytes) -> yaml.Node:
        try:
            text = data.decode("utf-8")
            self._look(text)
            root = yaml.compose(text, yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise TopologyError(
                self._path,
                mark.line + 1 if mark else None,
                f"is not YAML ({error.problem or error.context})",
                "correct the line, or the one before it",
            ) from error
        except (ValueError, yaml.YAMLError) as error:
            raise TopologyError(
                self._path, None, "is not YAML in UTF-8", "name a topology file"
            ) from error
        if root is None:
            raise TopologyError(
                self._path, None, "is empty", "write cluster: and hosts:"
            )
        return root

    def _look(self, text: str) -> None:
        """Refuse what a small file could use to take much time or memory."""
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                self._fail(event, "aliases are not supported", "write the value again")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > _DEEPEST:
                self._fail(event, "brackets are nested too deeply", "remove some")

    def _fail(self, where: yaml.Node | yaml.Event, wrong: str, cure: str) -> NoReturn:
        raise TopologyError(self._path, where.start_mark.line + 1, wrong, cure)

    def _mapping(
        self, node: yaml.Node, what: str, known: Collection[str] | None = None
    ) -> dict[str, _Entry]:
        """The keys of a mapping.

        :param known: the keys that it may have; None: any names
        """
        if not isinstance(node, yaml.MappingNode):
            keys = f"with {', '.join(known)}" if known else "NAME: VALUE"
            self._fail(node, f"{what} is not a mapping", f"write key: value, {keys}")
        found: dict[str, _Entry] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fail(key, f"a key of {what} is not a word", "write key: value")
            if known is not None and key.value not in known:
                self._fail(
                    key,
                    f"{_shown(key.value)} is unknown in {what}",
                    f"write one of {', '.join(known)}",
                )
            if key.value in found:
                self._fail(
                    key, f"{_shown(key.value)} occurs twice", "remove one of them"
                )
            found[key.value] = _Entry(key, value)
        return found

    def _items(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self._fail(node, f"{what} are not a list", "write [one, another]")
        return list(node.value)

    def _scalar(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._fail(node, "this is a collection", f"write {what}")
        return str(node.value)

    def _word(self, node: yaml.Node, pattern: re.Pattern[str], what: str) -> str:
        text = self._scalar(node, what)
        if not pattern.fullmatch(text):
            self._fail(
                node,
                f"{_shown(text)} is not {what}",
                f"it must match {pattern.pattern}",
            )
        return text

    def _key(
        self,
        found: Mapping[str, _Entry],
        name: str,
        read: Callable[[yaml.Node], T],
        default: T,
    ) -> T:
        return read(found[name].value) if name in found else default

    # -- values --------------------------------------------------------------

    def _truth(self, node: yaml.Node) -> bool:
        text = self._scalar(node, "true or false")
        if text.lower() not in _TRUTH:
            self._fail(node, f"{_shown(text)} is neither", "write true or false")
        return _TRUTH[text.lower()]

    def _file(self, node: yaml.Node) -> str:
        path = self._word(node, _PATH, "an absolute path")
        if not {".", ".."}.isdisjoint(path.split("/")):
            self._fail(node, f"{_shown(path)} has . or ..", "write the path without")
        return path

    def _port(self, node: yaml.Node) -> int:
        text = self._scalar(node, "a port")
        if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
            self._fail(node, f"{_shown(text)} is not a port", "write 1 to 65535")
        return int(text)

    def _release(self, node: yaml.Node) -> tuple[int, int]:
        text = self._scalar(node, "a release")
        match = _RELEASE.fullmatch(text)
        if match is None:
            self._fail(
                node, f"{_shown(text)} is not a release", "write, for example, 4.3"
            )
        return int(match[1]), int(match[2])

    def _vhosts(self, node: yaml.Node) -> tuple[str, ...]:
        names = tuple(
            self._word(item, _VHOST, "a virtual host")
            for item in self._items(node, "vhosts")
        )
        if not names or len(set(names)) < len(names):
            self._fail(
                node,
                "there are no vhosts, or one occurs twice",
                "vhosts: [openstack]",
            )
        return names

    def _known(
        self,
        found: Mapping[str, _Entry],
        name: str,
        defaults: Mapping[str, T],
        read: Callable[[yaml.Node], T],
    ) -> Mapping[str, T]:
        if name not in found:
            return defaults
        given = self._mapping(found[name].value, name, defaults)
        return {**defaults, **{key: read(item.value) for key, item in given.items()}}

    # -- zones and hosts -----------------------------------------------------

    def _zones(self, found: Mapping[str, _Entry]) -> dict[str, tuple[str, ...]]:
        if "zones" not in found:
            return {ONLY_ZONE: ()}
        entries = self._mapping(found["zones"].value, "zones")
        zones = {}
        for entry in entries.values():
            self._word(entry.key, _NAME, "a name of a zone")
            near: list[str] = []
            for item in self._items(entry.value, f"the zones near {entry.name}"):
                other = self._scalar(item, "a zone")
                if other not in entries or other == entry.name or other in near:
                    self._fail(
                        item,
                        f"{_shown(other)} is not another zone, or occurs twice",
                        "name the other zones, nearest first: "
                        + ", ".join(name for name in entries if name != entry.name),
                    )
                near.append(other)
            zones[entry.name] = tuple(near)
        if not zones:
            self._fail(found["zones"].key, "there is no zone", "zones: {NAME: []}")
        return zones

    def _hosts(
        self,
        root: yaml.Node,
        found: Mapping[str, _Entry],
        zones: Mapping[str, tuple[str, ...]],
    ) -> tuple[Host, ...]:
        if "hosts" not in found:
            self._fail(
                root, "there are no hosts", "hosts: {NAME: {address: …, roles: […]}}"
            )
        addresses: dict[str, str] = {}
        hosts = []
        for entry in self._mapping(found["hosts"].value, "hosts").values():
            self._word(entry.key, _NAME, "a name of a host")
            host = self._host(entry, zones)
            if host.address in addresses:
                self._fail(
                    entry.key,
                    f"{host.name} has the address of {addresses[host.address]}",
                    "give each host a different one",
                )
            addresses[host.address] = host.name
            hosts.append(host)
        if not hosts:
            self._fail(found["hosts"].key, "there are no hosts", "name at least one")
        return tuple(hosts)

    def _host(self, entry: _Entry, zones: Mapping[str, tuple[str, ...]]) -> Host:
        keys = self._mapping(entry.value, f"the host {entry.name}", _HOST_KEYS)
        for needed in ("address", "roles"):
            if needed not in keys:
                self._fail(
                    entry.key, f"{entry.name} has no {needed}", f"write {needed}: …"
                )
        roles = tuple(
            self._role(item) for item in self._items(keys["roles"].value, "roles")
        )
        if not roles or max(Counter(roles).values()) > 1:
            self._fail(
                keys["roles"].key,
                f"{entry.name} has no role, or has one twice",
                f"write some of {', '.join(ROLES)}",
            )
        if {INTERIOR, EDGE} <= set(roles):
            self._fail(
                keys["roles"].key,
                f"{entry.name} is interior and edge",
                "an interior router serves its own host as well: remove edge",
            )
        address = self._address(keys["address"].value)
        if RABBITMQ in roles and ":" in address:
            self._fail(
                keys["address"].value,
                "RabbitMQ nodes communicate over IPv4",
                "write an IPv4 address",
            )
        return Host(entry.name, address, self._zone(entry, keys, zones), roles)

    def _zone(
        self,
        entry: _Entry,
        keys: Mapping[str, _Entry],
        zones: Mapping[str, tuple[str, ...]],
    ) -> str:
        if "zone" not in keys:
            if len(zones) > 1:
                self._fail(
                    entry.key,
                    f"{entry.name} is in no zone",
                    f"write zone: with one of {', '.join(zones)}",
                )
            return next(iter(zones))
        zone = self._scalar(keys["zone"].value, "a zone")
        if zone not in zones:
            self._fail(
                keys["zone"].value,
                f"{_shown(zone)} is not a zone",
                f"write one of {', '.join(zones)}, or add it to zones",
            )
        return zone

    def _role(self, node: yaml.Node) -> str:
        text = self._scalar(node, "a role")
        if text not in ROLES:
            self._fail(
                node,
                f"{_shown(text)} is not a role",
                f"write some of {', '.join(ROLES)}",
            )
        return text

    def _address(self, node: yaml.Node) -> str:
        text = self._scalar(node, "an IP address")
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            self._fail(
                node,
                f"{_shown(text)} is not an IP address",
                "write the address at which the other hosts reach this one; with a"
                " name, the cluster would depend on DNS",
            )
        if address.is_unspecified or address.is_multicast or "%" in text:
            self._fail(
                node,
                f"{text} is not the address of a single host",
                "write the address at which the other hosts reach this one",
            )
        return str(address)

    def _purpose(
        self,
        root: yaml.Node,
        found: Mapping[str, _Entry],
        name: str,
        transports: Mapping[str, str],
        hosts: Collection[Host],
    ) -> str | None:
        """Which transport of the cluster services use for a purpose."""
        roles = {role for host in hosts for role in host.roles}
        there = [scheme for scheme, role in transports.items() if role in roles]
        if name in found:
            text = self._scalar(found[name].value, " or ".join(transports))
            if text not in there:
                self._fail(
                    found[name].value,
                    f"{_shown(text)} is not a transport for {name} here",
                    f"write {' or '.join(there)}, or give hosts the role"
                    if there
                    else "give hosts one of the roles "
                    + ", ".join(transports.values()),
                )
            return text
        if len(there) > 1:
            self._fail(
                root,
                f"{name} could use {' or '.join(there)}",
                f"write {name}: with one of them",
            )
        return there[0] if there else None

    # -- what does not fit together ------------------------------------------

    def _judge(self, where: yaml.Node, topology: Topology) -> None:
        count = {role: len(topology.having(role)) for role in ROLES}
        for holds, wrong, cure in (
            (
                count[EDGE] and not count[INTERIOR],
                "there are edge routers, but no interior one",
                "give at least two hosts the role interior",
            ),
            (
                count[INTERIOR] > mesh.MOST,
                f"there are {count[INTERIOR]} interior routers, but skupper-router"
                f" supports {mesh.MOST}",
                "make most of them edge",
            ),
            (
                count[REDIS] == 2 or (count[REDIS] > 2 and not count[SENTINEL]),
                f"{count[REDIS]} Redis with {count[SENTINEL]} Sentinels: with two of"
                " them, or without Sentinels, none takes over after a failure",
                "use one Redis, or three with three Sentinels",
            ),
            (
                count[SENTINEL] and (count[SENTINEL] < 3 or count[REDIS] < 3),
                f"{count[SENTINEL]} Sentinels for {count[REDIS]} Redis cannot replace "
                "a lost master",
                "give three hosts the roles redis and sentinel",
            ),
            (
                count[RABBITMQ] == 2,
                "with two RabbitMQ nodes, the loss of one stops the other",
                "give one or three hosts the role rabbitmq",
            ),
            (
                count[KAFKA] and count[KAFKA] not in (1, 3, 5),
                f"{count[KAFKA]} Kafka nodes would all be voting controllers",
                "give one, three or five hosts the role kafka",
            ),
            (
                count[ZMQ_PROXY] and topology.rpc != "zmq",
                "there are proxies of zmq://, but RPC uses another transport",
                "write rpc: zmq, with hosts that have the role redis",
            ),
        ):
            if holds:
                self._fail(where, wrong, cure)

    def _judge_ports(self, where: yaml.Node, topology: Topology) -> None:
        for host in topology.hosts:
            taken: dict[int, str] = {}
            for role in host.roles:
                for purpose in _LISTENING[role]:
                    port = topology.ports[purpose]
                    if port in taken:
                        self._fail(
                            where,
                            f"{host.name} would listen on port {port} for "
                            f"{taken[port]} and for {purpose}",
                            f"write another one in ports: {{{purpose}: …}}",
                        )
                    taken[port] = purpose


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
