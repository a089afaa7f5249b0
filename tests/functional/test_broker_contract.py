# SPDX-License-Identifier: Apache-2.0
"""The tests of the driver's contract and of notifications, over a broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.functional import brokers, test_amqp_notifications, test_driver_contract
from tests.functional.rpc import Rpc

# A broker keeps what nobody takes, where a router gives it back at once.
ROUTERS_ONLY = {
    "test_undeliverable_is_what_it_is_called_elsewhere",
    "test_without_a_listener_the_error_says_what_to_do",
    "test_notifier_logs_what_it_cannot_send",
}

for module in (test_driver_contract, test_amqp_notifications):
    globals().update(
        {
            name: thing
            for name, thing in vars(module).items()
            if name == "transport"
            or (name.startswith("test_") and name not in ROUTERS_ONLY)
        }
    )


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[brokers.Broker]:
    """A broker instead of a router."""
    with brokers.running(tmp_path_factory.mktemp("contract") / "state") as made:
        yield made


@pytest.fixture
def rpc(bus: brokers.Broker) -> Iterator[Rpc]:
    """Talks over the broker."""
    with Rpc(bus.url()) as talk:
        yield talk
