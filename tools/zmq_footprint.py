#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a process costs that talks to many others over zmq://.

One process under test, a client or a server as services have it, and many peers of
it in one other process, each with a socket and a port or a connection of its own.
The peers speak the driver's protocol and no more, so that a thousand of them fit
onto a small machine. Nothing else is needed: a file is the matchmaker.

    tools/zmq_footprint.py [--peers 1 10 100 1000] [--json]

Shows what the process under test has once it has called each peer, or each peer
has called it: connections, threads, descriptors, and memory in MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import zmq

from hybrid_messaging.drivers import bodies
from hybrid_messaging.drivers.zmq import matchmaker, wire

HOST = "127.0.0.1"
TOPIC = "footprint"
#: Seconds that anything may take.
PATIENCE = 60
#: Descriptors for a peer: its socket has two or three, and a connection or port.
PER_PEER = 6


# -- the process under test ------------------------------------------------


def transport(servers: str) -> Any:
    import oslo_messaging
    from oslo_config import cfg

    cfg.CONF([])
    url = f"zmq+static:///?zmq_static_file={servers}"
    return oslo_messaging.get_rpc_transport(cfg.CONF, url=url)


class Echo:
    def echo(self, ctxt: Any, value: Any) -> Any:
        return value


def call_peers(servers: str, number: int) -> None:
    import oslo_messaging

    client = oslo_messaging.get_rpc_client(
        transport(servers), oslo_messaging.Target(topic=TOPIC), timeout=PATIENCE
    )
    for peer in range(number):
        client.prepare(server=str(peer)).call({}, "echo", value=peer)


def serve_peers(servers: str, number: int) -> None:
    import oslo_messaging

    target = oslo_messaging.Target(topic=TOPIC, server="0")
    oslo_messaging.get_rpc_server(
        transport(servers), target, [Echo()], executor="threading"
    ).start()
    print("ready", flush=True)
    sys.stdin.readline()


SUBJECTS = {"client": call_peers, "server": serve_peers}


def subject(kind: str, servers: str, number: int) -> None:
    """Talk to the peers, and tell what that takes."""
    SUBJECTS[kind](servers, number)
    me = psutil.Process()
    told = {
        "connections": sum(
            each.status == psutil.CONN_ESTABLISHED for each in me.net_connections("tcp")
        ),
        "threads": me.num_threads(),
        "descriptors": me.num_fds(),
        "memory": me.memory_info().rss / 2**20,
    }
    print(json.dumps(told), flush=True)


# -- its peers -------------------------------------------------------------


class Peers:
    """The sockets of many peers, and the process under test.

    :param directory: for the matchmaker's file
    """

    def __init__(self, number: int, directory: Path) -> None:
        self._number = number
        self._servers = directory / "servers"
        self._context: zmq.Context[Any] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, number + 10)

    def _sockets(self, kind: int) -> list[Any]:
        made = [self._context.socket(kind) for _ in range(self._number)]
        for each in made:
            each.setsockopt(zmq.LINGER, 0)
            each.setsockopt(zmq.RCVTIMEO, PATIENCE * 1000)
        return made

    def _register(self, ports: list[int]) -> None:
        self._servers.write_text(
            "".join(
                f"openstack {TOPIC} {server} {HOST}:{port}\n"
                for server, port in enumerate(ports)
            )
        )

    def _start(self, kind: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-W", "ignore", __file__),
                *("--subject", kind, str(self._servers)),
                *("--peers", str(self._number)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def client(self) -> dict[str, float]:
        """What a client has that calls all of us."""
        sockets = self._sockets(zmq.ROUTER)
        self._register([each.bind_to_random_port(f"tcp://{HOST}") for each in sockets])
        with self._start("client") as process:
            for each in sockets:
                routing_id, frame = each.recv_multipart()
                request = wire.read_request(frame)
                reply = bodies.reply(None).encode()
                answer = wire.answer(wire.REPLY, request.id, reply)
                each.send_multipart((routing_id, answer))
            return self._end(process, sockets)

    def server(self) -> dict[str, float]:
        """What a server has that all of us have called."""
        with socket.create_server((HOST, 0)) as found:
            port = found.getsockname()[1]
        self._register([port])
        topic = matchmaker.topic(None, "openstack", TOPIC)
        (record,) = (
            matchmaker.StaticMatchmaker(str(self._servers), None)
            .read([topic])[topic]
            .records
        )
        body = bodies.request({"method": "echo", "args": {"value": 1}}, {}).encode()
        request = wire.request(wire.CALL, 1, record.address(topic), body)
        sockets = self._sockets(zmq.DEALER)
        with self._start("server") as process:
            assert process.stdout is not None
            process.stdout.readline()
            for each in sockets:
                each.connect(f"tcp://{HOST}:{port}")
                each.send(request)
            for each in sockets:
                if wire.read_answer(each.recv()).kind != wire.REPLY:
                    sys.exit("the server does not answer")
            return self._end(process, sockets)

    def _end(
        self, process: subprocess.Popen[str], sockets: list[Any]
    ) -> dict[str, float]:
        output, _ = process.communicate("", timeout=PATIENCE)
        if process.returncode:
            sys.exit("the process under test has failed")
        for each in sockets:
            each.close()
        self._context.term()
        told: dict[str, float] = json.loads(output)
        return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="+", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--subject", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(arguments.peers) * PER_PEER + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"{wanted} descriptors are needed, and {hard} allowed: see ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if arguments.subject:
        kind, servers = arguments.subject
        subject(kind, servers, arguments.peers[0])
        sys.stdout.flush()
        os._exit(0)
    rows = []
    for kind in SUBJECTS:
        for number in arguments.peers:
            print(f"a {kind} with {number} peers …", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="zmq-footprint-") as directory:
                told = getattr(Peers(number, Path(directory)), kind)()
            rows.append({"process": kind, "peers": number, **told})
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print("process  peers  connections  threads  descriptors  memory MiB")
    for row in rows:
        print(
            f"{row['process']:<7}  {row['peers']:>5}  {row['connections']:>11}"
            f"  {row['threads']:>7}  {row['descriptors']:>11}  {row['memory']:>10.0f}"
        )


if __name__ == "__main__":
    main()
