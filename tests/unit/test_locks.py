# SPDX-License-Identifier: Apache-2.0
"""Files and directories that one process holds at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybrid_messaging import locks


def test_who_does_not_wait_tries_once(tmp_path: Path) -> None:
    opened: list[int] = []

    def open_it() -> int:
        opened.append(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
        return opened[-1]

    with locks.exclusive(open_it):
        assert len(opened) == 1
        with pytest.raises(BlockingIOError), locks.exclusive(open_it):
            pass
        assert len(opened) == 2
    # nothing stays open, and nothing stays locked
    for handle in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handle)
    with locks.exclusive(open_it):
        pass


def test_what_happens_under_a_lock_comes_out(tmp_path: Path) -> None:
    def open_it() -> int:
        return os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    with pytest.raises(BlockingIOError, match="ours"), locks.exclusive(open_it):
        raise BlockingIOError("ours")
    with locks.exclusive(open_it):
        pass
