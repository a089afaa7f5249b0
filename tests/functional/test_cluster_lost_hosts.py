# SPDX-License-Identifier: Apache-2.0
"""Rendered Redis, Sentinels and RabbitMQ on hosts of their own that get lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.functional import namespaces
from tests.functional.clusters import LARGE, Cluster
from tests.functional.ledgers import TIMEOUT, Stations
from tests.functional.namespaces import Network
from tests.functional.rpc import with_options
from tests.functional.station import FANOUT
from tests.functional.waiting import until

from hybrid_messaging.cluster import transports
from hybrid_messaging.cluster.topology import RABBITMQ, REDIS, SENTINEL

HOSTS = {f"mq{number}": f"192.0.2.1{number}" for number in (1, 2, 3)}
#: Seconds that three nodes of RabbitMQ may need to become one cluster.
STARTING = 240.0
SERVICES = {f"s{number}": f"192.0.2.2{number}" for number in (1, 2)}


@contextlib.contextmanager
def cluster(place: Path, roles: str) -> Iterator[tuple[Cluster, Network]]:
    """Three hosts with some roles, and hosts of services."""
    namespaces.required()
    lines = [
        f"  {name}: {{address: {address}, roles: [{roles}]}}"
        for name, address in HOSTS.items()
    ]
    network = Network(HOSTS | SERVICES, "192.0.2.1")
    try:
        made = Cluster(place, "\n".join(["cluster: c", "hosts:", *lines]), network)
        try:
            yield made, network
        except AssertionError:
            for (host, role), server in made.servers.items():
                print(f"{role} of {host}:\n{server.log()}")
            raise
        finally:
            made.end()
    finally:
        network.close()


@pytest.fixture(scope="module")
def matchmakers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Cluster, Network, Stations]]:
    """Three Redis with Sentinels, and two services that use them."""
    place = tmp_path_factory.mktemp("redis")
    with cluster(place, "redis, sentinel") as (made, network):
        made.start(REDIS)
        # a Sentinel looks for replicas when it starts, and every ten seconds then
        until(lambda: made.is_whole(REDIS), "replicas in sync", TIMEOUT, interval=0.3)
        made.start(SENTINEL)
        until(made.is_whole, "a cluster", TIMEOUT, interval=0.3)
        url = made.variables("default")[transports.RPC_VARIABLE]
        stations = Stations(
            place,
            network,
            {
                name: with_options(url, rpc_zmq_host=address)
                for name, address in SERVICES.items()
            },
        )
        try:
            stations.start()
            yield made, network, stations
        finally:
            stations.kill()


def test_the_master_of_redis_and_a_service_are_cut_off(
    matchmakers: tuple[Cluster, Network, Stations],
) -> None:
    made, network, stations = matchmakers
    away, rest = ("mq1", "s1"), ("mq2", "mq3", "s2")
    began = time.time()
    network.cut(away, rest)
    until(
        lambda: [line for line in made.faults() if "each claim" in line],
        "the others have another master",
        TIMEOUT,
        interval=0.3,
    )
    replaced = time.time() - began
    until(
        lambda: [line for line in made.faults() if "0 of 2 replicas" in line],
        "check says that the replicas of the master are out of sync",
        TIMEOUT,
        interval=0.3,
    )
    network.join(away, rest)
    back = stations.all_reach(SERVICES)
    found = stations.ledgers()
    print(
        f"\nmaster replaced after {replaced:.1f} s; both services reach each other "
        f"{back:.1f} s after they can; slowest fanout "
        f"{found.slowest(began, FANOUT).took:.1f} s; failed "
        f"{dict(found.failures(began))}"
    )
    # a server that only waits for its next registration needs up to 20 s
    assert back < 15
    assert found.twice() == []


@LARGE
def test_the_host_of_the_master_vanishes(
    matchmakers: tuple[Cluster, Network, Stations],
) -> None:
    made, network, stations = matchmakers
    until(made.is_whole, "the old master is a replica", TIMEOUT, interval=0.3)
    replicas = [
        one.host
        for one in made.findings()
        if one.role == REDIS and "replica of" in one.message
    ]
    (master,) = set(HOSTS) - set(replicas)
    began = time.time()
    network.vanish(master)
    stations.all_reach(SERVICES)
    until(
        lambda: [
            one
            for one in made.findings()
            if one.host in replicas and "master, 1 of 2" in one.message
        ],
        "another one is the master",
        TIMEOUT,
        interval=0.3,
    )
    replaced = time.time() - began
    stations.all_reach(SERVICES)
    network.back(master)
    until(made.is_whole, "the old master is a replica", TIMEOUT, interval=0.3)
    found = stations.stop()
    print(
        f"\nmaster replaced after {replaced:.1f} s; slowest call "
        f"{found.slowest(began, 'call of s1', 'call of s2').took:.1f} s, fanout "
        f"{found.slowest(began, FANOUT).took:.1f} s; failed "
        f"{dict(found.failures(began))}"
    )
    assert found.failures(began) == {}
    assert found.twice() == []
    assert found.lost() == []


@LARGE
@pytest.mark.timeout(1200)
def test_a_node_of_rabbitmq_is_killed_and_the_host_of_another_vanishes(
    tmp_path: Path,
) -> None:
    with cluster(tmp_path, "rabbitmq") as (made, network):
        made.start(RABBITMQ)
        until(made.is_whole, "a cluster", STARTING, interval=2)
        url = made.variables("default")[transports.NOTIFY_VARIABLE]
        stations = Stations(tmp_path, network, dict.fromkeys(SERVICES, url), True)
        first = made.servers["mq1", RABBITMQ]
        try:
            stations.start()
            for victim, lose, mend in (
                ("mq1", first.kill, first.start),
                ("mq2", lambda: network.vanish("mq2"), lambda: network.back("mq2")),
            ):
                began = time.time()
                lose()
                until(
                    lambda victim=victim: [
                        line
                        for line in made.faults()
                        if f"is in a cluster with {victim}, not running" in line
                    ],
                    f"check says that {victim} is away",
                    STARTING,
                    interval=1,
                )
                stations.all_reach(SERVICES)
                mend()
                until(made.is_whole, "whole", STARTING, interval=2)
                found = stations.ledgers()
                print(
                    f"\n{victim} away: slowest notification "
                    f"{found.slowest(began).took:.1f} s; failed "
                    f"{dict(found.failures(began))}"
                )
            found = stations.stop()
            print(f"\n{len(found.sent)} notifications, {len(found.twice())} twice")
            assert found.lost() == []
            assert found.failures(0) == {}
        finally:
            stations.kill()
