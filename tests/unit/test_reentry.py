# SPDX-License-Identifier: Apache-2.0
"""Threads that are at work in a driver are refused what they would wait for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from oslo_messaging import MessageDeliveryFailure, MessagingTimeout
from tests.functional import c_fork
from tests.unit.test_forks import in_child

from hybrid_messaging.drivers import errors, forks, reentry


def may_send() -> bool:
    try:
        reentry.refuse_to_send()
    except errors.Reentered as error:
        assert "nothing was sent" in str(error)
        return False
    return True


@reentry.changes
def stop() -> str:
    return "stopped"


def may_stop() -> bool:
    try:
        return stop() == "stopped"
    except errors.Reentered as error:
        assert "nothing was done" in str(error)
        return False


def both() -> tuple[bool, bool]:
    return may_send(), may_stop()


def test_who_is_not_at_work_may_do_anything() -> None:
    assert both() == (True, True)


def test_who_is_at_work_may_neither_send_nor_stop() -> None:
    work = reentry.works(both)
    assert work() == (False, False)
    assert reentry.works(work)() == (False, False)
    assert both() == (True, True)


def test_who_changes_something_is_at_work() -> None:
    assert reentry.changes(both)() == (False, False)
    assert both() == (True, True)


def test_who_waits_may_do_anything_and_is_at_work_again() -> None:
    found: list[Any] = []

    @reentry.works
    def work() -> None:
        found.append(reentry.outside(both))
        found.append(both())

    work()
    assert found == [(True, True), (False, False)]
    assert reentry.outside(both) == both() == (True, True)


def test_who_reads_for_others_may_stop_and_not_send() -> None:
    found: list[Any] = []

    @reentry.works
    def work() -> None:
        found.append(reentry.reading(both))
        found.append(reentry.reading(reentry.reads_here))
        found.append(both())
        found.append(reentry.reads_here())

    work()
    assert found == [(False, True), True, (False, False), False]
    assert both() == (True, True)


@pytest.mark.parametrize("kind", [Exception, KeyboardInterrupt])
def test_who_is_torn_away_is_not_at_work_any_more(kind: type[BaseException]) -> None:
    def torn_away() -> None:
        raise kind

    for call in (
        reentry.works(torn_away),
        reentry.changes(torn_away),
        lambda: reentry.reading(torn_away),
        reentry.works(lambda: reentry.outside(torn_away)),
    ):
        with pytest.raises(kind):
            call()
        assert both() == (True, True)


def test_others_are_not_concerned() -> None:
    found: list[Any] = []

    @reentry.works
    def work() -> None:
        other = threading.Thread(target=lambda: found.append(both()))
        other.start()
        other.join(60)

    work()
    assert found == [(True, True)]


def test_services_take_it_for_a_message_that_was_not_sent() -> None:
    assert issubclass(errors.Reentered, MessageDeliveryFailure)
    assert not issubclass(errors.Reentered, MessagingTimeout)  # do not try again


@pytest.mark.parametrize("fork", [os.fork, c_fork.fork], ids=["in Python", "in C"])
def test_threads_of_a_child_are_not_those_of_its_parent(
    fork: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system gives them the same idents."""
    working = threading.Event()
    ends = threading.Event()

    @reentry.works
    def work() -> None:
        working.set()
        ends.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert working.wait(60)

    def look() -> int:
        monkeypatch.setattr(threading, "get_ident", lambda: thread.ident)
        before = both()
        forks.notice()
        return [before, both()] != [(True, True)] * 2

    try:
        assert in_child(fork, look) == 0
    finally:
        ends.set()
        thread.join(60)
