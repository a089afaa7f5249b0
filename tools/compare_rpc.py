#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""RPC speed of several transports as ratios, measured in turn on one machine.

Figures of a shared machine drift by a factor of two within an hour, so nothing
is compared across runs: every round measures each subject once, one after the
other, and the ratios are taken within a round. A subject is a Python
interpreter, with whatever oslo.messaging and drivers it has, and a transport
URL; client and server are processes of their own.

    tools/compare_rpc.py amqp=.venv/bin/python,amqp://127.0.0.1:5672/ \\
        rabbit=.venv/bin/python,env:RABBIT_URL --threads 1 8 --rounds 5

A URL with a password is given as env:NAME, the name of an environment variable.
After a bar stands the URL of the server, if it is not that of the client: one of them
can be on two buses (`migrate+…`) and the other on one.
The URL `null:` stands for the ceiling: oslo.messaging's own client and server
over a transport that costs nothing, in one process. Ratios refer to the first
subject. CPU time and waits are those of one call, after the warm-up; those of
routers and brokers are told where their process ids are given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import re
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

EXCHANGE = TOPIC = "compare-rpc"
WARM_UP = 50
_WAITS = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)", re.M)


# -- in a subject's interpreter --------------------------------------------


def get_transport(url: str) -> Any:
    import logging

    import oslo_messaging
    from oslo_config import cfg

    logging.basicConfig(level=logging.ERROR)
    cfg.CONF([])
    if not url.startswith("null:"):
        return oslo_messaging.get_rpc_transport(cfg.CONF, url=url)
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, url="fake://")
    transport._driver = null_driver(cfg.CONF, transport._driver._url)
    return transport


def null_driver(conf: Any, url: Any) -> Any:
    """Hands a request to the listener of the same process, as JSON and back."""
    from oslo_messaging._drivers import base
    from oslo_serialization import jsonutils

    class Incoming(base.RpcIncomingMessage):
        def __init__(self, ctxt: Any, message: Any) -> None:
            super().__init__(ctxt, message, "")
            self.answer: queue.SimpleQueue[str] = queue.SimpleQueue()

        def reply(self, reply: Any = None, failure: Any = None) -> None:
            self.answer.put(jsonutils.dumps({"response": reply}))

        def heartbeat(self) -> None: ...

        def requeue(self) -> None: ...

    class Listener(base.Listener):
        def cleanup(self) -> None: ...

    class NullDriver(base.BaseDriver):
        def send(self, target: Any, ctxt: Any, message: Any, *_: Any, **__: Any) -> Any:
            body = jsonutils.dumps({"request": message, "context": ctxt})
            data = jsonutils.loads(body)
            incoming = Incoming(data["context"], data["request"])
            self.listener.on_incoming_callback([incoming])
            return jsonutils.loads(incoming.answer.get())["response"]

        def listen(self, target: Any, batch_size: int, batch_timeout: Any) -> Any:
            self.listener = Listener(batch_size, batch_timeout)
            return self.listener

        def send_notification(self, *_: Any, **__: Any) -> None: ...

        def listen_for_notifications(self, *_: Any, **__: Any) -> None: ...

        def cleanup(self) -> None: ...

    return NullDriver(conf, url)


class Echo:
    def echo(self, ctxt: Any, data: Any) -> Any:
        return data


def start_server(transport: Any) -> None:
    import oslo_messaging

    target = oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, server="server")
    oslo_messaging.get_rpc_server(
        transport, target, [Echo()], executor="threading"
    ).start()


def serve(url: str) -> None:
    start_server(get_transport(url))
    print("ready", flush=True)
    sys.stdin.read()


