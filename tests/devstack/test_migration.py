# SPDX-License-Identifier: Apache-2.0
"""The DevStack plugin where services move from the bus of an earlier stack."""

from __future__ import annotations

import re
import subprocess
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from tests.devstack.conftest import COMPUTE, ROOT, Host

RABBIT = "rabbit://stackrabbit:secretrabbit@127.0.0.1:5672"
NOTIFICATIONS = f"{RABBIT}/?amqp_durable_queues=true"
MOVE = {"HYBRID": "qpid-hybrid", "HYBRID_MIGRATE_FROM": "rabbit"}

# as lib/nova of DevStack asks where messages go
CONFIGURE_NOVA = """
    iniset_rpc_backend nova $DEST/nova.conf
    rpc_backend_add_vhost nova_cell1
    iniset_rpc_backend nova $DEST/nova_cell1.conf DEFAULT nova_cell1
"""


def router(host: Host) -> str:
    port = host.local_conf["HYBRID_ROUTER_PORT"]
    return f"amqp://openstack%40devstack:secretrabbit@127.0.0.1:{port}"


def rpc(host: Host, file: str = "nova.conf") -> tuple[str, str]:
    """The new and the old bus of a service's RPC, as its file has them."""
    url = host.ini(file)["DEFAULT"]["transport_url"]
    (old,) = parse_qs(urlsplit(url).query)["from_url"]
    scheme, new = url.removesuffix(f"from_url={quote(old, safe='')}").split("+", 1)
    assert scheme == "migrate"
    return new[:-1], old


def test_services_use_the_old_bus_and_the_new_one(host: Host) -> None:
    host.stack(CONFIGURE_NOVA, **MOVE)
    assert rpc(host) == (f"{router(host)}/", NOTIFICATIONS)
    cell = NOTIFICATIONS.replace("?", "nova_cell1?")
    assert rpc(host, "nova_cell1.conf") == (f"{router(host)}/nova_cell1", cell)
    notify = host.ini("nova.conf")["oslo_messaging_notifications"]["transport_url"]
    assert notify == NOTIFICATIONS
    assert host.router_runs() and "rabbit" in host.enabled()
    # the old bus has virtual hosts to make
    assert "rabbitmqctl add_vhost nova_cell1" in host.calls()


def test_what_services_use_is_neither_restarted_nor_emptied(host: Host) -> None:
    host.stack()
    port = host.local_conf["HYBRID_ROUTER_PORT"]
    restart = "systemctl restart devstack@hybrid-router.service"
    assert host.calls().count(restart) == 1
    host.stack(
        CONFIGURE_NOVA,
        HYBRID="zmq-hybrid",
        HYBRID_MIGRATE_FROM="qpid-hybrid",
        INSTALLED="rabbitmq-server",
    )
    new, old = rpc(host)
    assert old == f"{router(host)}/" and f":{port}/" in old
    assert new.startswith("zmq://")
    assert host.router_runs() and host.runs("redis")
    assert host.calls().count(restart) == 1
    assert not [call for call in host.calls() if "delete_vhost" in call]
    # one that unstack.sh has stopped comes back as it was
    assert host.run("unstack.sh").returncode == 0
    host.stack()
    assert host.router_runs()
    assert host.calls().count(restart) == 1
    # when all have moved, the next stack has the new bus alone
    host.stack(CONFIGURE_NOVA, HYBRID_MIGRATE_FROM="")
    assert host.units() == ["devstack@hybrid-redis.service"]
    assert host.ini("nova.conf")["DEFAULT"]["transport_url"] == f"{new}"


def left_old_bus(host: Host, file: str) -> str:
    """The URL of a file after what the documentation says it is to be changed with."""
    text = (ROOT / "doc/source/devstack.rst").read_text()
    (program,) = re.findall(r"\$ sudo sed -i -E '(.*)' /etc/", text)
    subprocess.run(["sed", "-i", "-E", program, host.dest / file], check=True)
    return host.ini(file)["DEFAULT"]["transport_url"]


def test_from_rabbitmq_to_a_router_and_back(host: Host) -> None:
    host.stack(CONFIGURE_NOVA, HYBRID="rabbit")
    assert host.ini("nova.conf")["DEFAULT"]["transport_url"] == NOTIFICATIONS
    seen = len(host.calls())
    host.stack(CONFIGURE_NOVA, **MOVE, INSTALLED="rabbitmq-server")
    assert rpc(host) == (f"{router(host)}/", NOTIFICATIONS)
    assert left_old_bus(host, "nova.conf") == f"{router(host)}/"
    # back, with the router that services use as it is
    host.stack(CONFIGURE_NOVA, HYBRID="rabbit", HYBRID_MIGRATE_FROM="qpid-hybrid")
    assert rpc(host) == (NOTIFICATIONS, f"{router(host)}/")
    assert host.router_runs()
    assert left_old_bus(host, "nova.conf") == NOTIFICATIONS
    calls = host.calls()[seen:]
    assert not [call for call in calls if "delete_vhost" in call]
    assert not [call for call in calls if "stop" in call and "rabbitmq" in call]
    restart = "systemctl restart devstack@hybrid-router.service"
    assert calls.count(restart) == 1
    # the next stack has the new bus alone
    host.stack(CONFIGURE_NOVA, HYBRID_MIGRATE_FROM="")
    assert host.ini("nova.conf")["DEFAULT"]["transport_url"] == NOTIFICATIONS
    assert not host.router_runs()


