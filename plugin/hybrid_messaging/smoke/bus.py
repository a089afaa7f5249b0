# SPDX-License-Identifier: Apache-2.0
"""One of the two transports of a run, and what is known about its server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from oslo_config import cfg

from hybrid_messaging import state, urls
from hybrid_messaging.service_configs import reading, transports
from hybrid_messaging.smoke import kinds


@dataclass(frozen=True)
class Bus:
    """A transport as the checks see it; `str()` hides its password.

    :param role: `rpc` or `notify`
    :param options: those of the transport's driver, None for a driver without
    :param engine: what `up` has started there, if it has
    """

    role: str
    url: urls.TransportURL
    options: Any = None
    engine: state.Engine | None = None

    @property
    def hosts(self) -> tuple[urls.Host, ...]:
        """The servers, at least one."""
        return self.url.hosts or (urls.Host("localhost"),)

    @property
    def kind(self) -> kinds.Kind:
        """What the checks know about this kind of transport."""
        return kinds.get(self.url.scheme)

    @property
    def title(self) -> str:
        """What people call the server behind this kind of transport."""
        return transports.kind(self.url).engine

    def __str__(self) -> str:
        return urls.redact(str(replace(self.url, query={})))


def make(
    role: str, text: str, conf: cfg.ConfigOpts, running: state.State | None
) -> Bus:
    """Find out what is known about a transport.

    :param text: its URL
    :param conf: with the options of the driver
    :param running: what `up` has started
    """
    url = urls.parse(text)
    where = {(host, port) for _, host, port in transports.servers(url)}
    engine = next(
        (
            item
            for item in (running.engines if running else ())
            if (item.host, item.port) in where
        ),
        None,
    )
    return Bus(role, url, reading.driver_options(conf, url), engine)
