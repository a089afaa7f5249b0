# SPDX-License-Identifier: Apache-2.0
"""What is made of the answers of a cluster's servers."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_messaging.cli.app import main
from hybrid_messaging.cluster import (
    ClusterError,
    certificate_checks,
    checking,
    clock_checks,
    kafka_checks,
    rabbitmq_checks,
    reading,
    redis_checks,
    rendering,
    router_checks,
)
from hybrid_messaging.cluster.credentials import Credentials
from hybrid_messaging.cluster.findings import Access, Finding, Severity
from hybrid_messaging.cluster.rabbitmq_checks import Node
from hybrid_messaging.cluster.router_checks import Router
from hybrid_messaging.cluster.topology import EDGE, Host, Topology
from hybrid_messaging.engines import EngineError, certificates

ROLES = ("interior", "redis", "sentinel", "rabbitmq", "kafka")
NAMES = ("a", "b", "c")
HOSTS = tuple(Host(name, f"192.0.2.{n}", "z", ROLES) for n, name in enumerate(NAMES))
TOPOLOGY = Topology(
    "one", (*HOSTS, Host("e", "192.0.2.9", "z", (EDGE,))), {"z": ()}, rpc="amqp"
)
ACCESS = Access(TOPOLOGY, Credentials().numbering(NAMES), Path("mq"), None, 1.0)


def judged(
    module: Any,
    monkeypatch: pytest.MonkeyPatch,
    answers: Mapping[str, Any],
    check: str = "check",
    ask: str = "_ask",
) -> list[Finding]:
    """What a module finds when its hosts answer so."""
    monkeypatch.setattr(module, ask, lambda access, host: answers[host.name])
    return list(getattr(module, check)(ACCESS, map))


def wrong(found: list[Finding]) -> set[tuple[Severity, str]]:
    return {(one.severity, one.host) for one in found if one.severity.value != "ok"}


def text(found: list[Finding]) -> str:
    return "\n".join(one.message for one in found)


# -- routers -----------------------------------------------------------------------


def router(name: str, **differently: Any) -> Router:
    nodes = frozenset(NAMES)
    usual = Router(name, "skupper-router 3.5.1", nodes, frozenset("e"), nodes, {})
    return usual._replace(**differently)


def routers(**differently: Any) -> dict[str, Any]:
    return {name: router(name) for name in NAMES} | differently


def test_routers_that_know_each_other_are_sound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = judged(router_checks, monkeypatch, routers())
    assert not wrong(found)
    assert "skupper-router 3.5.1, knows 2 others" in text(found)
    assert [one.host for one in found] == ["a", "b", "c", "e"]


def test_routers_that_do_not_know_each_other_are_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = routers(
        a=router(
            "a", nodes=frozenset("ab"), linked=frozenset("b"), said={"c": "refused"}
        ),
        c=router("c", nodes=frozenset("c"), linked=frozenset("ab")),
    )
    found = judged(router_checks, monkeypatch, answers)
    assert wrong(found) == {(Severity.ERROR, "a"), (Severity.ERROR, "c")}
    assert "does not know c, though they run" in text(found)
    assert "look at its links: there is none to c (refused)" in text(found)


def test_a_link_that_lacks_is_a_warning_if_there_is_another_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = routers(
        # what connectors have said last matters no more once there is a link
        a=router("a", linked=frozenset("b"), said={"b": "refused", "c": "refused"}),
        c=router("c", linked=frozenset("b")),
    )
    found = judged(router_checks, monkeypatch, answers)
    assert wrong(found) == {(Severity.WARNING, "a"), (Severity.WARNING, "c")}
    assert "has no link to c (refused); messages take another way" in text(found)
    assert "has no link to a; messages take another way" in text(found)


def test_another_router_at_an_address_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = judged(
        router_checks, monkeypatch, routers(a=router("x", nodes=frozenset("xbc")))
    )
    assert (Severity.ERROR, "a") in wrong(found)
    assert "192.0.2.0 is the router 'x'" in text(found)


def test_a_router_that_the_topology_no_longer_has_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = routers(a=router("a", nodes=frozenset(["a", "b", "c", "old"])))
    found = judged(router_checks, monkeypatch, answers)
    assert wrong(found) == {(Severity.WARNING, "")}
    assert "the topology does not have old, to which its routers are" in text(found)


def test_an_edge_with_one_uplink_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = routers(b=router("b", edges=frozenset()))
    found = judged(router_checks, monkeypatch, answers)
    assert wrong(found) == {(Severity.WARNING, "e")}
    assert "has no uplink to b" in text(found)


def test_routers_that_are_away_and_edges_without_an_uplink_are_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {name: router(name, edges=frozenset()) for name in NAMES}
    found = judged(router_checks, monkeypatch, {**answers, "b": "no answer"})
    assert wrong(found) == {(Severity.ERROR, "b"), (Severity.ERROR, "e")}


class Management:
    """Stands for that of a router."""

    product, version = "skupper-router", "3.5.1"

    def __init__(self, *where: Any) -> None:
        pass

    def __enter__(self) -> Management:
        return self

    def __exit__(self, *what: Any) -> None:
        pass

    def router(self) -> dict[str, Any]:
        return {"id": "a"}

    def nodes(self) -> list[str]:
        return ["a", "b"]

    def connections(self) -> list[dict[str, Any]]:
        roles = {"b": "inter-router", "e": "edge"}
        return [{"container": name, "role": role} for name, role in roles.items()]

    def connectors(self) -> list[dict[str, Any]]:
        states = {"b": "SUCCESS", "c": "CONNECTING"}
        return [
            {"name": name, "connectionStatus": state, "connectionMsg": f"{state}!"}
            for name, state in states.items()
        ]

    def deaf(self) -> list[str]:
        return ["192.0.2.0:5683: Address already in use"]


def test_what_a_router_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_checks, "Management", Management)
    assert router_checks._ask(ACCESS, TOPOLOGY.hosts[0]) == router(
        "a",
        nodes=frozenset("ab"),
        linked=frozenset("b"),
        said={"b": "SUCCESS!", "c": "CONNECTING!"},
        deaf=frozenset(["192.0.2.0:5683: Address already in use"]),
    )


def test_a_router_whose_port_is_taken_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deaf = frozenset(["192.0.2.2:5683: Address already in use"])
    found = judged(router_checks, monkeypatch, routers(c=router("c", deaf=deaf)))
    assert (Severity.ERROR, "c") in wrong(found)
    assert "cannot listen on 192.0.2.2:5683: Address already in use: stop" in text(
        found
    )


def test_a_router_that_tells_no_nodes_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Embedded(Management):
        def nodes(self) -> list[str]:
            raise EngineError("does not list its nodes")

    monkeypatch.setattr(router_checks, "Management", Embedded)
    found = list(router_checks.check(ACCESS, map))
    assert "does not list its nodes" in text(found)
    assert len(wrong(found)) == 3


# -- Redis -------------------------------------------------------------------------

REPLICA = {
    "role": "slave",
    "master_host": "192.0.2.0",
    "master_link_status": "up",
    "redis_version": "7.0.15",
}
MASTER = {
    "role": "master",
    "redis_version": "7.0.15",
    "connected_slaves": 2,
    "slave0": {"state": "online"},
    "slave1": {"state": "online"},
}


def sentinel(
    address: str = "192.0.2.0", others: int = 2, flags: str = "master"
) -> dict:
    return {"ip": address, "num-other-sentinels": others, "flags": flags}


@pytest.mark.parametrize(
    ("answers", "expected", "said"),
    [
        ({}, set(), "master, all in sync"),
        ({"a": "gone"}, {"a", ""}, "no Redis that can be reached is the master"),
        ({"b": MASTER}, {""}, "a, b each claim to be the master"),
        ({"c": {**REPLICA, "master_link_status": "down"}}, {"c"}, "without a conn"),
        ({"a": {**MASTER, "slave1": {"state": "sync"}}}, {"a"}, "1 of 2 replicas"),
        ({"a": {**MASTER, "slave1": {"state": "online", "lag": 9}}}, {"a"}, "1 of 2"),
        ({"c": {**REPLICA, "redis_version": "8.0"}}, {""}, "c has 8.0: finish"),
    ],
)
def test_redis_has_one_master_with_replicas_in_sync(
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, Any],
    expected: set[str],
    said: str,
) -> None:
    usual = {"a": MASTER, "b": REPLICA, "c": REPLICA}
    found = judged(redis_checks, monkeypatch, usual | answers)
    assert {host for _, host in wrong(found)} == expected
    assert said in text(found)


@pytest.mark.parametrize(
    ("answers", "expected", "said"),
    [
        ({}, set(), "the master is a"),
        ({"b": sentinel("192.0.2.2")}, {""}, "name different masters: a a, b c, c a"),
        ({"b": sentinel(others=1)}, {"b"}, "knows 1 of 2"),
        ({"b": sentinel(flags="master,s_down")}, {"b"}, "considers the master a lost"),
        ({"a": "gone", "b": "gone"}, {"a", "b", ""}, "1 of 3 Sentinels answer"),
    ],
)
def test_sentinels_agree_on_the_master(
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, Any],
    expected: set[str],
    said: str,
) -> None:
    usual = {name: sentinel() for name in NAMES}
    found = judged(
        redis_checks, monkeypatch, usual | answers, "check_sentinels", "_ask_sentinel"
    )
    assert {host for _, host in wrong(found)} == expected
    assert said in text(found)


# -- RabbitMQ and Kafka ------------------------------------------------------------


def rabbit(
    nodes: str = "abc", queues: tuple[dict[str, Any], ...] = (), **own: Any
) -> Node:
    rows = [{"name": f"{n}@{n}", "running": True, **own} for n in nodes]
    return Node("4.3.6", "one", rows, list(queues))


@pytest.mark.parametrize(
    ("answer", "severity", "said"),
    [
        (rabbit(), None, "RabbitMQ 4.3.6, in the cluster one"),
        (rabbit("a"), Severity.ERROR, "is in no cluster with b, c"),
        (rabbit(running=False), Severity.ERROR, "not running"),
        (rabbit(partitions=["b@b"]), Severity.ERROR, "was cut off from b@b"),
        (rabbit(mem_alarm=True), Severity.ERROR, "too little memory"),
        (
            rabbit(queues=({"name": "q", "durable": True, "type": "classic"},)),
            Severity.WARNING,
            "rabbit_quorum_queue = true",
        ),
        (
            rabbit(
                queues=(
                    {
                        "name": "q",
                        "durable": True,
                        "type": "quorum",
                        "members": ["a", "b"],
                        "online": ["a"],
                    },
                )
            ),
            Severity.WARNING,
            "queues q lack copies",
        ),
    ],
)
def test_rabbitmq_is_one_cluster_with_all_copies(
    monkeypatch: pytest.MonkeyPatch,
    answer: Node,
    severity: Severity | None,
    said: str,
) -> None:
    found = judged(rabbitmq_checks, monkeypatch, dict.fromkeys(NAMES, answer))
    assert {kind for kind, _ in wrong(found)} == ({severity} if severity else set())
    assert said in text(found)


def broker(cluster: str, brokers: str = "123", isrs: int = 3, replicas: int = 3) -> Any:
    partition = SimpleNamespace(isrs=[0] * isrs, replicas=[0] * replicas)
    return SimpleNamespace(
        cluster_id=cluster,
        brokers={int(number): None for number in brokers},
        topics={"t": SimpleNamespace(partitions={0: partition})},
    )


@pytest.mark.parametrize(
    ("how", "severity", "said"),
    [
        ({}, None, "knows all 3 brokers"),
        ({"brokers": "12"}, Severity.ERROR, "knows no running c"),
        ({"cluster": "other"}, Severity.ERROR, "belongs to the cluster other"),
        ({"isrs": 2}, Severity.WARNING, "topics t have replicas that are not in sync"),
        ({"isrs": 1, "replicas": 1}, Severity.WARNING, "have fewer than 3 replicas"),
    ],
)
def test_kafka_is_one_cluster_with_all_copies(
    monkeypatch: pytest.MonkeyPatch,
    how: dict[str, Any],
    severity: Severity | None,
    said: str,
) -> None:
    answer = broker(**{"cluster": ACCESS.secrets.kafka_cluster, **how})
    found = judged(kafka_checks, monkeypatch, dict.fromkeys(NAMES, answer))
    assert {kind for kind, _ in wrong(found)} == ({severity} if severity else set())
    assert said in text(found)


def test_a_host_that_has_not_been_rendered_is_no_broker_yet() -> None:
    access = replace(ACCESS, secrets=Credentials().numbering("ab"))
    with pytest.raises(
        ClusterError, match=r"^c is not numbered .*: render the cluster"
    ):
        list(kafka_checks.check(access, map))


@contextlib.contextmanager
def management(
    answer: Callable[[http.server.BaseHTTPRequestHandler], None],
) -> Iterator[tuple[Access, Host]]:
    """A host with RabbitMQ's management, as far as headers go, and access to it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = Host("a", "127.0.0.1", "z", ("rabbitmq",))
        ports = {"rabbitmq-management": server.server_port}
        topology = Topology("one", (host,), {"z": ()}, ports=ports)
        try:
            yield replace(ACCESS, topology=topology), host
        finally:
            server.shutdown()


