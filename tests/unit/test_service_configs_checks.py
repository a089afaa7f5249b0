# SPDX-License-Identifier: Apache-2.0
"""What is found wrong with a service's transports by its files alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_messaging import urls
from hybrid_messaging.service_configs import checks
from hybrid_messaging.service_configs.checks import Report
from hybrid_messaging.service_configs.interpreter import Environment
from hybrid_messaging.service_configs.problem import Severity
from hybrid_messaging.service_configs.routes import Servers
from hybrid_messaging.service_configs.settings import NOTIFICATIONS

DRIVERS = Environment(
    {
        "amqp": "",
        "rabbit": "",
        "zmq": "",
        "kafka": "ImportError: no confluent_kafka",
        "fake": "",
    },
    {
        "messagingv2": "",
        "messaging": "",
        "log": "",
        "noop": "",
        "broken": "ImportError",
    },
)
DURABLE = "[oslo_messaging_rabbit]\namqp_durable_queues = true\n"


def check(tmp_path: Path, text: str, name: str = "cinder.conf") -> Report:
    path = tmp_path / name
    path.write_text(text)
    [report] = checks.check([[path]], lambda _: DRIVERS, None)
    return report


def codes(report: Report) -> list[str]:
    return [problem.code for problem in report.problems]


def files(
    rpc: str = "amqp://r/", notify: str = "rabbit://b/", driver: str = "messagingv2"
) -> str:
    return (
        f"[DEFAULT]\ntransport_url = {rpc}\n[{NOTIFICATIONS}]\n"
        f"transport_url = {notify}\ndriver = {driver}\n" + DURABLE
    )


def test_a_sound_service(tmp_path: Path) -> None:
    report = check(tmp_path, files())
    assert report.problems == []
    assert report.service == "cinder"
    assert report.rpc is not None and report.notify is not None
    assert (report.notify.engine, report.notify.delivery) == ("RabbitMQ", "queued")
    assert report.notify.durable is True
    assert report.rpc.delivery == "unknown"
    assert (report.drivers, report.topics) == (("messagingv2",), ("notifications",))


def test_a_single_rabbitmq(tmp_path: Path) -> None:
    report = check(tmp_path, "[DEFAULT]\ntransport_url = rabbit://u:hush@all/x\n")
    assert codes(report) == [
        "no-notification-driver",
        "shared-backend",
        "notifications-not-durable",
    ]
    assert all(problem.severity is Severity.WARNING for problem in report.problems)
    shared = report.problems[1]
    assert "RabbitMQ on all:5672" in shared.message
    assert shared.where == f"{tmp_path}/cinder.conf, line 2"
    assert "hush" not in str(report.problems)


def test_two_virtual_hosts_are_one_backend(tmp_path: Path) -> None:
    report = check(tmp_path, files("rabbit://b/one", "rabbit://B:5672/two"))
    assert codes(report) == ["shared-backend"]


def test_nothing_set_at_all(tmp_path: Path) -> None:
    report = check(tmp_path, "[DEFAULT]\n")
    assert codes(report)[:2] == ["no-notification-driver", "transport-not-set"]
    assert "uses the default, rabbit://" in report.problems[1].message


@pytest.mark.parametrize("name", ["keystone.conf", "glance-api.conf"])
def test_a_service_without_rpc(tmp_path: Path, name: str) -> None:
    text = f"[{NOTIFICATIONS}]\ntransport_url = rabbit://b/\ndriver = messagingv2\n"
    report = check(tmp_path, text + DURABLE, name)
    assert report.rpc is None
    assert report.problems == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (files(notify="amqp://b/"), ["notifications-maybe-not-stored"]),
        (files(notify="zmq://b/"), ["unfit-transport"]),
        (files(rpc="zmq://:p@a,b/"), ["unusable-url"]),
        (files(rpc="zmq+sentinel://:p@a,b/"), []),
        (files(rpc="zmq://r/?rpc_zmq_bind_address=127.0.0.1"), ["local-address"]),
        (files(rpc="zmq://localhost/?rpc_zmq_bind_address=127.0.0.1"), []),
        (files(rpc="zmq://r/?rpc_zmq_bind_address=127.0.0.1&rpc_zmq_host=h"), []),
        (files(rpc="zmq://:p@r/?zmq_target_update=60"), ["registration-expires"]),
        (files(rpc="zmq://r/"), ["no-keys"]),
        (files(rpc="zmq+sentinel://a,b/"), ["no-keys"]),
        (files(rpc="zmq://r/?zmq_key_directory=/k"), []),
        (files(rpc="zmq://r/?plaintext_beyond_loopback=true"), ["plain-text"]),
        (files(rpc="zmq://:p@r/?plaintext_beyond_loopback=true"), ["plain-text"]),
        (
            files(rpc="zmq://r/?plaintext_beyond_loopback=true&zmq_key_directory=/k"),
            [],
        ),
        (files(rpc="kafka://b/"), ["driver-not-importable", "unfit-transport"]),
        (files(notify="rabbit://u:a%2Fb@h/"), ["unusable-url"]),
        (files(notify="rabbit://h/?nonsense=1"), ["bad-url"]),
        (files(rpc="no url"), ["bad-url"]),
        (files(rpc=""), ["bad-url"]),
        (files(driver="noop"), ["no-notification-driver"]),
        (files(driver="log"), ["no-notification-driver"]),
        (files(driver="broken"), ["notification-driver-unknown"] * 1),
        (files(driver="messagingv9"), ["notification-driver-unknown"]),
        (files(driver="log\ndriver = messaging"), []),
        (
            files().replace("amqp_durable_queues = true", ""),
            ["notifications-not-durable"],
        ),
        (files().replace("amqp_durable_queues", "rabbit_quorum_queue"), []),
        (
            files(notify="rabbit://h/?amqp_durable_queues=true").replace(DURABLE, ""),
            [],
        ),
    ],
)
def test_problems(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = codes(check(tmp_path, text))
    if expected == ["notification-driver-unknown"]:
        expected = [*expected, "no-notification-driver"]
    assert found == expected


@pytest.mark.parametrize(
    ("rpc", "encryption"),
    [
        ("zmq://:p@localhost/", "CURVE, keys from the password"),
        ("zmq://:p@r/?zmq_redis_ca_file=/ca", "CURVE, keys from the password"),
        (
            "zmq://:p@r/",
            "CURVE, keys from the password, which is sent to Redis without TLS",
        ),
        ("zmq://:p@r/?zmq_key_directory=/k", "CURVE, keys in /k"),
        ("zmq://:p@r/?plaintext_beyond_loopback=1", "plain text"),
        ("zmq://r/", "no keys"),
        (
            "zmq://:p@localhost/?rpc_zmq_bind_address=::1",
            "plain text, on the loopback interface only",
        ),
        (
            "zmq://:p@localhost/?rpc_zmq_bind_address=::1&zmq_redis_ca_file=/ca",
            "CURVE, keys from the password",
        ),
        (
            "zmq+static:///?zmq_static_file=/f",
            "plain text, on the loopback interface only",
        ),
        ("amqp://r/", None),
    ],
)
def test_how_services_encrypt(tmp_path: Path, rpc: str, encryption: str | None) -> None:
    route = check(tmp_path, files(rpc=rpc)).rpc
    assert route is not None
    assert route.encryption == encryption


def test_why_a_driver_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    report = check(tmp_path, files(notify="kafka://k:9092/"))
    [problem] = report.problems
    assert problem.severity is Severity.ERROR
    assert "ImportError: no confluent_kafka" in problem.message
    assert problem.cure.endswith("pip install oslo.messaging[kafka]")
    assert problem.where == f"{tmp_path}/cinder.conf, line 4"
    assert f"cure: {problem.cure}" in str(problem)


KAFKA = "[oslo_messaging_kafka]\n"
WITH_KAFKA = Environment({**DRIVERS.transport, "kafka": ""}, DRIVERS.notification)


@pytest.mark.parametrize(
    ("notify", "more", "expected"),
    [
        ("kafka://k:1/", "", []),
        ("kafka://u:p@k:1/", "", ["credentials-not-used"]),
        ("kafka://u:p@k:1/", f"{KAFKA}security_protocol = SASL_SSL\n", []),
        ("kafka://u:p@k:1/?security_protocol=SASL_PLAINTEXT", "", []),
        ("kafka://u:p@k:1/", f"{KAFKA}security_protocol = NONE\n", ["unreadable"]),
        ("kafka://k:1/", f"{KAFKA}compression_codec = zip\n", ["unreadable"]),
        ("kafka://k/", "", ["unusable-url"]),
        ("kafka://k:1/?consumer_gruop=a", "", ["bad-url"]),
    ],
)
def test_problems_with_kafka(
    tmp_path: Path, notify: str, more: str, expected: list[str]
) -> None:
    path = tmp_path / "ceilometer.conf"
    path.write_text(files(notify=notify) + more)
    [report] = checks.check([[path]], lambda _: WITH_KAFKA, None)
    assert codes(report) == expected


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ("kafka://k:1/", ["consumer-group-shared"]),
        ("kafka://k:1/?consumer_group=designate", []),
        ("kafka://another:1/", []),
        ("rabbit://k:1/", []),
    ],
)
def test_listeners_take_no_notification_from_each_other(
    tmp_path: Path, other: str, expected: list[str]
) -> None:
    notify = {
        "ceilometer": "kafka://k:1/",
        "cinder": "kafka://k:1/",
        "designate": other,
    }
    paths = [tmp_path / f"{name}.conf" for name in notify]
    for path in paths:
        path.write_text(files(notify=notify[path.stem]))
    *others, last = checks.check([[path] for path in paths], lambda _: WITH_KAFKA, None)
    assert [codes(report) for report in others] == [[], []]
    assert codes(last) == expected
    if expected:
        assert "ceilometer and designate listen in the same group" in str(
            last.problems[0]
        )


@pytest.mark.parametrize(
    ("urls", "found"),
    [
        ({"nova": "amqp://r/", "cinder": "amqp://R:5672/v", "heat": "amqp://r/"}, {}),
        (
            {"trove": "rabbit://b/", "nova": "amqp://r/", "cinder": "amqp://r/"},
            {"trove": "RabbitMQ on b:5672, but RPC of nova, cinder goes to AMQP 1.0"},
        ),
        # one server in common is enough
        ({"nova": "rabbit://a,b/", "cinder": "rabbit://b,c/"}, {}),
        # the first of two that differ is right
        (
            {"nova": "zmq://r/", "cinder": "rabbit://b/"},
            {"cinder": "but RPC of nova goes to ZeroMQ, matched by Redis on r:6379"},
        ),
        # servers are named together by another service
        ({"nova": "rabbit://a,b", "heat": "rabbit://c,d", "zun": "rabbit://b,c"}, {}),
        # cells may differ from Nova's API, and Nova's API from all others
        ({"nova": "amqp://r/", "nova_cell1": "amqp://s/", "heat": "amqp://r/"}, {}),
        (
            {
                "nova": "amqp://r/",
                "nova_cell1": "amqp://s/",
                "heat": "amqp://s/",
                "zun": "amqp://s/",
            },
            {},
        ),
        # but who is alone in a cell is no part of it
        (
            {"cinder": "amqp://s/", "nova": "amqp://r/", "nova_cell1": "amqp://s/"},
            {"cinder": "router or broker on s:5672, but RPC of nova goes to AMQP"},
        ),
        # a service on both buses reaches all, and those on one bus do not each other
        (
            {
                "cinder": "rabbit://b/",
                "nova": "migrate+amqp://r/?from_url=rabbit%3A%2F%2Fb",
                "neutron": "migrate+amqp://r/?from_url=rabbit%3A%2F%2Fb",
            },
            {},
        ),
        (
            {
                "cinder": "rabbit://b/",
                "nova": "migrate+amqp://r/?from_url=rabbit%3A%2F%2Fb",
                "neutron": "amqp://r/",
            },
            {"cinder": "RPC of nova, neutron goes to AMQP"},
        ),
        # no RPC, and none that is set
        ({"nova": "amqp://r/", "keystone": "rabbit://b/", "cinder": ""}, {}),
    ],
)
def test_rpc_of_one_deployment_goes_one_way(
    tmp_path: Path, urls: dict[str, str], found: dict[str, str]
) -> None:
    paths = [tmp_path / f"{name}.conf" for name in urls]
    for path in paths:
        url = urls[path.stem]
        path.write_text(f"[DEFAULT]\ntransport_url = {url}\n" if url else "[DEFAULT]\n")
    for same_rpc, severity in ((False, Severity.WARNING), (True, Severity.ERROR)):
        errors = ["rpc-elsewhere"] if same_rpc else []
        reports = checks.check(
            [[path] for path in paths], lambda _: WITH_KAFKA, None, errors=errors
        )
        problems = {
            report.service: problem
            for report in reports
            for problem in report.problems
            if problem.code == "rpc-elsewhere"
        }
        assert set(problems) == set(found)
        assert not any(report.notes for report in reports)
        for service, problem in problems.items():
            assert problem.severity is severity
            assert found[service] in problem.message
            assert problem.where == f"{tmp_path / service}.conf, line 2"


def test_routers_of_one_cluster_may_be_linked(tmp_path: Path) -> None:
    """As `cluster render` has them: by zone, and at the edge on a host's loopback."""
    account = "services%40hybrid:hush@"
    urls = {
        "cinder": f"amqp://{account}a,{account}b/",
        "heat": f"amqp://{account}c,{account}d/",
        "manila": f"amqp://{account}b/",
        "nova": f"amqp://{account}127.0.0.1/",
        "neutron": "amqp://services%40hybrid:other@e/",
        "zun": f"rabbit://{account}a/",
    }
    paths = [tmp_path / f"{name}.conf" for name in urls]
    for path in paths:
        path.write_text(files(rpc=urls[path.stem]))
    reports = {
        report.service: report
        for report in checks.check(
            [[path] for path in paths],
            lambda _: WITH_KAFKA,
            None,
            errors=["rpc-elsewhere"],
        )
    }
    noted = {
        name: [note.code for note in report.notes] for name, report in reports.items()
    }
    assert noted.pop("heat") == noted.pop("nova") == ["rpc-elsewhere"]
    assert not any(noted.values())
    [note] = reports["heat"].notes
    assert "on c:5672" in note.message and "whether they are linked" in note.message
    for name, report in reports.items():
        assert ("rpc-elsewhere" in codes(report)) == (name in ("neutron", "zun"))


