# SPDX-License-Identifier: Apache-2.0
"""Kafka on the hosts of a cluster: each is broker and controller (KRaft)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from hybrid_messaging import urls
from hybrid_messaging.cluster import credentials, units
from hybrid_messaging.cluster.credentials import Credentials
from hybrid_messaging.cluster.topology import KAFKA, Host, Topology
from hybrid_messaging.cluster.tree import File
from hybrid_messaging.engines import templates

#: Copies of each message, if there are as many nodes.
COPIES = 3
HEAP = "1g"

_CONFIG = PurePosixPath("kafka/kafka.properties")


def files(
    topology: Topology, host: Host, secrets: Credentials
) -> Iterator[File | units.Unit]:
    """What the Kafka of a host needs."""
    nodes = topology.having(KAFKA)
    copies = min(COPIES, len(nodes))

    def at(other: Host, purpose: str) -> str:
        return str(urls.Host(other.address, topology.ports[purpose]))

    text = templates.render(
        "cluster-kafka.properties",
        number=secrets.kafka_nodes[host.name],
        voters=[
            f"{secrets.kafka_nodes[other.name]}@{at(other, 'kafka-controller')}"
            for other in nodes
        ],
        listener=at(host, "kafka"),
        controller=at(host, "kafka-controller"),
        tls=topology.tls,
        directory=topology.directory,
        state=topology.state,
        broker_user=credentials.BROKER,
        broker_password=secrets.kafka_broker,
        service_user=credentials.SERVICE,
        service_password=secrets.kafka,
        copies=copies,
        most=copies // 2 + 1,
    )
    yield File(_CONFIG, text.encode())
    config = f"{topology.directory}/{_CONFIG}"
    home, state = topology.programs["kafka"], f"{topology.state}/kafka"
    yield units.Unit(
        KAFKA,
        "Kafka",
        f"{home}/bin/kafka-server-start.sh {config}",
        (
            units.directory(state),
            f"{home}/bin/kafka-storage.sh format --ignore-formatted"
            f" --cluster-id {secrets.kafka_cluster} --config {config}",
        ),
        {
            "KAFKA_HEAP_OPTS": f"-Xmx{HEAP} -Xms256m",
            "LOG_DIR": f"{topology.state}/kafka-log",
        },
        start_timeout=120,
        stop_timeout=120,
    )
