#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a process costs that talks to many others over zmq://.

One process under test, a client or a server as services have it, and many peers of
it in one other process, each with a socket and a port or a connection of its own.
The peers speak the driver's protocol and no more, so that a thousand of them fit
onto a small machine. They meet by a file or, with --proxy, by a Redis server of
their own, with a proxy between them that is looked at, too.

    tools/zmq_footprint.py [--proxy] [--peers 1 10 100 1000] [--json]

Shows what a process has once the one under test has called each peer, or each peer
has called it: connections, threads, descriptors, and memory in MiB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import zmq

from hybrid_messaging.drivers import bodies
from hybrid_messaging.drivers.zmq import matchmaker, proxies, wire

HOST = "127.0.0.1"
TOPIC = "footprint"
NAME = matchmaker.topic(None, "openstack", TOPIC)
#: Seconds that anything may take.
PATIENCE = 60
#: Descriptors for a peer: its socket has two or three, and a connection or port.
PER_PEER = 6


def transport(url: str) -> Any:
    import oslo_messaging
    from oslo_config import cfg

    cfg.CONF([])
    return oslo_messaging.get_rpc_transport(cfg.CONF, url=url)


# -- the process under test ------------------------------------------------


class Echo:
    def echo(self, ctxt: Any, value: Any) -> Any:
        return value


def call_peers(url: str, number: int) -> None:
    import oslo_messaging

    client = oslo_messaging.get_rpc_client(
        transport(url), oslo_messaging.Target(topic=TOPIC), timeout=PATIENCE
    )
    for peer in range(number):
        client.prepare(server=str(peer)).call({}, "echo", value=peer)


def serve_peers(url: str, number: int) -> None:
    import oslo_messaging

    target = oslo_messaging.Target(topic=TOPIC, server="0")
    oslo_messaging.get_rpc_server(
        transport(url), target, [Echo()], executor="threading"
    ).start()


SUBJECTS = {"client": call_peers, "server": serve_peers}


def subject(kind: str, url: str, number: int) -> None:
    """Be a client that has called the peers, or a server; stay so until told."""
    SUBJECTS[kind](url, number)
    print("ready", flush=True)
    sys.stdin.readline()


# -- how they meet ---------------------------------------------------------


