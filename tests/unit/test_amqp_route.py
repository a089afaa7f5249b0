# SPDX-License-Identifier: Apache-2.0
"""What the credit of a link says about those who listen at its other end."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from hybrid_messaging.drivers.amqp.route import SETTLING, Route
from hybrid_messaging.drivers.presence import Presence
from hybrid_messaging.protocol.endpoint import Sender


class Link:
    """A link as a peer left it."""

    def __init__(self) -> None:
        self.credit = self.unsettled = 0
        self.draining = False
        self.context: Any = None

    def drained(self) -> None:
        self.credit = 0


class Told:
    """Notes what a route has to tell."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_attach(self, route: Route) -> None:
        self.events.append("attach")

    def on_credit(self, route: Route) -> None:
        if route.open:
            route.vacant = None
        self.events.append("credit")

    def on_desertion(self, route: Route) -> None:
        self.events.append("desertion")

    def on_route_lost(self, route: Route, condition: str) -> None:
        self.events.append(condition)


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def route(link: Link, told: Told) -> Route:
    made = Route(told, "key", "target")
    made.attach(cast(Sender, link), "address")
    return made


def test_nothing_is_known_before_the_peer_has_confirmed_the_link(route: Route) -> None:
    assert not route.open
    assert route.deserted(0) is None


def test_a_link_without_credit_says_after_a_while_that_nobody_listens(
    route: Route, told: Told
) -> None:
    before = time.monotonic()
    route.on_open()
    assert told.events == ["attach", "credit"]
    certain = route.deserted(0)
    assert certain is not None
    assert before + SETTLING <= certain <= time.monotonic() + SETTLING


def test_credit_that_is_taken_back_says_so_at_once(
    route: Route, link: Link, told: Told
) -> None:
    link.credit = 10
    route.on_open()
    assert route.open
    assert route.deserted(0) is None
    link.draining = True
    route.on_flow()
    certain = route.deserted(time.monotonic() + 100)
    assert certain is not None
    assert certain <= time.monotonic()
    assert told.events[-1] == "desertion"


def test_credit_that_is_taken_back_twice_is_no_news(
    route: Route, link: Link, told: Told
) -> None:
    link.credit = 10
    route.on_open()
    link.draining = True
    route.on_flow()
    since = route.vacant
    route.on_flow()
    assert route.vacant == since
    assert told.events.count("desertion") == 1


def test_credit_that_was_used_up_says_little(route: Route, link: Link) -> None:
    link.credit = 1
    route.on_open()
    link.credit, link.unsettled = 0, 1
    assert route.deserted(7) is None  # a server has it, and may be slow
    link.unsettled = 0
    assert route.deserted(7) == 7 + SETTLING  # the peer is about to grant more


def test_what_was_sent_settled_may_be_with_somebody_who_is_slow(
    route: Route, link: Link
) -> None:
    link.credit = 1
    route.on_open()
    link.credit, route.blind = 0, True
    assert route.deserted(0) is None
    link.draining = True
    route.on_flow()
    assert route.deserted(0) is not None


def test_a_link_that_is_lost_says_nothing(route: Route, told: Told) -> None:
    route.on_open()
    route.on_close("amqp:not-found")
    assert route.deserted(0) is None
    assert route.refusal == told.events[-1] == "amqp:not-found"


def test_presence_is_what_the_credit_says(route: Route, link: Link) -> None:
    assert route.presence(time.monotonic()) is Presence.UNKNOWN
    route.on_open()
    assert route.presence(time.monotonic()) is Presence.UNKNOWN
    later = time.monotonic() + SETTLING
    assert route.presence(later) is Presence.ABSENT
    link.credit = 10
    route.on_flow()
    assert route.presence(time.monotonic()) is Presence.LISTENING
    link.credit, link.unsettled = 0, 10  # who listens is slow
    assert route.presence(later) is Presence.LISTENING
    link.draining = True
    route.on_flow()
    assert route.presence(time.monotonic()) is Presence.GONE


def test_presence_where_the_peer_says_that_listeners_have_left(route: Route) -> None:
    route.on_open()
    route.settled()
    assert route.presence(time.monotonic()) is Presence.GONE


def test_presence_where_the_peer_wants_no_link(route: Route) -> None:
    route.on_open()
    route.on_close("unauthorized")
    assert route.presence(time.monotonic()) is Presence.ABSENT
