# SPDX-License-Identifier: Apache-2.0
"""Rendered routers on hosts of their own, while routers, hosts and links fail.

Stations send all kinds of messages all the time, and their ledgers say what became of
each. A test prints what a fault cost. Its limits are far from that, and below what a
service that waits for the wrong thing would need.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.functional import namespaces
from tests.functional.clusters import ROUTER, Cluster
from tests.functional.ledgers import TIMEOUT, Ledgers, Stations
from tests.functional.namespaces import SWITCH, Network
from tests.functional.routers import native_program
from tests.functional.station import FANOUT
from tests.functional.station import TIMEOUT as CALL_TIMEOUT
from tests.functional.waiting import until

from hybrid_messaging.cluster import credentials, rendering, transports
from hybrid_messaging.cluster.topology import EDGE, INTERIOR
from hybrid_messaging.engines.amqp_management import Management
from hybrid_messaging.engines.certificates import AUTHORITY

pytestmark = [
    pytest.mark.skipif(
        native_program() is None, reason="links between routers need a skrouterd"
    ),
    pytest.mark.timeout(600),
]

#: Seconds after which a service takes its router for lost (the driver's idle_timeout),
#: and a router a link.
SERVICE_IDLE, LINK_IDLE = 10, 4


class Mesh:
    """Rendered routers, and stations that use them."""

    def __init__(
        self, cluster: Cluster, network: Network, urls: Mapping[str, str]
    ) -> None:
        self.cluster, self.network = cluster, network
        self.routers = {
            host.name: host.address for host in cluster.topology.having(INTERIOR)
        }
        self.all = list(urls)
        self.stations = Stations(cluster.file.parent, network, urls)

    def start(self) -> None:
        for role in (INTERIOR, EDGE):
            self.cluster.start(role)
        until(self.cluster.is_whole, "the routers are one mesh", TIMEOUT, interval=0.5)
        self.stations.start()

    def used_by(self, station: str) -> set[str]:
        """The routers to which a station is connected."""
        port = self.cluster.topology.ports["router"]
        shown = subprocess.run(
            [
                *self.network.enter(station),
                *("ss", "-tnH", "state", "established", "dport", "=", f":{port}"),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return {
            router
            for router, address in self.routers.items()
            if f"{address}:{port}" in shown
        }

    def costs(self, router: str) -> dict[str, int]:
        """What its ways to the others cost, by what a router says."""
        cluster = self.cluster
        secrets = credentials.load(cluster.directory)
        assert secrets is not None
        where = (self.routers[router], cluster.topology.ports["router"])
        user = f"{credentials.SERVICE}@{credentials.REALM}"
        ca_file = str(cluster.directory / rendering.AUTHORITY / AUTHORITY)

        def ask() -> dict[str, int]:
            with Management(*where, user, secrets.services, ca_file, TIMEOUT) as asked:
                rows = asked._query("node", "id", "cost")
            return {row["id"]: row["cost"] for row in rows if row["id"] != router}

        return self.network.within(SWITCH, ask)

    def two_used(self) -> tuple[str, str]:
        """Two routers that stations use."""
        for _ in range(20):
            used = sorted(set().union(*map(self.used_by, self.all)))
            if len(used) > 1:
                return used[0], used[1]
            # those that are there choose another one by chance
            self.cluster.servers[used[0], ROUTER].stop()
            self.restart(used[0])
        raise AssertionError("all stations use the same router all the time")

    @contextlib.contextmanager
    def fault(self, name: str) -> Iterator[Fault]:
        """Watch what a fault costs."""
        fault = Fault(name, self.stations)
        yield fault
        fault.end()

    def restart(self, router: str) -> None:
        """Start a router again, and wait until the mesh is whole."""
        self.cluster.servers[router, ROUTER].start()
        self.await_whole()

    def await_whole(self) -> None:
        until(self.cluster.is_whole, "the mesh is whole again", TIMEOUT, interval=0.5)
        self.stations.all_reach(self.all)


class Fault:
    """What a fault costs, from now on."""

    def __init__(self, name: str, stations: Stations) -> None:
        self._name, self._stations = name, stations
        self.began = time.time()

    def end(self) -> None:
        """Print the costs; nothing may have been executed twice, or lost."""
        found = self._stations.ledgers()
        fanout = found.slowest(self.began, FANOUT)
        failure = self.slowest_failure()
        print(
            f"\n{self._name}: without an answer for {self.silence():.2f} s; slowest "
            f"failure {failure:.2f} s, fanout {fanout.took:.2f} s, success "
            f"{found.slowest_success(self.began):.2f} s; failed "
            f"{dict(found.failures(self.began))}"
        )
        assert found.twice() == []
        # nobody waits for a host that is gone
        assert fanout.took < SERVICE_IDLE - 2
        # nor for a reply that cannot come any more
        assert failure < CALL_TIMEOUT - 8

    def slowest_failure(self) -> float:
        """The most seconds until somebody learnt that a message has failed."""
        return self._stations.ledgers().slowest_failure(self.began)

    def silence(self) -> float:
        """The longest time without a success of a kind at a station, in seconds."""
        found = self._stations.ledgers()
        return max(found.silences(self.began, time.time()).values())


def balanced(found: Ledgers) -> None:
    """Judge the ledgers at the end, when nothing is under way."""
    assert found.twice() == []
    assert found.lost() == []
    print(f"\n{len(found.sent)} messages, {sum(found.failures(0).values())} failed")


@contextlib.contextmanager
def running(
    place: Path, text: str, hosts: Mapping[str, str], on_edges: bool = False
) -> Iterator[Mesh]:
    """A mesh of routers in namespaces.

    :param text: of the topology file
    :param hosts: addresses by name
    :param on_edges: stations are on the hosts of edge routers
    """
    namespaces.required()
    network = Network(hosts, "192.0.2.1")
    cluster = Cluster(place, text, network)
    if on_edges:
        urls = {
            host.name: cluster.variables_of(host.name)[transports.RPC_VARIABLE]
            for host in cluster.topology.having(EDGE)
        }
    else:
        url = cluster.variables("default")[transports.RPC_VARIABLE]
        urls = dict.fromkeys((name for name in hosts if name.startswith("s")), url)
    mesh = Mesh(cluster, network, urls)
    try:
        mesh.start()
        yield mesh
        balanced(mesh.stations.stop())
    except AssertionError:
        for (host, _), server in cluster.servers.items():
            print(f"router of {host}:\n{server.log()}")
        raise
    finally:
        mesh.stations.kill()
        cluster.end()
        network.close()


INTERIORS = {f"r{number}": f"192.0.2.1{number}" for number in (1, 2, 3, 4)}
EDGES = {f"e{number}": f"192.0.2.2{number}" for number in (1, 2, 3)}
WEST = ("r3", "r4", "e3")


def test_each_interior_of_two_zones_with_edges_is_killed(tmp_path: Path) -> None:
    lines = [
        f"  {name}: {{address: {address}, zone: {'west' if name in WEST else 'east'},"
        f" roles: [{INTERIOR if name in INTERIORS else EDGE}]}}"
        for name, address in (INTERIORS | EDGES).items()
    ]
    text = "\n".join(
        [
            "cluster: zones",
            f"programs: {{skrouterd: {native_program()}}}",
            "zones: {east: [west], west: [east]}",
            "hosts:",
            *lines,
        ]
    )
    with running(tmp_path, text, INTERIORS | EDGES, on_edges=True) as zones:
        assert zones.costs("r1") == {"r2": 1, "r3": 10, "r4": 10}
        assert zones.costs("r4") == {"r1": 10, "r2": 10, "r3": 1}
        for victim in INTERIORS:
            with zones.fault(f"interior {victim} killed"):
                zones.cluster.servers[victim, ROUTER].kill()
                time.sleep(1)
                zones.stations.all_reach(zones.all)
            zones.restart(victim)


TRIANGLE = {f"r{number}": f"192.0.2.1{number}" for number in (1, 2, 3)}
#: The host that is to replace one of them.
NEW = {"r4": "192.0.2.14"}
SERVICES = {f"s{number}": f"192.0.2.2{number}" for number in (1, 2, 3)}


@pytest.fixture(scope="module")
def triangle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Three routers, and stations that may use each of them."""
    place = tmp_path_factory.mktemp("triangle")
    with running(place, interiors(TRIANGLE), TRIANGLE | NEW | SERVICES) as mesh:
        yield mesh


