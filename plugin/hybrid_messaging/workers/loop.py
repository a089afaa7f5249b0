# SPDX-License-Identifier: Apache-2.0
"""What runs in a worker: reading commands, reporting events, ending."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

#: Seconds that closing may take; the rabbit driver looks up from its waiting for
#: messages only now and then.
FAREWELL = 1.0


class Worker(Protocol):
    """What does the work."""

    def commands(self) -> Mapping[str, Callable[..., None]]:
        """What it can be told to do, with the values of the command."""

    def close(self) -> None:
        """Undo everything."""


class Events:
    """Reports what has happened; any thread may.

    :param output: takes a line for each
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._lock = threading.Lock()

    def tell(self, event: str, **values: Any) -> None:
        """Report an event."""
        with self._lock:
            self._output.write(json.dumps({"event": event, **values}) + "\n")
            self._output.flush()


Hire = Callable[[str, Events], Worker]
"""Makes a worker of its assignment, a line."""


def obey(source: TextIO, output: TextIO, hire: Hire) -> None:
    """Do what the lines of `source` say, until there are no more."""
    events = Events(output)
    worker = hire(source.readline(), events)
    commands = worker.commands()
    for line in source:
        command = json.loads(line)
        do = command.pop("do")
        try:
            commands[do](**command)
        except Exception as error:
            events.tell("error", text=f"{type(error).__name__}: {error}")
    patience = threading.Timer(FAREWELL, os._exit, [1])
    patience.daemon = True
    patience.start()
    worker.close()
    patience.cancel()


def run(hire: Hire, level: int) -> None:
    """Be a worker's process.

    :param level: what is logged from there on
    """
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    # nothing but events may come out here, whatever libraries print
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    obey(sys.stdin, output, hire)
    # the executors' idle threads would keep us for seconds
    os._exit(0)
