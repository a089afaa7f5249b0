# SPDX-License-Identifier: Apache-2.0
"""The server processes of a run, seen from the process with the clients."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from hybrid_messaging import urls
from hybrid_messaging.smoke.outcome import Failure
from hybrid_messaging.smoke.run import Run

#: Seconds that the processes may take to end by themselves.
FAREWELL = 5.0

_WORKER = "hybrid_messaging.smoke.worker"
_LOG_LINES = 5


class Process:
    """One process of `hybrid_messaging.smoke.worker`.

    It ends when its standard input is closed, thus also if this process dies.

    :param run: what it shall know
    :param name: of the server in it
    """

    def __init__(self, run: Run, name: str) -> None:
        self.name = name
        self.serving = False
        self._changed = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._ended = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # modules that lie around where we were started are none of ours
            cwd="/",
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._write(run.to_json())

    def tell(self, do: str, **values: Any) -> None:
        """Have it do something."""
        self._write(json.dumps({"do": do, **values}))

    def wait(self, event: str, timeout: float, **values: Any) -> dict[str, Any] | None:
        """Wait for an event with these values.

        :param timeout: seconds
        :returns: the event, taken from the list of events; None if it does not come
        :raises Failure: if the process reports an error, or has ended
        """
        deadline = time.monotonic() + timeout
        wanted = {"event": event, **values}.items()
        with self._changed:
            while True:
                for found in self._events:
                    if found["event"] == "error":
                        raise Failure(f"{self}: {urls.redact(found['text'])}")
                    if wanted <= found.items():
                        self._events.remove(found)
                        return found
                if self._ended:
                    raise Failure(f"{self} has ended: {self.log()}")
                if not self._changed.wait(deadline - time.monotonic()):
                    return None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()

    def ask_to_end(self) -> None:
        """Close its input."""
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

    def __str__(self) -> str:
        return f"server process {self.name} (pid {self._process.pid})"

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        # one that has ended is noticed where its events are waited for
        with contextlib.suppress(OSError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Servers:
    """As many server processes as a check wants; a killed one is replaced.

    :param run: what they serve
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._processes: list[Process] = []

    def any(self) -> Process:
        """Return one process, whether it serves or not."""
        return self._start(1)[0]

    def get(self, count: int, timeout: float) -> list[Process]:
        """Return so many servers that serve; those that run already come first.

        :param timeout: seconds until all of them serve
        :raises Failure: if one does not
        """
        deadline = time.monotonic() + timeout
        servers = self._start(count)
        idle = [process for process in servers if not process.serving]
        for process in idle:
            process.tell("serve", server=process.name)
        for process in idle:
            if process.wait("serving", deadline - time.monotonic()) is None:
                raise Failure(f"{process} does not serve within {timeout:g} s")
            process.serving = True
        return servers

    def _start(self, count: int) -> list[Process]:
        """Have so many processes run."""
        self._processes = [item for item in self._processes if item.alive]
        taken = {item.name for item in self._processes}
        free = (name for name in self._run.servers if name not in taken)
        while len(self._processes) < count:
            self._processes.append(Process(self._run, next(free)))
        return self._processes[:count]

    def close(self) -> None:
        """End them all."""
        for process in self._processes:
            process.ask_to_end()
        deadline = time.monotonic() + FAREWELL
        for process in self._processes:
            process.end(deadline)
        self._processes = []