def interiors(routers: Mapping[str, str]) -> str:
    """A topology file of interior routers in one zone."""
    return "\n".join(
        [
            "cluster: triangle",
            f"programs: {{skrouterd: {native_program()}}}",
            "hosts:",
            *(
                f"  {name}: {{address: {address}, roles: [interior]}}"
                for name, address in routers.items()
            ),
        ]
    )


def test_a_router_is_killed(triangle: Mesh) -> None:
    victim = min(triangle.used_by("s1"))
    with triangle.fault("router killed") as fault:
        triangle.cluster.servers[victim, ROUTER].kill()
        triangle.stations.all_reach(triangle.all)
        # its clients do not wait until it counts as silent
        assert fault.silence() < SERVICE_IDLE - 2
    triangle.restart(victim)


def test_a_router_is_frozen(triangle: Mesh) -> None:
    victim = min(triangle.used_by("s2"))
    server = triangle.cluster.servers[victim, ROUTER]
    with triangle.fault("router frozen") as fault:
        server.pause()
        time.sleep(LINK_IDLE)
        triangle.stations.all_reach(triangle.all)
        # who waits for it once more, to connect, needs 20 s
        assert fault.silence() < SERVICE_IDLE + 7
    server.resume()
    triangle.await_whole()


def test_the_host_of_a_router_vanishes(triangle: Mesh) -> None:
    victim = min(triangle.used_by("s3"))
    with triangle.fault("host of a router vanished") as fault:
        triangle.network.vanish(victim)
        time.sleep(LINK_IDLE)
        triangle.stations.all_reach(triangle.all)
        assert fault.silence() < SERVICE_IDLE + 7
    triangle.network.back(victim)
    triangle.await_whole()


