# SPDX-License-Identifier: Apache-2.0
"""A lock whose holder does what others leave with it."""

from __future__ import annotations

import threading

import pytest

from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.combining import CombiningLock


def test_left_work_is_done_at_once_where_the_lock_is_free() -> None:
    done: list[str] = []
    lock = CombiningLock(lambda: done.append("after"))
    lock.leave(done.append, "work")
    assert done == ["work", "after"]


def test_left_work_is_done_by_the_holder() -> None:
    done: list[str] = []
    lock = CombiningLock(lambda: done.append("after"))
    with lock:
        other = threading.Thread(target=lock.leave, args=(done.append, "work"))
        other.start()
        other.join(10)
        assert not other.is_alive(), "who leaves work does not wait"
        assert done == []
    assert done == ["work", "after"]


def test_what_fails_does_not_stop_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    lock = CombiningLock(lambda: done.append("after"))

    def fail() -> None:
        raise RuntimeError("trouble")

    with lock:
        lock.leave(fail)
        lock.leave(done.append, "work")
    assert done == ["work", "after"]
    assert logs.flush(60)
    assert "trouble" in caplog.text
    lock.leave(done.append, "more")
    assert done == ["work", "after", "more", "after"]


def test_an_exception_of_the_holder_lets_go() -> None:
    done: list[str] = []
    lock = CombiningLock(lambda: None)
    with pytest.raises(KeyError), lock:
        lock.leave(done.append, "work")
        raise KeyError
    assert done == ["work"]
    lock.leave(done.append, "more")
    assert done == ["work", "more"]


def test_nothing_is_left_undone_or_done_at_the_same_time() -> None:
    lock = CombiningLock(lambda: None)
    inside = 0
    count = 0

    def work() -> None:
        nonlocal inside, count
        inside += 1
        assert inside == 1
        count += 1
        inside -= 1

    def many() -> None:
        for turn in range(2000):
            if turn % 3:
                lock.leave(work)
            else:
                with lock:
                    work()

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert count == 16000


def test_a_thread_that_is_torn_away_leaves_a_lock_that_works() -> None:
    done: list[str] = []
    lock = CombiningLock(lambda: done.append("after"))

    def torn_away() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        lock.leave(torn_away)
    lock.leave(done.append, "work")
    assert done == ["after", "work", "after"]


def test_a_child_does_without_those_who_held_the_lock() -> None:
    done: list[str] = []
    lock = CombiningLock(lambda: None)
    lock._lock.acquire()  # by a thread that is not here any more
    lock.leave(done.append, "the parent's")
    lock.renew()
    with lock:
        pass
    lock.leave(done.append, "the child's")
    assert done == ["the child's"]
