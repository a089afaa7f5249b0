# SPDX-License-Identifier: Apache-2.0
"""How long callers wait for a target that nobody listens on."""

from __future__ import annotations

from hybrid_messaging.drivers import patience
from hybrid_messaging.drivers.patience import Patience


def test_patience_counts_from_the_first_look_and_is_shared() -> None:
    waiting = Patience(30)
    assert waiting.missing("a", 100) == 130
    assert waiting.missing("a", 125) == 130
    assert waiting.missing("b", 125) == 155


def test_a_listener_ends_it() -> None:
    waiting = Patience(30)
    waiting.missing("a", 100)
    waiting.found("a")
    waiting.found("never missed")
    assert waiting.missing("a", 200) == 230


def test_the_loss_of_the_bus_ends_it() -> None:
    waiting = Patience(30)
    waiting.missing("a", 100)
    waiting.forget()
    assert waiting.missing("a", 200) == 230


def test_the_oldest_is_forgotten_first() -> None:
    waiting = Patience(30)
    for number in range(patience.MOST + 2):
        waiting.missing(number, number)
    newest = patience.MOST + 1
    assert waiting.missing(2, newest) == 32
    assert waiting.missing(0, newest) == waiting.missing(1, newest) == newest + 30


def test_what_the_bus_knows_of_a_departure_counts_more_than_what_was_seen() -> None:
    waiting = Patience(30)
    waiting.deserted("a", 40)  # before anybody has asked
    assert waiting.missing("a", 100) == 70
    waiting.deserted("a", 90)  # it was there in the meantime
    assert waiting.missing("a", 100) == 120
    waiting.found("a")
    assert waiting.missing("a", 200) == 230


def test_calls_that_follow_each_other_fail_one_at_a_time() -> None:
    waiting = Patience(30)
    assert waiting.missing("a", 100, began=100) == 130
    waiting.failed("a", 130)
    # in a loop: each a while after the one before
    assert waiting.missing("a", 130, began=130.1) == 130 + patience.PACE
    # later: at once
    assert waiting.missing("a", 150, began=150) <= 150
    # a cast: at any time
    assert waiting.missing("a", 130.1) == 130


def test_calls_at_the_same_time_do_not_wait_for_each_other() -> None:
    waiting = Patience(0)
    waiting.missing("a", 100, began=100)
    waiting.failed("a", 100)
    assert waiting.missing("a", 100, began=100.5) == 100 + patience.PACE
    waiting.failed("a", 101)  # another one, as it may
    assert waiting.missing("a", 101, began=100.5) <= 100.5 + patience.PACE


def test_what_fails_when_somebody_listens_is_not_remembered() -> None:
    waiting = Patience(30)
    waiting.failed("a", 100)
    assert waiting.missing("a", 100, began=100) == 130
