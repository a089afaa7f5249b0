# SPDX-License-Identifier: Apache-2.0
"""The memory of message ids."""

from __future__ import annotations

import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from hybrid_messaging.drivers import seen as memory
from hybrid_messaging.drivers.seen import Seen


class _Clock:
    """Stands in for the module `time`."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_an_id_is_new_once() -> None:
    seen = Seen(10, 60)
    ids = ["a", "b", b"a", 7, uuid.UUID(int=8)]
    assert [seen.is_new(id) for id in ids] == [True] * len(ids)
    assert [seen.is_new(id) for id in ids] == [False] * len(ids)


def test_an_id_is_forgotten_after_its_time_however_often_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = _Clock()
    monkeypatch.setattr(memory, "time", clock)
    seen = Seen(10, 60)
    assert seen.is_new("a")
    clock.now += 59
    assert not seen.is_new("a")
    assert seen.is_new("b")
    clock.now += 1
    assert seen.is_new("a")
    assert not seen.is_new("b")


def test_the_oldest_id_makes_room() -> None:
    seen = Seen(3, 60)
    for id in "abcd":
        assert seen.is_new(id)
    assert not seen.is_new("b")
    assert seen.is_new("a")
    assert seen.is_new("b")
    assert not seen.is_new("d")


def test_what_it_keeps_does_not_grow_with_ids() -> None:
    seen = Seen(10, 60)
    id = "x" * 1_000_000
    before = sys.getrefcount(id)
    assert seen.is_new(id)
    assert sys.getrefcount(id) == before
    assert not seen.is_new("x" * 1_000_000)


def test_threads_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = 0, 0

    class Slow(_Clock):
        def monotonic(self) -> float:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            time.sleep(0.001)  # so that others would get in
            inside -= 1
            return self.now

    monkeypatch.setattr(memory, "time", Slow())
    seen = Seen(1000, 60)
    with ThreadPoolExecutor(4) as threads:
        firsts = sum(threads.map(seen.is_new, "abcdefghij" * 4))
    assert (firsts, most) == (10, 1)
