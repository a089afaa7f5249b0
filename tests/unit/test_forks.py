# SPDX-License-Identifier: Apache-2.0
"""A child of a fork learns that it is one, whoever forks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from tests.functional import c_fork

from hybrid_messaging.drivers import forks


class Driver:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.forked = 0
        forks.register(self)

    def after_fork(self) -> None:
        self.forked += 1


def in_child(fork: Callable[[], int], look: Callable[[], int]) -> int:
    """Return what a child of this process sees."""
    child = fork()
    if child == 0:
        # neither an interrupt nor a lock that another thread holds lets it live on as a
        # second run of the tests
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            os._exit(look())
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("fork", [os.fork, c_fork.fork], ids=["in Python", "in C"])
def test_a_child_is_told_once(fork: Callable[[], int]) -> None:
    driver = Driver()

    def look() -> int:
        forks.notice()
        forks.notice()
        return driver.forked

    assert in_child(fork, look) == 1
    forks.notice()
    assert driver.forked == 0


def test_a_grandchild_is_told_again() -> None:
    driver = Driver()

    def look() -> int:
        forks.notice()
        return in_child(c_fork.fork, lambda: (forks.notice(), 0)[1]) or (driver.forked)

    assert in_child(os.fork, look) == 1
