# SPDX-License-Identifier: Apache-2.0
"""Who reads: every order in which a few threads can take their steps.

The threads are generators here, and each step between two of their yields is
atomic, as each method of `Turns` is. All orders are played. In none of them may
two threads read at once, nor may all threads wait while an answer lies unread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import pytest

from hybrid_messaging.drivers import turns
from hybrid_messaging.drivers.turns import State, Turns

Step = Callable[[], bool]


def always() -> bool:
    return True


class Bell:
    """Stands in for a Waiter: remembers that it was rung."""

    def __init__(self) -> None:
        self.rung = False

    def wake(self) -> None:
        self.rung = True


class World:
    """A socket, its own thread, and threads that call.

    :param timer: the own thread may get up because its rest is over
    """

    def __init__(self, calls: list[int], timer: bool) -> None:
        self.timer = timer
        self.poked_own = self.poked_leader = False
        self.turns = Turns(self.poke_own, self.poke_leader)
        self.bell: Any = Bell()
        self.turns._rest = self.bell
        self.under_way: set[int] = set()
        self.unread: set[int] = set()
        self.answered: set[int] = set()
        self.readers = 0
        self.left = list(calls)
        self.threads: list[Iterator[Step]] = [self.own(), self.network()]
        self.threads += [self.caller(number) for number in range(len(calls))]
        self.next: list[Step | None] = [always] * len(self.threads)

    def poke_own(self) -> None:
        self.poked_own = True

    def poke_leader(self) -> None:
        self.poked_leader = True

    def read(self) -> Iterator[Step]:
        self.readers += 1
        assert self.readers == 1, "two threads read at once"
        yield always
        self.answered |= self.unread
        self.unread.clear()
        self.readers -= 1

    def own(self) -> Iterator[Step]:
        while True:
            if self.turns._lie_down():
                yield lambda: self.bell.rung or self.timer
                self.bell.rung = False
                if not self.turns._get_up():
                    continue
            yield lambda: bool(self.unread) or self.poked_own
            self.poked_own = False
            if self.unread:
                yield always
                if self.turns.take():
                    yield from self.read()
                    self.turns.done()
            yield always

    def network(self) -> Iterator[Step]:
        while True:
            yield lambda: bool(self.under_way)
            self.unread.add(self.under_way.pop())

    def caller(self, me: int) -> Iterator[Step]:
        while self.left[me]:
            self.turns.begin()
            yield always
            self.under_way.add(me)
            if self.turns.lead():
                while me not in self.answered:
                    yield lambda: bool(self.unread) or self.poked_leader
                    self.poked_leader = False
                    yield from self.read()
                self.turns.leave()
            else:
                yield always
                self.turns.follow()
                yield lambda: me in self.answered
            self.answered.discard(me)
            yield always
            self.turns.end()
            self.left[me] -= 1
            yield always

    @property
    def enabled(self) -> list[int]:
        return [
            number
            for number, condition in enumerate(self.next)
            if condition is not None and condition()
        ]

    def step(self, number: int) -> None:
        self.next[number] = next(self.threads[number], None)

    def key(self) -> Hashable:
        """What tells one state of the world from another."""
        where = tuple(_where(thread) for thread in self.threads)
        alone = min(self.turns._alone, turns.LONE_SENDINGS)
        return (
            where,
            *(self.turns._state, self.turns._rests, self.turns._callers, alone),
            *(self.bell.rung, self.poked_own, self.poked_leader, tuple(self.left)),
            *map(frozenset, (self.under_way, self.unread, self.answered)),
        )


def _where(thread: Any) -> Hashable:
    lines = []
    while thread is not None and thread.gi_frame is not None:
        lines.append((thread.gi_frame.f_lineno, thread.gi_frame.f_lasti))
        thread = thread.gi_yieldfrom
    return tuple(lines)


def play(calls: list[int], timer: bool) -> int:
    """Play all orders; how many states they lead through."""
    seen: set[Hashable] = set()
    orders: list[tuple[int, ...]] = [()]
    while orders:
        order = orders.pop()
        world = World(calls, timer)
        for number in order:
            world.step(number)
        if world.key() in seen:
            continue
        seen.add(world.key())
        enabled = world.enabled
        if not enabled:
            assert not any(world.left), (
                f"all threads wait, in state {world.turns._state}, after {order}"
            )
        orders += [(*order, number) for number in enabled]
    return len(seen)


@pytest.mark.parametrize("lone", [0, 1, 2])
@pytest.mark.parametrize("timer", [False, True])
@pytest.mark.parametrize("calls", [[3], [2, 2], [3, 1]])
def test_no_answer_lies_unread_and_one_thread_reads(
    calls: list[int], timer: bool, lone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LONE_SENDINGS", lone)
    assert play(calls, timer) > 20


def test_a_thread_alone_leads_after_some_calls() -> None:
    shared = Turns(lambda: None, lambda: None)
    led = []
    for _ in range(turns.LONE_SENDINGS + 1):
        shared.begin()
        led.append(shared.lead())
        if led[-1]:
            shared.leave()
        shared.end()
    assert led == [False] * (turns.LONE_SENDINGS - 1) + [True, True]


def test_who_stays_awake_reads_only_where_no_caller_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "LONE_SENDINGS", 0)
    woken: list[str] = []
    shared = Turns(lambda: woken.append("own"), lambda: woken.append("leader"))
    assert shared.stays()
    assert shared.lead()
    assert not shared.take()  # the caller reads it
    assert not shared.stays()
    shared.leave()
    assert woken == ["own"]  # from what it waits for besides
    assert shared.stays()


def test_the_end_waits_for_the_caller_that_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "LONE_SENDINGS", 0)
    shared = Turns(lambda: None, lambda: shared.leave())
    assert shared.lead()
    shared.finish()
    assert shared._state is State.ENDED
    assert not shared.lead()


def test_another_socket_may_be_read_by_callers_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "LONE_SENDINGS", 0)
    shared = Turns(lambda: None, lambda: None)
    shared.begin()
    shared.finish()
    shared.anew()
    assert shared.lead()
    shared.leave()
    shared.end()
    assert not shared._callers  # who has waited all along is counted once


def test_a_nudge_reaches_only_a_caller_that_waits_on_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "LONE_SENDINGS", 0)
    woken: list[str] = []
    shared = Turns(lambda: None, lambda: woken.append("leader"))
    shared.nudge()
    assert shared.lead()
    shared.nudge()
    shared.leave()
    shared.nudge()
    assert woken == ["leader"]


# -- single steps ------------------------------------------------------------


class Rest:
    """Stands in for what the own thread rests on."""

    def __init__(self) -> None:
        self.woken = 0
        self.waits: list[float | None] = []

    def wake(self) -> None:
        self.woken += 1

    def wait(self, timeout: float | None) -> bool:
        self.waits.append(timeout)
        return False


class Single:
    """Turns with one caller, and who was woken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(turns, "LONE_SENDINGS", 1)
        self.woken: list[str] = []
        self.turns = Turns(
            lambda: self.woken.append("own"), lambda: self.woken.append("leader")
        )
        self.rest: Any = Rest()
        self.turns._rest = self.rest
        self.turns.begin()

    @property
    def state(self) -> State:
        return self.turns._state

    def lead(self) -> None:
        """Have the caller lead, and the own thread notice that."""
        assert self.turns.lead()
        assert not self.turns.take()
        assert self.state is State.LED


