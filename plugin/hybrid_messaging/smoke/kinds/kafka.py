# SPDX-License-Identifier: Apache-2.0
"""kafka://: Kafka, asked through its admin API."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hybrid_messaging.engines import EngineError
from hybrid_messaging.engines import kafka as engine
from hybrid_messaging.service_configs.connecting import kafka_settings
from hybrid_messaging.smoke.bus import Bus
from hybrid_messaging.smoke.kinds import Inventory
from hybrid_messaging.smoke.run import PREFIX, Run

#: Seconds for each answer of the broker.
TIMEOUT = 10.0

LOOK_AT = {
    "notify-stored": "the broker's log; [oslo_messaging_kafka] security_protocol and "
    "sasl_mechanism; message.max.bytes of the broker",
    "notify-delivered": "the broker's log, and `kafka-consumer-groups.sh --describe "
    "--all-groups`",
}
#: `impl_kafka.KafkaListener` polls once to have its topics made, and forgets
#: what that has brought.
DROPS_FIRST = True


def query(role: str, configured: bool) -> Mapping[str, str]:
    """See `hybrid_messaging.smoke.kinds.Kind`; no service's group is disturbed."""
    group = f"{PREFIX}-{secrets.token_hex(4)}"
    # soon aware of its end, a listener leaves its group in time
    return {"consumer_group": group, "kafka_consumer_timeout": "0.1"}


def grace(bus: Bus) -> float | None:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    return None


def prepare(bus: Bus, run: Run) -> None:
    """See `hybrid_messaging.smoke.kinds.Kind`.

    A group that has never listened would skip whatever has been waiting for it.
    """
    with _client(bus) as settings:
        engine.create_topics(settings, [run.notify_queue])
        engine.begin_at_the_start(
            settings, bus.options.consumer_group, [run.notify_queue]
        )


def waiting(bus: Bus, run: Run) -> int | None:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    from confluent_kafka import Consumer, TopicPartition

    with _client(bus) as settings:
        consumer = Consumer({**settings, "group.id": bus.options.consumer_group})
        try:
            first, end = consumer.get_watermark_offsets(
                TopicPartition(run.notify_queue, 0), timeout=TIMEOUT
            )
        finally:
            consumer.close()
    return int(end - first)


def inventory(bus: Bus, run: Run) -> Inventory:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    with _client(bus) as settings:
        found = _admin(settings).list_topics(timeout=TIMEOUT)
    # its own books are none of ours
    names = sorted(name for name in found.topics if not name.startswith("__"))
    return Inventory("its metadata", {"topics": names})


def is_rpc(bus: Bus, name: str) -> bool:
    """See `hybrid_messaging.smoke.kinds.Kind`; there is no RPC over Kafka."""
    return False


def clean_up(bus: Bus, run: Run) -> None:
    """See `hybrid_messaging.smoke.kinds.Kind`.

    A group whose listener was killed cannot be deleted as long as it is missed.
    Without its topic it has nothing to keep, and the broker forgets it by itself.
    """
    from confluent_kafka import KafkaError

    with _client(bus) as settings:
        admin = _admin(settings)
        for answer in admin.delete_topics([run.notify_queue]).values():
            _accept(answer, KafkaError.UNKNOWN_TOPIC_OR_PART)
        for answer in admin.delete_consumer_groups(
            [bus.options.consumer_group]
        ).values():
            _accept(answer, KafkaError.GROUP_ID_NOT_FOUND, KafkaError.NON_EMPTY_GROUP)


def _accept(answer: Any, *codes: int) -> None:
    """Wait for an answer, which may be one of these errors."""
    from confluent_kafka import KafkaException

    try:
        answer.result(TIMEOUT)
    except KafkaException as error:
        if error.args[0].code() not in codes:
            raise


def _admin(settings: Mapping[str, Any]) -> Any:
    from confluent_kafka import admin

    return admin.AdminClient(dict(settings))


@contextmanager
def _client(bus: Bus) -> Iterator[dict[str, Any]]:
    """The settings of a client, whose exceptions are turned into ours."""
    try:
        from confluent_kafka import KafkaException
    except ImportError as error:
        raise EngineError(
            f"cannot ask {bus}: {error}: install hybrid-messaging[kafka]"
        ) from error
    try:
        yield kafka_settings(bus.url, bus.hosts, bus.options)
    except KafkaException as error:
        raise EngineError(f"{bus} fails: {error.args[0].str()}") from error
