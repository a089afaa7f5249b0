# SPDX-License-Identifier: Apache-2.0
"""One run: its transports, and the names that it alone uses.

Everything that the process with the clients and the processes with the servers
have to agree upon; it travels between them as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import oslo_messaging
from oslo_config import cfg

from hybrid_messaging.servers import options

#: Everything that a run makes on a bus has a name that starts with this.
PREFIX = "hybrid-smoke"
#: How many servers a run has at the most.
SERVERS = 3


@dataclass(frozen=True)
class Run:
    """What all processes of a run have to know.

    :param rpc_url: transport URL, with its password
    :param notify_url: transport URL, with its password
    :param settings: what a service's configuration has instead of defaults, by group
        and name of the option; None: there is none
    """

    rpc_url: str
    notify_url: str
    settings: Mapping[str, Mapping[str, Any]] | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def topic(self) -> str:
        """Topic of the servers."""
        return f"{PREFIX}-{self.token}"

    @property
    def exchange(self) -> str:
        """Exchange of the servers."""
        return f"{self.topic}-rpc"

    @property
    def notify_topic(self) -> str:
        """Topic of the notifications."""
        return f"{PREFIX}-notify-{self.token}"

    @property
    def notify_exchange(self) -> str:
        """Exchange of the notifications."""
        return self.notify_topic

    @property
    def notify_queue(self) -> str:
        """Where a broker stores the notifications, which are of priority info."""
        return f"{self.notify_topic}.info"

    @property
    def servers(self) -> list[str]:
        """Names of the servers; like Cinder's, they have dots and an @."""
        return [f"server-{i}.{PREFIX}@backend" for i in range(1, SERVERS + 1)]

    @property
    def queues(self) -> list[str]:
        """What the run could be known by as queues on a broker."""
        rpc = [self.topic, *(f"{self.topic}.{name}" for name in self.servers)]
        return [self.notify_queue, *rpc]

    @property
    def exchanges(self) -> list[str]:
        """What the run could be known by as exchanges on a broker."""
        return [self.notify_exchange, self.exchange, f"{self.topic}_fanout"]

    def to_json(self) -> str:
        """The run as one line; it holds passwords."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Run:
        """The run that `to_json` has written."""
        return cls(**json.loads(line))

    def conf(self) -> cfg.ConfigOpts:
        """The configuration with which to make transports in a process."""
        # oslo.messaging registers some of its options with the global object only
        conf = cfg.CONF
        conf.reset()
        options.defaults(conf, PREFIX)
        options.override(conf, self.settings or {})
        # the transport's default exchange is the notifications' only one
        conf.set_override("control_exchange", self.notify_exchange)
        return conf

    def rpc_target(self, **more: Any) -> oslo_messaging.Target:
        """The servers of this run."""
        return oslo_messaging.Target(exchange=self.exchange, topic=self.topic, **more)
