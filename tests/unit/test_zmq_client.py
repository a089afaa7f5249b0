# SPDX-License-Identifier: Apache-2.0
"""What a client of `zmq` does with the peers that it is to connect to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from oslo_config import cfg

from hybrid_messaging.drivers.zmq import options
from hybrid_messaging.drivers.zmq.client import Client
from hybrid_messaging.drivers.zmq.peer import LONGEST_PAUSE, Link, Peer


class Torn(BaseException):
    """As GreenletExit, which ends whatever a greenlet does."""


class Tearing:
    """An encryption whose user is torn away."""

    def agree(self, public: str) -> None:
        raise Torn


class Nowhere:
    """A directory that knows nobody."""

    def follow(self, callback: Any) -> None:
        pass

    def unfollow(self, callback: Any) -> None:
        pass


@pytest.fixture
def client() -> Iterator[Client]:
    conf = cfg.ConfigOpts()
    conf([])
    conf.register_opts(options.OPTIONS, options.GROUP)
    encryption: Any = Tearing()
    directory: Any = Nowhere()
    made = Client(conf.oslo_messaging_zmq, encryption, directory)
    yield made
    made.close()


def test_who_is_torn_away_leaves_what_it_has_claimed_to_others(client: Client) -> None:
    peers = [Peer(f"tcp://127.0.0.1:{port}", "") for port in (5001, 5002)]
    with pytest.raises(Torn):
        client.connect(peers)
    assert [each.link for each in peers] == [Link.DOWN, Link.DOWN]
    assert all(each.may_connect(time.monotonic() + LONGEST_PAUSE) for each in peers)
