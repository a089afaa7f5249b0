# SPDX-License-Identifier: Apache-2.0
"""A process of its own with a server of the run, and later with a listener.

It reads JSON lines from its standard input: first the run, then what to do. It
writes JSON lines, its events, to its standard output. When its input ends, so
does it: that is how it learns that it is no longer needed, or that whoever
started it is gone.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

import oslo_messaging

from hybrid_messaging.smoke.endpoint import Endpoint
from hybrid_messaging.smoke.run import Run

#: Seconds that closing the transports may take; the rabbit driver looks up from
#: its waiting for messages only now and then.
FAREWELL = 1.0


class Worker:
    """Serves and listens as it is told.

    :param run: what to serve
    :param output: takes the events
    """

    def __init__(self, run: Run, output: TextIO) -> None:
        self._run = run
        self._conf = run.conf()
        self._output = output
        self._lock = threading.Lock()
        self._closers: list[Callable[[], Any]] = []

    def tell(self, event: str, **values: Any) -> None:
        """Report an event."""
        with self._lock:
            self._output.write(json.dumps({"event": event, **values}) + "\n")
            self._output.flush()

    def serve(self, server: str) -> None:
        """Be an RPC server of this name."""
        transport = oslo_messaging.get_rpc_transport(self._conf, url=self._run.rpc_url)
        self._closers.append(transport.cleanup)
        rpc_server = oslo_messaging.get_rpc_server(
            transport,
            self._run.rpc_target(server=server),
            [Endpoint(server, self.tell)],
            executor="threading",
            access_policy=oslo_messaging.DefaultRPCAccessPolicy,
        )
        rpc_server.start()
        self._closers.append(rpc_server.stop)
        self.tell("serving")

    def listen(self) -> None:
        """Take the notifications of the run."""
        transport = oslo_messaging.get_notification_transport(
            self._conf, url=self._run.notify_url
        )
        self._closers.append(transport.cleanup)
        target = oslo_messaging.Target(
            exchange=self._run.notify_exchange, topic=self._run.notify_topic
        )
        listener = oslo_messaging.get_notification_listener(
            transport, [target], [self], executor="threading"
        )
        listener.start()
        # Kafka wants to be told that a listener leaves its group
        self._closers += [listener.wait, listener.stop]
        self.tell("listening")

    def info(
        self,
        context: dict[str, Any],
        publisher_id: str,
        event_type: str,
        payload: Any,
        metadata: dict[str, Any],
    ) -> None:
        """A notification of priority info has come."""
        self.tell("notified", type=event_type, payload=payload)

    def close(self) -> None:
        """Undo everything, the latest first."""
        for closer in reversed(self._closers):
            closer()


def main(source: TextIO, output: TextIO) -> None:
    """Do what the lines of `source` say, until there are no more."""
    worker = Worker(Run.from_json(source.readline()), output)
    commands: dict[str, Callable[..., None]] = {
        "serve": worker.serve,
        "listen": worker.listen,
    }
    for line in source:
        command = json.loads(line)
        do = command.pop("do")
        try:
            commands[do](**command)
        except Exception as error:
            worker.tell("error", text=f"{type(error).__name__}: {error}")
    patience = threading.Timer(FAREWELL, os._exit, [1])
    patience.daemon = True
    patience.start()
    worker.close()
    patience.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    # nothing but events may come out here, whatever libraries print
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    main(sys.stdin, events)
    # the executors' idle threads would keep us for seconds
    os._exit(0)
