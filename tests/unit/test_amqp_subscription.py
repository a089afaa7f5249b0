# SPDX-License-Identifier: Apache-2.0
"""The links of a subscription, and when they get credit."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_messaging.drivers.amqp.duties import Duties
from hybrid_messaging.drivers.amqp.subscription import RETIREMENT, Subscription
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

    def drain(self) -> None:
        self.said.append("drain")
        self.credit = 0

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
def duties() -> Duties:
    return Duties(CombiningLock(lambda: None), lambda _: None)


@pytest.fixture
def arrived() -> list[bytes]:
    return []


@pytest.fixture
def subscription(duties: Duties, arrived: list[bytes]) -> Subscription:
    receives: Any = SimpleNamespace(
        on_stopped=lambda: None,
        on_detached=lambda source: None,
        on_arrived=lambda source, delivery, data: arrived.append(data),
    )
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


@pytest.fixture
def retired(subscription: Subscription, line: Any, links: list[Receiver]) -> Receiver:
    """A link that is busy when its subscription is retired; the other one is not."""
    subscription.up(line)
    subscription.start()
    for link in links:
        link.context.on_open()
        link.credit = CAPACITY
    busy, quiet = links
    busy.unsettled = 1
    subscription.retire()
    assert busy.said == [CAPACITY]
    assert quiet.said == [CAPACITY, "drain", "close"]
    assert not subscription.detached
    return busy


def look(duties: Duties) -> None:
    """It is time for the next duty."""
    duties.run(duties._timers[0][0])


def test_a_link_that_is_left_stays_until_nothing_is_under_way_on_it(
    subscription: Subscription, duties: Duties, retired: Receiver, arrived: list[bytes]
) -> None:
    look(duties)
    assert retired.said == [CAPACITY]
    retired.context.on_message(None, b"late")
    assert arrived == [b"late"]
    retired.unsettled = 0
    look(duties)
    assert retired.said == [CAPACITY, "drain", "close"]
    assert subscription.detached


def test_a_link_that_is_left_and_always_busy_does_not_stay_for_ever(
    subscription: Subscription,
    duties: Duties,
    retired: Receiver,
    arrived: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after = time.monotonic() + RETIREMENT
    monkeypatch.setattr(time, "monotonic", lambda: after)
    look(duties)
    assert retired.said == [CAPACITY, "drain"]
    retired.context.on_message(None, b"late")
    assert arrived == [b"late"]
    retired.unsettled = 0
    retired.context.on_flow()
    assert subscription.detached


def test_what_is_left_is_not_attached_again(
    subscription: Subscription, line: Any, links: list[Receiver], retired: Receiver
) -> None:
    subscription.lost()
    links.clear()
    subscription.up(line)
    assert links == []
    assert subscription.detached


def test_a_stop_does_not_wait_for_links_that_are_busy(
    subscription: Subscription, retired: Receiver
) -> None:
    subscription.stop()
    assert retired.said == [CAPACITY, "drain"]
