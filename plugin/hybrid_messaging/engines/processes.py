# SPDX-License-Identifier: Apache-2.0
"""Start, recognise and end the processes of engines."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from hybrid_messaging.state import NOT_STARTED

#: In the environment of an engine and all that it starts: its directory.
MARK = "HYBRID_MESSAGING_ENGINE"

#: Seconds that the kernel may take to remove a killed process.
_KILL_TIMEOUT = 10.0
_POLL = 0.05


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    directory: Path,
    log: Path,
) -> psutil.Process:
    """Start a process that outlives us, in a session of its own.

    :param environment: None for our own
    :param directory: its working directory, by which `find` knows it again
    :param log: takes its standard output and error
    :raises OSError: if it cannot be started
    """
    with log.open("ab") as output:
        started = subprocess.Popen(
            command,
            env={
                **(os.environ if environment is None else environment),
                MARK: os.path.realpath(directory),
            },
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        (directory / "pid").write_text(f"{started.pid}\n")
    except OSError:
        started.kill()
        started.wait()
        raise
    return psutil.Process(started.pid)


def find(pid: int, directory: Path) -> psutil.Process | None:
    """Return a process that `spawn` has started, if it still runs.

    Pids are used again: ours is the one that works in `directory`. (Creation
    times would move with the wall clock.)

    :param pid: `state.NOT_STARTED` also finds the process of somebody who was
        ended before they could tell its pid
    """
    if pid == NOT_STARTED:
        return next(filter(None, (find(it, directory) for it in _leaders())), None)
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        ours = Path(process.cwd()) == Path(os.path.realpath(directory))
    except psutil.Error:
        return None
    return process if ours else None


def _leaders() -> Iterator[int]:
    """Yield the pids of the processes that lead a session of their own."""
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == pid:
                yield pid


def stop(processes: Iterable[tuple[psutil.Process, float]]) -> None:
    """End processes with all their children.

    :param processes: each with the seconds that it may take to end by itself
        before it is killed
    """
    waiting = list(processes)
    families: list[psutil.Process] = []
    for process, _ in waiting:
        with contextlib.suppress(psutil.NoSuchProcess):
            families += process.children(recursive=True)
            process.terminate()
    for process, timeout in waiting:
        if not _ends(process, timeout):
            families.append(process)
    for member in families:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    for member in families:
        _ends(member, _KILL_TIMEOUT)


def stop_descendants(directory: Path) -> None:
    """End what `spawn`'s process in a directory has started and left behind.

    Who has made a session of its own, as Erlang's epmd does, is no child of
    anybody's any more; but it has our mark.
    """
    deadline = time.monotonic() + _KILL_TIMEOUT
    # one of them may start another one in the meantime
    while (found := list(_marked(directory))) and time.monotonic() < deadline:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in found:
            _ends(process, _KILL_TIMEOUT)


def _marked(directory: Path) -> Iterator[psutil.Process]:
    mark = os.path.realpath(directory)
    for process in psutil.process_iter():
        # those of other users are none of ours
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                yield process


def _ends(process: psutil.Process, timeout: float) -> bool:
    """Wait for a process; one that nobody has asked for its exit code has ended."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(timeout=0)  # reaps a child of our own
            return True
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > deadline:
                    return False
                time.sleep(_POLL)
                continue
        return True


def tail(log: Path, lines: int = 20) -> str:
    """Return the end of a log."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])
