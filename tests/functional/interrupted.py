# SPDX-License-Identifier: Apache-2.0
"""A process whose signal handlers, finalizers and weak references send.

Run as `python -m tests.functional.interrupted SCENE TOPIC`, with the transport URL in
WORKER_URL; tells what became of that in a line of JSON.
"""

from __future__ import annotations

import collections
import gc
import json
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

if sys.argv[1:2] == ["greenlets"]:
    import eventlet

    eventlet.monkey_patch()

from tests.functional.rpc import Rpc

from hybrid_messaging.drivers import errors

#: Seconds of interruptions, and for how long to wait for what is rare, if need be.
LASTS, PATIENCE = 0.6, 60.0


class Interrupting:
    """Sends when it is called, and counts what becomes of it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._busy = False
        self._next = 0.0
        self.ended = False
        self._began = time.monotonic()
        self.counts: collections.Counter[str] = collections.Counter()

    def enough(self) -> bool:
        """Whether it has gone on for long enough, and has interrupted something."""
        lasted = time.monotonic() - self._began
        return lasted > (LASTS if self.counts else PATIENCE)

    def __call__(self, *_: object) -> None:
        began = time.monotonic()
        if self._busy or self.ended or began < self._next:
            return
        self._busy = True
        try:
            self._client.cast({}, "echo", value="interrupting")
        except errors.Reentered:
            self.counts["refused"] += 1
        except Exception as error:
            self.counts[repr(error)] += 1
        else:
            self.counts["sent"] += 1
        finally:
            # on a busy machine, what is interrupted gets on all the same
            ended = time.monotonic()
            self._next = ended + ended - began
            self._busy = False


def signals(interrupt: Interrupting) -> None:
    """A timer interrupts the main thread, at ever other moments."""
    delays = iter(range(1 << 30))

    def handler(*_: object) -> None:
        interrupt()
        if not interrupt.ended:
            delay = 0.0002 + next(delays) % 97 * 0.000023
            signal.setitimer(signal.ITIMER_REAL, delay)

    signal.signal(signal.SIGALRM, handler)
    handler()


class Farewell:
    """Sends when it is collected as garbage."""

    def __init__(self, interrupt: Interrupting) -> None:
        self.cycle = self
        self._interrupt = interrupt

    def __del__(self) -> None:
        self._interrupt()


class Garbage:
    """What it is to have weak references to."""


def finalizers(interrupt: Interrupting) -> None:
    """Whoever allocates something collects garbage, and calls its finalizers."""

    def litter() -> None:
        watched = []
        while not interrupt.ended:
            Farewell(interrupt)
            garbage = Garbage()
            garbage.cycle = garbage  # type: ignore[attr-defined]
            watched = [*watched[-10:], weakref.ref(garbage, interrupt)]
            del garbage
            time.sleep(0.0005)

    gc.set_threshold(11, 3, 3)
    threading.Thread(target=litter, daemon=True).start()


def interrupted(rpc: Rpc, topic: str, begin: Any) -> dict[str, int]:
    """Call on while something interrupts; count what becomes of either."""
    counts: collections.Counter[str] = collections.Counter()
    client = rpc.client(topic=topic)
    interrupt = Interrupting(rpc.client(topic=topic))
    begin(interrupt)

    def call_on(until: Callable[[], bool] = interrupt.enough) -> None:
        while not until():
            counts[client.call({}, "echo", value="interrupted")] += 1

    call_on(lambda: counts["interrupted"] >= 30)  # alone
    others = [threading.Thread(target=call_on) for _ in range(2)]
    for other in others:
        other.start()
    call_on()
    for other in others:
        other.join()
    interrupt.ended = True
    gc.set_threshold(700, 10, 10)
    signal.setitimer(signal.ITIMER_REAL, 0)
    counts[client.call({}, "echo", value="afterwards")] += 1
    return {**counts, **interrupt.counts}


def careless(topic: str) -> None:
    """Handlers fail in the calls that they interrupt, and one closes the transport."""
    outcomes = []
    with Rpc(os.environ["WORKER_URL"]) as rpc:
        transport = rpc.transport()
        client = rpc.client(transport, topic=topic)

        def interrupted_by(handler: Callable[[], object]) -> None:
            for _ in range(6):  # by then a lone caller reads for itself
                client.call({}, "name")
            signal.signal(signal.SIGALRM, lambda *_: handler())
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                client.call({}, "sleep", seconds=50)
            except errors.DeliveryError as error:
                outcomes.append(type(error).__name__)

        interrupted_by(lambda: client.cast({}, "echo", value="interrupting"))
        interrupted_by(lambda: client.call({}, "name"))
        interrupted_by(transport.cleanup)
    print(json.dumps(outcomes), flush=True)


def main(scene: str, topic: str) -> None:
    if scene == "careless":
        careless(topic)
        return
    begins = [signals] if scene == "greenlets" else [signals, finalizers]
    with Rpc(os.environ["WORKER_URL"]) as rpc:
        rpc.client(topic=topic).call({}, "name")
        told = [interrupted(rpc, topic, begin) for begin in begins]
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