def test_ceilometer_has_to_listen_where_notifications_go(tmp_path: Path) -> None:
    listen = "[notification]\nmessaging_urls = rabbit://old/\n"
    found = check(tmp_path, files() + listen, "ceilometer.conf")
    assert codes(found) == ["consumer-elsewhere"]
    listen += "messaging_urls = rabbit://u:p@b:5672/v\n"
    [problem] = check(tmp_path, files() + listen, "ceilometer.conf").problems
    assert "virtual host 'v' and " in problem.message
    assert "go to RabbitMQ on b:5672, virtual host '/'" in problem.message
    listen += "messaging_urls = rabbit://u:p@b\n"
    assert codes(check(tmp_path, files() + listen, "ceilometer.conf")) == []
    listen = "[notification]\nmessaging_urls = nonsense\n"
    assert codes(check(tmp_path, files() + listen, "ceilometer.conf")) == [
        "consumer-elsewhere"
    ]


def test_a_file_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    bad, good = tmp_path / "nova.conf", tmp_path / "cinder.conf"
    bad.write_text("[DEFAULT]\nsecret\n")
    good.write_text(files())
    first, second = checks.check([[bad], [good]], lambda _: DRIVERS, None)
    assert (first.service, codes(first)) == ("nova", ["unreadable"])
    assert first.problems[0].where == f"{bad}, line 2"
    assert first.rpc is None and first.notify is None
    assert second.problems == []
    [missing] = checks.check([[tmp_path / "none.conf"]], lambda _: DRIVERS, None)
    assert missing.problems[0].where == str(tmp_path / "none.conf")