def test_the_password_of_the_monitor_goes_nowhere_else() -> None:
    asked: list[str] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        request.send_response(302)
        request.send_header("Location", "/elsewhere")

    with management(answer) as (access, _):
        [found] = rabbitmq_checks.check(access, map)
    assert "HTTP Error 302" in found.message
    assert asked == ["/api/overview"]


def test_what_the_system_says_of_a_management_is_shown_as_it_says_it() -> None:
    with management(lambda request: None) as (access, _):
        pass
    [found] = rabbitmq_checks.check(access, map)
    assert found.message.endswith(" fails: Connection refused: start its RabbitMQ")


# -- the exit code ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severities", "code"),
    [
        ([Severity.OK], 0),
        ([Severity.WARNING, Severity.ERROR], 1),
        ([Severity.OK, Severity.WARNING], 3),
    ],
)
def test_the_exit_code_says_how_bad_it_is(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    severities: list[Severity],
    code: int,
) -> None:
    found = [Finding(severity, "kafka", "a", "x") for severity in severities]
    monkeypatch.setattr(checking, "check", lambda *_: found)
    monkeypatch.setattr(reading, "read", lambda path: TOPOLOGY)
    assert main(["cluster", "check", str(tmp_path / "mq.yaml")]) == code


# -- certificates, and the whole ---------------------------------------------------


