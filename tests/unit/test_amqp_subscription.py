# SPDX-License-Identifier: Apache-2.0
"""The links of a subscription, and when they get credit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_messaging.drivers.amqp.duties import Duties
from hybrid_messaging.drivers.amqp.subscription import Subscription
from hybrid_messaging.drivers.combining import CombiningLock

CAPACITY = 10


class Receiver:
    """A link that notes what is said on it."""

    context: Any = None
    credit = unsettled = 0

    def __init__(self, address: str) -> None:
        self.address = address
        self.said: list[Any] = []

    def grant(self, credit: int) -> None:
        self.said.append(credit)

    def close(self) -> None:
        self.said.append("close")


@pytest.fixture
def links() -> list[Receiver]:
    return []


@pytest.fixture
def line(links: list[Receiver]) -> Any:
    def receiver(address: str) -> Receiver:
        links.append(Receiver(address))
        return links[-1]

    return SimpleNamespace(
        endpoint=SimpleNamespace(receiver=receiver),
        addressing=SimpleNamespace(is_multicast=lambda address: False),
        routing=False,
    )


@pytest.fixture
def subscription() -> Subscription:
    receives: Any = SimpleNamespace(
        on_stopped=lambda: None, on_detached=lambda source: None
    )
    duties = Duties(CombiningLock(lambda: None), lambda _: None)
    return Subscription(duties, 10, lambda _: ["some", "other"], CAPACITY, receives)


def test_a_link_gets_credit_when_it_is_confirmed_and_wanted(
    subscription: Subscription, line: Any, links: list[Receiver]
) -> None:
    subscription.up(line)
    some, other = links
    some.context.on_open()
    assert some.said == []
    subscription.start()
    assert (some.said, other.said) == ([CAPACITY], [])
    other.context.on_open()
    assert (some.said, other.said) == ([CAPACITY], [CAPACITY])


def test_a_link_on_a_new_connection_gets_none_before_it_is_confirmed(
    subscription: Subscription, line: Any, links: list[Receiver]
) -> None:
    """RabbitMQ ends the session of a link that it has refused if it is given credit."""
    subscription.up(line)
    subscription.start()
    subscription.lost()
    links.clear()
    subscription.up(line)
    some, other = links
    some.context.on_close("amqp:not-found")
    other.context.on_open()
    assert (some.said, other.said) == ([], [CAPACITY])


def test_a_link_gets_none_if_it_is_confirmed_after_the_stop(
    subscription: Subscription, line: Any, links: list[Receiver]
) -> None:
    subscription.up(line)
    subscription.start()
    subscription.stop()
    for link in links:
        link.context.on_open()
        assert link.said == ["close"]