@pytest.fixture
def single(monkeypatch: pytest.MonkeyPatch) -> Single:
    return Single(monkeypatch)


def test_several_threads_are_a_crowd_and_nobody_is_alone_in_it() -> None:
    shared = Turns(lambda: None, lambda: None)
    assert not shared.crowded
    for _ in range(turns.LONE_SENDINGS - 1):
        shared.begin()
        shared.end()
    shared.begin()
    assert not shared.crowded
    shared.begin()
    assert shared.crowded
    shared.end()
    assert not shared.crowded
    # the count of lone calls begins anew
    for _ in range(turns.LONE_SENDINGS - 1):
        assert not shared.lead()
        shared.end()
        shared.begin()
    assert not shared.lead()
    shared.end()
    shared.begin()
    assert shared.lead()


def test_the_own_thread_takes_its_turn_once(single: Single) -> None:
    assert single.turns.take()
    assert single.state is State.OWN
    assert not single.turns.take()
    assert not single.turns.lead()
    single.turns.done()
    assert single.state is State.WATCHED
    assert single.turns.take()


def test_a_leader_whom_nobody_has_noticed_leaves_in_silence(single: Single) -> None:
    assert single.turns.lead()
    assert single.state is State.SHARED
    single.turns.leave()
    assert single.state is State.WATCHED
    assert single.woken == []


def test_the_own_thread_watches_while_no_caller_leads(single: Single) -> None:
    assert single.turns.watches(60)
    assert single.rest.waits == []
    single.turns.call()
    assert single.woken == ["own"]
    assert single.rest.woken == 0


def test_the_own_thread_rests_while_a_caller_leads(single: Single) -> None:
    single.lead()
    assert not single.turns.watches(60)
    assert not single.turns.watches(0.01)
    assert single.rest.waits == [turns.REST, 0.01]
    # it is up in between
    single.turns.call()
    assert single.woken == ["own"]
    assert single.turns._lie_down()
    single.turns.call()
    assert (single.woken, single.rest.woken) == (["own"], 1)


def test_nobody_is_woken_by_a_lone_caller_that_is_likely_to_come_back(
    single: Single,
) -> None:
    single.lead()
    assert single.turns._lie_down()
    single.turns.leave()
    assert single.state is State.RESTING
    assert (single.woken, single.rest.woken) == ([], 0)
    # it comes back
    assert single.turns.lead()
    assert single.state is State.LED
    single.turns.leave()
    # it does not
    assert single.turns._get_up()
    assert single.state is State.WATCHED


def test_a_second_caller_has_the_own_thread_get_up(single: Single) -> None:
    single.lead()
    assert single.turns._lie_down()
    single.turns.begin()
    single.turns.leave()
    assert single.state is State.WATCHED
    assert single.rest.woken == 1


def test_who_follows_sees_that_somebody_reads(single: Single) -> None:
    single.lead()
    single.turns.follow()
    assert single.state is State.LED
    assert single.turns._lie_down()
    single.turns.leave()
    assert single.state is State.RESTING
    single.turns.follow()
    assert single.state is State.WATCHED
    assert single.rest.woken == 1
    single.turns.follow()
    assert single.rest.woken == 1


def test_the_end_wakes_a_leader_only_where_there_is_one(single: Single) -> None:
    single.turns.finish()
    assert single.state is State.ENDED
    assert single.woken == []


def test_the_end_waits_for_a_leader_in_another_thread(single: Single) -> None:
    single.lead()
    ended = threading.Thread(target=single.turns.finish)
    ended.start()
    deadline = time.monotonic() + 60
    while single.state is not State.ENDING or single.woken != ["leader"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert ended.is_alive()
    single.turns.leave()
    ended.join(60)
    assert not ended.is_alive()
    assert single.state is State.ENDED


def test_the_own_thread_is_awake_at_first_and_rests_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "LONE_SENDINGS", 0)
    woken: list[str] = []
    shared = Turns(lambda: woken.append("own"), lambda: None)
    shared.call()
    assert woken == ["own"]
    assert shared.lead()
    assert not shared.take()
    assert not shared.watches(0)
