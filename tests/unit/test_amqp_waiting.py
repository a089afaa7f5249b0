# SPDX-License-Identifier: Apache-2.0
"""What the sender of a message that came back is told."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_messaging import Target

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.amqp.outbox import Outbox
from hybrid_messaging.drivers.amqp.outgoing import Message, Outgoing
from hybrid_messaging.drivers.amqp.route import Route
from hybrid_messaging.drivers.amqp.waiting import Waiting
from hybrid_messaging.drivers.combining import CombiningLock


def call_that_comes_back_late(credit: int, drained: bool) -> Exception | None:
    """What a call fails with that a router has given back after its whole time.

    :param credit: what the router grants on the link
    :param drained: the router has taken the credit back, since nobody listens
    """
    options: Any = SimpleNamespace(restart_timeout=60)
    nothing: Any = None
    outbox = Outbox("bus", options, nothing)
    line: Any = SimpleNamespace(routing=True, flush=lambda: None)
    outbox._line = line
    replies: Any = SimpleNamespace(address="replies")
    outbox._replies = replies
    route = Route(outbox, "key", "key")
    link: Any = SimpleNamespace(credit=credit, unsettled=0)
    route.link, route.attached = link, True
    if drained:
        route.vacant = route.known = time.monotonic()
    outgoing = Outgoing(
        Message("key", Target(topic="t"), "RPC call", "{}", id="1", is_call=True, ttl=5)
    )
    outgoing.route = route
    outgoing.since -= 10
    outgoing.come_back()
    waiting = Waiting(
        lambda: None,
        CombiningLock(lambda: None),
        outbox,
        SimpleNamespace(begin=lambda: None, end=lambda: None),  # type: ignore[arg-type]
        lambda waits, until: True,
        lambda moment: False,
    )
    waiting._submit = lambda outgoing: None  # type: ignore[method-assign]
    with pytest.raises(errors.DeliveryError) as caught:
        waiting.send(outgoing, timeout=5)
    return caught.value


def test_a_call_that_a_busy_server_gives_back_late_found_no_room() -> None:
    """Whether its time is looked at there first, or here, is a matter of luck."""
    error = call_that_comes_back_late(credit=10, drained=False)
    assert isinstance(error, errors.ServersBusy)


def test_a_call_that_comes_back_late_where_nobody_listens_says_so() -> None:
    error = call_that_comes_back_late(credit=0, drained=True)
    assert isinstance(error, errors.TargetUnreachable)
