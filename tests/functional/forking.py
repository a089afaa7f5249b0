# SPDX-License-Identifier: Apache-2.0
"""Processes that fork after they have used the bus, as services do.

Run as `python -m tests.functional.forking SCENE TOPIC`, with the transport URL
in WORKER_URL; tells what it does in lines of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

#: Descriptors that do not count as left over.
IGNORED = ("anon_inode:",) if os.environ["WORKER_URL"].startswith("zmq") else ()


def tell(event: str, **details: Any) -> None:
    line = json.dumps({"event": event, "pid": os.getpid(), **details}) + "\n"
    os.write(1, line.encode())


def descriptors() -> list[str]:
    """What the open descriptors of this process are, the standard ones aside."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        # what ZeroMQ signals its threads with cannot be told from others', and a
        # child that keeps it harms nobody
        if target.startswith(IGNORED):
            continue
        if int(entry.name) > 2 and not target.startswith("/proc"):
            found.append(target)
    return sorted(found)


def plain(url: str, topic: str) -> None:
    """A fork amid calls; parent and child go on calling, the child forks again."""
    from tests.functional.rpc import Rpc

    before = len(descriptors())
    with Rpc(url) as rpc:
        rpc.server(topic=f"{topic}-own")
        client = rpc.client(topic=topic)
        rpc.client(topic=f"{topic}-own", timeout=10).call({}, "name")
        busy = threading.Event()
        failures: list[str] = []

        def call_on() -> None:
            while not busy.is_set():
                try:
                    client.call({}, "echo", value="parent")
                except Exception as error:
                    failures.append(repr(error))

        threads = [threading.Thread(target=call_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        children = []
        for number in range(5):
            child = os.fork()
            if child == 0:
                inherited = len(descriptors()) - before
                try:
                    value = client.call({}, "echo", value=f"child {number}")
                    grandchild = os.fork()
                    if grandchild == 0:
                        tell("grandchild", value=client.call({}, "echo", value=number))
                        os._exit(0)
                    os.waitpid(grandchild, 0)
                    tell("child", value=value, inherited=inherited)
                    rpc.close()
                    tell("closed", left=len(descriptors()) - before)
                    os._exit(0)
                except BaseException as error:
                    tell("failed", error=repr(error))
                    os._exit(1)
            children.append(child)
        codes = [os.waitpid(child, 0)[1] for child in children]
        busy.set()
        for thread in threads:
            thread.join(30)
        own = rpc.client(topic=f"{topic}-own", timeout=10).call({}, "name")
        tell("parent", codes=codes, failures=failures, own=own)
    tell("end", left=len(descriptors()) - before)


def client(url: str, topic: str) -> None:
    """A client forks; both call on."""
    from tests.functional.rpc import Rpc

    with Rpc(url) as rpc:
        client = rpc.client(topic=topic)
        client.call({}, "echo", value="before")
        child = os.fork()
        if child == 0:
            try:
                tell("child", value=client.call({}, "echo", value="child"))
            finally:
                os._exit(0)
        code = os.waitpid(child, 0)[1]
        tell("parent", value=client.call({}, "echo", value="parent"), code=code)


def workers(url: str, topic: str) -> None:
    """Cotyledon's workers, after the manager has used the transport."""
    import multiprocessing

    import cotyledon
    from tests.functional.rpc import Rpc, end
    from tests.functional.service import Service

    rpc = Rpc(url)
    shared = rpc.transport()
    rpc.client(shared, topic=topic).call({}, "name")

    class Worker(cotyledon.Service):
        def __init__(self, number: int) -> None:
            super().__init__(number)
            self.number = number

        def run(self) -> None:
            self.server = rpc.server(
                Service(f"worker-{self.number}"),
                name=f"worker-{self.number}",
                topic=f"{topic}-workers",
                transport=shared,
            )
            rpc.client(shared, topic=topic).call({}, "name")
            tell("ready")

        def terminate(self) -> None:
            end(self.server)
            shared.cleanup()

    # from Python 3.14 on, a fork server is the default
    multiprocessing.set_start_method("fork")
    manager = cotyledon.ServiceManager()
    manager.add(Worker, workers=3, args=())
    manager.run()


def launcher(url: str, topic: str) -> None:
    """oslo.service's ProcessLauncher under eventlet, as older services use it."""
    import eventlet

    eventlet.monkey_patch()
    from oslo_config import cfg
    from oslo_service import service
    from tests.functional.rpc import Rpc, end
    from tests.functional.service import Service

    rpc = Rpc(url)
    shared = rpc.transport()
    rpc.client(shared, topic=topic).call({}, "name")

    class Worker(service.Service):
        def start(self) -> None:
            self.server = rpc.server(
                Service("worker"),
                name=f"worker-{os.getpid()}",
                topic=f"{topic}-workers",
                transport=shared,
                executor="eventlet",
            )
            rpc.client(shared, topic=topic).call({}, "name")
            tell("ready")

        def stop(self, graceful: bool = False) -> None:
            end(self.server)
            shared.cleanup()
            super().stop(graceful)

    started = service.ProcessLauncher(cfg.CONF, restart_method="mutate")
    started.launch_service(Worker(), workers=3)
    started.wait()


if __name__ == "__main__":
    scenes = {
        "plain": plain,
        "client": client,
        "workers": workers,
        "launcher": launcher,
    }
    scenes[sys.argv[1]](os.environ["WORKER_URL"], sys.argv[2])
