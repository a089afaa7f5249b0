# SPDX-License-Identifier: Apache-2.0
"""Ask a Kafka about itself, and make there what its users need.

Its client is imported when it is asked, since it is an extra.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hybrid_messaging import state, urls
from hybrid_messaging.attempts import attempts
from hybrid_messaging.engines import EngineError

if TYPE_CHECKING:
    from confluent_kafka import KafkaException

#: Of connections without TLS; oslo.messaging's option has the same name.
SECURITY = {"security_protocol": "SASL_PLAINTEXT"}
#: Seconds that an answer may take.
TIMEOUT = 30.0

_TITLE = "Kafka"
_PAUSE = 0.2
# unlike those that Kafka makes up, an identifier never starts with a -
_ID_PREFIX = b"hybrid"


def new_cluster_id() -> str:
    """What KRaft wants to know a cluster by: 16 bytes in base64."""
    raw = _ID_PREFIX + secrets.token_bytes(16 - len(_ID_PREFIX))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def settings(engine: state.Engine) -> dict[str, Any]:
    """What a client of ours has to be told."""
    security = urls.tls("kafka", engine.ca_file) or SECURITY
    return {
        "bootstrap.servers": f"{engine.host}:{engine.port}",
        "security.protocol": security["security_protocol"],
        "ssl.ca.location": engine.ca_file,
        "sasl.mechanism": "PLAIN",
        "sasl.username": engine.details.username,
        "sasl.password": engine.details.password,
        # whatever matters comes back as an exception
        "log_level": 0,
    }


def client(engine: state.Engine) -> Any:
    """An AdminClient for an engine."""
    from confluent_kafka import admin

    return admin.AdminClient(settings(engine))


@contextmanager
def explained(engine: state.Engine) -> Iterator[None]:
    """Turn the client's exceptions into ours."""
    try:
        from confluent_kafka import KafkaException
    except ImportError as error:
        raise EngineError(f"cannot query {_TITLE}: {error}") from error
    try:
        yield
    except KafkaException as error:
        raise EngineError(
            f"{_TITLE} at {engine.host}:{engine.port} reports an error:"
            f" {error.args[0].str()}"
        ) from error


def create_topics(settings: Mapping[str, Any], topics: Iterable[str]) -> None:
    """Create topics of one partition, which keeps their messages in order.

    :param settings: of a client
    :raises confluent_kafka.KafkaException: if the broker refuses
    """
    from confluent_kafka import admin

    # the answers come as long as the client is there
    client = admin.AdminClient(dict(settings))
    new = [admin.NewTopic(topic, 1, 1) for topic in topics]
    for answer in (client.create_topics(new) if new else {}).values():
        answer.result(TIMEOUT)


def delete_topics(settings: Mapping[str, Any], topics: Iterable[str]) -> None:
    """Delete topics with all their messages.

    :param settings: of a client
    :raises confluent_kafka.KafkaException: if the broker refuses
    """
    from confluent_kafka import admin

    client = admin.AdminClient(dict(settings))
    for answer in client.delete_topics(list(topics)).values():
        answer.result(TIMEOUT)


def begin_at_the_start(
    settings: Mapping[str, Any], group: str, topics: Iterable[str]
) -> None:
    """Let a group of listeners begin with the oldest message, unless it has begun.

    :param settings: of a client
    :raises confluent_kafka.KafkaException: if the broker refuses
    """
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    wanted = [TopicPartition(topic, 0) for topic in topics]
    consumer = Consumer({**settings, "group.id": group})

    def begin() -> None:
        known = consumer.committed(wanted, timeout=TIMEOUT)
        # a negative offset stands for none
        new = [TopicPartition(item.topic, 0, 0) for item in known if item.offset < 0]
        if new:
            consumer.commit(offsets=new, asynchronous=False)

    try:
        for passed in attempts(TIMEOUT, _PAUSE):
            try:
                return begin()
            except KafkaException as error:
                if passed >= TIMEOUT or not _is_passing(error):
                    raise
    finally:
        consumer.close()


def _is_passing(error: KafkaException) -> bool:
    """Whether a broker has yet to read its books on groups, after a start."""
    from confluent_kafka import KafkaError

    return error.args[0].code() in (
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    )
