# SPDX-License-Identifier: Apache-2.0
"""Logs of engines: private, of bounded size, and whole when an engine has ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hybrid_messaging.engines import log_writer, processes

Keep = Callable[[list[bytes]], None]


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def keep(log: Path) -> Keep:
    def keep(chunks: list[bytes]) -> None:
        """Have chunks come one by one out of a pipe."""
        source, output = os.pipe()
        writer = threading.Thread(
            target=log_writer.keep,
            args=(source, log_writer.open_log(log), str(log), 100),
        )
        writer.start()
        for chunk in chunks:
            os.write(output, chunk)
            deadline = time.monotonic() + 60
            # the next one is not to come together with this one
            while not log.exists() or not log.read_bytes().endswith(chunk):
                assert time.monotonic() < deadline
                time.sleep(0.001)
        os.close(output)
        writer.join(60)
        os.close(source)

    return keep


def test_a_log_is_bounded_with_one_older_copy(log: Path, keep: Keep) -> None:
    keep([b"%02d " % number + b"x" * 37 for number in range(10)])
    older = log.with_name("log.1")
    assert sorted(log.parent.iterdir()) == [log, older]
    assert log.read_bytes()[:2] == b"08" and older.read_bytes()[:2] == b"06"
    assert log.stat().st_size == older.stat().st_size == 80
    assert mode_of(log) == mode_of(older) == 0o600


def test_a_former_log_is_continued(log: Path, keep: Keep) -> None:
    log.write_bytes(b"y" * 90)
    log.chmod(0o666)
    keep([b"short"])
    assert log.read_bytes() == b"y" * 90 + b"short"
    assert mode_of(log) == 0o600
    keep([b"much longer"])
    assert log.read_bytes() == b"much longer"
    assert log.with_name("log.1").read_bytes() == b"y" * 90 + b"short"


def test_a_log_that_cannot_be_renamed_starts_anew(log: Path, keep: Keep) -> None:
    log.with_name("log.1").mkdir()
    keep([b"a" * 60, b"b" * 60, b"c" * 60])
    assert log.read_bytes() == b"c" * 60


def test_a_link_is_no_log(tmp_path: Path, log: Path) -> None:
    (tmp_path / "other").touch()
    log.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic link"):
        processes.spawn([sys.executable, "-c", ""], None, tmp_path, log)


def test_what_an_engine_writes_is_private_whatever_the_umask(
    tmp_path: Path, log: Path
) -> None:
    script = "import pathlib, sys; pathlib.Path('own').touch(); sys.exit('last words')"
    previous = os.umask(0)
    try:
        started = processes.spawn([sys.executable, "-c", script], None, tmp_path, log)
    finally:
        os.umask(previous)
    started.wait(60)
    assert processes.tail(log, ended=True) == "last words"
    assert {mode_of(tmp_path / name) for name in ("pid", "log", "own")} == {0o600}


def words_of(process: psutil.Process) -> list[str]:
    """The command line of a process, unless it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def test_whoever_writes_a_log_ends_with_the_engine(tmp_path: Path, log: Path) -> None:
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    engine = processes.spawn(sleeping, None, tmp_path, log)
    try:
        (writer,) = (
            child
            for child in psutil.Process().children()
            if str(log) in words_of(child)
        )
    finally:
        processes.stop([(engine, 10)])
    writer.wait(60)


def test_the_writer_is_a_program_that_needs_nothing(log: Path) -> None:
    with log.open("wb") as target:
        subprocess.run(
            [sys.executable, "-I", "-S", log_writer.__file__, log],
            input=b"said",
            stdout=target,
            env={},
            check=True,
        )
    assert log.read_bytes() == b"said"