@pytest.mark.parametrize(
    ("days", "severity"),
    [(-1, Severity.ERROR), (10, Severity.WARNING), (100, None), (None, None)],
)
def test_certificates_that_end_are_told_in_time(
    monkeypatch: pytest.MonkeyPatch, days: int | None, severity: Severity | None
) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    end = None if days is None else now + datetime.timedelta(days=days)
    monkeypatch.setattr(certificate_checks, "_end", lambda access, place: end)
    found = list(certificate_checks.check(ACCESS, map))
    assert {one.severity for one in found} == ({severity} if severity else set())


def test_the_certificates_of_all_ports_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    old, new = (now + datetime.timedelta(days=days) for days in (10, 100))

    def end(access: Access, place: Any) -> datetime.datetime | None:
        late = ("router-links", "router-edge", "rabbitmq-management")
        return old if place.host.name == "b" and place.purpose in late else new

    monkeypatch.setattr(certificate_checks, "_end", end)
    found = list(certificate_checks.check(ACCESS, map))
    assert wrong(found) == {(Severity.WARNING, "b")}
    assert {one.role: one.message.partition(" ends")[0] for one in found} == {
        "interior": "the certificate of router-edge, router-links",
        "rabbitmq": "the certificate of rabbitmq-management",
    }


def test_of_an_edge_the_rendered_certificate_is_looked_at(tmp_path: Path) -> None:
    (edge,) = TOPOLOGY.having(EDGE)
    authority = certificates.new_authority()
    path = tmp_path / rendering.certificate(edge)
    path.parent.mkdir(parents=True)
    path.write_bytes(authority.issue(["e"]))
    access = replace(
        ACCESS, directory=tmp_path, topology=replace(TOPOLOGY, hosts=(edge,))
    )
    assert list(certificate_checks.check(access, map)) == []
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(certificates, "MARGIN", datetime.timedelta(days=100_000))
        found = list(certificate_checks.check(access, map))
    assert wrong(found) == {(Severity.WARNING, "e")}


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        ({"a": 3600.0, "b": 3600.5, "c": 3599.0}, []),
        ({"a": 0.0, "b": 0.0, "c": 7.0}, ["c: its clock is 7 s ahead of"]),
        ({"a": 0.0, "b": -60.0, "c": None}, ["a: its clock is 60 s ahead of"]),
        (dict.fromkeys(NAMES), []),
    ],
)
def test_clocks_that_differ_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
    ahead: dict[str, float | None],
    said: list[str],
) -> None:
    monkeypatch.setattr(
        clock_checks, "_ahead", lambda access, host, role: ahead[host.name]
    )
    found = list(clock_checks.check(ACCESS, map))
    assert {severity for severity, _ in wrong(found)} <= {Severity.WARNING}
    assert [
        f"{one.host}: {one.message}"[: len(start)]
        for one, start in zip(found, said, strict=True)
    ] == said


def test_the_time_at_a_server_is_known_by_its_answer() -> None:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response_only(200)
        request.send_header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")

    with management(answer) as (access, host):
        assert rabbitmq_checks.time_of(access, host) == 784111777
    assert rabbitmq_checks.time_of(access, host) is None


def test_what_was_not_rendered_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="render the cluster first"):
        checking.check(TOPOLOGY, tmp_path, 1)
