# SPDX-License-Identifier: Apache-2.0
"""One thread waits, another wakes it."""

from __future__ import annotations

import threading
import time

import pytest

from hybrid_messaging.drivers.waiter import Waiter


def test_wake_ends_a_wait() -> None:
    waiter = Waiter()
    threading.Timer(0.05, waiter.wake).start()
    begin = time.monotonic()
    assert waiter.wait(30) is True
    assert time.monotonic() - begin < 10


def test_wake_ends_a_wait_without_a_limit() -> None:
    waiter = Waiter()
    threading.Timer(0.05, waiter.wake).start()
    assert waiter.wait(None) is True


def test_a_wake_up_is_remembered_once() -> None:
    waiter = Waiter()
    waiter.wake()
    waiter.wake()
    assert waiter.wait(0) is True
    assert waiter.wait(0) is False


def test_it_can_be_waited_on_again() -> None:
    waiter = Waiter()
    for _ in range(3):
        waiter.wake()
        assert waiter.wait(1) is True


def test_time_is_up() -> None:
    begin = time.monotonic()
    assert Waiter().wait(0.05) is False
    assert time.monotonic() - begin >= 0.05


@pytest.mark.parametrize("timeout", [0, -1, -0.001])
def test_no_time_is_no_wait(timeout: float) -> None:
    assert Waiter().wait(timeout) is False


def test_times_beyond_the_platform_are_the_longest() -> None:
    waiter = Waiter()
    threading.Timer(0.05, waiter.wake).start()
    assert waiter.wait(threading.TIMEOUT_MAX * 10) is True
