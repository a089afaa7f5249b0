# SPDX-License-Identifier: Apache-2.0
"""A client that is held up until its calls are overdue, and goes on.

Run as `python -m tests.functional.stopped SCENE TIMEOUT TOPIC`, with the transport URL
in WORKER_URL; tells what becomes of its calls in a line of JSON. In the scene
`threads` somebody else stops the process (SIGSTOP) and has it go on; in `greenlets`,
eventlet's hub has something else to do.
"""

from __future__ import annotations

import collections
import json
import os
import socket
import sys
import threading
from typing import Any

if sys.argv[1:2] == ["greenlets"]:
    import eventlet

    eventlet.monkey_patch()

from tests.functional.rpc import Rpc

#: Calls of many threads over one transport; one more is alone on another, and one is
#: watched for signs of life on a third.
MANY = 16
CALLS = MANY + 2


def main(scene: str, timeout: float, topic: str) -> None:
    outcomes: collections.Counter[str] = collections.Counter()
    with Rpc(os.environ["WORKER_URL"]) as rpc:

        def call(client: Any, number: int) -> None:
            try:
                outcomes[str(client.call({}, "wait", value=number) == number)] += 1
            except Exception as error:
                outcomes[f"{type(error).__name__}: {error}"] += 1

        many, alone, watched = (
            rpc.client(rpc.transport(), topic=topic, timeout=timeout, **how)
            for how in ({}, {}, {"call_monitor_timeout": timeout})
        )
        watched = watched.prepare(timeout=60)
        threads = []
        for number, client in enumerate([alone, watched, *[many] * MANY]):
            for _ in range(5):  # by then a lone caller reads for itself
                client.prepare(timeout=60).call({}, "name")
            threads.append(threading.Thread(target=call, args=(client, number)))
        print("calling", flush=True)
        for thread in threads:
            thread.start()
        if scene == "greenlets":
            # after what comes from a socket, the hub looks at its timers first
            ours, theirs = socket.socketpair()
            eventlet.spawn_after(0.2, theirs.send, b"\0")
            ours.recv(1)
            print("busy", flush=True)
            eventlet.patcher.original("time").sleep(timeout + 1)
        for thread in threads:
            thread.join()
    print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
