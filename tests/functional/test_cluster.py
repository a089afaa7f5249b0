# SPDX-License-Identifier: Apache-2.0
"""Rendered clusters of real servers on loopback addresses: formed, and judged."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import oslo_messaging
import pytest
from oslo_config import cfg
from tests.functional import kafka
from tests.functional.clusters import LARGE, Cluster
from tests.functional.commands import run
from tests.functional.routers import free_port
from tests.functional.waiting import until

from hybrid_messaging.cluster import transports
from hybrid_messaging.cluster.topology import KAFKA, RABBITMQ, REDIS, SENTINEL
from hybrid_messaging.engines import java
from hybrid_messaging.engines.kinds.kafka import JAVA, VERSION

TIMEOUT = 60.0
HOSTS = ("mq1", "mq2", "mq3")


@contextlib.contextmanager
def cluster(place: Path, network: int, roles: str, more: str) -> Iterator[Cluster]:
    """A cluster of three hosts.

    :param network: a byte of their addresses
    :param more: lines of the topology file
    """
    lines = [
        "cluster: trial",
        more,
        "hosts:",
        *(
            f"  {name}: {{address: 127.0.{network}.{number}, roles: [{roles}]}}"
            for number, name in enumerate(HOSTS, 1)
        ),
    ]
    made = Cluster(place, "\n".join(lines))
    try:
        yield made
    except AssertionError:
        for (host, role), server in made.servers.items():
            print(f"{role} of {host}:\n{server.log()}")
        raise
    finally:
        made.end()


def redis_ports() -> str:
    return f"ports: {{redis: {free_port()}, sentinel: {free_port()}}}"


def lose_the_master(made: Cluster) -> None:
    """Start Redis and Sentinels, and kill the master."""
    made.start(REDIS)
    # a Sentinel looks for replicas when it starts, and every ten seconds then
    until(lambda: made.is_whole(REDIS), "replicas are in sync", TIMEOUT)
    made.start(SENTINEL)
    until(made.is_whole, "Redis and Sentinels are one cluster", TIMEOUT)
    url = made.variables("default")[transports.RPC_VARIABLE]
    registers(url)
    made.servers["mq1", REDIS].kill()
    until(
        lambda: any(
            one.host in ("mq2", "mq3") and re.match("(.*, )?master, ", one.message)
            for one in made.findings()
        ),
        "another Redis is the master",
        TIMEOUT,
    )
    until(lambda: can_register(url), "servers can register", TIMEOUT)


def test_sentinels_replace_a_master_and_check_says_so(tmp_path: Path) -> None:
    with cluster(tmp_path, 201, "redis, sentinel", redis_ports()) as made:
        lose_the_master(made)
        assert [line for line in made.faults() if line.startswith("error redis mq1: ")]


@LARGE
def test_a_master_that_returns_becomes_a_replica(tmp_path: Path) -> None:
    with cluster(tmp_path, 205, "redis, sentinel", redis_ports()) as made:
        lose_the_master(made)
        # by its configuration it is the master still
        made.servers["mq1", REDIS].start()
        until(made.is_whole, "the old master is a replica", TIMEOUT)


def registers(url: str) -> None:
    """Register a server in the matchmaker, as the driver does."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    transport = oslo_messaging.get_rpc_transport(conf, url)
    server = oslo_messaging.get_rpc_server(
        transport, oslo_messaging.Target(topic="t", server="s"), [], "threading"
    )
    try:
        server.start()
    finally:
        server.stop()
        server.wait()
        transport.cleanup()


def can_register(url: str) -> bool:
    try:
        registers(url)
    except oslo_messaging.MessagingException:
        return False
    return True


@LARGE
def test_rabbitmq_forms_a_cluster_and_keeps_notifications(tmp_path: Path) -> None:
    epmd = free_port()
    with cluster(tmp_path, 202, "rabbitmq", f"ports: {{epmd: {epmd}}}") as made:
        addresses = ",".join(host.address for host in made.topology.hosts)
        # where each host has one of its own
        server = subprocess.Popen(["epmd", "-port", str(epmd), "-address", addresses])
        try:
            for name in HOSTS:
                # two names with one port in one epmd are refused
                environment = made.servers[name, RABBITMQ].environment
                environment["RABBITMQ_DIST_PORT"] = str(free_port())
            made.start(RABBITMQ)
            until(made.is_whole, "RabbitMQ is one cluster", 120, interval=1)
            url = made.variables("default")[transports.NOTIFY_VARIABLE]
            notify(url)
            assert made.is_whole()
            made.servers["mq1", RABBITMQ].kill()
            notify(url)
            away = "error rabbitmq mq2: is in a cluster with mq1"
            assert any(line.startswith(away) for line in made.faults())
        finally:
            server.kill()
            server.wait()


@LARGE
@pytest.mark.skipif(not java.runtime(JAVA), reason="there is no Java")
def test_kafka_forms_a_cluster_and_keeps_notifications(tmp_path: Path) -> None:
    home = kafka_scripts(tmp_path / "kafka-home")
    with cluster(tmp_path, 203, "kafka", f"programs: {{kafka: {home}}}") as made:
        made.start(KAFKA)
        until(made.is_whole, "Kafka is one cluster", 120, interval=1)
        notify(made.variables("default")[transports.NOTIFY_VARIABLE])
        assert made.is_whole()
        made.servers["mq1", KAFKA].kill()
        until(
            lambda: any(line.startswith("error kafka mq1: ") for line in made.faults()),
            "the loss of a broker is an error",
            TIMEOUT,
        )
        notify(made.variables("default")[transports.NOTIFY_VARIABLE])


def kafka_scripts(home: Path) -> Path:
    """What a release has in bin/, over the libraries that Maven fetches."""
    kafka.fetched()
    runtime, libraries = java.runtime(JAVA), java.cache() / f"kafka-{VERSION}" / "libs"
    (home / "bin").mkdir(parents=True)
    for name, started in (
        ("kafka-server-start.sh", "kafka.Kafka"),
        ("kafka-storage.sh", "kafka.tools.StorageTool"),
    ):
        script = home / "bin" / name
        script.write_text(
            f"#!/bin/sh\nexec {runtime} -Xmx256m -XX:+UseSerialGC"
            f" -XX:TieredStopAtLevel=1 -cp '{libraries}/*' {started} \"$@\"\n"
        )
        script.chmod(0o755)
    return home


def notify(url: str) -> None:
    """Publish a notification; an exception says that it was not stored."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    transport = oslo_messaging.get_notification_transport(conf, url)
    try:
        # a notifier would swallow the exception
        transport._send_notification(
            oslo_messaging.Target(topic="notifications.info"),
            {},
            {"message_id": "1", "payload": "x"},
            version=1.0,
            retry=3,
        )
    finally:
        transport.cleanup()


def test_a_cluster_that_is_away_is_an_error_of_each_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster(tmp_path, 204, "redis, sentinel", redis_ports()) as made:
        result = run(capsys, "cluster", "check", made.file, "-f", "json")
        assert result.code == 1
        assert {row["severity"] for row in result.rows} == {"error"}
        told = [row for row in result.rows if "start its" in row["message"]]
        assert len(told) == 6