def call(url: str, threads: int, calls: int, size: int) -> None:
    import oslo_messaging

    transport = get_transport(url)
    if url.startswith("null:"):
        start_server(transport)
    make = getattr(oslo_messaging, "get_rpc_client", oslo_messaging.RPCClient)
    target = oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC)
    client = make(transport, target, timeout=60)
    payload = "x" * size
    for _ in range(WARM_UP):
        client.call({}, "echo", data=payload)
    print("warm", flush=True)
    sys.stdin.readline()
    took: list[float] = []

    def work() -> None:
        for _ in range(calls // threads):
            start = time.perf_counter()
            client.call({}, "echo", data=payload)
            took.append(time.perf_counter() - start)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    took.sort()
    result = {
        "asked": calls // threads * threads,
        "done": len(took),
        "calls_per_s": len(took) / elapsed,
        "p50_ms": took[len(took) // 2] * 1e3,
        "p99_ms": took[int(len(took) * 0.99)] * 1e3,
        "client_cpu_us": sum(
            (after.ru_utime, after.ru_stime, -before.ru_utime, -before.ru_stime)
        )
        / len(took)
        * 1e6,
        "client_waits": (after.ru_nvcsw - before.ru_nvcsw) / len(took),
    }
    print(json.dumps(result), flush=True)
    sys.stdin.readline()


# -- in the comparing process ----------------------------------------------


class Usage:
    """CPU time and waits of processes of others, from now on.

    :param pids: of the processes
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._tasks = [Path(f"/proc/{pid}/task") for pid in pids]
        self._cpu, self._waits = self._read()

    def _read(self) -> tuple[int, int]:
        cpu, waits = 0, 0
        for task in (task for tasks in self._tasks for task in tasks.iterdir()):
            cpu += int((task / "schedstat").read_text().split()[0])
            found = _WAITS.search((task / "status").read_text())
            waits += int(found[1]) if found else 0
        return cpu, waits

    def per(self, calls: int) -> tuple[float, float]:
        """Microseconds of CPU time, and waits, for each of so many calls."""
        cpu, waits = self._read()
        return (cpu - self._cpu) / 1e3 / calls, (waits - self._waits) / calls


class Subject(NamedTuple):
    """What is measured: an interpreter, and the URLs of the client and the server."""

    name: str
    python: str
    client: str
    server: str


def run(
    chosen: Subject, threads: int, calls: int, size: int, engines: Sequence[int]
) -> dict[str, float]:
    """Measure one subject once.

    :param engines: process ids of the routers or brokers
    """
    python = chosen.python

    def start(url: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [python, "-W", "ignore", __file__, *arguments],
            env={**os.environ, "COMPARE_RPC_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def hear(process: subprocess.Popen[str], what: str) -> str:
        assert process.stdout is not None
        return process.stdout.readline() or sys.exit(f"{python}: the {what} failed")

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start(chosen.server, "--serve"))
        stack.callback(server.kill)
        hear(server, "server")
        client = stack.enter_context(
            start(chosen.client, "--call", str(threads), str(calls), str(size))
        )
        stack.callback(client.kill)
        hear(client, "client")
        served, carried = Usage([server.pid]), Usage(engines)
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
        result: dict[str, float] = json.loads(hear(client, "client"))
        if result["done"] != result["asked"]:
            sys.exit(f"{python}: {result['done']} of {result['asked']} calls")
        done = int(result["done"])
        result["server_cpu_us"], result["server_waits"] = served.per(done)
        result["engine_cpu_us"], result["engine_waits"] = carried.per(done)
        return result


def subject(text: str) -> Subject:
    name, _, rest = text.partition("=")
    python, _, urls = rest.partition(",")
    client, _, server = urls.partition("|")
    if not (name and python and client):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PYTHON,URL[|URL]")
    return Subject(name, python, given(client), given(server or client))


def given(url: str) -> str:
    """A URL, or what an environment variable holds that `env:NAME` names."""
    if not url.startswith("env:"):
        return url
    variable = url.removeprefix("env:")
    if variable not in os.environ:
        raise argparse.ArgumentTypeError(f"{variable} is not in the environment")
    return os.environ[variable]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "subject", nargs="+", type=subject, metavar="NAME=PYTHON,URL[|URL]"
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000, help="per measurement")
    parser.add_argument("--size", type=int, default=1000, help="bytes of payload")
    parser.add_argument("--engines", nargs="+", type=int, default=[], metavar="PID")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = []
    for threads in arguments.threads:
        rounds: dict[str, list[dict[str, float]]] = {}
        for number in range(arguments.rounds):
            for each in arguments.subject:
                print(
                    f"{threads} threads, round {number + 1} of {arguments.rounds},"
                    f" {each.name} …",
                    file=sys.stderr,
                )
                measured = run(
                    *(each, threads),
                    *(arguments.calls, arguments.size, arguments.engines),
                )
                rounds.setdefault(each.name, []).append(measured)
        first = rounds[arguments.subject[0].name]
        for name, measured_rounds in rounds.items():
            row: dict[str, Any] = {"threads": threads, "subject": name}
            for figure in measured_rounds[0]:
                row[figure] = statistics.median(
                    each[figure] for each in measured_rounds
                )
            row["first_over_this"] = statistics.median(
                mine["calls_per_s"] / other["calls_per_s"]
                for mine, other in zip(first, measured_rounds, strict=True)
            )
            results.append(row)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    print(
        "threads  subject       calls/s  p50 ms  p99 ms       client       server"
        f"       engine  {arguments.subject[0].name} over it\n"
        f"{'':48}{'  µs and waits' * 3}"
    )
    for row in results:
        used = (
            f"{row[f'{who}_cpu_us']:>7.0f} {row[f'{who}_waits']:>5.1f}"
            for who in ("client", "server", "engine")
        )
        print(
            f"{row['threads']:>7}  {row['subject']:<12} {row['calls_per_s']:>8.0f}"
            f" {row['p50_ms']:>7.2f} {row['p99_ms']:>7.2f} {' '.join(used)}"
            f"  {row['first_over_this']:.2f} times"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(os.environ["COMPARE_RPC_URL"])
    elif sys.argv[1:2] == ["--call"]:
        call(os.environ["COMPARE_RPC_URL"], *map(int, sys.argv[2:5]))
    else:
        main()
    sys.stdout.flush()
    os._exit(0)
