# SPDX-License-Identifier: Apache-2.0
"""An oslo.messaging application in a process of its own, which times its own calls.

It serves a topic, calls that topic all the time, or does both. One that calls tells
on demand how long its calls took and which have failed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: Seconds between two calls, and those that a call may take unless a test says so.
PAUSE, PATIENCE = 0.01, 60.0
#: A failure that oslo.messaging announces; all others are an application's bug.
ANNOUNCED = "announced"


@dataclass(frozen=True)
class Trips:
    """The calls that an application has made since it was last asked.

    :param count: of those that were answered
    :param longest: seconds that the slowest of them took
    :param failures: how many failed, by what they raised
    """

    count: int
    longest: float
    failures: dict[str, int]

    @property
    def unannounced(self) -> dict[str, int]:
        """Failures that no caller has to expect: wrong answers, foreign exceptions."""
        return {
            name: count
            for name, count in self.failures.items()
            if not name.startswith(ANNOUNCED)
        }


class Application:
    """The test's end of such a process.

    :param url: transport URL
    :param log: takes what it logs, at level INFO
    :param serves: it serves the topic
    :param calls: it calls the topic
    :param patience: seconds after which its calls time out
    """

    def __init__(
        self,
        url: str,
        log: Path,
        *,
        topic: str = "neighbourhood",
        serves: bool = True,
        calls: bool = True,
        patience: float = PATIENCE,
    ) -> None:
        self.log = log
        command = [sys.executable, "-m", "tests.fuzz.application", topic]
        command += ["--patience", str(patience)]
        command += ["--serve"] if serves else []
        command += ["--call"] if calls else []
        with log.open("wb") as output:
            # a URL may contain a password
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "APPLICATION_URL": url},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        assert self._line() == "ready"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Application:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def trips(self, more: int = 0) -> Trips:
        """Ask for its calls since the last question.

        :param more: how many are to be made after the one that is under way
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{more}\n")
        self._process.stdin.flush()
        return Trips(**json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"it has ended: {self.log.read_text(errors='replace')[-4000:]}"
        return line.strip()


class Caller:
    """Calls a topic, one call after the other, and keeps account of that."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._number = 0
        self._reset()

    def _reset(self) -> None:
        self._count, self._longest = 0, 0.0
        self._failures: dict[str, int] = {}

    def call(self) -> None:
        """Call once."""
        from oslo_messaging import MessagingException, RemoteError

        self._number += 1
        value = f"question {self._number}"
        began = time.monotonic()
        try:
            answer = self._client.call({}, "echo", value=value)
        except (MessagingException, RemoteError) as error:
            self._fail(f"{ANNOUNCED}: {type(error).__name__}")
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}"[:200])
        else:
            if answer != value:
                self._fail(f"wrong answer: {answer!r}"[:200])
            self._count += 1
            self._longest = max(self._longest, time.monotonic() - began)

    def _fail(self, how: str) -> None:
        self._failures[how] = self._failures.get(how, 0) + 1

    def told(self) -> str:
        """Return the account as JSON, and begin a new one."""
        account = {
            "count": self._count,
            "longest": self._longest,
            "failures": self._failures,
        }
        self._reset()
        return json.dumps(account)


def main() -> None:
    """Serve and call until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topic")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--call", action="store_true")
    parser.add_argument("--patience", type=float, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    from tests.functional.rpc import Rpc
    from tests.functional.service import Service

    with Rpc(os.environ["APPLICATION_URL"]) as rpc:
        if arguments.serve:
            rpc.server(Service(), topic=arguments.topic)
        if not arguments.call:
            print("ready", flush=True)
            sys.stdin.read()
            os._exit(0)
        caller = Caller(rpc.client(topic=arguments.topic, timeout=arguments.patience))
        caller.call()
        print("ready", flush=True)
        while True:
            caller.call()
            if select.select([sys.stdin], [], [], PAUSE)[0]:
                line = sys.stdin.readline()
                if not line:
                    os._exit(0)
                for _ in range(int(line)):
                    caller.call()
                    time.sleep(PAUSE)
                print(caller.told(), flush=True)


if __name__ == "__main__":
    main()