@pytest.mark.parametrize(
    "text",
    [
        "transport_url = $transport_url",
        "transport_url = $a\na = $b\nb = x$a",
        "transport_url = $DEFAULT.transport_url",
        "transport_url = $a.b.c\n[a.b]\nc = 1",
        "control_exchange = ${control_exchange}",
        f"executor_thread_pool_size = {'9' * 5000}",
        "#" * (3 << 20),
    ],
)
def test_what_oslo_config_fails_on_is_one_row(tmp_path: Path, text: str) -> None:
    bad, good = tmp_path / "nova.conf", tmp_path / "cinder.conf"
    bad.write_text(f"[DEFAULT]\n{text}\n")
    good.write_text(files())
    first, second = checks.check([[bad], [good]], lambda _: DRIVERS, None)
    assert (first.service, codes(first)) == ("nova", ["unreadable"])
    assert first.problems[0].where.startswith(str(bad))
    assert second.problems == []


@pytest.mark.parametrize(
    "url", ["a:hush@h", "rabbit:/a:hush@h", "rabbit://a:hush", "rabbit%3A//a%3Ahush@h"]
)
def test_a_mistyped_url_is_told_without_its_password(tmp_path: Path, url: str) -> None:
    report = check(tmp_path, files(rpc=url, notify=url))
    assert codes(report) == ["bad-url"] * 2
    assert report.rpc is not None
    assert "hush" not in str(report.problems) + urls.shown(report.rpc.text)


