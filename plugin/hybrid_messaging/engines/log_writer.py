# SPDX-License-Identifier: Apache-2.0
"""Write what an engine prints to a log of bounded size, with one older copy.

Engines run for months, and some say something about every stranger who knocks. Few of
them can bound their logs, each in a way of its own. So none has to: this module, run as
a program, reads what one prints. Its standard input is a pipe from the engine, its
standard output the open log, its argument the path of the log. It imports nothing that
takes time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time

#: Bytes of the log; the older copy has as many at the most.
LARGEST = 8 << 20
#: Added to the name of the older copy.
OLDER = ".1"

_CHUNK = 1 << 16
_POLL = 0.01


def opened(path: str | os.PathLike[str], more: int = 0) -> int:
    """Open a file to append to that nobody but its owner can read.

    :param more: further flags
    :raises OSError: it cannot be opened, or is a symbolic link
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags | more, 0o600)
    os.fchmod(handle, 0o600)
    return handle


def open_log(path: str | os.PathLike[str]) -> int:
    """Open a log to append to; whoever waits for its end waits until it is closed.

    :raises OSError: see `opened`
    """
    handle = opened(path)
    # see `await_end`; the lock belongs to all who inherit the file
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def keep(source: int, target: int, path: str, largest: int = LARGEST) -> None:
    """Write what comes from a pipe to a log until there is no more.

    What cannot be written is lost: an engine must not wait for a full disk.

    :param source: the pipe
    :param target: the log, as `open_log` opens it
    :param path: where it is
    :param largest: bytes that it may have
    """
    size = os.fstat(target).st_size
    while chunk := os.read(source, _CHUNK):
        if size + len(chunk) > largest:
            target, size = _anew(target, path), 0
        with contextlib.suppress(OSError):
            size += os.write(target, chunk)


def _anew(target: int, path: str) -> int:
    """Make a log the older copy, and open a new one."""
    try:
        # pathlib takes longer to import than all the rest
        os.replace(path, path + OLDER)  # noqa: PTH105
        new = open_log(path)
    except OSError:
        # its directory is gone, or is not ours any more
        os.ftruncate(target, 0)
        return target
    os.close(target)
    return new


def await_end(log: int, timeout: float) -> None:
    """Wait until nobody writes a log any more.

    :param log: the log, opened to read
    :param timeout: seconds after which it is taken as it is
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                return
        time.sleep(_POLL)


if __name__ == "__main__":
    # it ends after the engine, whoever else is told to end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keep(sys.stdin.fileno(), sys.stdout.fileno(), sys.argv[1])
