# SPDX-License-Identifier: Apache-2.0
"""Refuses what is sent by a thread that is at work in a driver.

Python runs signal handlers, finalizers and the callbacks of weak references in a
thread that does something else. If that thread holds a lock of a driver or of a
library that the driver uses, or if it reads for all others, such code would wait for
itself when it sends. So the threads that are at work in a driver are noted. They may
send again while they only wait, or while they are in the service's code.

Under eventlet, a greenlet counts as a thread.
"""

from __future__ import annotations

import functools
import importlib
import os
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from oslo_utils import eventletutils

from hybrid_messaging.drivers import errors

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Threads that may hold locks.
_working: set[int] = set()
#: Threads that wait on a socket for all others, without a lock.
_reading: set[int] = set()
#: The process that they are of; its child may have others of the same idents.
_process = os.getpid()

#: where it has patched threads
_eventlet: Any = (
    importlib.import_module("eventlet")
    if eventletutils.is_monkey_patched("thread")
    else None
)


def _is_in(threads: set[int]) -> bool:
    return threading.get_ident() in threads and os.getpid() == _process


def refuse_to_send() -> None:
    """See that this thread may send.

    :raises Reentered: it is at work in a driver already, or reads for others, or it
        is eventlet's hub
    """
    thread = threading.get_ident()
    if (thread in _working or thread in _reading) and os.getpid() == _process:
        raise errors.Reentered(
            "sent from within the driver (by a signal handler or a finalizer); nothing"
            " was sent: leave it to another thread"
        )
    if _eventlet and _eventlet.hubs.get_hub().greenlet is _eventlet.getcurrent():
        # where signal handlers run while all greenlets wait
        raise errors.Reentered(
            "sent from eventlet's hub (by a signal handler), which must not wait;"
            " nothing was sent: leave it to a greenlet"
        )


def changes(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a function start or stop something, unless its thread may hold a lock.

    It raises `Reentered` there, before it has done anything.
    """

    @functools.wraps(function)
    def change(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if _is_in(_working):
            raise errors.Reentered(
                "called from within the driver (by a signal handler or a finalizer);"
                " nothing was done: leave it to another thread"
            )
        return working(*args, **kwargs)

    working = works(function)
    return change


def works(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Note that a function's thread is at work in a driver."""

    @functools.wraps(function)
    def work(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        thread = threading.get_ident()
        if thread in _working:
            return function(*args, **kwargs)
        try:
            _working.add(thread)
            return function(*args, **kwargs)
        finally:
            _working.discard(thread)

    return work


def outside(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call a function that waits, or the service; the thread holds no lock."""
    thread = threading.get_ident()
    if thread not in _working:
        return function(*args, **kwargs)
    try:
        _working.discard(thread)
        return function(*args, **kwargs)
    finally:
        _working.add(thread)


def reading(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call a function that waits on a socket, on which nobody else reads meanwhile."""
    thread = threading.get_ident()
    try:
        _reading.add(thread)
        return outside(function, *args, **kwargs)
    finally:
        _reading.discard(thread)


def reads_here() -> bool:
    """Whether this thread has been interrupted while it waited on a socket."""
    return _is_in(_reading)


def after_fork() -> None:
    """In a child: what the threads of the parent were at work on is the parent's."""
    global _process
    _process = os.getpid()
    _working.clear()
    _reading.clear()
