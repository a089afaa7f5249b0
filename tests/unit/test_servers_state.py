# SPDX-License-Identifier: Apache-2.0
"""What is made of what servers tell of their state.

tests/functional/test_check.py has real servers.
"""

from __future__ import annotations

import datetime
import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hybrid_messaging import urls
from hybrid_messaging.drivers.zmq.matchmaker import Sentinels
from hybrid_messaging.servers import (
    backlog,
    certificates,
    kafka_state,
    rabbit_state,
    zmq,
)
from hybrid_messaging.servers.backlog import Backlog
from hybrid_messaging.servers.insight import Insight, Look
from hybrid_messaging.servers.rabbit_management import Access, Management
from hybrid_messaging.servers.zmq import Zmq

QUEUE = "notifications.info"
NODES = [{"name": name, "running": True} for name in ("a", "b", "c")]
Answers = dict[str, Any]


class Node:
    """The management of a RabbitMQ: paths with answers, anything else is not there."""

    def __init__(self) -> None:
        self.answers: Answers = {}
        self.asked: list[tuple[str, str | None]] = []
        node = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.removeprefix("/api/")
                node.asked.append((path, self.headers["Authorization"]))
                answer = node.answers.get(path, 404)
                status = answer if isinstance(answer, int) else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/api/elsewhere")
                self.end_headers()
                raw = isinstance(answer, bytes)
                self.wfile.write(answer if raw else json.dumps(answer).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def listening() -> Iterator[Node]:
    made = Node()
    yield made
    made.stop()


@pytest.fixture
def node(listening: Node) -> Node:
    listening.answers = {"nodes": NODES[:1]}
    listening.asked.clear()
    return listening


def look_at(node: Node, named: int = 3) -> Insight:
    insight = Insight()
    access = Access(node.address, "u", "hush")
    Management(access, "a/b", named, Look(10, queues=[QUEUE])).look_at(insight)
    return insight


def quorum(members: str, online: str) -> Answers:
    return {"type": "quorum", "members": list(members), "online": list(online)}


@pytest.mark.parametrize(
    ("answers", "named", "codes", "said"),
    [
        ({}, 3, [], ""),
        ({"nodes": NODES}, 3, [], ""),
        ({"nodes": NODES}, 1, ["nodes-not-named"], "one of 3 nodes"),
        ({"nodes": [{"name": "a", "running": False}]}, 3, ["node-away"], "node a "),
        (
            {"nodes": [{**NODES[0], "mem_alarm": True}]},
            3,
            ["server-alarm"],
            "a is low on memory",
        ),
        (
            {"nodes": [{**NODES[0], "partitions": ["b"]}]},
            3,
            ["cluster-partitioned"],
            "node a is partitioned from b",
        ),
        (
            {
                f"queues/a%2Fb/{QUEUE}": {
                    "policy": "ttl",
                    "effective_policy_definition": {"message-ttl": 1, "ha-mode": "all"},
                }
            },
            3,
            ["policy-drops-messages"],
            f"policy ttl discards notifications in {QUEUE}: message-ttl is 1",
        ),
        (
            {f"queues/a%2Fb/{QUEUE}": {"effective_policy_definition": []}},
            3,
            [],
            "",
        ),
        ({f"queues/a%2Fb/{QUEUE}": {"type": "classic"}}, 3, [], ""),
        ({f"queues/a%2Fb/{QUEUE}": quorum("abc", "abc")}, 3, [], ""),
        (
            {f"queues/a%2Fb/{QUEUE}": quorum("abc", "a")},
            3,
            ["queue-without-quorum"],
            "b, c are down",
        ),
        (
            {f"queues/a%2Fb/{QUEUE}": quorum("abc", "ac")},
            3,
            ["queue-not-replicated"],
            "lacks its replicas on b",
        ),
        (
            {f"queues/a%2Fb/{QUEUE}": quorum("a", "a"), "nodes": NODES},
            3,
            ["queue-not-replicated"],
            "has 1 replicas on 3 nodes",
        ),
        (
            {
                "deprecated-features/used": [
                    {"name": "transient_nonexcl_queues", "desc": "Not for long."}
                ]
            },
            3,
            ["feature-deprecated"],
            "transient_nonexcl_queues: Not for long.",
        ),
        (
            {
                "deprecated-features/used": [
                    {"name": "f", "desc": "", "doc_url": "https://x"},
                ]
            },
            3,
            ["feature-deprecated"],
            "not allow: f: https://x",
        ),
    ],
)
def test_management(
    node: Node, answers: Answers, named: int, codes: list[str], said: str
) -> None:
    node.answers |= answers
    insight = look_at(node, named)
    assert [problem.code for problem in insight.problems] == codes
    assert insight.unseen == []
    assert said in "".join(problem.message for problem in insight.problems)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (401, "HTTP status 401"),
        (302, "HTTP status 302"),
        (b"<html>", "Expecting value"),
        (b"[" * 100_000, "unexpected answer"),
        ([1], "unexpected answer"),
        ({"error": 1}, "unexpected answer"),
        ([{"name": "a"}], "unexpected answer"),
    ],
)
def test_management_that_does_not_tell(node: Node, answer: Any, reason: str) -> None:
    node.answers["nodes"] = answer
    insight = look_at(node)
    assert insight.problems == []
    assert any(
        line.startswith(f"nodes at {node.address}: {reason}") for line in insight.unseen
    )
    assert "hush" not in str(insight)
    assert "elsewhere" not in [path for path, _ in node.asked]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({}, 0),
        ({"a:1": "one"}, 0),
        ({"a:1": "one", "b:1": "one"}, 0),
        ({"a:1": "one", "b:1": "two"}, 1),
    ],
)
def test_nodes_of_one_cluster(names: dict[str, str], expected: int) -> None:
    found = list(rabbit_state.of_one_cluster(names))
    assert len(found) == expected
    if found:
        assert "a:1 of one, b:1 of two" in found[0].message


