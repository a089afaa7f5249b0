# SPDX-License-Identifier: Apache-2.0
"""A process with an RPC server and clients of all kinds, which keeps a ledger.

Instead, it may send and receive notifications. Every message has an id. The ledger, a
file with lines of JSON, says what was sent, how that ended, and what was executed. On
SIGTERM the process sends no more, waits for what is under way, and ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import oslo_messaging
from tests.functional.rpc import Rpc, configuration, end

TOPIC = "stations"
#: Seconds that a call may take.
TIMEOUT = 30
#: Seconds between two messages of a kind.
PAUSE = 0.1
#: Kinds of messages, besides calls of one server.
ANY, CAST, FANOUT = KINDS = ("call of any", "cast", "fanout")
NOTIFICATION = "notification"


class Ledger:
    """What this process has sent and executed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def add(self, **row: Any) -> None:
        """Write a line."""
        with self._lock:
            self._file.write(json.dumps(row) + "\n")


class Endpoint:
    """The server's half."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def do(self, ctxt: dict[str, Any], number: str) -> str:
        """Execute a message."""
        self._ledger.add(executed=number, at=time.time())
        return number

    def info(
        self, ctxt: object, publisher: str, event: str, payload: str, metadata: object
    ) -> None:
        """Execute a notification."""
        self._ledger.add(executed=payload, at=time.time())


Sending = dict[str, Callable[[str], object]]


@contextlib.contextmanager
def requests(
    url: str, name: str, ledger: Ledger, servers: list[str]
) -> Iterator[Sending]:
    """An RPC server, and what sends requests of each kind."""
    with Rpc(url) as rpc:
        server = rpc.server(Endpoint(ledger), name=name, topic=TOPIC)
        client = rpc.client(topic=TOPIC, timeout=TIMEOUT)
        fanout = client.prepare(fanout=True)
        kinds: Sending = {
            ANY: lambda number: client.call({}, "do", number=number),
            CAST: lambda number: client.cast({}, "do", number=number),
            FANOUT: lambda number: fanout.cast({}, "do", number=number),
        }
        for other in servers:
            one = client.prepare(server=other)
            kinds[f"call of {other}"] = lambda number, one=one: one.call(
                {}, "do", number=number
            )
        yield kinds
        end(server)


@contextlib.contextmanager
def notifications(url: str, name: str, ledger: Ledger) -> Iterator[Sending]:
    """A listener of notifications, and what sends them."""
    transport = oslo_messaging.get_notification_transport(configuration(), url)
    listener = oslo_messaging.get_notification_listener(
        transport,
        [oslo_messaging.Target(topic=TOPIC)],
        [Endpoint(ledger)],
        executor="threading",
    )
    listener.start()

    def send(number: str) -> None:
        # a notifier would swallow the exception
        transport._send_notification(
            oslo_messaging.Target(topic=f"{TOPIC}.info"),
            {},
            {
                "message_id": number,
                "publisher_id": name,
                "event_type": "test",
                "priority": "INFO",
                "payload": number,
                "timestamp": "",
            },
            version=2.0,
            retry=-1,
        )

    yield {NOTIFICATION: send}
    listener.stop()
    listener.wait()
    transport.cleanup()


def main() -> None:
    """Serve and send until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("servers", nargs="*", help="none: send notifications")
    arguments = parser.parse_args()
    name, ledger = arguments.name, Ledger(arguments.ledger)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())

    def send(kind: str, message: Callable[[str], object]) -> None:
        sent = 0
        while not stopping.wait(PAUSE):
            sent += 1
            number = f"{name}, {kind}, {sent}"
            began, failure = time.time(), ""
            try:
                message(number)
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
            ledger.add(
                sent=number, kind=kind, began=began, ended=time.time(), failure=failure
            )

    url, servers = os.environ["STATION_URL"], arguments.servers
    with (
        requests(url, name, ledger, servers)
        if servers
        else notifications(url, name, ledger)
    ) as kinds:
        threads = [threading.Thread(target=send, args=item) for item in kinds.items()]
        for thread in threads:
            thread.start()
        while not stopping.wait(1):
            pass
        for thread in threads:
            thread.join()
        # what others have sent last is still executed
        time.sleep(1)


if __name__ == "__main__":
    main()
