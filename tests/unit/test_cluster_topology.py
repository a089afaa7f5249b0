# SPDX-License-Identifier: Apache-2.0
"""Topology files: what they may say, and what is said of those that are wrong."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from hybrid_messaging.cluster import mesh, reading
from hybrid_messaging.cluster.topology import EDGE, INTERIOR, Host, Topology

HOSTS = """\
cluster: region-one
hosts:
  mq1: {address: 192.0.2.1, roles: [interior]}
"""


def read(place: Path, text: str) -> Topology:
    path = place / "mq.yaml"
    path.write_text(text)
    return reading.read(path)


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    topology = read(tmp_path, HOSTS)
    assert topology.hosts == (Host("mq1", "192.0.2.1", "default", (INTERIOR,)),)
    assert (topology.rpc, topology.notifications, topology.tls) == ("amqp", None, True)


def test_words_stay_as_they_were_written(tmp_path: Path) -> None:
    topology = read(
        tmp_path,
        "cluster: no\nzones: {on: []}\nrabbitmq-release: 4.10\n"
        "hosts:\n  yes: {address: 192.0.2.1, roles: [rabbitmq]}\n",
    )
    assert topology.name == "no"
    assert topology.hosts[0].name == "yes"
    assert topology.rabbitmq_release == (4, 10)


def hosts(roles: str, count: int) -> str:
    lines = (
        f"  h{number}: {{address: 192.0.2.{number}, roles: [{roles}]}}\n"
        for number in range(1, count + 1)
    )
    return "cluster: one\nhosts:\n" + "".join(lines)


WRONG = [
    ("", None, "is empty", "write cluster:"),
    ("cluster: [", 1, "is not YAML", "correct the line"),
    ("- a", 1, "is not a mapping", "cluster"),
    (HOSTS + "colour: red\n", 4, "'colour' is unknown", "rpc"),
    (HOSTS + "tls: maybe\n", 4, "'maybe' is neither", "true or false"),
    (HOSTS + "tls: [yes]\n", 4, "is a collection", "true or false"),
    (HOSTS + "tls: true\ntls: false\n", 5, "occurs twice", "remove"),
    (HOSTS + "ports: {router: 0}\n", 4, "'0' is not a port", "65535"),
    (HOSTS + "ports: {router: 99999}\n", 4, "is not a port", "65535"),
    (HOSTS + "ports: {web: 80}\n", 4, "'web' is unknown", "router"),
    (HOSTS + "ports: {router: 5682}\n", 4, "port 5682 for router and", "router-edge"),
    (HOSTS + "directory: etc\n", 4, "is not an absolute path", "match"),
    (HOSTS + "state: /var/../etc\n", 4, "has . or ..", "without"),
    (HOSTS + "state: /var/lib/a b\n", 4, "is not an absolute path", "match"),
    (HOSTS + "user: 'root; true'\n", 4, "is not a user", "match"),
    (HOSTS + "rabbitmq-release: four\n", 4, "is not a release", "4.3"),
    (HOSTS + "vhosts: []\n", 4, "there are no vhosts", "openstack"),
    (HOSTS + "rpc: zmq\n", 4, "is not a transport for rpc here", "write amqp"),
    (HOSTS + "notifications: rabbit\n", 4, "is not a transport", "rabbitmq"),
    (HOSTS + "a: &x 1\nb: *x\n", 5, "aliases are not supported", "write the value"),
    ("hosts: {a: {address: 192.0.2.1, roles: [edge]}}", 1, "has no name", "cluster:"),
    ("cluster: a\n", 1, "there are no hosts", "hosts:"),
    ("cluster: a\nhosts: {}\n", 2, "there are no hosts", "at least one"),
    ("cluster: A b\nhosts: {}\n", 2, "there are no hosts", "at least one"),
    (HOSTS.replace("mq1", "MQ 1"), 3, "'MQ 1' is not a name of a host", "match"),
    (HOSTS.replace("192.0.2.1", "mq1"), 3, "'mq1' is not an IP address", "DNS"),
    (
        HOSTS.replace("192.0.2.1", "0.0.0.0"),
        3,
        "not the address of a single host",
        "reach this one",
    ),
    (HOSTS.replace("address:", "adress:"), 3, "'adress' is unknown", "address"),
    (HOSTS.replace("address: 192.0.2.1, ", ""), 3, "has no address", "address:"),
    (HOSTS.replace("[interior]", "[]"), 3, "has no role", "interior"),
    (HOSTS.replace("[interior]", "interior"), 3, "roles are not a list", "[one"),
    (HOSTS.replace("[interior]", "[router]"), 3, "'router' is not a role", "interior"),
    (HOSTS.replace("]", ", edge]"), 3, "is interior and edge", "remove edge"),
    (
        HOSTS.replace("192.0.2.1", "'2001:db8::1'").replace("interior", "rabbitmq"),
        3,
        "over IPv4",
        "write an IPv4",
    ),
    (HOSTS + "zones: {a: [], b: []}\n", 3, "mq1 is in no zone", "a, b"),
    (HOSTS + "zones: {a: [c]}\n", 4, "'c' is not another zone", "nearest first"),
    (HOSTS + "zones: {a: [a]}\n", 4, "'a' is not another zone", "nearest first"),
    (HOSTS.replace(", roles", ", zone: x, roles"), 3, "'x' is not a zone", "default"),
    (
        HOSTS + "  mq2: {address: 192.0.2.1, roles: [interior]}\n",
        4,
        "mq2 has the address of mq1",
        "a different one",
    ),
    (hosts("edge", 2), 2, "no interior one", "interior"),
    (hosts("rabbitmq", 2), 2, "two RabbitMQ nodes", "one or three"),
    (hosts("kafka", 4), 2, "4 Kafka nodes", "three"),
    (hosts("redis", 2), 2, "2 Redis with 0 Sentinels", "three"),
    (hosts("redis", 3), 2, "3 Redis with 0 Sentinels", "three"),
    (hosts("sentinel, interior", 3), 2, "3 Sentinels for 0 Redis", "redis"),
    (hosts("interior", 129), 2, "129 interior routers", "edge"),
    (hosts("interior, zmq-proxy", 1), 2, "proxies of zmq://", "rpc: zmq"),
    (hosts("interior, redis", 1), 1, "rpc could use amqp or zmq", "write rpc:"),
]


@pytest.mark.parametrize(
    ("text", "line", "wrong", "cure"), WRONG, ids=[str(n) for n in range(len(WRONG))]
)
def test_an_error_names_file_line_what_is_wrong_and_what_to_write(
    tmp_path: Path, text: str, line: int | None, wrong: str, cure: str
) -> None:
    with pytest.raises(reading.TopologyError) as raised:
        read(tmp_path, text)
    where, _, told = str(raised.value).partition(": ")
    file = str(tmp_path / "mq.yaml")
    assert where == (f"{file}, line {line}" if line else file)
    assert wrong in told
    assert cure in told.partition(wrong)[2]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\x00",
        b"\0",
        b"[" * 100_000,
        b"a: " * 100_000,
        b"- " * 100_000,
        b"x" * (2 << 20),
    ],
    ids=["no UTF-8", "NUL", "brackets", "colons", "dashes", "large"],
)
def test_no_file_crashes_the_reader(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "mq.yaml"
    path.write_bytes(data)
    with pytest.raises(reading.TopologyError):
        reading.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(reading.TopologyError, match=r"mq\.yaml: cannot be read"):
        reading.read(tmp_path / "mq.yaml")


# -- the mesh --------------------------------------------------------------------


def of(count: int, zones: int = 1) -> Topology:
    names = [f"z{number}" for number in range(zones)]
    return Topology(
        "one",
        tuple(
            Host(f"r{n}", f"192.0.2.{n}", names[n % zones], (INTERIOR,))
            for n in range(count)
        ),
        {name: tuple(other for other in names if other != name) for name in names},
    )


def neighbours(topology: Topology, gone: frozenset[str] = frozenset()) -> dict:
    found: dict[str, set[str]] = {
        host.name: set() for host in topology.hosts if host.name not in gone
    }
    for one, other in mesh.pairs(topology):
        if not {one.name, other.name} & gone:
            found[one.name].add(other.name)
            found[other.name].add(one.name)
    return found


def hops(linked: dict[str, set[str]], start: str) -> dict[str, int]:
    """The distance of every router that can be reached."""
    found, edge = {start: 0}, [start]
    while edge:
        edge = [n for name in edge for n in linked[name] if n not in found]
        found.update(dict.fromkeys(edge, max(found.values()) + 1))
    return found


@pytest.mark.parametrize("count", range(2, mesh.FULL + 1))
def test_few_routers_are_all_linked_to_each_other_once(count: int) -> None:
    pairs = mesh.pairs(of(count))
    assert len(pairs) == count * (count - 1) // 2
    assert len({frozenset((a.name, b.name)) for a, b in pairs}) == len(pairs)


@pytest.mark.parametrize("count", [7, 8, 9, 16, 33, 64, 128])
def test_many_routers_have_few_links_and_short_ways(count: int) -> None:
    linked = neighbours(of(count))
    most = 2 * count.bit_length()
    assert all(len(others) <= most for others in linked.values())
    distances = hops(linked, "r0")
    assert len(distances) == count
    assert max(distances.values()) <= (count.bit_length() + 1) // 2


@pytest.mark.parametrize(("count", "zones"), [(3, 1), (7, 1), (9, 3), (12, 2)])
def test_no_two_routers_that_are_lost_cut_off_a_third(count: int, zones: int) -> None:
    topology = of(count, zones)
    names = [host.name for host in topology.hosts]
    for lost in itertools.combinations(names, 2):
        linked = neighbours(topology, frozenset(lost))
        assert len(hops(linked, next(iter(linked)))) == count - 2


def test_a_link_between_zones_costs_more_than_any_way_within_one() -> None:
    topology = of(4, 2)
    costs = {
        (one.zone == other.zone): topology.cost(one, other)
        for one, other in mesh.pairs(topology)
    }
    assert costs == {True: 1, False: 10}


def test_zones_that_do_not_name_each_other_are_far() -> None:
    topology = Topology("one", (), {"a": ("b",), "b": ("a",), "c": ()})
    assert [topology.distance("a", zone) for zone in "abc"] == [0, 1, 2]
    near, far = (Host(zone, zone, zone, (INTERIOR,)) for zone in "ac")
    assert topology.cost(near, far) == 20


def test_edges_share_the_interiors_of_their_zone_and_have_two_each() -> None:
    interiors = [Host(f"i{n}", f"192.0.2.{n}", "a", (INTERIOR,)) for n in range(3)]
    edges = [Host(f"e{n}", f"192.0.2.1{n}", "a", (EDGE,)) for n in range(6)]
    topology = Topology("one", (*interiors, *edges), {"a": ()})
    first, second = zip(*(mesh.uplinks(topology, edge) for edge in edges), strict=True)
    assert sorted(host.name for host in first) == ["i0", "i0", "i1", "i1", "i2", "i2"]
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_an_edge_whose_zone_has_one_interior_takes_its_second_from_the_nearest() -> (
    None
):
    topology = Topology(
        "one",
        (
            Host("far", "192.0.2.1", "c", (INTERIOR,)),
            Host("near", "192.0.2.2", "b", (INTERIOR,)),
            Host("own", "192.0.2.3", "a", (INTERIOR,)),
            Host("edge", "192.0.2.4", "a", (EDGE,)),
        ),
        {"a": ("b", "c"), "b": (), "c": ()},
    )
    found = mesh.uplinks(topology, topology.hosts[-1])
    assert [host.name for host in found] == ["own", "near"]


def test_names_need_no_quoting_anywhere() -> None:
    for pattern in (reading._NAME, reading._PATH, reading._USER, reading._VHOST):
        assert not re.search(pattern, "'\"$\\%{}\n")
