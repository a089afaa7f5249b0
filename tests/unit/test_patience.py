# SPDX-License-Identifier: Apache-2.0
"""How long callers wait for a target that nobody listens on."""

from __future__ import annotations

from hybrid_messaging.drivers import patience
from hybrid_messaging.drivers.patience import Patience


def test_patience_counts_from_the_first_look_and_is_shared() -> None:
    waiting = Patience(30)
    assert waiting.until("a") is None
    assert waiting.missing("a", 100) == 130
    assert waiting.missing("a", 125) == 130
    assert waiting.until("a") == 130
    assert waiting.missing("b", 125) == 155


def test_a_listener_ends_it() -> None:
    waiting = Patience(30)
    waiting.missing("a", 100)
    waiting.found("a")
    waiting.found("never missed")
    assert waiting.until("a") is None
    assert waiting.missing("a", 200) == 230


def test_the_loss_of_the_bus_ends_it() -> None:
    waiting = Patience(30)
    waiting.missing("a", 100)
    waiting.forget()
    assert waiting.until("a") is None


def test_the_oldest_is_forgotten_first() -> None:
    waiting = Patience(30)
    for number in range(patience.MOST + 2):
        waiting.missing(number, number)
    assert waiting.until(0) is waiting.until(1) is None
    assert waiting.until(2) == 32