class ByFile:
    """Everything straight; a file is the matchmaker."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "servers"
        self.url = f"zmq+static:///?zmq_static_file={self._file}"
        self.proxy: psutil.Process | None = None
        self.redis = 0

    def register(self, ports: list[int]) -> None:
        """Have our peers be servers."""
        self._file.write_text(
            "".join(
                f"openstack {TOPIC} {server} {HOST}:{port}\n"
                for server, port in enumerate(ports)
            )
        )

    def expect_server(self) -> None:
        """Have a port for the server under test."""
        with socket.create_server((HOST, 0)) as found:
            self.register([found.getsockname()[1]])

    def server(self) -> tuple[str, bytes]:
        """Where to connect to call that server, and what to call it."""
        record = known(transport(self.url)._driver._open_matchmaker(), NAME)
        return record.endpoint, record.address(NAME)


class ByProxy:
    """Everything through a proxy; it is found through Redis."""

    def __init__(self, directory: Path, running: contextlib.ExitStack) -> None:
        with socket.create_server((HOST, 0)) as found:
            port = found.getsockname()[1]
        address = f"zmq://{HOST}:{port}/?rpc_zmq_bind_address={HOST}"
        self.url = f"{address}&use_router_proxy=true"
        self.redis = port
        redis = ("redis-server", "--bind", HOST, "--port", str(port))
        running.enter_context(started(*redis, "--dir", str(directory)))
        command = str(Path(sys.executable).with_name("hybrid-messaging"))
        proxy = running.enter_context(
            started(command, "zmq-proxy", HYBRID_RPC_URL=address)
        )
        self.proxy = psutil.Process(proxy.pid)
        self._matchmaker = transport(self.url)._driver._open_matchmaker()
        self._endpoint = first_proxy(self._matchmaker).endpoint

    def register(self, ports: list[int]) -> None:
        self._matchmaker.write(
            [
                (NAME, matchmaker.Record(str(server), f"tcp://{HOST}:{port}", "peers"))
                for server, port in enumerate(ports)
            ],
            10 * PATIENCE,
            new=True,
        )

    def expect_server(self) -> None:
        pass

    def server(self) -> tuple[str, bytes]:
        return self._endpoint, known(self._matchmaker, NAME).address(NAME)


Meeting = ByFile | ByProxy


def known(found: Any, topic: str) -> matchmaker.Record:
    (record,) = found.read([topic])[topic].records
    return record


def first_proxy(found: Any) -> matchmaker.Record:
    """Wait until Redis is there, and a proxy in it."""
    for _ in range(PATIENCE * 10):
        with contextlib.suppress(matchmaker.MatchmakerAway, ValueError):
            return known(found, proxies.PROXIES)
        time.sleep(0.1)
    sys.exit("no proxy has registered")


@contextlib.contextmanager
def started(*command: str, **surroundings: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **surroundings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# -- the peers -------------------------------------------------------------


class Peers:
    """The sockets of many peers, and the process under test.

    :param meeting: how they find each other
    """

    def __init__(self, number: int, meeting: Meeting) -> None:
        self._number = number
        self._meeting = meeting
        self._context: zmq.Context[Any] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, number + 10)

    def _sockets(self, kind: int) -> list[Any]:
        made = [self._context.socket(kind) for _ in range(self._number)]
        for each in made:
            each.setsockopt(zmq.LINGER, 0)
            each.setsockopt(zmq.RCVTIMEO, PATIENCE * 1000)
        return made

    def _start(self, kind: str) -> Any:
        return started(
            sys.executable,
            *("-W", "ignore", __file__, "--subject", kind, self._meeting.url),
            *("--peers", str(self._number)),
        )

    def client(self) -> dict[str, dict[str, float]]:
        """What a client has that calls all of us."""
        sockets = self._sockets(zmq.ROUTER)
        self._meeting.register(
            [each.bind_to_random_port(f"tcp://{HOST}") for each in sockets]
        )
        with self._start("client") as process:
            for each in sockets:
                routing_id, frame = each.recv_multipart()
                request = wire.read_request(frame)
                reply = bodies.reply(None).encode()
                answer = wire.answer(wire.REPLY, request.id, reply)
                each.send_multipart((routing_id, answer))
            process.stdout.readline()
            return self._end("client", process, sockets)

    def server(self) -> dict[str, dict[str, float]]:
        """What a server has that all of us have called."""
        self._meeting.expect_server()
        sockets = self._sockets(zmq.DEALER)
        with self._start("server") as process:
            process.stdout.readline()
            endpoint, address = self._meeting.server()
            body = bodies.request({"method": "echo", "args": {"value": 1}}, {}).encode()
            for each in sockets:
                each.connect(endpoint)
                each.send(wire.request(wire.CALL, 1, address, body))
            for each in sockets:
                if wire.read_answer(each.recv()).kind != wire.REPLY:
                    sys.exit("the server does not answer")
            return self._end("server", process, sockets)

    def _end(
        self, kind: str, process: subprocess.Popen[str], sockets: list[Any]
    ) -> dict[str, dict[str, float]]:
        told = {kind: taken_by(psutil.Process(process.pid), self._meeting.redis)}
        if self._meeting.proxy is not None:
            told["its proxy"] = taken_by(self._meeting.proxy, self._meeting.redis)
        for each in sockets:
            each.close()
        self._context.term()
        return told


def taken_by(process: psutil.Process, redis: int) -> dict[str, float]:
    """What a process has; its connection to the port of Redis is not counted."""
    return {
        "connections": sum(
            each.status == psutil.CONN_ESTABLISHED and each.raddr.port != redis
            for each in process.net_connections("tcp")
        ),
        "threads": process.num_threads(),
        "descriptors": process.num_fds(),
        "memory": process.memory_info().rss / 2**20,
    }


def measure(kind: str, number: int, proxied: bool) -> dict[str, dict[str, float]]:
    with (
        tempfile.TemporaryDirectory(prefix="zmq-footprint-") as directory,
        contextlib.ExitStack() as running,
    ):
        path = Path(directory)
        meeting = ByProxy(path, running) if proxied else ByFile(path)
        told: dict[str, dict[str, float]] = getattr(Peers(number, meeting), kind)()
        return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="+", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--proxy", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--subject", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(arguments.peers) * PER_PEER + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"{wanted} descriptors are needed, and {hard} allowed: see ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if arguments.subject:
        kind, url = arguments.subject
        subject(kind, url, arguments.peers[0])
        sys.stdout.flush()
        os._exit(0)
    rows = []
    for kind in SUBJECTS:
        for number in arguments.peers:
            print(f"a {kind} with {number} peers …", file=sys.stderr)
            told = measure(kind, number, arguments.proxy)
            for process, taken in told.items():
                rows.append({"process": process, "peers": number, **taken})
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print("process    peers  connections  threads  descriptors  memory MiB")
    for row in rows:
        print(
            f"{row['process']:<9}  {row['peers']:>5}  {row['connections']:>11}"
            f"  {row['threads']:>7}  {row['descriptors']:>11}  {row['memory']:>10.0f}"
        )


if __name__ == "__main__":
    main()
