# SPDX-License-Identifier: Apache-2.0
"""How long callers wait for a target that nobody listens on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hybrid_messaging.drivers import patience
from hybrid_messaging.drivers.patience import Patience


def cast(
    waiting: Patience, target: object, now: float, began: float | None = None
) -> float:
    """Until when a cast waits that finds nobody there now."""
    return waiting.until(target, now, now if began is None else began, is_call=False)


def call(
    waiting: Patience, target: object, now: float, began: float | None = None
) -> float:
    """Until when a call waits that finds nobody there now."""
    return waiting.until(target, now, now if began is None else began, is_call=True)


def test_patience_counts_from_the_first_look_and_is_shared() -> None:
    waiting = Patience(30)
    assert cast(waiting, "a", 100) == 130
    assert cast(waiting, "a", 125) == 130
    assert cast(waiting, "b", 125) == 155


def test_a_listener_ends_it() -> None:
    waiting = Patience(30)
    waiting.missing("a", 100)
    waiting.found("a")
    waiting.found("never missed")
    assert cast(waiting, "a", 200) == 230


def test_the_loss_of_the_bus_ends_it() -> None:
    waiting = Patience(30)
    waiting.missing("a", 100)
    waiting.forget()
    assert cast(waiting, "a", 200) == 230


def test_the_oldest_is_forgotten_first() -> None:
    waiting = Patience(30)
    for number in range(patience.MOST + 2):
        waiting.missing(number, number)
    newest = patience.MOST + 1
    assert cast(waiting, 2, newest) == 32
    assert cast(waiting, 0, newest) == cast(waiting, 1, newest) == newest + 30


def test_what_the_bus_knows_of_a_departure_counts_more_than_what_was_seen() -> None:
    waiting = Patience(30)
    waiting.deserted("a", 40)  # before anybody has asked
    assert cast(waiting, "a", 100) == 70
    waiting.deserted("a", 90)  # it was there in the meantime
    assert cast(waiting, "a", 100) == 120
    waiting.found("a")
    assert cast(waiting, "a", 200) == 230


def test_calls_that_follow_each_other_fail_one_at_a_time() -> None:
    waiting = Patience(30)
    assert call(waiting, "a", 100) == 130
    waiting.failed("a", 130, 130, is_call=True)
    # in a loop: each a while after the one before
    assert call(waiting, "a", 130, began=130.1) == 130 + patience.PACE
    # later: at once
    assert call(waiting, "a", 150) <= 150
    # a cast: at any time
    assert cast(waiting, "a", 130.1) == 130


def test_calls_at_the_same_time_do_not_wait_for_each_other() -> None:
    waiting = Patience(0)
    call(waiting, "a", 100)
    waiting.failed("a", 100, 100, is_call=True)
    assert call(waiting, "a", 100, began=100.5) == 100 + patience.PACE
    waiting.failed("a", 101, 101, is_call=True)  # another one, as it may
    assert call(waiting, "a", 101, began=100.5) <= 100.5 + patience.PACE


def test_what_fails_when_somebody_listens_is_not_remembered() -> None:
    waiting = Patience(30)
    waiting.failed("a", 100, 100, is_call=True)
    assert call(waiting, "a", 100) == 130


def test_a_request_that_has_waited_for_one_target_does_not_wait_for_others() -> None:
    waiting = Patience(60)
    assert cast(waiting, "a", 100) == 160
    waiting.failed("a", 160, began=100, is_call=False)
    for number in range(50):
        now = 160.2 + number * 0.9
        assert cast(waiting, number, now) <= now
        waiting.failed(number, now + 0.1, began=now, is_call=False)
    later = now + 0.1 + patience.SAME_REQUEST
    assert cast(waiting, "b", later) == later + 60
    # nor does the next request for the same targets
    assert all(cast(waiting, number, later) <= later for number in range(50))


def test_what_has_just_left_is_waited_for_by_the_next_request() -> None:
    waiting = Patience(60)
    waiting.missing("a", 100)
    waiting.failed("a", 160, began=100, is_call=False)
    waiting.missing("b", 150)  # it was seen to leave
    assert cast(waiting, "b", 160.1) <= 160.1
    waiting.failed("b", 160.1, began=160.1, is_call=False)
    assert cast(waiting, "b", 170) == 210


def test_a_request_that_has_not_waited_yet_does() -> None:
    """What is known to be gone has cost it nothing."""
    waiting = Patience(60)
    waiting.missing("gone", 0)
    waiting.failed("gone", 100.1, began=100, is_call=False)
    assert cast(waiting, "a", 100.2) == 160.2


def test_a_call_waits_whatever_its_thread_has_waited_for() -> None:
    waiting = Patience(60)
    waiting.missing("a", 100)
    waiting.failed("a", 160, began=100, is_call=False)
    assert call(waiting, "b", 160.1) == 220.1


def test_other_threads_wait() -> None:
    waiting = Patience(60)
    waiting.missing("a", 100)
    with ThreadPoolExecutor(1) as other:
        other.submit(waiting.failed, "a", 160, 100, False).result(60)
        assert cast(waiting, "b", 160.1) == 220.1
        assert other.submit(cast, waiting, "b", 160.2).result(60) <= 160.2


def test_a_call_to_what_has_long_been_gone_fails_at_once() -> None:
    waiting = Patience(30)
    waiting.missing("a", 100)
    assert call(waiting, "a", 200) == 130
    # a cast that has failed holds up no call
    waiting.failed("a", 200, 200, is_call=False)
    assert call(waiting, "a", 200.1) == 130


def test_a_call_that_has_waited_does_not_speak_for_casts() -> None:
    waiting = Patience(60)
    waiting.missing("a", 100)
    waiting.failed("a", 160, began=100, is_call=True)
    assert cast(waiting, "b", 160.1) == 220.1
