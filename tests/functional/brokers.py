# SPDX-License-Identifier: Apache-2.0
"""A broker for tests, which `up` has started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tenacity
from tests.functional.deployments import NOWHERE, Deployment, deployed

from hybrid_messaging import urls
from hybrid_messaging.engines import broker

#: A transport for RPC, so that nothing but the broker is started.
ALONE = {"rpc": NOWHERE["rpc"]}


class Broker:
    """The broker of a deployment, as tests of the driver want their bus."""

    def __init__(self, place: Deployment) -> None:
        self.place = place

    def url(self, vhost: str = "", **query: Any) -> str:
        """The transport URL of this broker."""
        engine = self.place.engine("broker")
        return urls.build(
            "amqp",
            [(engine.host, engine.port)],
            engine.details["username"],
            engine.details["password"],
            vhost or None,
            {key: str(value) for key, value in query.items()},
        )

    def kill(self) -> None:
        """End it at once."""
        process = self.place.process("broker")
        process.kill()
        process.wait(30)


@contextlib.contextmanager
def running(directory: Path, given: Mapping[str, str] = ALONE) -> Iterator[Broker]:
    """A running broker; its libraries are fetched if they are not there.

    :param given: URLs of transports for which nothing is started
    """
    if broker.missing_libraries():
        fetch()
    with deployed(directory) as place:
        place.up("qpid-dual", given)
        yield Broker(place)


@tenacity.retry(
    # networks have bad moments
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_fixed(5),
    reraise=True,
)
def fetch() -> None:
    """Fetch the libraries of the broker as `hybrid-messaging fetch` does."""
    broker.fetch_with_maven(print)
