# SPDX-License-Identifier: Apache-2.0
"""Start, recognise and end the processes of engines."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from hybrid_messaging.attempts import attempts
from hybrid_messaging.engines import log_writer
from hybrid_messaging.state import NOT_STARTED

#: In the environment of an engine and all that it starts: its directory.
MARK = "HYBRID_MESSAGING_ENGINE"

#: Seconds that the kernel may take to remove a killed process.
_KILL_TIMEOUT = 10.0
_POLL = 0.05
#: How often environments are looked at before they are believed to lack our mark.
#: For a moment, a process that executes another program shows only a part of its own;
#: the scripts that start Kafka do so many times.
_LOOKS = 2
#: Seconds that the last words of an engine may take into its log.
_LOG_TIMEOUT = 10.0
#: Bytes in which the last lines of a log are.
_TAIL = 1 << 16
#: Nobody but the owner reads what engines write.
_PRIVATE = 0o077


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    directory: Path,
    log: Path,
) -> psutil.Popen:
    """Start a process that outlives us, in a session of its own.

    :param environment: None for our own
    :param directory: its working directory, by which `find` knows it again
    :param log: takes its standard output and error
    :raises OSError: if it cannot be started
    """
    marked = {MARK: os.path.realpath(directory)}
    with _kept(log, marked) as output:
        started = psutil.Popen(
            command,
            env={**(os.environ if environment is None else environment), **marked},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=_PRIVATE,
        )
    try:
        handle = log_writer.opened(directory / "pid", os.O_TRUNC)
        with os.fdopen(handle, "w") as file:
            file.write(f"{started.pid}\n")
    except OSError:
        started.kill()
        started.wait()
        raise
    return started


@contextlib.contextmanager
def _kept(log: Path, marked: Mapping[str, str]) -> Iterator[int]:
    """What a process prints to for its log to have a bounded size.

    Another process writes the log, and ends when nobody can print any more. It works
    elsewhere than the engine, so that `find` does not take it for one.

    :param marked: what its environment has besides ours
    """
    source, output = os.pipe()
    try:
        target = log_writer.open_log(log)
        try:
            subprocess.Popen(
                # without the packages of this environment, it starts in milliseconds
                [sys.executable, "-I", "-S", log_writer.__file__, log],
                env={**os.environ, **marked},
                cwd="/",
                stdin=source,
                stdout=target,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(target)
        yield output
    finally:
        os.close(source)
        os.close(output)


def find(pid: int, directory: Path) -> psutil.Process | None:
    """Return a process that `spawn` has started, if it still runs.

    Pids are used again, and anything may stand in a file. Ours is of our user, leads
    a session, works in `directory` and has our mark. (Creation times would move with
    the wall clock.)

    :param pid: `state.NOT_STARTED` finds the process of somebody who was ended before
        they could tell its pid, by its mark alone
    """
    if pid == NOT_STARTED:
        candidates: Iterable[psutil.Process] = _marked(directory)
    elif pid > 0:
        candidates = _existing(pid)
    else:
        return None
    return next((it for it in candidates if _is_ours(it, directory)), None)


def _existing(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        yield psutil.Process(pid)


def _is_ours(process: psutil.Process, directory: Path) -> bool:
    place = os.path.realpath(directory)
    try:
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and process.uids().real == process.uids().effective == os.geteuid()
            and os.getsid(process.pid) == process.pid
            and os.path.realpath(process.cwd()) == place
            and (_has_mark(process, place) or _shows_none(process))
        )
    # anything else, such as too many open files, says nothing about the process
    except (psutil.Error, ProcessLookupError):
        return False


def _has_mark(process: psutil.Process, place: str) -> bool:
    for look in range(_LOOKS):
        if look:
            time.sleep(_POLL)
        if process.environ().get(MARK) == place:
            return True
    return False


def _shows_none(process: psutil.Process) -> bool:
    # Redis before 6.2 has its title there, and nothing else; at least nobody works at
    # a terminal
    return not process.environ() and process.terminal() is None


def how_it_ended(code: int) -> str:
    """Return what the exit code of a process from `spawn` says, in words."""
    if code >= 0:
        return f"with exit code {code}"
    reason = ", perhaps because memory ran out" if -code == signal.SIGKILL else ""
    return f"by {signal.Signals(-code).name}{reason}"


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
    while (found := _marked(directory)) and time.monotonic() < deadline:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in found:
            _ends(process, _KILL_TIMEOUT)


def _marked(directory: Path) -> list[psutil.Process]:
    mark = os.path.realpath(directory)
    found: list[psutil.Process] = []
    for look in range(_LOOKS):
        if look:
            time.sleep(_POLL)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                # those of other users are none of ours, whatever they say
                if (
                    process.uids().real == os.geteuid()
                    and process.environ().get(MARK) == mark
                ):
                    found.append(process)
        if found:
            break
    return found


def _ends(process: psutil.Process, timeout: float) -> bool:
    """Wait for a process; one that nobody has asked for its exit code has ended."""
    for _ in attempts(timeout, _POLL):
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(timeout=0)  # reaps a child of our own
            return True
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False


def tail(log: Path, lines: int = 20, ended: bool = False) -> str:
    """Return the end of a log.

    :param ended: nobody prints any more, so that it can be waited for the last words
    """
    try:
        with log.open("rb") as file:
            if ended:
                log_writer.await_end(file.fileno(), _LOG_TIMEOUT)
            file.seek(-min(_TAIL, os.fstat(file.fileno()).st_size), os.SEEK_END)
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])
