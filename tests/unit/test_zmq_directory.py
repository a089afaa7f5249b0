# SPDX-License-Identifier: Apache-2.0
"""What a process of `zmq` makes of what the matchmaker says."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq import directory
from hybrid_messaging.drivers.zmq.directory import BELIEVED, Directory, Listing
from hybrid_messaging.drivers.zmq.matchmaker import (
    Clock,
    Entry,
    Matchmaker,
    MatchmakerAway,
    MatchmakerRefuses,
    News,
    Reading,
    Record,
)
from hybrid_messaging.drivers.zmq.proxies import ProxiedDirectory

OLD = Record("old", "tcp://127.0.0.1:1", "a")
NEW = Record("new", "tcp://127.0.0.1:2", "b")


def listing(epoch: str, since: float, former: Listing | None, *records: Record):
    return Listing(Reading("", records, epoch), since, former)


def test_a_matchmaker_that_has_lost_its_memory_is_not_believed_at_once() -> None:
    before = listing("one", 0, None, OLD)
    lost = listing("two", 1, before)
    assert lost.records == (OLD,)
    filling = listing("two", 2, lost, NEW)
    assert filling.records == (NEW, OLD)
    # twice is no reason to count it twice
    assert listing("two", 3, filling, NEW, OLD).records == (NEW, OLD)
    later = listing("two", lost.since + BELIEVED, filling, NEW)
    assert later.records == (NEW,)


def test_a_server_that_has_gone_is_gone() -> None:
    before = listing("one", 0, None, OLD, NEW)
    assert listing("one", 1, before, NEW).records == (NEW,)


def test_since_when_servers_are_away() -> None:
    before = listing("one", 5, None, OLD)
    assert before.absent_since("never seen") == 5
    gone = listing("one", 20, before, NEW)
    same = listing("one", 30, gone, NEW)
    assert same.absent_since("old") == 20
    assert same.absent_since("never seen") == 5
    back = listing("one", 40, same, OLD, NEW)
    assert listing("one", 50, back, NEW).absent_since("old") == 50


def test_who_has_left_has_left_whatever_matchmaker_is_asked() -> None:
    before = listing("one", 5, None, OLD, NEW)
    gone = listing("one", 20, before, NEW)
    for elsewhere in (listing("two", 30, gone, NEW), listing("two", 30, gone)):
        assert elsewhere.has_left("old") and not elsewhere.has_left("new")
        assert elsewhere.absent_since("old") == 20
        assert elsewhere.absent_since("never seen") == 5
    # one that is not found there in time has left, too
    forgotten = listing("two", 30 + BELIEVED, listing("two", 30, gone))
    assert forgotten.absent_since("new") == 30 + BELIEVED
    # and one that is there again is
    assert not listing("two", 31, gone, OLD).has_left("old")


class Topics:
    """A directory that says what the test says."""

    failure = None

    def __init__(self, **listings: Listing) -> None:
        self.known = listings.get


def test_what_is_known_of_servers_is_known_behind_proxies() -> None:
    proxy = Record("proxy", "tcp://127.0.0.1:3", "c")
    servers = listing("one", 20, listing("one", 5, None, OLD, NEW), NEW)
    topics: Any = Topics(topic=servers, proxy=listing("one", 7, None, proxy))
    found = ProxiedDirectory(topics).known("topic")
    assert found is not None
    assert found.records == (NEW._replace(endpoint=proxy.endpoint),)
    assert found.since == 7
    for name in ("old", "never seen", "new"):
        assert found.has_left(name) == servers.has_left(name)
        assert found.absent_since(name) == servers.absent_since(name)
    assert found.served
    topics.known = {"topic": servers, "proxy": listing("one", 7, None)}.get
    without = ProxiedDirectory(topics).known("topic")
    assert without is not None and without.records == () and without.served


def test_of_too_many_departures_the_first_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory, "DEPARTURES", 2)
    many = [Record(f"s{n}", "tcp://127.0.0.1:1", "a") for n in range(4)]
    found = listing("one", 0, None, *many)
    for moment in range(1, 5):
        found = listing("one", moment, found, *many[moment:])
    assert [found.absent_since(f"s{n}") for n in range(4)] == [2, 2, 3, 4]


def test_what_has_not_changed_is_held_once() -> None:
    before = listing("one", 0, None, OLD, NEW)
    assert listing("one", 1, before, OLD, NEW).records is before.records


def test_what_was_written_in_another_epoch_is_outdated() -> None:
    """Also where the counter has come to the same number again."""
    known = listing("one", 0, None, OLD)
    assert not known.is_outdated("", "one")
    assert known.is_outdated("1", "one")
    assert known.is_outdated("", "two")


def test_who_asks_is_woken_once_it_is_known_that_this_has_failed() -> None:
    """Woken before, a caller would find no failure, and ask again at once."""

    class Away(Matchmaker):
        def read(self, topics: Sequence[str]) -> dict[str, Reading]:
            raise MatchmakerAway("no answer")

    class Noting(Waiter):
        def wake(self) -> None:
            woken.append(found.failure)
            super().wake()

    woken: list[MatchmakerAway | None] = []
    found = Directory(Away, None)
    waiter = Noting()
    found.ask("topic", waiter)
    assert waiter.wait(60)
    found.close()
    assert [str(failure) for failure in woken] == ["no answer"]


def test_what_a_new_matchmaker_refuses_is_written_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Redis that has become the master takes nothing before it has a replica."""
    monkeypatch.setattr(directory, "WATCH_INTERVAL", 1000.0)
    answers = iter(["former", MatchmakerRefuses("NOREPLICAS"), "new"])
    taken = threading.Event()

    class New(Matchmaker):
        def write(self, entries: Sequence[Entry], expire: int, new: bool) -> str:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            if answer == "new":
                taken.set()
            return answer

        def news(self, topics: Sequence[str]) -> News:
            return News("new", {})

        def remove(self, entries: Sequence[Entry]) -> None:
            pass

    options = SimpleNamespace(zmq_target_update=1000, zmq_target_expire=2000)
    found = Directory(New, options)
    found.register([("topic", NEW)])
    assert taken.wait(60)
    found.close()


