# SPDX-License-Identifier: Apache-2.0
"""What follows from the answers of servers, and from Nova's database.

The answers are given here; tests/functional/test_check.py has real servers.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_service_configs_checks import DRIVERS, WITH_KAFKA, codes, files

from hybrid_messaging import servers as known
from hybrid_messaging import urls
from hybrid_messaging.drivers.amqp.addressing import ROUTERS
from hybrid_messaging.servers.insight import Insight, Look, ServerProblem
from hybrid_messaging.servers.kafka import Kafka
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.servers.transport import ConnectError, Transport
from hybrid_messaging.service_configs import cells, checks, routes
from hybrid_messaging.service_configs.cells import DatabaseUnread, Outdated
from hybrid_messaging.service_configs.checks import Report
from hybrid_messaging.service_configs.interpreter import Environment
from hybrid_messaging.service_configs.problem import Severity
from hybrid_messaging.service_configs.rules import zmq
from hybrid_messaging.service_configs.services import identify

ROUTER = sorted(ROUTERS)[0]


class Servers:
    """What servers answer, by the name of their host."""

    def __init__(self) -> None:
        #: what it is, or why it cannot be used
        self.answers: dict[str, str | ConnectError] = {}
        self.takes_plain: set[str] = set()
        self.differing: dict[str, str] = {}
        self.limits: dict[str, int] = {}
        self.insight = Insight()
        #: what was asked for
        self.connected: list[str] = []
        self.looks: list[Look] = []
        self.tried_plain: list[str] = []
        self.declared: list[tuple[str, list[str], bool]] = []

    def connect(self, host: urls.Host) -> str:
        self.connected.append(host.host)
        answer = self.answers.get(host.host, "")
        if isinstance(answer, ConnectError):
            raise answer
        return answer

    def looked(self, look: Look) -> Insight:
        self.looks.append(look)
        return self.insight

    def plain(self, host: urls.Host) -> bool:
        self.tried_plain.append(host.host)
        return host.host in self.takes_plain

    def declared_otherwise(
        self, rabbit: Rabbit, exchange: str, queues: list[str]
    ) -> dict[str, str]:
        self.declared.append((exchange, queues, rabbit.options.rabbit_quorum_queue))
        return self.differing


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    found = Servers()
    for kind, name, function in (
        (Transport, "connect", lambda _, host, timeout: found.connect(host)),
        (Transport, "takes_plain", lambda _, host, timeout: found.plain(host)),
        (
            Rabbit,
            "declared_otherwise",
            lambda rabbit, host, exchange, queues, timeout: found.declared_otherwise(
                rabbit, exchange, queues
            ),
        ),
        (Transport, "inspect", lambda _, hosts, look: found.looked(look)),
        (Kafka, "limits", lambda kafka, topics, timeout: found.limits),
    ):
        monkeypatch.setattr(kind, name, function)
    return found


def check(
    tmp_path: Path,
    text: str,
    name: str = "cinder.conf",
    drivers: Environment = DRIVERS,
    timeout: float | None = 60.0,
) -> Report:
    path = tmp_path / name
    path.write_text(text)
    [report] = checks.check([[path]], lambda _: drivers, asking(timeout))
    return report


def asking(timeout: float | None) -> routes.Servers | None:
    return None if timeout is None else routes.Servers(timeout)


def unreachable(code: str = "unreachable") -> ConnectError:
    return ConnectError(code, "it does not answer", "start it")


# -- servers -----------------------------------------------------------------


def test_what_only_another_machine_can_ask(tmp_path: Path, servers: Servers) -> None:
    path = tmp_path / "cinder.conf"
    tls = "ssl=1&ssl_ca_file=/its/ca.pem&ssl_cert_file=/its/own.pem"
    for rpc, notify, connected, unseen in (
        (
            "amqp://127.0.0.1,r/",
            "rabbit://b/",
            ["r", "b"],
            "127.0.0.1:5672: a server on that",
        ),
        ("amqp://r/", f"rabbit://b/?{tls}", ["r"], "host: /its/ca.pem, /its/own.pem"),
        ("zmq+static:///?zmq_static_file=/its/s", "rabbit://b/", ["b"], "host: /its/s"),
    ):
        servers.connected.clear()
        path.write_text(files(rpc=rpc, notify=notify))
        [report] = checks.check(
            [[path]], lambda _: DRIVERS, asking(60), machines=["c1"]
        )
        assert report.host == "c1"
        assert servers.connected == connected
        [line] = report.unseen
        assert unseen in line
        assert "unreachable" not in codes(report)


@pytest.mark.parametrize(
    ("product", "delivery", "expected"),
    [
        (ROUTER, "direct", ["notifications-not-stored"]),
        ("a-broker", "queued", []),
        ("", "unknown", ["notifications-maybe-not-stored"]),
    ],
)
def test_what_an_amqp_server_is_decides_whether_it_stores(
    tmp_path: Path, servers: Servers, product: str, delivery: str, expected: list[str]
) -> None:
    servers.answers["b"] = product
    report = check(tmp_path, files(rpc="rabbit://r/", notify="amqp://b/"))
    assert codes(report) == expected
    assert report.notify is not None and report.rpc is not None
    assert report.notify.delivery == delivery
    assert report.notify.engine == (product or known.get(urls.parse("amqp://b")).title)
    # what RabbitMQ is called decides nothing
    servers.answers["r"] = ROUTER
    other = check(tmp_path, files(rpc="rabbit://r/")).rpc
    assert other is not None
    assert (other.engine, other.delivery) == (report.rpc.engine, report.rpc.delivery)


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        ({}, []),
        ({"r1": "unreachable"}, [Severity.WARNING]),
        ({"r1": "wrong-credentials"}, [Severity.ERROR]),
        ({"r1": "unreachable", "r2": "unreachable"}, [Severity.ERROR]),
    ],
)
def test_other_servers_stand_in_for_one_that_is_down(
    tmp_path: Path, servers: Servers, failing: dict[str, str], expected: list[Severity]
) -> None:
    for host, code in failing.items():
        servers.answers[host] = unreachable(code)
    report = check(tmp_path, files(rpc="amqp://r1,r2/"))
    assert [problem.severity for problem in report.problems] == expected
    assert set(codes(report)) <= set(failing.values())
    assert servers.connected[:2] == ["r1", "r2"]


MOVING = urls.moving(urls.parse("amqp://r/"), "rabbit://u:hush@old/v")
MIGRATE = "[oslo_messaging_migrate]\nfrom_url = "


@pytest.mark.parametrize(
    "text",
    [
        files(rpc=str(MOVING)),
        files(rpc="migrate+amqp://r/") + f"{MIGRATE}rabbit://u:hush@old/v\n",
    ],
)
def test_a_service_that_moves_needs_its_old_bus_too(
    tmp_path: Path, servers: Servers, text: str
) -> None:
    servers.answers.update(r=ROUTER, old="RabbitMQ 3.10")
    report = check(tmp_path, text)
    assert report.problems == []
    assert servers.connected == ["r", "old", "b"]
    assert report.rpc is not None and report.rpc.old is not None
    assert (report.rpc.engine, report.rpc.old.engine) != ("RabbitMQ", "RabbitMQ")
    assert report.rpc.old.delivery == "queued"
    servers.answers["old"] = unreachable()
    assert codes(check(tmp_path, text)) == ["unreachable"]


@pytest.mark.parametrize(
    ("rpc", "code"),
    [
        ("migrate+amqp://r/", "bad-url"),
        ("migrate+amqp://r/?from_url=old", "bad-url"),
        ("migrate+amqp://r/?from_url=kafka%3A%2F%2Fold:1", "unfit-transport"),
        ("migrate+amqp://r/?from_url=kombu2%3A%2F%2Fold", "driver-not-importable"),
    ],
)
def test_an_old_bus_that_no_service_could_use(
    tmp_path: Path, rpc: str, code: str
) -> None:
    assert code in codes(check(tmp_path, files(rpc=rpc), timeout=None))


def test_what_is_on_the_old_bus_is_judged_too(tmp_path: Path, servers: Servers) -> None:
    servers.answers.update(r=ROUTER)
    servers.differing = {"exchange openstack": "durable"}
    old = "rabbit://old/?rabbit_quorum_queue=true"
    moving = urls.moving(urls.parse("amqp://r/"), old)
    report = check(tmp_path, files(rpc=str(moving), notify="zmq://b/"))
    assert "not-durable-on-server" in codes(report)
    servers.differing = {"queue notifications.info": "durable"}
    moving = urls.moving(urls.parse("rabbit://b/"), "rabbit://old/")
    report = check(tmp_path, files(notify=str(moving)))
    assert codes(report) == ["not-durable-on-server"] * 2


def test_a_url_without_a_host_leads_to_this_one(
    tmp_path: Path, servers: Servers
) -> None:
    check(tmp_path, files(rpc="amqp://"))
    assert "localhost" in servers.connected
    assert "r" not in servers.connected


def test_each_server_is_connected_to_once_and_that_is_told(
    tmp_path: Path, servers: Servers
) -> None:
    servers.answers["r"] = unreachable()
    told: list[str] = []
    paths = [tmp_path / f"{name}.conf" for name in ("cinder", "neutron")]
    for path in paths:
        path.write_text(files(rpc="amqp://u:hush@r/"))
    asking_ = routes.Servers(60.0, told.append)
    reports = checks.check([[path] for path in paths], lambda _: DRIVERS, asking_)
    assert [codes(report) for report in reports] == [["unreachable"]] * 2
    assert sorted(servers.connected) == ["b", "r"]
    assert told == ["connecting to amqp://u:***@r/", "connecting to rabbit://b/"]


def test_nothing_is_asked_of_servers_without_connections(
    tmp_path: Path, servers: Servers
) -> None:
    assert codes(check(tmp_path, files(), timeout=None)) == []
    assert servers.connected == []


def test_servers_with_tls_are_tried_without_it(
    tmp_path: Path, servers: Servers
) -> None:
    text = files(notify="rabbit://b:5671/?ssl=true&ssl_ca_file=/ca")
    assert codes(check(tmp_path, text)) == []
    assert servers.tried_plain == ["b"]
    servers.takes_plain = {"b"}
    report = check(tmp_path, text)
    assert codes(report) == ["plain-accepted"]
    assert "b:5671" in report.problems[0].message
    # once, for both transports
    servers.tried_plain.clear()
    report = check(tmp_path, files("rabbit://b/x?ssl=true", "rabbit://b/y?ssl=true"))
    assert codes(report).count("plain-accepted") == 2
    assert servers.tried_plain == ["b"]
    # one that is down is not tried
    servers.answers["b"] = unreachable()
    assert "plain-accepted" not in codes(check(tmp_path, text))


def test_the_state_of_servers(tmp_path: Path, servers: Servers) -> None:
    servers.insight = Insight(
        [ServerProblem("server-alarm", "no room", "make some")], ["what nobody tells"]
    )
    report = check(tmp_path, files())
    [problem] = report.problems
    assert (problem.code, problem.cure) == ("server-alarm", "make some")
    assert problem.where == f"{tmp_path}/cinder.conf, line 2"
    assert report.unseen == ("what nobody tells",) * 2
    rpc, notify = servers.looks
    assert rpc.queues == [] and "notifications.error" in notify.queues
    servers.answers = {"r": unreachable(), "b": unreachable()}
    servers.looks.clear()
    assert "server-alarm" not in codes(check(tmp_path, files()))
    assert servers.looks == [], "one that cannot be used is not looked at"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"r", "x"}, {"s", "x"}, ([], [])),
        ({"r"}, {"s"}, (["rpc-elsewhere"], [])),
        ({"r"}, set(), ([], ["rpc-elsewhere"])),
    ],
    ids=["linked", "not linked", "not known"],
)
def test_routers_that_say_whether_they_are_linked(
    tmp_path: Path,
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    one: set[str],
    other: set[str],
    expected: tuple[list[str], list[str]],
) -> None:
    networks = {"r": one, "s": other}
    monkeypatch.setattr(
        Transport,
        "inspect",
        lambda _, hosts, look: Insight(network=networks.get(hosts[0].host, set())),
    )
    paths = [tmp_path / f"{name}.conf" for name in ("cinder", "heat")]
    for path, host in zip(paths, networks, strict=True):
        path.write_text(files(rpc=f"amqp://u:p@{host}/"))
    _, last = checks.check([[path] for path in paths], lambda _: DRIVERS, asking(60))
    notes = [note.code for note in last.notes if note.code != "waits-without-end"]
    assert (codes(last), notes) == expected


# -- queues and topics -------------------------------------------------------


def test_queues_of_former_days(tmp_path: Path, servers: Servers) -> None:
    servers.differing = {"queue notifications.info": "durable"}
    report = check(tmp_path, files())
    assert codes(report) == ["not-durable-on-server"]
    assert report.problems[0].severity is Severity.ERROR
    assert "not durable" in report.problems[0].message
    assert servers.declared == [("openstack", ["notifications.info"], False)]
    # with names and a kind of the service's choice
    text = files().replace("[DEFAULT]", "[DEFAULT]\ncontrol_exchange = own")
    text = text.replace("driver =", "topics = a, b\ndriver =")
    text += "rabbit_quorum_queue = true\n"
    report = check(tmp_path, text)
    assert "not a quorum queue" in report.problems[0].message
    assert servers.declared[1:] == [("own", ["a.info", "b.info"], True)]
    # a service has an exchange of its own
    check(tmp_path, files(), "designate.conf")
    assert servers.declared[2][0] == identify(Path("designate.conf")).exchange
    assert servers.declared[2][0] != "openstack"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [("durable", ["not-durable-on-server"]), ("auto_delete", [])],
)
def test_an_exchange_that_quorum_queues_cannot_use(
    tmp_path: Path, servers: Servers, argument: str, expected: list[str]
) -> None:
    servers.differing = {"exchange openstack": argument}
    text = files(rpc="rabbit://r/?rabbit_quorum_queue=true", notify="amqp://b/")
    servers.answers["b"] = "a-broker"
    assert codes(check(tmp_path, text)) == expected


def test_queues_matter_only_where_rabbitmq_can_be_used(
    tmp_path: Path, servers: Servers
) -> None:
    servers.differing = {"queue notifications.info": "durable"}
    check(tmp_path, files(rpc="rabbit://r/", notify="amqp://b/"))
    servers.answers["b"] = unreachable()
    check(tmp_path, files())
    assert servers.declared == []


def test_durable_queues_that_are_not_asked_for(
    tmp_path: Path, servers: Servers
) -> None:
    servers.differing = {"queue notifications.info": "durable"}
    report = check(tmp_path, files().replace("= true", "= false"))
    assert codes(report) == ["not-durable-on-server", "notifications-not-durable"]
    assert "and is durable: " in report.problems[0].message
    assert "amqp_durable_queues = true" in report.problems[0].cure


def test_a_rabbitmq_that_goes_meanwhile(
    tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def declared_otherwise(*_: object) -> dict[str, str]:
        raise unreachable()

    monkeypatch.setattr(Rabbit, "declared_otherwise", declared_otherwise)
    assert codes(check(tmp_path, files())) == []


def test_topics_that_take_less_than_services_send(
    tmp_path: Path, servers: Servers
) -> None:
    servers.limits = {"notifications.info": 1000, "large.info": 1_000_000}
    text = files(notify="kafka://k:1/")
    report = check(tmp_path, text, drivers=WITH_KAFKA)
    assert codes(report) == ["topic-too-small"]
    assert "topic notifications.info accepts 1000 bytes" in report.problems[0].message
    servers.answers["k"] = unreachable()
    assert codes(check(tmp_path, text, drivers=WITH_KAFKA)) == ["unreachable"]
    servers.answers.clear()
    # brokers of other kinds have none
    assert codes(check(tmp_path, files(), drivers=WITH_KAFKA)) == []


def test_kafka_keeps_what_it_takes(tmp_path: Path, servers: Servers) -> None:
    for notify, durable in (("kafka://k:1/", True), ("amqp://b/", None)):
        report = check(tmp_path, files(notify=notify), drivers=WITH_KAFKA)
        assert report.notify is not None
        assert report.notify.durable is durable


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name not known"), "Name not known"),
        (UnicodeError("label too long"), "it is not a valid name"),
    ],
)
def test_addresses_that_clients_of_zmq_cannot_use(
    tmp_path: Path,
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
) -> None:
    def look_up(*_: Any) -> None:
        raise error

    monkeypatch.setattr(zmq.socket, "getaddrinfo", look_up)
    text = files(rpc="zmq://:hush@127.0.0.1/")
    report = check(tmp_path, text)
    assert "address-unknown" in codes(report)
    [problem] = [item for item in report.problems if item.code == "address-unknown"]
    assert problem.message.endswith(reason)
    assert "address-unknown" not in codes(check(tmp_path, files()))
    monkeypatch.setattr(zmq.socket, "getaddrinfo", lambda *_: [])
    assert "address-unknown" not in codes(check(tmp_path, text))


# -- files alone -------------------------------------------------------------


def test_a_url_that_is_none_is_not_compared(tmp_path: Path) -> None:
    found = codes(check(tmp_path, files(notify="nonsense"), timeout=None))
    assert found == ["bad-url"]
    listen = "[notification]\nmessaging_urls = rabbit://b/\n"
    text = files(notify="nonsense") + listen
    assert codes(check(tmp_path, text, "ceilometer.conf", timeout=None)) == ["bad-url"]


def test_only_ceilometers_agent_listens_where_it_is_told_to(tmp_path: Path) -> None:
    text = files() + "[notification]\nmessaging_urls = rabbit://elsewhere/\n"
    assert codes(check(tmp_path, text, "cinder.conf", timeout=None)) == []


@pytest.mark.parametrize(
    ("driver", "said"),
    [("log", "they go"), ("noop", "it has no driver"), ("", "it has no driver")],
)
def test_what_becomes_of_notifications_that_are_not_published(
    tmp_path: Path, driver: str, said: str
) -> None:
    text = files().replace("driver = messagingv2", f"driver = {driver}")
    report = check(tmp_path, text, timeout=None)
    assert codes(report) == ["no-notification-driver"]
    assert said in report.problems[0].message


def test_the_first_user_of_kafka_is_named(tmp_path: Path) -> None:
    text = files(notify="kafka://k1:1,u:hush@k2:1/")
    report = check(tmp_path, text, drivers=WITH_KAFKA, timeout=None)
    [problem] = [
        item for item in report.problems if item.code == "credentials-not-used"
    ]
    assert "user u and" in problem.message
    assert "[oslo_messaging_kafka] security_protocol" in problem.cure


def test_a_local_address_beside_matchmakers_elsewhere(tmp_path: Path) -> None:
    told = "[oslo_messaging_zmq]\nrpc_zmq_bind_address = 127.0.0.1\n"
    for hosts, is_problem in (("127.0.0.1,m", True), ("127.0.0.1", False)):
        rpc = f"zmq://:hush@{hosts.replace(',', ',:hush@')}/"
        found = codes(check(tmp_path, files(rpc=rpc) + told, timeout=None))
        assert ("local-address" in found) is is_problem


# -- cells of Nova -----------------------------------------------------------

API = "[api_database]\nconnection = sqlite:///api\n"


@pytest.fixture
def nova(tmp_path: Path) -> list[Path]:
    """nova.conf, which names the API database, and the file of a cell."""
    paths = [tmp_path / name for name in ("nova.conf", "nova_cell1.conf")]
    for path, more in zip(paths, (API, ""), strict=True):
        path.write_text(files() + more)
    return paths


def examine(nova: list[Path], timeout: float | None = 60.0) -> list[Report]:
    return checks.check([[path] for path in nova], lambda _: DRIVERS, asking(timeout))


def test_cells_that_are_mapped_elsewhere(
    nova: list[Path], servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[cells.NovaFile]] = []

    def outdated(found: list[cells.NovaFile]) -> list[Outdated]:
        asked.append(found)
        return [Outdated("cell1", "rabbit://old/", "nova-manage now")]

    monkeypatch.setattr(cells, "outdated", outdated)
    cinder = nova[0].with_name("cinder.conf")
    cinder.write_text(files())
    other, main, cell = examine([cinder, *nova])
    assert codes(main) == ["cell-mapping-outdated"]
    assert main.problems[0].cure == "run nova-manage now"
    assert main.problems[0].where == str(nova[0])
    assert codes(other) == codes(cell) == []
    assert [file.path for file in asked[0]] == nova
    # without a connection, or a database, nothing is compared
    assert codes(examine(nova, None)[0]) == []
    assert codes(examine([cinder])[0]) == []
    nova[0].write_text(files())
    assert codes(examine(nova)[0]) == []
    assert len(asked) == 1


def test_a_database_of_cells_that_cannot_be_read(
    nova: list[Path], servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outdated(_: Any) -> list[Outdated]:
        raise DatabaseUnread("it is gone")

    monkeypatch.setattr(cells, "outdated", outdated)
    main, cell = examine(nova)
    assert codes(main) == ["cells-not-read"]
    assert main.problems[0].where == str(nova[0])
    assert "it is gone" in main.problems[0].message
    assert codes(cell) == []