# -- certificates ------------------------------------------------------------

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a file with certificates that end in so many days."""

    def make(*days: float) -> Path:
        now = datetime.datetime.now(datetime.timezone.utc)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
        key = ec.generate_private_key(ec.SECP256R1())
        path = tmp_path / "cert.pem"
        path.write_bytes(
            b"".join(
                x509.CertificateBuilder(name, name, key.public_key(), number + 1)
                .not_valid_before(now - datetime.timedelta(days=100))
                .not_valid_after(now + datetime.timedelta(days=each))
                .sign(key, hashes.SHA256())
                .public_bytes(serialization.Encoding.PEM)
                for number, each in enumerate(days)
            )
        )
        return path

    return make


@pytest.mark.parametrize(
    ("days", "codes"),
    [
        ([31], []),
        ([28.9], ["certificate-ends"]),
        ([-1], ["certificate-ended"]),
        ([31, 2.5, -1], ["certificate-ends", "certificate-ended"]),
        ([1] * 6, []),  # a system's
    ],
)
def test_certificates_in_files(make: Make, days: list[float], codes: list[str]) -> None:
    path = make(*days)
    found = list(certificates.of_files([str(path), "/nonexistent"], 30))
    assert [problem.code for problem in found] == codes
    if codes == ["certificate-ends"]:
        assert "in 29 days" in found[0].message and str(path) in found[0].message


def test_a_file_without_certificates(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\0" * 10)
    assert list(certificates.of_files([str(path), str(tmp_path)], 30)) == []


def test_only_regular_files_are_read_and_not_without_end(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert list(certificates.of_files([str(fifo), "/dev/zero"], 30)) == []
    path = make(-1, -1)
    assert len(list(certificates.of_files([str(path)], 30))) == 2
    first_alone = path.read_bytes().index(b"-----BEGIN", 1)
    monkeypatch.setattr(certificates, "_LARGEST", first_alone)
    assert len(list(certificates.of_files([str(path)], 30))) == 1


# -- Redis and Kafka ---------------------------------------------------------

#: What a master of Redis tells that has a replica, and writes to it.
ONE = {"connected_slaves": 1, "min_slaves_good_slaves": 1}
NO_QUORUM = "NOQUORUM 1 usable Sentinels"


@pytest.mark.parametrize(
    ("url", "info", "expected"),
    [
        ("zmq://h/", {"connected_slaves": 0}, []),
        ("zmq+sentinel://h/", {**ONE, "maxmemory": 0}, []),
        ("zmq+sentinel://h/", {"connected_slaves": 1}, ["redis-writes-alone"]),
        (
            "zmq+sentinel://h/",
            {"connected_slaves": 0},
            ["redis-without-replica", "redis-writes-alone"],
        ),
        ("zmq://h/", {"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, []),
        ("zmq://h/", {"maxmemory": 9, "maxmemory_policy": "noeviction"}, []),
        (
            "zmq://h/",
            {"maxmemory": 9, "maxmemory_policy": "volatile-ttl"},
            ["redis-evicts"],
        ),
        ("zmq://h/", {}, []),
    ],
)
def test_redis(url: str, info: dict[str, Any], expected: list[str]) -> None:
    found = Zmq(urls.parse(url))._judged(info)
    assert [problem.code for problem in found] == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], []),
        ([("m:1", 3, 2, "")] * 2, []),
        ([("m:1", 3, 2, ""), ("n:1", 3, 2, "")], ["sentinels-apart"]),
        ([("m:1", 3, 2, NO_QUORUM)] * 2, ["sentinels-without-quorum"]),
        ([("m:1", 2, 2, "")], ["sentinels-few"]),
    ],
)
def test_sentinels(told: list[tuple[str, int, int, str]], expected: list[str]) -> None:
    found = zmq._agreed([Sentinels(*each) for each in told])
    assert [problem.code for problem in found] == expected


def topic(*partitions: tuple[int, int]) -> Any:
    """A topic of Kafka by numbers of copies, and of those that are there."""
    return SimpleNamespace(
        partitions={
            number: SimpleNamespace(replicas=[0] * copies, isrs=[0] * there)
            for number, (copies, there) in enumerate(partitions)
        }
    )


@pytest.mark.parametrize(
    ("brokers", "partitions", "said"),
    [
        (1, [(1, 1)], None),
        (3, [(2, 2), (3, 3)], None),
        (3, [(3, 3), (1, 1)], "has a single replica on 3 brokers"),
        (3, [(3, 2), (3, 3)], "lacks replicas of 1 partitions"),
    ],
)
def test_kafka(brokers: int, partitions: list[tuple[int, int]], said: str) -> None:
    metadata = SimpleNamespace(
        brokers=dict.fromkeys(range(brokers)), topics={QUEUE: topic(*partitions)}
    )
    found = list(kafka_state.replicated(metadata, [QUEUE, "not.there"]))
    assert len(found) == bool(said)
    for finding in found:
        assert finding.code == "topic-not-replicated"
        assert said in finding.message


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        (
            Backlog("q", 1),
            "notifications-waiting",
            "1 notification waits in q, wh",
        ),
        (Backlog("q", 999), "notifications-waiting", ""),
        (Backlog("q", 1000), "notifications-not-read", "1,000 notifications"),
        (Backlog("q", 99, more=9), "notifications-waiting", "q, 9 more within 2 s, wh"),
        (
            Backlog("q", 100, more=0),
            "notifications-waiting",
            "in q, which has no",
        ),
        (Backlog("q", 100, more=1), "notifications-not-read", "1 more within"),
        (Backlog("q", 9, age=3599), "notifications-waiting", "for 60 minutes"),
        (Backlog("q", 9, age=3600), "notifications-not-read", "in q, for 60 minutes"),
    ],
)
def test_what_nobody_reads(found: Backlog, code: str, said: str) -> None:
    problem = found.problem()
    assert problem.code == code
    assert said in problem.message


def test_a_queue_is_looked_at_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [{"a": (3, 0), "b": (0, 0), "c": (9, 1)}, {"a": (5, 0)}]
    slept: list[float] = []

    def declare(queue: str, passive: bool) -> tuple[str, int, int]:
        assert passive
        return queue, *looks[len(slept)][queue]

    channel = SimpleNamespace(queue_declare=declare)
    connection: Any = SimpleNamespace(channel=lambda: channel)
    monkeypatch.setattr(time, "sleep", slept.append)
    [problem] = rabbit_state.unread(connection, ["a", "b", "c"], "/")
    assert slept == [backlog.MOMENT]
    assert problem.message.startswith("5 notifications wait in a (virtual host '/'), 2")
    assert list(rabbit_state.unread(connection, [], "/")) == []
    assert len(slept) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 seconds"), (90, "90 seconds"), (150, "2 minutes"), (9e5, "10 days")],
)
def test_how_long_notifications_have_waited(seconds: float, text: str) -> None:
    assert backlog.shown(seconds) == text
