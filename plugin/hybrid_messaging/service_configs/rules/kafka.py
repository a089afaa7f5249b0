# SPDX-License-Identifier: Apache-2.0
"""Kafka: whether it hears who the service is, and takes what the service sends."""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_messaging.servers.kafka import AUTHENTICATED, LARGEST, SECURITY, Kafka
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.problem import Problem
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import NOTIFY, Routes, Servers
from hybrid_messaging.service_configs.rules.notifications import queues
from hybrid_messaging.service_configs.settings import NOTIFICATIONS


def authenticated(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """The client sends user and password, which it does not unless it is told to."""
    for route in routes:
        kafka = route.transport
        if not isinstance(kafka, Kafka):
            continue
        protocol = kafka.options.security_protocol
        if kafka.user and not protocol.startswith("SASL"):
            setting = config.setting(kafka.group, SECURITY, AUTHENTICATED)
            yield found(
                "credentials-not-used",
                f"user {kafka.user} and its password are not sent to Kafka: {SECURITY} "
                f"is {protocol}",
                f"{setting}, or SASL_SSL with TLS",
                config.where(kafka.group, SECURITY),
            )


def large_enough(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Topics take all that the client library sends."""
    for route in routes.carrying(NOTIFY):
        kafka, servers = route.transport, routes.servers
        if isinstance(kafka, Kafka) and servers is not None and route.reached:
            yield from _too_small(config, kafka, servers)


def _too_small(
    config: ServiceConfig, kafka: Kafka, servers: Servers
) -> Iterator[Problem]:
    for topic, limit in kafka.limits(queues(config), servers.timeout).items():
        if limit < LARGEST:
            yield found(
                "topic-too-small",
                f"topic {topic} accepts {limit} bytes, but services may send up to"
                f" {LARGEST}: larger notifications are lost",
                f"raise max.message.bytes of {topic}, or message.max.bytes of the "
                "brokers",
                config.where(NOTIFICATIONS, "topics"),
            )
