# SPDX-License-Identifier: Apache-2.0
"""What the two buses of a migration make of their drivers."""

from __future__ import annotations

import time
from typing import Any

import pytest
from amqp.exceptions import NotFound
from oslo_messaging import MessageDeliveryFailure, Target

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.migrate.buses import (
    DirectBus,
    NotTaken,
    RabbitBus,
    Request,
)
from hybrid_messaging.drivers.presence import Presence


class Driver:
    """Fails as it is told, or notes how often it was to try."""

    def __init__(
        self,
        failure: Exception | None = None,
        says: Presence = Presence.LISTENING,
    ) -> None:
        self.failure, self.says = failure, says
        self.retries: list[int | None] = []

    def presence(self, target: Target) -> Presence:
        return self.says

    def send(self, *words: Any, retry: int | None, **named: Any) -> str:
        self.retries.append(retry)
        if isinstance(self.failure, MessageDeliveryFailure):
            try:
                raise NotFound
            except NotFound:
                raise self.failure  # noqa: B904  # as impl_rabbit does
        if self.failure is not None:
            raise self.failure
        return "reply"


def request(**target: Any) -> Request:
    return Request(
        target=Target(topic="heat", **target),
        context={},
        message={},
        wait_for_reply=False,
        timeout=None,
        call_monitor_timeout=None,
        retry=7,
        transport_options=None,
        began=time.monotonic(),
    )


def test_what_is_offered_is_tried_once() -> None:
    """What is insisted on is tried as often as the service says."""
    driver = Driver()
    bus = DirectBus("amqp://h", lambda besides: driver)
    assert bus.offer(request()) == bus.insist(request()) == "reply"
    assert driver.retries == [0, 7]


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (errors.make(errors.TargetUnreachable, False, "nobody"), NotTaken),
        (errors.BusUnavailable("away"), NotTaken),
        # a server may have these
        (errors.make(errors.BusLost, False, "lost"), errors.BusLost),
    ],
)
def test_only_what_nobody_has_may_be_sent_elsewhere(
    failure: Exception, raised: type[Exception]
) -> None:
    bus = DirectBus("amqp://h", lambda besides: Driver(failure))
    with pytest.raises(raised):
        bus.offer(request())


@pytest.mark.parametrize("says", Presence)
def test_a_fanout_is_offered_unless_nobody_listens(says: Presence) -> None:
    """It may be kept for somebody, who gets it from the other bus meanwhile."""
    driver = Driver(says=says)
    bus = DirectBus("amqp://h", lambda besides: driver)
    if says in (Presence.ABSENT, Presence.GONE):
        with pytest.raises(NotTaken):
            bus.offer(request(fanout=True))
        assert driver.retries == []
    else:
        assert bus.offer(request(fanout=True)) == "reply"
    assert bus.insist(request(fanout=True)) == bus.offer(request()) == "reply"


def test_a_fanout_to_nobody_is_no_error_and_anything_else_is() -> None:
    bus = RabbitBus("rabbit://h", lambda besides: Driver(MessageDeliveryFailure("404")))
    assert bus.insist(request(fanout=True)) is None
    with pytest.raises(MessageDeliveryFailure):
        bus.insist(request())


def test_a_child_of_a_fork_has_nobody_of_its_parent_look_at_queues() -> None:
    """The thread that does is not in the child."""
    bus = RabbitBus("rabbit://h", lambda besides: Driver())
    parents = bus._queues
    bus.after_fork()
    assert bus._queues is not parents
