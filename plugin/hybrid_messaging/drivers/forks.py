# SPDX-License-Identifier: Apache-2.0
"""Tells drivers that their process is a child now."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """What has connections that a child must not use."""

    def after_fork(self) -> None:
        """Give them up; called in the child, where only the forking thread lives."""


_forked: weakref.WeakSet[Forked] = weakref.WeakSet()


def tell(driver: Forked) -> None:
    """Have a driver told of every fork, for as long as it lives."""
    _forked.add(driver)


def _after_fork() -> None:
    for driver in list(_forked):
        driver.after_fork()


os.register_at_fork(after_in_child=_after_fork)
