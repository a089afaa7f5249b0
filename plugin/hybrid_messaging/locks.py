# SPDX-License-Identifier: Apache-2.0
"""Hold a file or a directory against other processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator

from hybrid_messaging.attempts import attempts

_POLL = 0.1


@contextlib.contextmanager
def exclusive(
    open_it: Callable[[], int],
    seconds: float = 0,
    waiting: Callable[[], None] = lambda: None,
    is_current: Callable[[int], bool] = lambda handle: True,
) -> Iterator[None]:
    """Hold what a function opens; a process that ends holds nothing any more.

    :param open_it: returns a descriptor, which is closed here
    :param seconds: to wait for another holder
    :param waiting: called once if there is another holder
    :param is_current: whether a descriptor that was locked is still that of the file
        that others would open; if not, it is opened anew
    :raises BlockingIOError: another process still holds it after that time
    :raises OSError: it cannot be opened or locked
    """
    told = False
    for _ in attempts(seconds, _POLL):
        handle = open_it()
        try:
            if _lock(handle) and is_current(handle):
                yield
                return
        finally:
            os.close(handle)
        if not told:
            told = True
            waiting()
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        # some network file systems have no locks
        raise
    return True
