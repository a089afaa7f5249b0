# SPDX-License-Identifier: Apache-2.0
"""Messages that go elsewhere than by a service's two transports are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_messaging import urls
from hybrid_messaging.service_configs import rewriting, routes, strays
from hybrid_messaging.service_configs.interpreter import Environment
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.reading import load
from hybrid_messaging.service_configs.rewriting import Target
from hybrid_messaging.service_configs.rules import RULES
from hybrid_messaging.service_configs.rules import strays as rules
from hybrid_messaging.service_configs.transports import Transports

TRANSPORTS = Transports(
    urls.parse("amqp://router/"), urls.parse("rabbit://u:hush@broker/")
)


def config(
    rpc: str = "amqp://router/",
    notify: str = "rabbit://u:hush@broker/",
    more: str = "",
) -> str:
    return (
        f"[DEFAULT]\ntransport_url = {rpc}\n[oslo_messaging_notifications]\n"
        f"transport_url = {notify}\ndriver = messagingv2\n{more}"
    )


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found(path: Path) -> dict[str, Problem]:
    config = load([path])
    used = routes.of(config, Environment({}, {}), None)
    return {
        problem.code: problem
        for rule in RULES
        if rule.__module__ == rules.__name__
        for problem in rule(config, used)
    }


def warned(path: Path) -> str:
    plan = rewriting.plan([Target(path)], TRANSPORTS)
    return "\n".join(rewriting.warnings(plan[0], plan))


LISTENING = "[keystone_notifications]\nenable = true\n"


@pytest.mark.parametrize(
    ("name", "more", "part"),
    [
        ("barbican", LISTENING, "its listener for Keystone's notifications listens"),
        ("mistral", "", "its event engine listens"),
        ("magnum", "", "its notifier publishes"),
        ("venus", "", "its notifier publishes"),
    ],
)
def test_notifications_over_the_transport_of_rpc(
    tmp_path: Path, name: str, more: str, part: str
) -> None:
    path = put(tmp_path / f"{name}.conf", config(more=more))
    problem = found(path)["notifications-over-rpc"]
    assert problem.severity is Severity.ERROR
    assert part in problem.message and "router" in problem.message
    assert problem.where == f"{path}, line 2"
    assert f"uses the transport of notifications, because {part}" in warned(path)
    [plan] = rewriting.plan([Target(path, "mine")], TRANSPORTS)
    assert str(plan.rpc) == plan.after.value("DEFAULT", "transport_url")
    assert str(plan.rpc) == str(TRANSPORTS.notify)
    put(path, plan.data.decode())
    assert found(path) == {}
    # on another virtual host, they do not meet
    put(path, config(rpc="rabbit://broker/rpc", more=more))
    assert set(found(path)) == {"notifications-over-rpc"}


def test_rpc_that_cannot_go_with_notifications(tmp_path: Path) -> None:
    path = put(tmp_path / "mistral.conf", config())
    transports = Transports(TRANSPORTS.rpc, urls.parse("kafka://broker/"))
    [plan] = rewriting.plan([Target(path)], transports)
    assert plan.rpc == TRANSPORTS.rpc
    assert "it receives none" in "".join(rewriting.warnings(plan, [plan]))


def test_what_is_switched_off_is_no_problem(tmp_path: Path) -> None:
    path = put(tmp_path / "barbican.conf", config())
    assert found(path) == {}
    assert "its listener" not in warned(path)
    silent = config().replace("messagingv2", "noop")
    assert found(put(tmp_path / "magnum.conf", silent)) == {}


@pytest.mark.parametrize(
    ("other", "code", "severity"),
    [
        ("neutron/dhcp_agent.ini", "overridden", Severity.ERROR),
        ("neutron/conf.d/neutron-server/x.conf", "overridden", Severity.ERROR),
        ("neutron/mine.ini", "overridden", Severity.WARNING),
    ],
)
def test_a_file_that_overrides_is_named(
    tmp_path: Path, other: str, code: str, severity: Severity
) -> None:
    main = put(tmp_path / "neutron/neutron.conf", config())
    file = put(tmp_path / other, "[DEFAULT]\ntransport_url = rabbit://u:hush@old/\n")
    assert str(file) in warned(main)
    problem = found(main)[code]
    assert (problem.severity, problem.where) == (severity, f"{file}, line 2")
    assert "'/'" in problem.message and "hush" not in str(problem)
    # the same bus, by another URL
    put(file, "[DEFAULT]\ntransport_url = amqp://router:5672\n")
    assert found(main) == {}


def test_a_directory_has_the_last_word(tmp_path: Path) -> None:
    """The directory of the main file is read after all files."""
    main = put(tmp_path / "nova/nova.conf", config())
    put(tmp_path / "nova/nova-compute.conf", config("rabbit://old/", "rabbit://old/"))
    assert "overridden" in found(main)
    put(tmp_path / "nova/nova.conf.d/1.conf", config())
    assert found(main) == {}


def test_programs_of_cells_may_have_virtual_hosts(tmp_path: Path) -> None:
    main = put(tmp_path / "nova/nova.conf", config())
    cell = "[DEFAULT]\ntransport_url = amqp://router/cell1\n"
    put(tmp_path / "nova/nova-conductor.conf", cell)
    assert found(main) == {}


def test_a_damaged_file_of_an_agent(tmp_path: Path) -> None:
    main = put(tmp_path / "neutron/neutron.conf", config())
    text = "[DEFAULT]\ntransport_url = rabbit://$mine/\n"
    file = put(tmp_path / "neutron/dhcp_agent.ini", text)
    problem = found(main)["unreadable"]
    assert problem.where == f"{file}, line 2"
    file.rename(file.with_name("unknown.ini"))
    assert found(main) == {}


def audit(url: str) -> str:
    return f"[audit_middleware_notifications]\ntransport_url = {url}\n"


def test_the_audit_middleware_goes_with_the_others(tmp_path: Path) -> None:
    path = put(tmp_path / "octavia.conf", config(more=audit("rabbit://u:hush@old/a")))
    problem = found(path)["notifications-elsewhere"]
    assert problem.where == f"{path}, line 7"
    assert "old:5672, virtual host 'a'" in problem.message
    assert "hush" not in str(problem)
    [plan] = rewriting.plan([Target(path)], TRANSPORTS)
    value = plan.after.value(*strays.AUDIT)
    assert value == plan.after.value("oslo_messaging_notifications", "transport_url")
    assert "move its consumers" in warned(path)
    path.write_bytes(plan.data)
    assert found(path) == {}
    assert warned(path) == ""
    # without a URL of its own, it has that of the service
    path = put(tmp_path / "manila.conf", config(more=audit("")))
    assert found(path) == {}
    [plan] = rewriting.plan([Target(path)], TRANSPORTS)
    assert not plan.after.value(*strays.AUDIT)


@pytest.mark.parametrize(
    ("publisher", "there"),
    [
        ("notifier://u:p@old:5672/v?topic=alarm.all", "old:5672, virtual host 'v'"),
        ("notifier://old:9092?driver=kafka&topic=x", "Kafka on old:9092"),
    ],
)
def test_a_pipeline_of_ceilometer(tmp_path: Path, publisher: str, there: str) -> None:
    path = put(tmp_path / "ceilometer.conf", config())
    file = put(
        tmp_path / "event_pipeline.yaml",
        "sinks:\n  - publishers:\n    - notifier://?topic=alarm.all\n"
        f"    # - notifier://nobody/\n    - {publisher}\n",
    )
    problem = found(path)["notifications-elsewhere"]
    assert problem.where == f"{file}, line 5"
    assert there in problem.message
    assert f"{file}, line 5" in warned(path)
    put(file, "    - notifier://broker:5672/\n    - gnocchi://\n")
    assert found(path) == {}


@pytest.mark.parametrize(
    ("made_of", "key"),
    [
        (
            "paste.filter_factory = keystonemiddleware.audit:filter_factory",
            "transport_url",
        ),
        ("use = egg:keystonemiddleware#audit", "transport_url"),
        (
            "paste.filter_factory = "
            "oslo_messaging.notify.middleware:RequestNotifier.factory",
            "url",
        ),
    ],
)
def test_middleware_in_a_paste_file(tmp_path: Path, made_of: str, key: str) -> None:
    path = put(tmp_path / "cinder.conf", config())
    text = f"[filter:mine]\n{made_of}\n"
    file = put(tmp_path / "api-paste.ini", text)
    assert found(path) == {}
    put(file, f"{text}{key} = rabbit://old/\n")
    problem = found(path)["notifications-elsewhere"]
    assert problem.where == f"{file}, line 3"
    assert "the middleware of [filter:mine]" in problem.message
    assert f"{file}, line 3" in warned(path)


@pytest.mark.parametrize(
    ("rpc", "more", "ends"),
    [
        ("amqp://router/", "", True),
        ("rabbit://router/", "", False),
        ("amqp://router/", "[oslo_messaging_rabbit]\namqp_auto_delete = true\n", False),
    ],
)
def test_the_agent_of_bare_metal(
    tmp_path: Path, rpc: str, more: str, ends: bool
) -> None:
    path = put(tmp_path / "neutron.conf", config(rpc))
    assert found(path) == {}
    agent = put(tmp_path / "plugins/ml2/ironic_neutron_agent.ini", more)
    problems = found(path)
    assert set(problems) == ({"agent-changes-url"} if ends else set())
    assert not ends or str(agent) in problems["agent-changes-url"].cure


def test_quotes_within_a_list(tmp_path: Path) -> None:
    topics = "topics = 'notifications','notifications_h1'\n"
    path = put(tmp_path / "nova.conf", config(more=topics))
    problem = found(path)["quoted-list"]
    assert "notifications', 'notifications_h1" in problem.message
    assert problem.where == f"{path}, line 6"
    put(path, config(more="topics = 'notifications,other'\n"))
    assert found(path) == {}


def test_what_only_the_service_knows_is_not_checked(tmp_path: Path) -> None:
    path = put(tmp_path / "nova.conf", config(notify="rabbit://u:hush@$my_ip/"))
    problem = found(path)["not-checked"]
    assert problem.severity is Severity.WARNING
    assert (problem.where, "$my_ip" in problem.message) == (f"{path}, line 4", True)


def test_guests_of_trove(tmp_path: Path) -> None:
    path = put(tmp_path / "trove-guestagent.conf", config())
    assert "the driver for RPC in their images" in warned(path)


@pytest.mark.parametrize(
    ("rpc", "severity"),
    [
        ("rabbit://u:p@old/", Severity.ERROR),
        ("amqp://router/v", Severity.ERROR),
        # seen from their network
        ("amqp://172.24.4.1/", Severity.WARNING),
        ("amqp://router/", None),
    ],
)
def test_guests_of_trove_may_know_other_addresses(
    tmp_path: Path, rpc: str, severity: Severity | None
) -> None:
    path = put(tmp_path / "trove.conf", config())
    text = f"[DEFAULT]\ntransport_url = {rpc}\n"
    put(tmp_path / "trove-guestagent.conf", text)
    assert [problem.severity for problem in found(path).values()] == (
        [severity] if severity else []
    )
