# SPDX-License-Identifier: Apache-2.0
"""A worker, seen from the process that has started it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import tempfile
import threading
import time
import weakref
from typing import Any

from hybrid_messaging import urls
from hybrid_messaging.workers import Report
from hybrid_messaging.workers.fork_server import ForkServer

#: Seconds that workers may take to end by themselves.
FAREWELL = 5.0

_LOG_LINES = 5


class WorkerProcess:
    """A process that ends when its standard input is closed, thus also if we die.

    :param forks: makes it
    :param assignment: its first line
    :param report: takes its events in a thread of their own; the last is `ended`
    :raises OSError: if no process can be started
    """

    def __init__(self, forks: ForkServer, assignment: str, report: Report) -> None:
        self._report = report
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._socket, theirs = socket.socketpair()
        with theirs:
            streams = (theirs.fileno(), theirs.fileno(), self._log.fileno())
            self.pid, self._handle = forks.fork(streams)
        weakref.finalize(self, os.close, self._handle)
        threading.Thread(target=self._read, daemon=True).start()
        self._write(assignment)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not self._has_ended(0)

    def tell(self, do: str, **values: Any) -> None:
        """Have it do something."""
        self._write(json.dumps({"do": do, **values}))

    def pause(self) -> None:
        """Have it hang, with its connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on after a pause."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._signal(signal.SIGKILL)
        self._has_ended(None)

    def ask_to_end(self) -> None:
        """Tell it that it is no longer needed."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def end(self, deadline: float) -> None:
        """Wait until it has ended, or kill it.

        :param deadline: monotonic time until which it may end by itself
        """
        if not self._has_ended(max(deadline - time.monotonic(), 0)):
            self.kill()
        self._log.close()

    def log(self) -> str:
        """The end of what it has written about itself, without passwords."""
        self._log.seek(0)
        text = self._log.read().decode(errors="replace").strip()
        return urls.redact(" / ".join(text.splitlines()[-_LOG_LINES:])) or "no output"

    def _has_ended(self, timeout: float | None) -> bool:
        """Wait for its end, for so many seconds, or for as long as it takes."""
        ended = select.poll()
        ended.register(self._handle, select.POLLIN)
        return bool(ended.poll(None if timeout is None else timeout * 1000))

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def _write(self, line: str) -> None:
        # one that has ended is noticed where its events are waited for
        with contextlib.suppress(OSError):
            self._socket.sendall(f"{line}\n".encode())

    def _read(self) -> None:
        # one that is killed may leave commands unread, and a line half written
        with contextlib.suppress(ConnectionError):
            for line in self._socket.makefile():
                if line.endswith("\n"):
                    self._report(json.loads(line))
        self._report({"event": "ended"})
