# SPDX-License-Identifier: Apache-2.0
"""What waits in a process of `zmq`, and who is told that there is room."""

from __future__ import annotations

import math
import time

from hybrid_messaging.drivers.zmq.backlog import (
    REMEMBERED,
    Backlog,
    Key,
    Refused,
    State,
)


class Request:
    """A request that has arrived."""

    def __init__(self, id: int, listener: str = "one", size: int = 1) -> None:
        self.state = State.WAITING
        self.listener = listener
        self.key: Key = (b"client", id)
        self.size = size
        self.until = math.inf


def keys(*ids: int) -> list[Key]:
    return [(b"client", id) for id in ids]


def test_each_listener_has_room_for_so_many() -> None:
    backlog = Backlog(2, 100)
    first, second, third = (Request(id) for id in range(3))
    assert [backlog.add(each, True) for each in (first, second, third)] == [
        *(True, True, False)
    ]
    assert backlog.add(Request(3, "other"), True)
    assert backlog.of("one") == [first, second]
    assert backlog.begin(first) == keys(2)
    assert backlog.begin(second) == []
    assert backlog.of("one") == []


def test_a_process_has_room_for_so_many_bytes() -> None:
    backlog = Backlog(10, 100)
    first, second = Request(1, size=150), Request(2, "other", size=60)
    assert backlog.add(first, True), "one is taken, whatever its size"
    assert not backlog.add(second, True)
    assert not backlog.add(Request(3, size=60), True)
    assert backlog.begin(first) == keys(2), "the bytes of both are too many"
    assert backlog.add(second, True)
    assert backlog.begin(second) == keys(3)


def test_who_does_not_want_room_is_not_told() -> None:
    backlog = Backlog(1, 100)
    first = Request(1)
    backlog.add(first, True)
    for id in (2, 3):
        backlog.add(Request(id), True)
    backlog.add(Request(4), False)
    assert backlog.withdraw((b"client", 2)) == []
    assert backlog.begin(first) == keys(3)


def test_what_is_withdrawn_makes_room_and_does_not_begin() -> None:
    backlog = Backlog(1, 100)
    first = Request(1)
    backlog.add(first, True)
    backlog.add(Request(2), True)
    assert backlog.withdraw(first.key) == keys(2)
    assert first.state is State.WITHDRAWN
    assert backlog.begin(first) is None
    assert backlog.end(first, State.RETURNED) is None


def test_what_has_begun_is_not_withdrawn() -> None:
    backlog = Backlog(1, 100)
    first = Request(1)
    backlog.add(first, True)
    assert backlog.begin(first) == []
    assert backlog.withdraw(first.key) == []
    assert first.state is State.BEGUN


def test_what_nobody_waits_for_any_more_does_not_begin() -> None:
    backlog = Backlog(1, 100)
    late = Request(1)
    late.until = time.monotonic() - 0.001
    backlog.add(late, True)
    assert backlog.begin(late) is None
    assert late.state is State.WITHDRAWN
    assert backlog.add(Request(2), True)


def test_an_id_that_is_used_twice_confuses_nobody() -> None:
    backlog = Backlog(2, 100)
    first, again = Request(1), Request(1)
    backlog.add(first, True)
    backlog.add(again, True)
    assert backlog.begin(first) == []
    assert backlog.of("one") == [again]
    assert backlog.begin(again) == []
    assert backlog.of("one") == []


def test_a_listener_that_stops_tells_who_waits_for_room() -> None:
    backlog = Backlog(1, 100)
    backlog.add(Request(1), True)
    for id in (2, 3):
        backlog.add(Request(id), True)
    assert backlog.close("one") == keys(2, 3)
    assert backlog.close("one") == []


def test_of_those_without_room_so_many_are_remembered() -> None:
    refused = Refused()
    for id in range(REMEMBERED + 5):
        refused.add((b"client", id), 1)
    assert len(refused) == REMEMBERED
    assert refused.pop(2, math.inf) == keys(5, 6)
    assert refused.pop(0, math.inf) == []
