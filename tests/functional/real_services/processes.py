# SPDX-License-Identifier: Apache-2.0
"""Start the services' processes, watch them, stop them by their ids."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .waiting import NotYet, wait_for

#: Seconds for services to finish what they are doing. That includes to wait for a
#: server that is stopped at the same time, for the drivers' `restart_timeout` of 60 s.
STOP_TIMEOUT = 150.0
#: Seconds for what ends by itself once a service has ended.
PARTING_TIMEOUT = 20.0


@dataclass(frozen=True)
class Command:
    """What is to be run.

    :param name: a short name, also of the log file
    :param arguments: program and arguments
    :param variables: environment variables besides those of all
    """

    name: str
    arguments: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)


class Processes:
    """The running services, each with its own session and log file.

    :param commands: what can be run
    :param environment: environment variables for all of them
    :param directory: where the log files are, and the working directory
    """

    def __init__(
        self,
        commands: Sequence[Command],
        environment: dict[str, str],
        directory: Path,
    ) -> None:
        self._commands = {command.name: command for command in commands}
        self._environment = environment
        self._directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def log(self, name: str) -> Path:
        """Return the path of a service's log."""
        return self._directory / f"{name}.log"

    def start(self, *names: str) -> None:
        """Start these services, or all, without waiting for any."""
        for name in names or self._commands:
            command = self._commands[name]
            with self.log(name).open("ab") as log:
                self._running[name] = subprocess.Popen(
                    command.arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**self._environment, **command.variables},
                    cwd=self._directory,
                    # workers are found again by the session they are in
                    start_new_session=True,
                )

    def check(self) -> None:
        """Raise RuntimeError if a service has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with status {process.returncode}")

    def stop(self, *names: str) -> None:
        """Stop these services, or all, and every worker they have forked.

        :raises RuntimeError: if one had to be killed or left workers behind
        """
        stopping = {n: self._running.pop(n) for n in names or list(self._running)}
        for process in stopping.values():
            process.terminate()
        for process in stopping.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT)
        sessions = {process.pid: name for name, process in stopping.items()}

        def gone() -> None:
            if still := _in_sessions(sessions):
                raise NotYet(str(still))

        # Python's fork server and resource tracker end when they see the service gone
        with contextlib.suppress(TimeoutError):
            wait_for("nothing is left of services", gone, PARTING_TIMEOUT)
        left = _in_sessions(sessions)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in stopping.values():
            process.wait()
        if left:
            wait_for("killed services are gone", gone, 10)
            raise RuntimeError(f"had to kill what was left of services: {left}")

    def restart(self, name: str) -> None:
        """Stop a service and start it again at once, as an upgrade does.

        :raises RuntimeError: if it had to be killed or left workers behind
        """
        self.stop(name)
        self.start(name)

    def tails(self, lines: int = 40, width: int = 240) -> str:
        """Return the end of every log, for a person who looks for a cause.

        :param lines: how many of each
        :param width: where lines are cut: notifications are long
        """
        parts = []
        for path in sorted(self._directory.glob("*.log")):
            end = path.read_text(errors="replace").splitlines()[-lines:]
            parts += [f"--- {path}", *(line[:width] for line in end)]
        return "\n".join(parts)


def _in_sessions(sessions: dict[int, str]) -> dict[int, str]:
    """Return the processes that belong to these sessions: pid, service."""
    found = {}
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            name = sessions.get(os.getsid(pid))
            if name and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found[pid] = name
    return found
