# SPDX-License-Identifier: Apache-2.0
"""A worker, seen from the process that has started it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from hybrid_messaging import urls
from hybrid_messaging.workers import Report

#: Seconds that workers may take to end by themselves.
FAREWELL = 5.0

_LOG_LINES = 5


class WorkerProcess:
    """A process that ends when its standard input is closed, thus also if we die.

    :param module: what it runs, which calls `hybrid_messaging.workers.loop.main`
    :param assignment: its first line
    :param report: takes its events in a thread of their own; the last is `ended`
    """

    def __init__(self, module: str, assignment: str, report: Report) -> None:
        self._report = report
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # modules that lie around where we were started are none of ours
            cwd="/",
            text=True,
        )
        self.pid = self._process.pid
        threading.Thread(target=self._read, daemon=True).start()
        self._write(assignment)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def tell(self, do: str, **values: Any) -> None:
        """Have it do something."""
        self._write(json.dumps({"do": do, **values}))

    def pause(self) -> None:
        """Have it hang, with its connections open."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on after a pause."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()

    def ask_to_end(self) -> None:
        """Tell it that it is no longer needed."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def end(self, deadline: float) -> None:
        """Wait until it has ended, or kill it.

        :param deadline: monotonic time until which it may end by itself
        """
        try:
            self._process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()

    def log(self) -> str:
        """The end of what it has written about itself, without passwords."""
        self._log.seek(0)
        text = self._log.read().decode(errors="replace").strip()
        return urls.redact(" / ".join(text.splitlines()[-_LOG_LINES:])) or "no output"

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        # one that has ended is noticed where its events are waited for
        with contextlib.suppress(OSError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._report(json.loads(line))
        self._report({"event": "ended"})
