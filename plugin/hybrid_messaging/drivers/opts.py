# SPDX-License-Identifier: Apache-2.0
"""All options of the drivers, for oslo-config-generator."""

from __future__ import annotations

from oslo_config import cfg

from hybrid_messaging.drivers.amqp import options as amqp
from hybrid_messaging.drivers.migrate import options as migrate
from hybrid_messaging.drivers.zmq import options as zmq


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """What `oslo-config-generator --namespace hybrid_messaging` shows."""
    return [
        (amqp.GROUP, amqp.OPTIONS),
        (migrate.GROUP, migrate.OPTIONS),
        (zmq.GROUP, zmq.OPTIONS),
        (zmq.REDIS_GROUP, zmq.REDIS_OPTIONS),
    ]
