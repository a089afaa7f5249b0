# SPDX-License-Identifier: Apache-2.0
"""A broker for tests, which `up` has started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.functional.deployments import NOWHERE, Deployment, deployed

from hybrid_messaging import urls
from hybrid_messaging.attempts import attempts
from hybrid_messaging.engines import EngineError
from hybrid_messaging.engines.kinds import broker

#: A transport for RPC, so that nothing but the broker is started.
ALONE = {"rpc": NOWHERE["rpc"]}
#: Seconds in which fetching the libraries may begin again.
FETCH_PATIENCE = 20.0


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
            engine.details.username,
            engine.details.password,
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


def fetch() -> None:
    """Fetch the libraries of the broker as `hybrid-messaging fetch` does."""
    # networks have bad moments
    for passed in attempts(FETCH_PATIENCE, 5):
        try:
            broker.fetch_with_maven(print)
            return
        except EngineError:
            if passed >= FETCH_PATIENCE:
                raise
