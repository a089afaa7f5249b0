# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all, and what is tried again."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hybrid_messaging import whole_file
from hybrid_messaging.attempts import attempts


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    path.chmod(0o666)
    whole_file.write(path, "áfter")
    assert path.read_bytes() == "áfter".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    whole_file.write(path, b"\xff", 0o644)
    assert path.read_bytes() == b"\xff"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_there_can_stay(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in ("first", "second"):
        whole_file.write(path, text, over=False)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_the_umask_decides_where_nobody_else_does(tmp_path: Path) -> None:
    former = os.umask(0o022)
    try:
        whole_file.write(tmp_path / "file", "", mode=None)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("function", ["fsync", "fchmod", "fdopen"])
def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_text("before")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        whole_file.write(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_there_is_always_one_attempt() -> None:
    assert len(list(attempts(0, 60))) == len(list(attempts(-1, 60))) == 1


def test_the_last_attempt_begins_when_the_time_is_over() -> None:
    *before, last = attempts(0.05, 0.01)
    assert before[0] < 0.05 <= last
    assert all(passed < 0.05 for passed in before)