@pytest.mark.parametrize("host", ["h..x", "h" * 64, "."])
def test_a_host_that_cannot_be_one_is_not_reached(tmp_path: Path, host: str) -> None:
    path = tmp_path / "cinder.conf"
    for scheme in ("amqp", "rabbit", "zmq"):
        path.write_text(files(rpc=f"{scheme}://{host}/", notify=f"kafka://{host}:1/"))
        [report] = checks.check([[path]], lambda _: DRIVERS, Servers(1.0))
        assert codes(report).count("unreachable") == 2


@pytest.fixture
def open_place(tmp_path: Path) -> Iterator[Path]:
    """A directory that every user can look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_file_that_everybody_can_read(open_place: Path) -> None:
    path = open_place / "cinder.conf"
    path.write_text(files())
    path.chmod(0o644)
    assert "readable-by-all" not in codes(check(open_place, files()))
    secret = files(rpc="amqp://u:hush@r/")
    for text in (secret, files() + "[x]\nadmin_password = hush\n"):
        report = check(open_place, text)
        assert codes(report) == ["readable-by-all"]
        assert str(path) in report.problems[0].message
        assert "hush" not in str(report.problems[0])
    backup = path.with_name(f"cinder.conf.before-hybrid.{'0' * 16}")
    backup.touch(0o644)
    backup.chmod(0o644)
    assert codes(check(open_place, secret)) == ["readable-by-all"] * 2
    path.chmod(0o640)
    backup.chmod(0o640)
    assert codes(check(open_place, secret)) == []
    path.chmod(0o644)
    # nobody else gets there
    open_place.chmod(0o750)
    assert codes(check(open_place, secret)) == []


PROXY = "[DEFAULT]\nbind_port = 8080\n[filter:ceilometer]\nset log_level = WARN\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("url = rabbit://b/?amqp_durable_queues=true\ndriver = messaging\n", []),
        ("url = rabbit://u:p%40$s@b/\n", ["notifications-not-durable"]),
        ("url = zmq://b/\n", ["unfit-transport"]),
        (
            "url = amqp://b/\ndriver = noop\n",
            ["no-notification-driver", "notifications-maybe-not-stored"],
        ),
        ("driver = messaging\n", ["transport-not-set", "notifications-not-durable"]),
    ],
)
def test_swift_with_its_own_kind_of_file(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    report = check(tmp_path, PROXY + text, "proxy-server.conf")
    assert (report.service, report.rpc) == ("swift", None)
    assert codes(report) == expected
    for problem in report.problems:
        assert "oslo_messaging" not in problem.cure, "no section of this file"


def test_swift_tells_where_its_url_stands(tmp_path: Path) -> None:
    text = PROXY + "topic = events\nurl = no url\n"
    report = check(tmp_path, text, "proxy-server.conf")
    assert report.drivers == ("messagingv2",) and report.topics == ("events",)
    assert report.problems[0].where == f"{tmp_path}/proxy-server.conf, line 6"


@pytest.mark.parametrize(
    "made_of",
    [
        "paste.filter_factory = ceilometermiddleware.swift:filter_factory",
        "use = egg:ceilometermiddleware#swift",
    ],
)
def test_swift_may_call_its_middleware_otherwise(tmp_path: Path, made_of: str) -> None:
    text = f"[filter:other]\nuse = egg:swift#x\n[filter:meter]\n{made_of}\n"
    report = check(tmp_path, f"{text}url = zmq://b/\n", "proxy-server.conf")
    assert codes(report) == ["unfit-transport"]
    assert report.problems[0].where == f"{tmp_path}/proxy-server.conf, line 5"


def test_swift_without_its_middleware(tmp_path: Path) -> None:
    report = check(tmp_path, "[DEFAULT]\n", "proxy-server.conf")
    assert "has no [filter:ceilometer]" in report.problems[0].message
