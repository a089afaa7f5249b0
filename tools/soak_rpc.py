#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make many calls over a transport and see whether any process grows.

    tools/soak_rpc.py amqp://127.0.0.1:5672/ --watch router=1234
    tools/soak_rpc.py env:ZMQ_URL --calls 1000000 --threads 1

Client and server are processes of their own; others, such as a router, are named
with their pid. Memory is looked at twenty times. A process that fills its caches
grows in the beginning, so growth counts from a quarter of the calls on. A URL with
a password is given as env:NAME, the name of an environment variable. The exit code
is 1 if a process has grown by more than --tolerance, or calls have failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from typing import Any

import compare_rpc
import psutil

LOOKS = 20
#: Looks after which growth counts.
SETTLED = LOOKS // 4


def call(url: str, threads: int, calls: int, size: int) -> None:
    """Make the calls, and stop for a look at the memory now and then."""
    import oslo_messaging

    transport = compare_rpc.get_transport(url)
    target = oslo_messaging.Target(
        exchange=compare_rpc.EXCHANGE, topic=compare_rpc.TOPIC
    )
    client = oslo_messaging.get_rpc_client(transport, target, timeout=60)
    payload = "x" * size
    done = [0] * threads

    def work(index: int) -> None:
        for _ in range(calls // LOOKS // threads):
            if client.call({}, "echo", data=payload) == payload:
                done[index] += 1

    for _ in range(LOOKS):
        workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print(sum(done), flush=True)
        sys.stdin.readline()


def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """Memory of each process in bytes, look by look, and how many calls there were."""
    me = [sys.executable, "-W", "ignore", __file__]
    environment = {**os.environ, "COMPARE_RPC_URL": arguments.url}
    load = [str(arguments.threads), str(arguments.calls), str(arguments.size)]
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*me, *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    try:
        server = start("--serve")
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            sys.exit("the server did not start")
        client = start("--call", *load)
        assert client.stdout is not None and client.stdin is not None
        watched = {"client": client.pid, "server": server.pid, **dict(arguments.watch)}
        processes = {name: psutil.Process(pid) for name, pid in watched.items()}
        memory: dict[str, list[int]] = {name: [] for name in processes}
        done = 0
        for _ in range(LOOKS):
            line = client.stdout.readline()
            if not line:
                sys.exit("the client failed")
            done = int(line)
            for name, process in processes.items():
                memory[name].append(process.memory_info().rss)
            told = "; ".join(
                f"{name} {memory[name][-1] / 1e6:.1f} MB, {each.num_threads()} threads"
                for name, each in processes.items()
            )
            print(f"{done:,} calls: {told}", file=sys.stderr, flush=True)
            client.stdin.write("\n")
            client.stdin.flush()
        return {"calls": done, "memory": memory}
    finally:
        for process in started:
            process.kill()
            process.wait()


def watched(text: str) -> tuple[str, int]:
    name, _, pid = text.partition("=")
    if not (name and pid.isdecimal() and psutil.pid_exists(int(pid))):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PID of a process")
    return name, int(pid)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", type=compare_rpc.given)
    parser.add_argument(
        "--watch", action="append", default=[], type=watched, metavar="NAME=PID"
    )
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--size", type=int, default=1000, help="bytes of payload")
    parser.add_argument("--tolerance", type=float, default=2.0, metavar="MB")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = soak(arguments)
    asked = arguments.calls // LOOKS // arguments.threads * arguments.threads * LOOKS
    grown = {
        name: (seen[-1] - seen[SETTLED - 1]) / 1e6
        for name, seen in found["memory"].items()
    }
    if arguments.json:
        print(json.dumps({**found, "grown_mb": grown}, indent=2))
    else:
        print(f"{found['calls']:,} of {asked:,} calls answered; grown since a quarter:")
        for name, megabytes in grown.items():
            print(f"{name:>8} {megabytes:+.2f} MB")
    return int(found["calls"] != asked or max(grown.values()) > arguments.tolerance)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        compare_rpc.serve(os.environ["COMPARE_RPC_URL"])
    elif sys.argv[1:2] == ["--call"]:
        call(os.environ["COMPARE_RPC_URL"], *map(int, sys.argv[2:5]))
    else:
        sys.exit(main())
    sys.stdout.flush()
    os._exit(0)