def test_a_link_is_cut_so_that_a_line_remains(triangle: Mesh) -> None:
    one, other = triangle.two_used()
    with triangle.fault("link between two routers cut") as fault:
        triangle.network.cut([one], [other])
        until(
            lambda: not triangle.cluster.is_whole(),
            "check says so",
            TIMEOUT,
            interval=1,
        )
        triangle.stations.all_reach(triangle.all)
        assert fault.silence() < SERVICE_IDLE - 2
        # what was under way waits until the link counts as silent; by default, 16 s
        assert fault.slowest_failure() < LINK_IDLE + 7
    with triangle.fault("the link is back"):
        triangle.network.join([one], [other])
        triangle.await_whole()
        time.sleep(2 * LINK_IDLE)


def test_a_router_and_a_service_are_cut_off(triangle: Mesh) -> None:
    alone = ("r3", "s3")
    rest = [name for name in (*TRIANGLE, *SERVICES) if name not in alone]
    wrong = (
        "error interior r1: does not know r3",
        "error interior r2: does not know r3",
        "error interior r3: does not know r1, r2",
    )

    def says_so() -> bool:
        lines = triangle.cluster.faults()
        return all(any(line.startswith(one) for line in lines) for one in wrong)

    triangle.network.cut(alone, rest)
    try:
        with triangle.fault("a router and a service cut off"):
            until(says_so, "check names routers that do not know each other", TIMEOUT)
            triangle.stations.all_reach(["s3"])
            triangle.stations.all_reach(["s1", "s2"])
    finally:
        triangle.network.join(alone, rest)
    with triangle.fault("they are back"):
        triangle.await_whole()


def test_all_routers_are_restarted_one_after_the_other(triangle: Mesh) -> None:
    with triangle.fault("rolling restart") as fault:
        for router in TRIANGLE:
            triangle.cluster.servers[router, ROUTER].stop()
            triangle.restart(router)
        assert fault.silence() < SERVICE_IDLE - 2


def test_check_names_the_router_whose_port_is_taken(triangle: Mesh) -> None:
    cluster, victim = triangle.cluster, list(TRIANGLE)[-1]
    address = (TRIANGLE[victim], cluster.topology.ports["router-links"])
    server = cluster.servers[victim, ROUTER]
    server.stop()
    with triangle.network.within(victim, lambda: socket.create_server(address)):
        server.start()
        wanted = (
            f"error interior {victim}: cannot listen on {':'.join(map(str, address))}"
        )
        until(
            lambda: any(line.startswith(wanted) for line in cluster.faults()),
            "check says so",
            TIMEOUT,
            interval=0.5,
        )
    server.stop()
    triangle.restart(victim)


def test_a_router_is_replaced_as_the_documentation_says(triangle: Mesh) -> None:
    cluster, old = triangle.cluster, list(TRIANGLE)[-1]
    kept = {name: address for name, address in TRIANGLE.items() if name != old}
    # the first of a pair connects: the others need no restart for the new one
    assert cluster.render(interiors(NEW | kept)) == [*NEW, *kept]
    with triangle.fault("router added") as fault:
        cluster.start(INTERIOR, NEW)
        until(
            lambda: (
                [line.partition(":")[0] for line in cluster.faults()]
                == ["warning interior "]
            ),
            "all know each other, and the old one",
            TIMEOUT,
            interval=0.5,
        )
        triangle.stations.all_reach(triangle.all)
        assert fault.silence() < SERVICE_IDLE - 2
    with triangle.fault("router drained and stopped") as fault:
        cluster.servers[old, ROUTER].stop()
        triangle.stations.all_reach(triangle.all)
        assert fault.silence() < SERVICE_IDLE - 2
    with triangle.fault("the others forget it"):
        for router in kept:
            cluster.servers[router, ROUTER].stop()
            triangle.restart(router)
