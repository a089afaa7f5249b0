# SPDX-License-Identifier: Apache-2.0
"""The state of Kafka: copies of topics, and whether anybody reads them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from hybrid_messaging.servers.backlog import Backlog
from hybrid_messaging.servers.census import Queue, is_notification
from hybrid_messaging.servers.insight import ServerProblem

#: Groups of consumers that are asked how far they have come.
_GROUPS = 200


class _Readers(NamedTuple):
    """What consumers do.

    :param topics: those that somebody reads now
    :param read: how far the furthest group has come, by topic and partition
    """

    topics: set[str]
    read: dict[tuple[str, int], int]


def replicated(metadata: Any, topics: Iterable[str]) -> Iterator[ServerProblem]:
    """Whether topics have copies.

    :param metadata: what `list_topics` has returned
    """
    brokers = len(metadata.brokers)
    for name in topics:
        if name not in metadata.topics:
            continue
        partitions = metadata.topics[name].partitions.values()
        away = sum(len(each.isrs) < len(each.replicas) for each in partitions)
        if away:
            yield ServerProblem(
                "topic-not-replicated",
                f"topic {name} lacks replicas of {away} partitions at the moment",
                "start the brokers that are down",
            )
        elif brokers > 1 and any(len(each.replicas) == 1 for each in partitions):
            yield ServerProblem(
                "topic-not-replicated",
                f"topic {name} has a single replica on {brokers} brokers: without that"
                " broker, notifications cannot be sent",
                "raise its replication factor, and default.replication.factor of the "
                "brokers",
            )


def unread(
    settings: Mapping[str, Any], metadata: Any, topics: Iterable[str], timeout: float
) -> Iterator[ServerProblem]:
    """Whether notifications wait in topics that nobody reads.

    :param settings: of a client
    :param timeout: seconds for each answer
    :raises confluent_kafka.KafkaException: the brokers do not tell
    """
    from confluent_kafka import Consumer

    readers = _readers(settings, timeout)
    # it joins no group, and commits nothing
    name = f"hybrid-check-{secrets.token_hex(4)}"
    consumer = Consumer({**settings, "group.id": name, "enable.auto.commit": False})
    try:
        for topic in topics:
            if topic not in metadata.topics or topic in readers.topics:
                continue
            partitions = metadata.topics[topic].partitions
            starts = [(topic, each) for each in partitions]
            waiting, oldest = _waiting(consumer, starts, readers.read, timeout)
            if waiting:
                age = time.time() - oldest if oldest else None
                yield Backlog(f"topic {topic}", waiting, age=age).problem()
    finally:
        consumer.close()


def queues(
    settings: Mapping[str, Any], metadata: Any, timeout: float
) -> dict[str, Queue]:
    """Topics of notifications, and what no group of consumers has read of them.

    :param settings: of a client
    :param metadata: what `list_topics` has returned
    :param timeout: seconds for each answer
    :raises confluent_kafka.KafkaException: the brokers do not tell
    """
    from confluent_kafka import Consumer, TopicPartition

    readers = _readers(settings, timeout)
    found = {}
    name = f"hybrid-status-{secrets.token_hex(4)}"  # it joins no group
    consumer = Consumer({**settings, "group.id": name, "enable.auto.commit": False})
    try:
        for topic in filter(is_notification, metadata.topics):
            messages = arrived = 0
            for partition in metadata.topics[topic].partitions:
                first, end = consumer.get_watermark_offsets(
                    TopicPartition(topic, partition), timeout=timeout
                )
                read = readers.read.get((topic, partition), 0)
                messages += max(0, end - max(first, read))
                arrived += end
            found[topic] = Queue(messages, int(topic in readers.topics), arrived)
    finally:
        consumer.close()
    return found


def _readers(settings: Mapping[str, Any], timeout: float) -> _Readers:
    from confluent_kafka import ConsumerGroupTopicPartitions, admin

    client = admin.AdminClient(dict(settings))
    listed = client.list_consumer_groups(request_timeout=timeout).result()
    names = [each.group_id for each in listed.valid][:_GROUPS]
    readers = _Readers(set(), {})
    if not names:
        return readers
    described = client.describe_consumer_groups(names, request_timeout=timeout)
    for answer in described.values():
        for member in answer.result().members:
            readers.topics.update(
                each.topic for each in member.assignment.topic_partitions
            )
    for name in names:
        wanted = [ConsumerGroupTopicPartitions(name)]
        (answer,) = client.list_consumer_group_offsets(
            wanted, request_timeout=timeout
        ).values()
        for each in answer.result().topic_partitions:
            place = (each.topic, each.partition)
            readers.read[place] = max(readers.read.get(place, 0), each.offset)
    return readers


def _waiting(
    consumer: Any,
    places: Iterable[tuple[str, int]],
    read: Mapping[tuple[str, int], int],
    timeout: float,
) -> tuple[int, float | None]:
    """How many messages nobody has read, and when the oldest was sent."""
    from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, TopicPartition

    waiting, oldest = 0, None
    for place in places:
        first, end = consumer.get_watermark_offsets(
            TopicPartition(*place), timeout=timeout
        )
        begin = max(first, read.get(place, 0))
        if begin >= end:
            continue
        waiting += end - begin
        consumer.assign([TopicPartition(*place, begin)])
        message = consumer.poll(timeout)
        if message is None or message.error():
            continue
        kind, sent = message.timestamp()
        if kind != TIMESTAMP_NOT_AVAILABLE:
            oldest = min(oldest or sent / 1000, sent / 1000)
    return waiting, oldest