def test_an_engine_that_services_have_not_used_is_emptied(host: Host) -> None:
    host.stack(
        HYBRID="rabbit-kafka",
        HYBRID_MIGRATE_FROM="qpid-kafka",
        INSTALLED="rabbitmq-server",
    )
    assert "rabbitmqctl -q delete_vhost /" in host.calls()


def test_the_way_back_is_to_rabbitmq(host: Host) -> None:
    host.stack()
    host.stack(CONFIGURE_NOVA, HYBRID="rabbit", HYBRID_MIGRATE_FROM="qpid-hybrid")
    # the new URL has a query of its own
    assert rpc(host) == (NOTIFICATIONS, f"{router(host)}/")


def test_the_old_bus_may_be_a_url(host: Host) -> None:
    url = "rabbit://nova:p%40ss@old.example:5672/cloud?amqp_durable_queues=false"
    said = host.stack(CONFIGURE_NOVA, **MOVE | {"HYBRID_MIGRATE_FROM": url})
    assert rpc(host)[1] == url
    assert rpc(host, "nova_cell1.conf")[1] == url.replace("cloud", "nova_cell1")
    assert "OLD at the URL that is given" in said and "p%40ss" not in said


def test_a_compute_node_uses_both_buses_of_the_controller(host: Host) -> None:
    host.stack(CONFIGURE_NOVA, **MOVE, **COMPUTE)
    assert host.units() == []
    assert {urlsplit(url).hostname for url in rpc(host)} == {"192.0.2.1"}


def test_servers_of_the_old_bus_are_found_where_they_were(host: Host) -> None:
    host.stack(CONFIGURE_NOVA, HYBRID="rabbit", HYBRID_MIGRATE_FROM="zmq-hybrid")
    assert rpc(host)[1].startswith("zmq://")
    assert host.ini("nova.conf")["oslo_messaging_zmq"]["rpc_zmq_host"] == "127.0.0.1"


def test_the_end_looks_at_both_buses(host: Host) -> None:
    host.stack(HYBRID_VERIFY="True", **MOVE)
    both, old = (call for call in host.calls() if "smoke --config" in call)
    conf = both.split()[3]
    # servers that listen on both have RPC where the notifications are
    assert both.endswith(f" {conf} --skip separation")
    assert old.endswith(f" {conf} --only call")
    told = host.ini(conf)
    assert told["DEFAULT"]["transport_url"] == NOTIFICATIONS
    assert told["oslo_messaging_migrate"]["restart_timeout"] == "2"


@pytest.mark.parametrize(
    "given", ["rabbit", f"{RABBIT}/".replace("secretrabbit", "p%40ss")]
)
def test_no_password_is_in_a_trace(host: Host, given: str) -> None:
    said = host.stack(
        f"set -x\n{CONFIGURE_NOVA}\nget_transport_url >$DEST/url",
        RABBIT_PASSWORD="p@ss",
        HYBRID="qpid-hybrid",
        HYBRID_MIGRATE_FROM=given,
    )
    assert quote("p%40ss") in (host.dest / "url").read_text()
    assert "+ iniset_rpc_backend" in said
    for secret in ("p@ss", "p%40ss", "p%2540ss"):
        assert secret not in said


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ({"HYBRID_MIGRATE_FROM": "qpid-kafka"}, "has the same RPC as HYBRID="),
        ({"HYBRID_MIGRATE_FROM": "rabit"}, "rabit is no mode for DevStack: choose"),
        ({"HYBRID_MIGRATE_FROM": "external"}, "set it to the URL of the servers"),
        ({"HYBRID_MIGRATE_FROM": "kafka://u:hush@k:9092/"}, "is no URL of amqp://"),
        ({"HYBRID_MIGRATE_FROM": "rabbit-kafka"}, "in the same exchanges"),
        (
            {"HYBRID": "rabbit-dual", "HYBRID_MIGRATE_FROM": "zmq-hybrid"},
            "another mode",
        ),
        ({"HYBRID_MIGRATE_FROM": "qpid"}, "leave HYBRID_MIGRATE_FROM out"),
        ({"HYBRID": "qpid"}, "leave HYBRID_MIGRATE_FROM out"),
        (
            {"HYBRID": "zmq-hybrid", "HYBRID_ZMQ_PROXY": "True"},
            "set that to False until all services have moved",
        ),
        ({"ENABLED_SERVICES": "key,rabbit,trove"}, "disable Trove"),
    ],
)
def test_a_migration_that_cannot_be_is_refused(
    host: Host, wrong: dict[str, str], cure: str
) -> None:
    said = host.refused(**MOVE | wrong)
    assert cure in said
    assert "hush" not in said
