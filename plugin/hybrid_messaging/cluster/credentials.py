# SPDX-License-Identifier: Apache-2.0
"""Passwords and identifiers of a cluster: made once, and kept.

They are in one file of the rendered directory. Without it, a cluster that runs could
not be rendered again as it is.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hybrid_messaging import json_files
from hybrid_messaging.cluster import ClusterError
from hybrid_messaging.engines import kafka_admin

FILE = "credentials.json"

#: The users of services, by server; a router's has a realm.
SERVICE = "hybrid"
REALM = "hybrid-messaging"
#: Who may link to a router, where certificates do not say it.
ROUTER = "router"
#: Redis' users of its replicas and of Sentinels, RabbitMQ's of `cluster check`, and
#: Kafka's of brokers.
REPLICA, SENTINEL, MONITOR, BROKER = "replica", "sentinel", "monitor", "broker"

_LARGEST = 1 << 20
_WORD = re.compile(r"[A-Za-z0-9_-]{8,64}\Z")


def _password() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, repr=False)
class Credentials:
    """All that nobody may know, and what has to stay for the cluster's life.

    :param kafka_nodes: the number of each Kafka node, by host
    """

    services: str = field(default_factory=_password)
    routers: str = field(default_factory=_password)
    redis: str = field(default_factory=_password)
    redis_replica: str = field(default_factory=_password)
    redis_sentinel: str = field(default_factory=_password)
    rabbitmq: str = field(default_factory=_password)
    rabbitmq_monitor: str = field(default_factory=_password)
    rabbitmq_cookie: str = field(default_factory=lambda: secrets.token_hex(16))
    rabbitmq_salt: str = field(default_factory=lambda: secrets.token_hex(4))
    kafka: str = field(default_factory=_password)
    kafka_broker: str = field(default_factory=_password)
    kafka_cluster: str = field(default_factory=kafka_admin.new_cluster_id)
    kafka_nodes: Mapping[str, int] = field(default_factory=dict)

    def secrets(self) -> list[str]:
        """All values that must not be shown."""
        return [value for value in vars(self).values() if isinstance(value, str)]

    def numbering(self, hosts: Iterable[str]) -> Credentials:
        """The same with numbers for Kafka nodes; those that have one keep it."""
        numbers = dict(self.kafka_nodes)
        for host in hosts:
            numbers.setdefault(host, max(numbers.values(), default=0) + 1)
        return dataclasses.replace(self, kafka_nodes=numbers)

    def text(self) -> str:
        """As it stands in its file."""
        values = {**vars(self), "kafka_nodes": dict(self.kafka_nodes)}
        return json.dumps(values, indent=2) + "\n"

    def rabbitmq_hash(self, password: str) -> str:
        """A password as RabbitMQ's definitions have it.

        https://www.rabbitmq.com/docs/passwords#computing-password-hash
        """
        salt = bytes.fromhex(self.rabbitmq_salt)
        digest = hashlib.sha256(salt + password.encode()).digest()
        return base64.b64encode(salt + digest).decode()


def load(directory: Path) -> Credentials | None:
    """Those of a rendered directory, if it has some.

    :raises ClusterError: they are damaged, or not ours alone
    """
    path = directory / FILE
    names = [item.name for item in dataclasses.fields(Credentials)]
    names.remove("kafka_nodes")
    word = json_files.text(_WORD, "password")
    shape = json_files.record(
        {
            **dict.fromkeys(names, word),
            "kafka_nodes": json_files.mapping(json_files.whole(1, 2**31)),
        }
    )
    try:
        found = json_files.read(path, _LARGEST, private=True)
        shape(found)
        bytes.fromhex(found["rabbitmq_salt"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClusterError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ClusterError(
            f"{path} is damaged ({error}): restore it from a backup, since the hosts "
            "have the passwords that stood there; or remove the directory, render "
            "again, and copy the result to all hosts at once"
        ) from error
    return Credentials(**found)
