# SPDX-License-Identifier: Apache-2.0
"""One of the two transports of a run, and what is known about its server."""

from __future__ import annotations

from dataclasses import dataclass

from oslo_config import cfg

from hybrid_messaging import servers, state, urls
from hybrid_messaging.servers import options
from hybrid_messaging.servers.transport import Transport


@dataclass(frozen=True)
class Bus:
    """A transport as the checks see it; `str()` hides its password.

    :param role: `rpc` or `notify`
    :param transport: with the options of its driver, and what `up` has started there
    """

    role: str
    transport: Transport

    def __str__(self) -> str:
        return str(self.transport)


def make(
    role: str, text: str, conf: cfg.ConfigOpts, running: state.State | None
) -> Bus:
    """Find out what is known about a transport.

    :param text: its URL
    :param conf: with the options of the driver
    :param running: what `up` has started
    """
    url = urls.parse(text)
    where = {(host, port) for _, host, port in servers.get(url).servers}
    engine = next(
        (
            item
            for item in (running.engines if running else ())
            if (item.host, item.port) in where
        ),
        None,
    )
    return Bus(role, options.transport(conf, url, engine))
