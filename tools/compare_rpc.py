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
The URL `null:` stands for the ceiling: oslo.messaging's own client and server
over a transport that costs nothing, in one process. Ratios refer to the first
subject.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

EXCHANGE = TOPIC = "compare-rpc"
WARM_UP = 50


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
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(usage.ru_utime + usage.ru_stime, flush=True)


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
    took: list[float] = []

    def work() -> None:
        for _ in range(calls // threads):
            start = time.perf_counter()
            client.call({}, "echo", data=payload)
            took.append(time.perf_counter() - start)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    cpu, start = time.process_time(), time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    took.sort()
    result = {
        "asked": calls // threads * threads,
        "done": len(took),
        "calls_per_s": len(took) / elapsed,
        "p50_ms": took[len(took) // 2] * 1e3,
        "p99_ms": took[int(len(took) * 0.99)] * 1e3,
        "client_cpu_us": cpu / len(took) * 1e6,
    }
    print(json.dumps(result), flush=True)


# -- in the comparing process ----------------------------------------------


def run(python: str, url: str, threads: int, calls: int, size: int) -> dict[str, float]:
    """Measure one subject once."""
    me = [python, "-W", "ignore", __file__]
    environment = {**os.environ, "COMPARE_RPC_URL": url}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*me, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    server = start("--serve")
    try:
        if server.stdout is None or server.stdout.readline() != "ready\n":
            sys.exit(f"{python}: the server did not start")
        client = start("--call", str(threads), str(calls), str(size))
        output, _ = client.communicate(timeout=600)
        if client.returncode:
            sys.exit(f"{python}: the client failed")
        result: dict[str, float] = json.loads(output)
        if result["done"] != result["asked"]:
            sys.exit(f"{python}: {result['done']} of {result['asked']} calls")
        output, _ = server.communicate("", timeout=60)
        # its start and end are in there, so this errs on the high side
        result["server_cpu_us"] = float(output) / (calls + WARM_UP) * 1e6
        return result
    finally:
        server.kill()
        server.wait()


def subject(text: str) -> tuple[str, str, str]:
    name, _, rest = text.partition("=")
    python, _, url = rest.partition(",")
    if not (name and python and url):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PYTHON,URL")
    return name, python, given(url)


def given(url: str) -> str:
    """A URL, or what an environment variable holds that `env:NAME` names."""
    if not url.startswith("env:"):
        return url
    variable = url.removeprefix("env:")
    if variable not in os.environ:
        raise argparse.ArgumentTypeError(f"there is no environment {variable}")
    return os.environ[variable]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subject", nargs="+", type=subject, metavar="NAME=PYTHON,URL")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000, help="per measurement")
    parser.add_argument("--size", type=int, default=1000, help="bytes of payload")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = []
    for threads in arguments.threads:
        rounds: dict[str, list[dict[str, float]]] = {}
        for number in range(arguments.rounds):
            for name, python, url in arguments.subject:
                print(
                    f"{threads} threads, round {number + 1} of {arguments.rounds},"
                    f" {name} …",
                    file=sys.stderr,
                )
                measured = run(python, url, threads, arguments.calls, arguments.size)
                rounds.setdefault(name, []).append(measured)
        first = rounds[arguments.subject[0][0]]
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
        "threads  subject      calls/s  p50 ms  p99 ms  client µs  server µs"
        f"  {arguments.subject[0][0]} over it"
    )
    for row in results:
        print(
            f"{row['threads']:>7}  {row['subject']:<11} {row['calls_per_s']:>8.0f}"
            f" {row['p50_ms']:>7.2f} {row['p99_ms']:>7.2f}"
            f" {row['client_cpu_us']:>10.0f} {row['server_cpu_us']:>10.0f}"
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
