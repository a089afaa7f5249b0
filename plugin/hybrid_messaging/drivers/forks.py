# SPDX-License-Identifier: Apache-2.0
"""Has drivers give up in a child process what is its parent's.

Python says when it forks. Programs that embed Python fork without it: uWSGI does,
unless it loads the application in each worker or is told to run Python's hooks. So
each entry into a driver also compares the process id.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol, TypeVar

from hybrid_messaging.drivers import reentry


class Forked(Protocol):
    """What has connections that a child must not use."""

    def after_fork(self) -> None:
        """Give them up; called in the child, where only the forking thread lives."""


class Closable(Protocol):
    """What has a descriptor."""

    def close(self) -> None:
        """Give it back, and say nothing to a peer."""


_C = TypeVar("_C", bound=Closable)

#: see `close_in_child`
_descriptors: weakref.WeakSet[Closable] = weakref.WeakSet()
#: see `keep`
_inherited: list[object] = []
_forked: weakref.WeakSet[Forked] = weakref.WeakSet()
_lock = threading.Lock()
_process = os.getpid()


def register(driver: Forked) -> None:
    """Call a driver's `after_fork` after every fork, for as long as it lives."""
    _forked.add(driver)


def keep(*things: object) -> None:
    """In a child: never free C objects of the parent's.

    A thread that is not here may have been at work on them.
    """
    _inherited.extend(things)


def close_in_child(thing: _C) -> _C:
    """Close a socket or a selector in a child, even if the parent has closed it.

    :returns: the same
    """
    _descriptors.add(thing)
    return thing


def notice() -> None:
    """Call all drivers' `after_fork` if this process is a child and they were not.

    To be called before anything that belongs to a process is used.
    """
    if os.getpid() != _process:
        with _lock:
            if os.getpid() != _process:
                _after_fork()


def _after_fork() -> None:
    reentry.after_fork()
    _tell_drivers()


@reentry.works
def _tell_drivers() -> None:
    global _process
    for thing in list(_descriptors):
        thing.close()
    _descriptors.clear()
    for driver in list(_forked):
        driver.after_fork()
    _process = os.getpid()


def _after_hook() -> None:
    global _lock
    _lock = threading.Lock()
    _after_fork()


os.register_at_fork(after_in_child=_after_hook)
