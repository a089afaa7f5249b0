# SPDX-License-Identifier: Apache-2.0
"""An RPC server in a process of its own, to be killed, paused or asked to end.

Tells what it does in lines of JSON on standard output. On SIGTERM it stops as
services do: no new messages, those at work are finished.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Worker:
    """The test's end of such a process.

    :param url: transport URL
    :param topic: topic to serve
    :param eventlet: monkey-patch the process
    :param stack_size: threading.stack_size() of the process, in bytes
    """

    def __init__(
        self,
        url: str,
        topic: str,
        name: str = "worker",
        *,
        eventlet: bool = False,
        stack_size: int = 0,
        python: str = sys.executable,
        wait: bool = True,
    ) -> None:
        command = [python, "-m", "tests.functional.worker", topic, name]
        command += ["--eventlet"] if eventlet else []
        command += ["--stack-size", str(stack_size)] if stack_size else []
        # a URL may contain a password
        surroundings = {**os.environ, "WORKER_URL": url, "PYTHONPATH": str(ROOT)}
        if eventlet:
            # coverage does not see green threads change, and would book lines on
            # the wrong files
            surroundings.pop("COVERAGE_PROCESS_CONFIG", None)
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=surroundings,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        #: everything that it has told
        self.told: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait:
            self.until("ready")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def until(self, event: str, value: Any = None, timeout: float = 60) -> dict:
        """Wait until it tells of an event, with a value if one is given."""
        for told in self.told:
            if told["event"] == event and value in (None, told.get("value")):
                return told
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                raise AssertionError(f"the worker does not tell of {event}") from None
            if not line:
                raise AssertionError(f"the worker ended before {event}: {self.told}")
            told = json.loads(line)
            self.told.append(told)
            if told["event"] == event and value in (None, told.get("value")):
                return told

    def begun(self) -> list[Any]:
        """The arguments of everything that it has begun, once it has ended."""
        self._reader.join(30)
        while not self._lines.empty():
            line = self._lines.get()
            if line:
                self.told.append(json.loads(line))
        return [told["value"] for told in self.told if told["event"] == "begins"]

    def signal(self, which: signal.Signals) -> None:
        os.kill(self.process.pid, which)

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """End it in order; its exit code is returned."""
        self.process.terminate()
        return self.process.wait(60)


def main() -> None:
    """Serve a topic until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topic")
    parser.add_argument("name")
    parser.add_argument("--eventlet", action="store_true")
    parser.add_argument("--stack-size", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.eventlet:
        import eventlet

        eventlet.monkey_patch()
    if arguments.stack_size:
        threading.stack_size(arguments.stack_size)

    from tests.functional.rpc import Rpc, end
    from tests.functional.service import Service, Spaced

    writing = threading.Lock()

    def tell(event: str, method: str = "", value: Any = None) -> None:
        with writing:
            print(
                json.dumps({"event": event, "method": method, "value": value}),
                flush=True,
            )

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with Rpc(os.environ["WORKER_URL"]) as rpc:
        server = rpc.server(
            Service(arguments.name, tell),
            Spaced(),
            name=arguments.name,
            topic=arguments.topic,
            executor="eventlet" if arguments.eventlet else "threading",
        )
        tell("ready")
        while not stopping.wait(0.1):
            pass
        end(server)
        tell("ended")


if __name__ == "__main__":
    main()
