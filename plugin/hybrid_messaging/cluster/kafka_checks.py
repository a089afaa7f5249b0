# SPDX-License-Identifier: Apache-2.0
"""Whether Kafka's brokers are one cluster, and partitions have their copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hybrid_messaging import urls
from hybrid_messaging.cluster import ClusterError, credentials
from hybrid_messaging.cluster.findings import Access, Finding, error, ok, warning
from hybrid_messaging.cluster.kafka import COPIES
from hybrid_messaging.cluster.topology import KAFKA, Host
from hybrid_messaging.engines.kafka_admin import SECURITY

_SHOWN = 3


def check(access: Access, each: Callable[..., Iterable[Any]]) -> Iterator[Finding]:
    """Look at all brokers.

    :param each: `map`, or one that does it all at once
    :raises ClusterError: the topology has hosts that have not been rendered
    """
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        yield error(
            KAFKA,
            None,
            "cannot be asked without confluent-kafka: pip install "
            "'hybrid-messaging[kafka]'",
        )
        return
    hosts = access.topology.having(KAFKA)
    numbers = access.secrets.kafka_nodes
    if new := [host.name for host in hosts if host.name not in numbers]:
        raise ClusterError(
            f"{', '.join(new)} is not numbered among the Kafka nodes yet: render the "
            "cluster first"
        )
    found: dict[Host, Any] = {}
    for host, said in zip(
        hosts, each(lambda host: _ask(access, host), hosts), strict=True
    ):
        if isinstance(said, str):
            yield error(KAFKA, host, f"{said}: start its Kafka")
        else:
            found[host] = said
    for host, said in found.items():
        unknown = [
            other.name for other in hosts if numbers[other.name] not in said.brokers
        ]
        if said.cluster_id != access.secrets.kafka_cluster:
            yield error(
                KAFKA,
                host,
                f"belongs to the cluster {said.cluster_id}, not to "
                f"{access.secrets.kafka_cluster}: stop it, remove its data, start it",
            )
        elif unknown:
            yield error(KAFKA, host, f"knows no running {', '.join(unknown)}")
        else:
            yield ok(KAFKA, host, f"knows all {len(hosts)} brokers")
    if found:
        yield from _judge_partitions(next(iter(found.values())), len(hosts))


def _judge_partitions(said: Any, nodes: int) -> Iterator[Finding]:
    copies = min(COPIES, nodes)
    behind, single = [], []
    for name, topic in said.topics.items():
        for partition in topic.partitions.values():
            if len(partition.isrs) < len(partition.replicas):
                behind.append(name)
            elif len(partition.replicas) < copies:
                single.append(name)
    for names, wrong in (
        (behind, "have replicas that are not in sync"),
        (
            single,
            f"have fewer than {copies} replicas: make more (kafka-reassign-"
            "partitions.sh)",
        ),
    ):
        if names:
            some = sorted(set(names))
            more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
            yield warning(
                KAFKA, None, f"topics {', '.join(some[:_SHOWN])}{more} {wrong}"
            )


def _ask(access: Access, host: Host) -> Any:
    from confluent_kafka import KafkaException, admin

    where = str(urls.Host(host.address, access.topology.ports["kafka"]))
    security = urls.tls("kafka", access.ca_file) or SECURITY
    client = admin.AdminClient(
        {
            "bootstrap.servers": where,
            "security.protocol": security["security_protocol"],
            **({"ssl.ca.location": access.ca_file} if access.ca_file else {}),
            "sasl.mechanism": "PLAIN",
            "sasl.username": credentials.SERVICE,
            "sasl.password": access.secrets.kafka,
            # what matters comes back as an exception
            "log_level": 0,
        }
    )
    try:
        return client.list_topics(timeout=access.timeout)
    except KafkaException as failure:
        return f"{where} fails: {failure.args[0].str()}"