def test_a_matchmaker_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory, "SILENT", 0.01)
    asked, answers = threading.Event(), threading.Event()

    class Silent(Matchmaker):
        def read(self, topics: Sequence[str]) -> dict[str, Reading]:
            asked.set()
            assert answers.wait(60)
            return {topic: Reading("", (), "") for topic in topics}

        def news(self, topics: Sequence[str]) -> News:
            return News("", {})

    found = Directory(Silent, SimpleNamespace(zmq_target_update=20))
    assert not found.blind
    waiter = Waiter()
    found.ask("topic", waiter)
    assert asked.wait(60)
    deadline = time.monotonic() + 60
    while not found.blind and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found.blind
    assert found.failure is None
    answers.set()
    assert waiter.wait(60)
    while found.blind and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not found.blind
    found.close()


@pytest.mark.parametrize("step", [120.0, -120.0, 2.0])
def test_clocks_that_are_set_are_noticed(step: float) -> None:
    clock = Clock()
    for now in range(10):
        clock.see(1e9 + now, now, now + 0.1)
    assert clock.steps == 0
    for now in range(10, 20):
        clock.see(1e9 + now + step, now, now + 0.1)
    assert clock.steps == 1


def test_answers_that_take_long_are_no_steps() -> None:
    clock = Clock()
    for now, took in ((0, 0.0), (10, 9.0), (20, 0.1), (30, 5.0)):
        # when Redis has looked at its clock is not known
        clock.see(1e9 + now + took / 2, now, now + took)
    assert clock.steps == 0


def test_clocks_that_go_a_little_wrong_are_not_set() -> None:
    clock = Clock()
    for now in range(0, 100_000, 10):
        clock.see(1e9 + now * 1.001, now, now)
    assert clock.steps == 0
