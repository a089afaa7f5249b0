# SPDX-License-Identifier: Apache-2.0
"""The DevStack plugin: phases, files, engines, refusals."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.devstack.conftest import COMPUTE, ROOT, Host, listens

from hybrid_messaging import modes
from hybrid_messaging.engines import EngineError
from hybrid_messaging.engines.amqp_management import Management
from hybrid_messaging.service_configs.catalogue import SERVICES

#: Modes that need nothing but engines of this machine.
MODES = (
    "qpid-hybrid",
    "qpid-kafka",
    "qpid-dual",
    "qpid",
    "zmq-hybrid",
    "zmq-kafka",
    "rabbit-kafka",
    "rabbit-dual",
    "rabbit",
)
EXTERNAL = {
    "HYBRID": "external",
    "HYBRID_RPC_URL": "amqp://nova:hush@router.example:5672/",
    "HYBRID_NOTIFY_URL": "rabbit://nova:hush@rabbit.example:5672/",
}
RABBIT = "rabbit://stackrabbit:secretrabbit@127.0.0.1:5672"
NOTIFICATIONS = "oslo_messaging_notifications"

# as lib/cinder and lib/nova of DevStack ask where messages go
CONFIGURE_CINDER = """
    iniset_rpc_backend cinder $DEST/cinder.conf
"""
CONFIGURE_NOVA = """
    iniset $DEST/nova.conf oslo_messaging_notifications driver messagingv2
    iniset $DEST/nova.conf oslo_messaging_notifications transport_url $(
        get_notification_url)
    iniset_rpc_backend nova $DEST/nova.conf
    rpc_backend_add_vhost nova_cell1
    iniset_rpc_backend nova $DEST/nova_cell1.conf DEFAULT nova_cell1
"""
# and lib/keystone, lib/swift, and plugins
CONFIGURE_OTHERS = """
    iniset_rpc_backend keystone $DEST/keystone.conf oslo_messaging_notifications
    iniset $DEST/swift.conf filter:ceilometer url $(get_notification_url)
    iniset $DEST/other.conf DEFAULT transport_url $(get_transport_url)
"""


def router(host: Host) -> str:
    port = host.local_conf["HYBRID_ROUTER_PORT"]
    return f"amqp://openstack%40devstack:secretrabbit@127.0.0.1:{port}"


def urls(host: Host, file: str) -> tuple[str | None, str]:
    """RPC and notifications as a service's file has them."""
    found = host.ini(file)
    assert found[NOTIFICATIONS]["driver"] == "messagingv2"
    return (
        found.get("DEFAULT", {}).get("transport_url"),
        found[NOTIFICATIONS]["transport_url"],
    )


# -- what services get ---------------------------------------------------------


def test_qpid_hybrid_separates_rpc_from_notifications(host: Host) -> None:
    host.stack(CONFIGURE_CINDER + CONFIGURE_NOVA + CONFIGURE_OTHERS)
    notify = f"{RABBIT}/?amqp_durable_queues=true"
    # keystone gives the section of the notifications, which is not RPC's
    assert urls(host, "keystone.conf") == (None, notify)
    for file in ("cinder.conf", "nova.conf"):
        assert urls(host, file) == (f"{router(host)}/", notify)
    # cells have RPC of their own, and notifications where consumers look
    assert urls(host, "nova_cell1.conf") == (f"{router(host)}/nova_cell1", notify)
    assert host.ini("swift.conf")["filter:ceilometer"]["url"] == notify
    assert host.ini("other.conf")["DEFAULT"]["transport_url"] == f"{router(host)}/"
    # a router has no virtual hosts to make
    assert not [call for call in host.calls() if "nova_cell1" in call]


def test_telemetry_is_where_notifications_are(host: Host) -> None:
    host.stack(
        """
        mkdir -p $DEST/etc/ceilometer $DEST/etc/swift
        iniset_rpc_backend ceilometer $DEST/etc/ceilometer/ceilometer.conf
        iniset $DEST/etc/swift/proxy-server.conf filter:ceilometer url $(
            get_notification_url)
        hybrid-messaging check --no-connect --discover $DEST/etc -f json \\
            >$DEST/checked
        """
    )
    checked = json.loads((host.dest / "checked").read_text())
    notify = f"{RABBIT}/?amqp_durable_queues=true".replace("secretrabbit", "***")
    assert {item["service"]: item["notifications"]["url"] for item in checked} == {
        "ceilometer": notify,
        "swift": notify,
    }


def test_rabbit_is_one_broker_with_virtual_hosts_for_cells(host: Host) -> None:
    host.stack(CONFIGURE_NOVA, HYBRID="rabbit")
    both = f"{RABBIT}/?amqp_durable_queues=true"
    assert urls(host, "nova.conf") == (both, both)
    cell = f"{RABBIT}/nova_cell1?amqp_durable_queues=true"
    assert urls(host, "nova_cell1.conf") == (cell, both)
    assert "rabbitmqctl add_vhost nova_cell1" in host.calls()
    grant = "rabbitmqctl set_permissions -p nova_cell1 stackrabbit .* .* .*"
    assert grant in host.calls()


def test_rabbit_dual_has_a_second_broker_for_notifications(host: Host) -> None:
    port = int(host.local_conf["HYBRID_RABBITMQ_NOTIFY_PORT"])
    host.stack(
        CONFIGURE_NOVA, HYBRID="rabbit-dual", HYBRID_RABBITMQ_NOTIFY_PASSWORD="hush"
    )
    rpc, notify = urls(host, "nova_cell1.conf")
    assert rpc == f"{RABBIT}/nova_cell1"
    address = f"rabbit://stackrabbit:hush@127.0.0.1:{port}"
    assert notify == f"{address}/?amqp_durable_queues=true"
    (unit,) = host.units()
    assert unit == "devstack@hybrid-rabbitmq_notify.service"
    service = host.ini(f"units/{unit}")["Service"]
    assert service["KillMode"] == "control-group", "epmd outlives its node"
    directory = Path(service["WorkingDirectory"])
    assert service["EnvironmentFile"] == f"-{directory}/environment"
    assert "RABBITMQ_NODENAME" in (directory / "environment").read_text()
    config = (directory / "rabbitmq.conf").read_text()
    assert f"listeners.tcp.local = 0.0.0.0:{port}\n" in config
    assert listens(port)
    host.stack(HYBRID="rabbit")
    assert not listens(port)
    assert host.units() == []


def kafka(host: Host) -> str:
    port = host.local_conf["HYBRID_KAFKA_PORT"]
    address = f"kafka://openstack:secretrabbit@127.0.0.1:{port}"
    return f"{address}/?security_protocol=SASL_PLAINTEXT"


def broker(host: Host) -> str:
    port = host.local_conf["HYBRID_BROKER_PORT"]
    return f"amqp://openstack:secretrabbit@127.0.0.1:{port}"


@pytest.mark.parametrize("mode", ["qpid-kafka", "rabbit-kafka"])
def test_notifications_in_kafka(host: Host, mode: str) -> None:
    host.stack(CONFIGURE_NOVA, HYBRID=mode)
    rpc = router(host) if mode == "qpid-kafka" else RABBIT
    assert urls(host, "nova.conf") == (f"{rpc}/", kafka(host))
    assert urls(host, "nova_cell1.conf") == (f"{rpc}/nova_cell1", kafka(host))
    assert ("rabbit" in host.enabled()) is (mode == "rabbit-kafka")
    calls = host.calls()
    wanted = [
        # the oldest that the distribution has, of those that are new enough
        "install_package openjdk-21-jre-headless",
        # all services need its client
        f"setup_develop {ROOT} kafka",
        "hybrid-messaging fetch kafka --source apache",
        "systemctl restart devstack@hybrid-kafka.service",
    ]
    assert [call for call in calls if call in wanted] == wanted
    (setup,) = (call for call in calls if "engine setup kafka" in call)
    assert f"--port {host.local_conf['HYBRID_KAFKA_PORT']} --user openstack" in setup
    (unit,) = (unit for unit in host.units() if "kafka" in unit)
    service = host.ini(f"units/{unit}")["Service"]
    assert service["ExecStart"].endswith(" kafka.Kafka kafka.properties")
    assert service["SuccessExitStatus"] == "143"
    config = Path(service["WorkingDirectory"]) / "kafka.properties"
    port = host.local_conf["HYBRID_KAFKA_PORT"]
    text = config.read_text()
    assert f"listeners = CLIENT://0.0.0.0:{port}," in text
    assert f"advertised.listeners = CLIENT://127.0.0.1:{port}\n" in text


def test_qpid_dual_has_a_router_and_a_broker(host: Host) -> None:
    host.stack(CONFIGURE_NOVA, HYBRID="qpid-dual", HYBRID_BROKER_PASSWORD="hush")
    address = broker(host).replace("secretrabbit", "hush")
    assert urls(host, "nova_cell1.conf") == (
        f"{router(host)}/nova_cell1",
        f"{address}/",
    )
    assert host.runs("router") and host.runs("broker")
    assert "hybrid-messaging fetch broker --source maven" in host.calls()
    assert "rabbit" not in host.enabled()


def test_qpid_is_one_broker(host: Host) -> None:
    host.stack(CONFIGURE_NOVA, HYBRID="qpid")
    assert urls(host, "nova.conf") == (f"{broker(host)}/", f"{broker(host)}/")
    (unit,) = host.units()
    service = host.ini(f"units/{unit}")["Service"]
    assert "secretrabbit" not in str(service)
    config = Path(service["WorkingDirectory"]) / "etc/broker.xml"
    assert f"tcp://0.0.0.0:{host.local_conf['HYBRID_BROKER_PORT']}?" in (
        config.read_text()
    )


@pytest.mark.parametrize("mode", ["zmq-hybrid", "zmq-kafka"])
def test_rpc_without_a_server_between(host: Host, mode: str) -> None:
    host.stack(CONFIGURE_NOVA, HYBRID=mode)
    port = host.local_conf["HYBRID_REDIS_PORT"]
    redis = f"zmq://openstack:secretrabbit@127.0.0.1:{port}"
    notify = kafka(host)
    if mode == "zmq-hybrid":
        notify = f"{RABBIT}/?amqp_durable_queues=true"
    assert urls(host, "nova.conf") == (f"{redis}/", notify)
    assert urls(host, "nova_cell1.conf") == (f"{redis}/nova_cell1", notify)
    # other nodes may not know this one by name
    found = host.ini("nova.conf")["oslo_messaging_zmq"]
    assert found == {"rpc_zmq_host": "127.0.0.1", "use_router_proxy": "False"}
    wanted = [
        "install_package redis-server",
        "systemctl disable --now redis-server",
        "systemctl restart devstack@hybrid-redis.service",
    ]
    assert [call for call in host.calls() if call in wanted] == wanted
    host.stack(HYBRID="rabbit")
    assert host.units() == []


def test_servers_of_zmq_listen_where_their_node_is_known(host: Host) -> None:
    host.local_conf |= {"SERVICE_IP_VERSION": "6", "HOST_IPV6": "2001:db8::1"}
    host.stack(CONFIGURE_CINDER, HYBRID="zmq-hybrid")
    found = host.ini("cinder.conf")["oslo_messaging_zmq"]
    assert found["rpc_zmq_host"] == "2001:db8::1"
    assert found["rpc_zmq_bind_address"] == "::"


def test_a_proxy_beside_redis_carries_rpc(host: Host) -> None:
    host.stack(CONFIGURE_CINDER, HYBRID="zmq-hybrid", HYBRID_ZMQ_PROXY="True")
    assert host.runs("zmq_proxy")
    restarts = [call for call in host.calls() if "systemctl restart" in call]
    units = ["devstack@hybrid-redis.service", "devstack@hybrid-zmq_proxy.service"]
    assert restarts == [f"systemctl restart {unit}" for unit in units]
    service = host.ini(f"units/{units[1]}")["Service"]
    _, conf = service["ExecStart"].split(" zmq-proxy --config-file ")
    assert Path(conf).stat().st_mode & 0o077 == 0
    # it is told what services are, and where to listen
    port = host.local_conf["HYBRID_ZMQ_PROXY_PORT"]
    told = host.ini("cinder.conf")
    assert told["oslo_messaging_zmq"]["use_router_proxy"] == "True"
    own = {"rpc_zmq_min_port": port, "rpc_zmq_max_port": port}
    told["oslo_messaging_zmq"] |= own
    assert host.ini(conf) == told
    # another node has none of its own, and uses this one
    host.stack(CONFIGURE_CINDER, **COMPUTE)
    assert host.units() == []
    assert host.ini("cinder.conf")["oslo_messaging_zmq"]["use_router_proxy"] == "True"


def test_a_redis_that_is_there_goes_on(host: Host) -> None:
    host.stack(HYBRID="zmq-hybrid", INSTALLED="redis-server")
    assert host.runs("redis")
    calls = host.calls()
    assert not [call for call in calls if "redis-server" in call]


def test_what_rhel_has_in_the_place_of_redis(host: Host) -> None:
    host.stack(HYBRID="zmq-kafka", FAMILY="redhat")
    assert host.runs("redis") and host.runs("kafka")
    packages = ["valkey", "java-21-openjdk-headless"]
    installed = [call for call in host.calls() if "install_package" in call]
    assert installed == [f"install_package {package}" for package in packages]
    host.run("clean.sh")
    assert host.calls()[-1].split() == ["uninstall_package", *packages]
    host.stack(INSTALLED="redis,java-17-openjdk-headless")
    found = [call for call in host.calls() if "install_package" in call]
    assert len(found) == len(installed) + 1


@pytest.mark.parametrize(
    "reason", [{"NOT_PACKAGED": "redis-server"}, {"OFFLINE": "True"}]
)
def test_a_package_that_cannot_be_installed(host: Host, reason: dict[str, str]) -> None:
    host.local_conf |= {"HYBRID": "zmq-hybrid", **reason}
    done = host.run("stack.sh")
    assert done.returncode != 0
    assert "HYBRID=zmq-hybrid needs the package redis-server" in done.stdout
    assert not (host.dest / "data/hybrid-messaging/packages").exists()
    assert host.run("clean.sh").returncode == 0
    assert not [call for call in host.calls() if "uninstall" in call]


def test_what_was_installed_for_an_engine_goes_with_it(host: Host) -> None:
    host.stack(HYBRID="qpid", INSTALLED="maven")
    assert host.run("unstack.sh").returncode == 0
    assert not host.runs("broker")
    assert not [call for call in host.calls() if "uninstall" in call]
    host.stack(INSTALLED="maven,openjdk-21-jre-headless")
    # which needs no network
    host.local_conf["OFFLINE"] = "True"
    assert host.run("clean.sh").returncode == 0
    assert host.calls()[-1] == "uninstall_package openjdk-21-jre-headless"
    assert host.units() == []
    assert not (host.dest / "data/hybrid-messaging").exists()


def test_a_given_url_of_kafka_needs_its_client(host: Host) -> None:
    host.stack(
        "echo $ADDITIONAL_VENV_PACKAGES >$DEST/packages",
        **EXTERNAL | {"HYBRID_NOTIFY_URL": "kafka://log.example:9092/"},
    )
    assert (host.dest / "packages").read_text() == f",{ROOT}[kafka]\n"
    assert not [call for call in host.calls() if "install_package" in call]


def test_external_takes_the_urls_that_are_given(host: Host) -> None:
    host.stack(CONFIGURE_NOVA, **EXTERNAL)
    notify = EXTERNAL["HYBRID_NOTIFY_URL"] + "?amqp_durable_queues=true"
    assert urls(host, "nova.conf") == (EXTERNAL["HYBRID_RPC_URL"], notify)
    assert urls(host, "nova_cell1.conf") == (
        EXTERNAL["HYBRID_RPC_URL"] + "nova_cell1",
        notify,
    )
    assert host.units() == []
    assert "rabbit" not in host.enabled()


def test_a_given_url_takes_the_place_of_an_engine(host: Host) -> None:
    url = "amqp://nova:hush@router.example:5672/"
    host.stack(CONFIGURE_CINDER, HYBRID_RPC_URL=url)
    assert urls(host, "cinder.conf") == (url, f"{RABBIT}/?amqp_durable_queues=true")
    assert host.units() == []
    assert "rabbit" in host.enabled()


def test_a_notification_driver_that_is_set_stays(host: Host) -> None:
    section = f"$DEST/nova.conf {NOTIFICATIONS}"
    host.stack(
        f"iniset {section} driver log; iniset_rpc_backend nova $DEST/nova.conf",
        **EXTERNAL,
    )
    assert host.ini("nova.conf")[NOTIFICATIONS]["driver"] == "log"


def test_heartbeats_of_rabbitmq_are_those_of_local_conf(host: Host) -> None:
    host.stack(
        "iniset_rpc_backend nova $DEST/nova.conf",
        **EXTERNAL,
        RABBIT_HEARTBEAT_RATE="3",
    )
    assert host.ini("nova.conf")["oslo_messaging_rabbit"] == {"heartbeat_rate": "3"}


def test_passwords_are_encoded_and_in_no_trace(host: Host) -> None:
    said = host.stack(
        """
        set -x
        iniset_rpc_backend nova $DEST/nova.conf
        get_transport_url nova_cell1 >$DEST/urls
        get_notification_url >>$DEST/urls
        set +x
        """,
        RABBIT_PASSWORD="p@ss",
    )
    assert (host.dest / "urls").read_text().count("p%40ss") == 2
    assert "p%40ss" in str(urls(host, "nova.conf"))
    assert "+ iniset_rpc_backend" in said
    assert "p@ss" not in said and "p%40ss" not in said


def test_urls_that_are_given_are_in_no_trace(host: Host) -> None:
    said = host.stack(
        """
        set -x
        iniset_rpc_backend nova $DEST/nova.conf
        rpc_backend_add_vhost nova_cell1
        get_transport_url nova_cell1 >$DEST/urls
        """,
        **EXTERNAL,
    )
    assert "+ rpc_backend_add_vhost" in said
    assert "hush" in (host.dest / "urls").read_text()
    assert "hush" not in said


def test_urls_that_cannot_be_made_end_the_stack(host: Host) -> None:
    """DevStack asks in subshells, whose end it does not notice."""
    host.local_conf |= EXTERNAL | {"HYBRID_RPC_URL": "amqp:/router.example"}
    done = host.run("stack.sh", "iniset $DEST/a.conf a url $(get_notification_url)")
    assert done.returncode != 0
    assert "there are no URLs for services" in done.stdout


def test_the_command_is_asked_once_for_all_cells(host: Host) -> None:
    host.stack(
        "function make_hybrid_urls { called asked; echo a://b/$1; echo c://d; }"
        + CONFIGURE_NOVA
    )
    assert host.calls().count("asked") == 1
    assert urls(host, "nova.conf") == ("a://b/", "c://d")
    assert urls(host, "nova_cell1.conf") == ("a://b/nova_cell1", "c://d")


# -- services that write their transport by hand --------------------------------

# as the plugins of Barbican and Trove do, before this one in its phases or after it
CONFIGURE_BARBICAN = """
    BARBICAN_CONF=$DEST/etc/barbican/barbican.conf
    mkdir -p $DEST/etc/barbican
    iniset $BARBICAN_CONF DEFAULT transport_url rabbit://u:p@rabbit:5672
"""
CONFIGURE_TROVE = """
    TROVE_CONF=$DEST/etc/trove/trove.conf
    TROVE_GUESTAGENT_CONF=$DEST/etc/trove/trove-guestagent.conf
    mkdir -p $DEST/etc/trove
    iniset $TROVE_CONF DEFAULT transport_url rabbit://u:p@:5672/
    iniset $TROVE_GUESTAGENT_CONF DEFAULT transport_url rabbit://u:p@GATEWAY:5672/
"""


@pytest.mark.parametrize("package", ["barbican", "magnum"])
def test_who_has_notifications_on_its_rpc_has_both_where_the_others_notify(
    host: Host, package: str
) -> None:
    conf = f"etc/{package}/{package}.conf"
    configure = f"""
        mkdir -p $DEST/etc/{package}
        iniset $DEST/{conf} keystone_notifications enable True
        iniset_rpc_backend {package} $DEST/{conf}
    """
    if package == "barbican":
        configure += CONFIGURE_BARBICAN
    said = host.stack(
        configure, ENABLED_SERVICES="key,rabbit,barbican", HYBRID_VERIFY="True"
    )
    notify = f"{RABBIT}/?amqp_durable_queues=true"
    assert urls(host, conf) == (notify, notify)
    assert "has notifications" not in said and "sends RPC to" not in said
    # Kafka carries no RPC: it cannot work, and is no reason to fail
    said = host.stack(configure, HYBRID="qpid-kafka")
    assert urls(host, conf)[0] == f"{router(host)}/"
    assert f"{package} has notifications" in said.partition("at the end:")[2]


def test_whose_notifications_use_rpc_is_known_as_to_check() -> None:
    told = subprocess.run(
        ["bash", "-c", "source lib/rpc_backend; echo $HYBRID_OVER_RPC"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    known = [service.name for service in SERVICES if service.over_rpc]
    assert told.stdout.split() == known


@pytest.mark.parametrize("gateway", ["172.24.4.1", "[2001:db8::1]"])
def test_trove_and_its_guests_use_the_transport_of_rpc(
    host: Host, gateway: str
) -> None:
    said = host.stack(
        CONFIGURE_TROVE.replace("GATEWAY", gateway),
        ENABLED_SERVICES="key,rabbit,trove",
        HYBRID_VERIFY="True",
    )
    assert urls(host, "etc/trove/trove.conf") == (
        f"{router(host)}/",
        f"{RABBIT}/?amqp_durable_queues=true",
    )
    guest = host.ini("etc/trove/trove-guestagent.conf")["DEFAULT"]["transport_url"]
    assert guest == f"{router(host)}/".replace("127.0.0.1", gateway)
    assert "hybrid-messaging in their image" in said.partition("at the end:")[2]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"HYBRID": "rabbit"},
        {
            "HYBRID": "external",
            "HYBRID_RPC_URL": "amqp://u:p@[2001:db8::1]:5671/",
            "HYBRID_NOTIFY_URL": EXTERNAL["HYBRID_NOTIFY_URL"],
        },
        {
            "HYBRID": "external",
            "HYBRID_RPC_URL": "amqp://192.0.2.1:5671/",
            "HYBRID_NOTIFY_URL": EXTERNAL["HYBRID_NOTIFY_URL"],
        },
    ],
    ids=["router", "rabbit", "external", "without a user"],
)
def test_guests_of_trove_may_reach_the_port_of_rpc(
    host: Host, settings: dict[str, str]
) -> None:
    """Trove's plugin makes the security group at the start of the phase extra."""
    host.stack(
        """
        function run_phase {
            if [[ $* == "stack extra" ]]; then
                called "Trove opens $AMQP_PORT"
            fi
            source "$plugin/devstack/plugin.sh" $1 ${2:-}
        }
        AMQP_PORT=5672
        """
        + CONFIGURE_TROVE,
        ENABLED_SERVICES="key,rabbit,trove",
        **settings,
    )
    port = {"rabbit": "5672", "external": "5671"}.get(
        settings.get("HYBRID", ""), host.local_conf["HYBRID_ROUTER_PORT"]
    )
    assert f"Trove opens {port}" in host.calls()
    guest = host.ini("etc/trove/trove-guestagent.conf")["DEFAULT"]["transport_url"]
    assert f"GATEWAY:{port}/" in guest


@pytest.mark.parametrize(
    "enabled",
    [{"ENABLED_SERVICES": "key,trove"}, {"LATER_SERVICES": "trove"}],
    ids=["before", "after"],
)
def test_a_mode_that_cannot_reach_guests_of_trove_is_refused(
    host: Host, enabled: dict[str, str]
) -> None:
    said = host.refused(HYBRID="zmq-hybrid", **enabled)
    assert "HYBRID=zmq-hybrid cannot carry Trove's RPC" in said


# -- the checks at the end ------------------------------------------------------


def test_the_end_looks_at_the_files_that_this_stack_has_written(host: Host) -> None:
    """A file of an earlier stack, or without messages, is no reason to fail."""
    old = host.dest / "etc/designate/designate.conf"
    old.parent.mkdir(parents=True)
    old.write_text("[DEFAULT]\ntransport_url = rabbit://u:p@gone.example:5672/\n")
    os.utime(old, (0, 0))
    said = host.stack(
        """
        mkdir -p $DEST/etc/cinder $DEST/etc/ironic
        iniset $DEST/etc/ironic/ironic.conf DEFAULT rpc_transport json-rpc
        iniset_rpc_backend cinder $DEST/etc/cinder/cinder.conf
        """,
        HYBRID_VERIFY="True",
    )
    assert "etc/cinder/cinder.conf" in said
    assert "etc/designate" not in said and "etc/ironic" not in said
    (smoke,) = (call for call in host.calls() if "smoke --config" in call)
    told = host.ini(smoke.split()[-1])
    assert told["DEFAULT"] == host.ini("etc/cinder/cinder.conf")["DEFAULT"]
    # not a minute for the server that does not exist
    assert told["oslo_messaging_amqp"]["restart_timeout"] == "2"


def test_the_end_fails_of_a_problem_that_a_service_would_have(host: Host) -> None:
    conf = "$DEST/etc/cinder/cinder.conf"
    host.local_conf["HYBRID_VERIFY"] = "True"
    done = host.run(
        "stack.sh",
        f"mkdir -p $DEST/etc/cinder; iniset_rpc_backend cinder {conf}\n"
        f"iniset {conf} {NOTIFICATIONS} transport_url nonsense://",
    )
    assert done.returncode != 0
    assert "have the problems that check shows above" in done.stdout


def test_whoever_sends_rpc_elsewhere_is_named(host: Host) -> None:
    said = host.stack(
        """
        mkdir -p $DEST/etc/zun
        iniset $DEST/etc/zun/zun.conf DEFAULT transport_url rabbit://u:hush@a:1,u:hush@b:2/
        """,
        HYBRID_VERIFY="True",
    )
    (end,) = said.splitlines()[-1:]
    assert f"{host.dest}/etc/zun/zun.conf sends RPC to rabbit://b:2/" in end
    assert "hush" not in said


# -- engines -------------------------------------------------------------------


def test_the_router_lets_in_who_knows_the_password(host: Host) -> None:
    host.stack()
    port = int(host.local_conf["HYBRID_ROUTER_PORT"])
    user = "openstack@devstack"
    with Management("127.0.0.1", port, user, "secretrabbit", timeout=30) as management:
        assert management.router()["id"]
    for credentials in ((user, "wrong"), (None, None)):
        with pytest.raises(EngineError):
            Management("127.0.0.1", port, *credentials)


def test_the_router_restarts_on_failure_and_is_a_unit(host: Host) -> None:
    host.stack()
    (unit,) = host.units()
    assert unit == "devstack@hybrid-router.service"
    service = host.ini(f"units/{unit}")["Service"]
    assert service["Restart"] == "on-failure"
    assert "secretrabbit" not in str(service)
    assert f"systemctl enable {unit}" in host.calls()


def test_unstack_stops_and_clean_leaves_nothing(host: Host) -> None:
    host.stack()
    assert host.router_runs()
    assert host.run("unstack.sh").returncode == 0
    assert not host.router_runs()
    # what has been stopped can be stopped again, and started again
    assert host.run("unstack.sh").returncode == 0
    host.stack()
    assert host.router_runs()
    assert host.run("clean.sh").returncode == 0
    assert not host.router_runs()
    assert host.units() == []
    assert not (host.dest / "data/hybrid-messaging").exists()
    assert host.run("clean.sh").returncode == 0


def test_another_mode_leaves_no_trace_of_the_former(host: Host) -> None:
    host.stack()
    host.stack(HYBRID="rabbit")
    assert not host.router_runs()
    assert host.units() == []
    host.stack(**EXTERNAL)
    assert "systemctl disable --now rabbitmq-server" in host.calls()


def test_unstack_ends_what_runs_whatever_local_conf_says_by_then(host: Host) -> None:
    host.stack()
    host.local_conf["HYBRID"] = "no-such-mode"
    assert host.run("unstack.sh").returncode == 0
    assert not host.router_runs()


def test_rabbitmq_permits_the_queues_that_it_would_refuse(host: Host) -> None:
    """From release 4.3 on; older ones do not start with a key that they do not know."""
    settings = host.dest / "rabbitmq/conf.d/hybrid-messaging.conf"
    restart = "restart_service rabbitmq-server"
    host.stack(HYBRID="rabbit", RABBITMQ_VERSION="4.2.9")
    assert not settings.exists() and restart not in host.calls()
    for _ in range(2):  # restarted for a new setting only
        host.stack(HYBRID="rabbit", RABBITMQ_VERSION="4.10.1")
        key = "deprecated_features.permit.transient_nonexcl_queues"
        assert f"\n{key} = true\n" in settings.read_text()
        assert host.calls().count(restart) == 1
    assert host.run("clean.sh").returncode == 0
    assert not settings.exists()


def test_messages_of_an_earlier_stack_are_forgotten(host: Host) -> None:
    host.stack()
    assert not [call for call in host.calls() if "delete_vhost" in call]
    host.stack(INSTALLED="rabbitmq-server")
    # the others are not DevStack's
    wanted = ["delete_vhost /", "delete_vhost nova_cell0", "add_vhost /"]
    found = [call for call in host.calls() if "vhost " in call]
    assert found == [f"rabbitmqctl -q {what}" for what in wanted]


def test_a_compute_node_starts_nothing(host: Host) -> None:
    host.stack(CONFIGURE_CINDER, **COMPUTE)
    assert host.units() == []
    assert "rabbit" not in host.enabled()
    port = host.local_conf["HYBRID_ROUTER_PORT"]
    rpc, notify = urls(host, "cinder.conf")
    assert rpc == f"amqp://openstack%40devstack:secretrabbit@192.0.2.1:{port}/"
    assert notify.startswith("rabbit://stackrabbit:secretrabbit@192.0.2.1:5672/")


EDGE = {"HYBRID_EDGE_ROUTER": "True", "HYBRID_ROUTER": "skrouterd"}


def router_sections(host: Host) -> list[str]:
    """The sections of the router's configuration, in one line each."""
    text = (host.dest / "data/hybrid-messaging/router/router.conf").read_text()
    return [" ".join(part.split()) for part in text.split("}")]


def test_a_router_at_the_edge(host: Host) -> None:
    host.has_skrouterd()
    host.stack(CONFIGURE_NOVA, **COMPUTE, **EDGE)
    assert host.units() == ["devstack@hybrid-router.service"]
    # services use it; all else is on the controller
    rpc, notify = urls(host, "nova_cell1.conf")
    assert rpc == f"{router(host)}/nova_cell1"
    assert "@192.0.2.1:5672/" in notify
    assert "rabbit" not in host.enabled()
    (connector,) = (s for s in router_sections(host) if "connector {" in s)
    assert "host: 192.0.2.1 port: 45671 role: edge" in connector
    assert "saslUsername: openstack@devstack" in connector
    (setup,) = (call for call in host.calls() if "engine setup router" in call)
    assert f"--port {host.local_conf['HYBRID_ROUTER_PORT']} --user" in setup
    assert host.run("unstack.sh").returncode == 0
    assert not host.router_runs()
    assert host.run("clean.sh").returncode == 0
    assert host.units() == []


def test_a_controller_lets_in_the_edge_where_it_is_asked(host: Host) -> None:
    host.has_skrouterd()
    host.stack(**EDGE, HYBRID_ROUTER_EDGE_PORT="4001")
    (listener,) = (s for s in router_sections(host) if "role: edge" in s)
    assert "host: 0.0.0.0 port: 4001 role: edge authenticatePeer: yes" in listener
    assert not [call for call in host.calls() if "engine setup" in call]
    host.stack(HYBRID_EDGE_ROUTER="False")
    assert not [s for s in router_sections(host) if "edge" in s or "interior" in s]


def test_another_name_of_this_node_is_this_node(host: Host) -> None:
    said = host.stack(CONFIGURE_CINDER, SERVICE_HOST="controller.example")
    assert "rabbit" in host.enabled()
    assert host.router_runs()
    assert (
        "HYBRID=qpid-hybrid: RPC router on this node (controller.example), "
        "NOTIFY rabbitmq on this node (controller.example)" in said
    )
    assert "@controller.example:" in urls(host, "cinder.conf")[1]


def test_ipv6(host: Host) -> None:
    host.stack(
        CONFIGURE_NOVA,
        SERVICE_IP_VERSION="6",
        HOST_IPV6="2001:db8::1",
        SERVICE_HOST="[2001:db8::1]",
        HYBRID_LISTEN_ADDRESS="[::]",
    )
    assert "rabbit" in host.enabled()
    assert listens(int(host.local_conf["HYBRID_ROUTER_PORT"]), "::1")
    rpc, notify = urls(host, "nova_cell1.conf")
    assert rpc == f"{router(host)}/nova_cell1".replace("127.0.0.1", "[2001:db8::1]")
    assert "@[2001:db8::1]:5672/" in notify


def test_a_host_of_its_own_for_rabbitmq(host: Host) -> None:
    host.stack(CONFIGURE_CINDER, RABBIT_HOST="192.0.2.7")
    assert "rabbit" not in host.enabled()
    rpc, notify = urls(host, "cinder.conf")
    assert rpc == f"{router(host)}/"
    assert "@192.0.2.7:5672/" in notify


def test_an_engine_that_does_not_start_says_why(host: Host) -> None:
    host.local_conf |= {"HYBRID_LISTEN_ADDRESS": "192.0.2.1", "SERVICE_TIMEOUT": "3"}
    done = host.run("stack.sh")
    assert done.returncode != 0
    assert "does not listen on port" in done.stdout
    assert "192.0.2.1" in done.stdout


# -- the environment -----------------------------------------------------------


@pytest.mark.parametrize(
    "first", ["iniset_rpc_backend cinder $DEST/cinder.conf", "get_transport_url", ":"]
)
def test_proton_is_compiled_beside_other_work_until_a_service_needs_it(
    host: Host, first: str
) -> None:
    host.stack(f"called first service; {first}; called second service")
    steps = [
        "async_run hybrid-proton",
        "DevStack installs RabbitMQ",
        "first service",
        "async_wait hybrid-proton",
        f"setup_develop {ROOT}",
        "systemctl restart devstack@hybrid-router.service",
        "second service",
    ]
    if first == ":":
        # none has asked where its messages go, but one may start now
        steps.insert(3, steps.pop())
    assert [call for call in host.calls() if call in steps] == steps


def test_environments_of_single_services_get_the_drivers(host: Host) -> None:
    host.stack(
        "echo $ADDITIONAL_VENV_PACKAGES >$DEST/packages",
        ADDITIONAL_VENV_PACKAGES="PyMySQL",
        **EXTERNAL,
    )
    assert (host.dest / "packages").read_text() == f"PyMySQL,{ROOT}\n"


def test_another_plugin_with_the_same_functions_is_named(host: Host) -> None:
    other = host.dest / "other/lib/rpc_backend"
    other.parent.mkdir(parents=True)
    other.write_text("function get_transport_url { echo other; }\n")
    said = host.stack(f"source {other}", **EXTERNAL)
    text = f"{other} defines get_transport_url, too"
    # at once, and where people look
    assert said.count(text) == 2
    assert text in said.partition("at the end:")[2]


# -- refusals ------------------------------------------------------------------


def test_an_unknown_mode_is_refused_with_those_there_are(host: Host) -> None:
    said = host.refused(HYBRID="qpid-hybird")
    assert "HYBRID=qpid-hybird is no mode for DevStack: choose one of" in said
    for mode in (*MODES, "external"):
        assert mode in said


@pytest.mark.parametrize("role", ["RPC", "NOTIFY"])
def test_external_without_a_url_is_refused(host: Host, role: str) -> None:
    given = {**EXTERNAL, f"HYBRID_{role}_URL": ""}
    assert f"set HYBRID_{role}_URL in local.conf" in host.refused(**given)


def test_a_controller_without_an_engine_is_refused(host: Host) -> None:
    said = host.refused(SERVICE_HOST="other.example")
    assert "SERVICE_HOST=other.example (192.0.2.1) is another" in said
    assert "set HYBRID_RPC_HOST and HYBRID_NOTIFY_HOST" in said
    # where that is meant, it is said
    host.stack(HYBRID_RPC_HOST="192.0.2.7", HYBRID_NOTIFY_HOST="192.0.2.7")
    assert host.units() == []


def test_a_name_that_leads_nowhere_is_refused(host: Host) -> None:
    said = host.refused(HYBRID_RPC_HOST="mistyped.example")
    assert "this node cannot resolve that name" in said


def test_a_password_that_nobody_will_ask_for_is_refused(host: Host) -> None:
    said = host.refused(RABBIT_PASSWORD="", **COMPUTE)
    assert "set RABBIT_PASSWORD in local.conf" in said


def test_rabbitmq_that_is_needed_and_disabled_is_refused(host: Host) -> None:
    said = host.refused(ENABLED_SERVICES="key", DISABLED_SERVICES="rabbit")
    assert "needs RabbitMQ on this node" in said


def test_a_proxy_that_nobody_would_use_is_refused(host: Host) -> None:
    said = host.refused(HYBRID_ZMQ_PROXY="True")
    assert "HYBRID_ZMQ_PROXY=True is for RPC over zmq://" in said


def test_a_router_that_is_not_there_is_refused(host: Host) -> None:
    said = host.refused(HYBRID_ROUTER="/nowhere/skrouterd")
    assert "HYBRID_ROUTER=/nowhere/skrouterd is not installed" in said


def test_a_router_in_an_image_is_fetched_for_podman(host: Host) -> None:
    assert "container:IMAGE" in host.refused(HYBRID_ROUTER="container:")
    host.local_conf["NOT_PACKAGED"] = "podman"
    host.local_conf["HYBRID_ROUTER"] = "container"
    done = host.run("stack.sh")
    assert "needs the package podman, which cannot be installed" in done.stdout
    del host.local_conf["NOT_PACKAGED"]
    podman = host.dest / "bin" / "podman"
    podman.parent.mkdir(exist_ok=True)
    podman.write_text("#!/bin/sh\necho not today >&2\nexit 125\n")
    podman.chmod(0o755)
    for choice, message in (
        ("container", "the router could not be fetched"),
        ("container:other/router", "HYBRID_ROUTER=container:other/router: the image"),
    ):
        host.local_conf["HYBRID_ROUTER"] = choice
        done = host.run("stack.sh")
        assert done.returncode != 0
        assert message in done.stdout


@pytest.mark.parametrize("node", [{}, COMPUTE], ids=["controller", "compute"])
@pytest.mark.parametrize("router", ["auto", "embedded"])
def test_edges_without_a_router_that_has_links_are_refused(
    host: Host, node: dict[str, str], router: str
) -> None:
    said = host.refused(HYBRID_EDGE_ROUTER="True", HYBRID_ROUTER=router, **node)
    assert f"which HYBRID_ROUTER={router} is not" in said
    assert "set HYBRID_ROUTER to the path of one" in said


@pytest.mark.parametrize(
    "given", [{"HYBRID": "zmq-hybrid"}, {"HYBRID_RPC_URL": "amqp://router.example/"}]
)
def test_edges_of_no_router_are_refused(host: Host, given: dict[str, str]) -> None:
    said = host.refused(HYBRID_EDGE_ROUTER="True", **given)
    assert "HYBRID_EDGE_ROUTER=True needs a router that DevStack runs" in said


@pytest.mark.parametrize(
    ("variable", "value", "cure"),
    [
        ("HYBRID_KAFKA", "/nowhere", "leave HYBRID_KAFKA empty"),
        ("HYBRID_KAFKA_SOURCE", "somewhere", "choose one of apache, maven"),
    ],
)
def test_a_kafka_that_is_not_there_is_refused(
    host: Host, variable: str, value: str, cure: str
) -> None:
    said = host.refused(**{"HYBRID": "qpid-kafka", variable: value})
    assert f"{variable}={value} is no " in said
    assert cure in said


def test_what_offline_keeps_from_being_installed_is_named(host: Host) -> None:
    """As clean.sh leaves it, which removes the environment of Python."""
    bare = host.dest / "bin" / "python"
    bare.parent.mkdir()
    bare.write_text("#!/bin/sh\necho No module named hybrid_messaging >&2\nexit 1\n")
    bare.chmod(0o755)
    host.local_conf |= {"PYTHON": str(bare), "OFFLINE": "True"}
    done = host.run("stack.sh")
    assert done.returncode != 0
    assert f"not installed in the environment of {bare}" in done.stdout
    assert "run stack.sh once with OFFLINE=False" in done.stdout


# -- retired plugins -----------------------------------------------------------


def test_variables_of_retired_plugins_are_understood(host: Host) -> None:
    said = host.stack(
        CONFIGURE_CINDER,
        AMQP1_SERVICE="external",
        AMQP1_RPC_TRANSPORT_URL=EXTERNAL["HYBRID_RPC_URL"],
        AMQP1_NOTIFY_TRANSPORT_URL=EXTERNAL["HYBRID_NOTIFY_URL"],
    )
    assert urls(host, "cinder.conf")[0] == EXTERNAL["HYBRID_RPC_URL"]
    assert (
        "AMQP1_SERVICE: the plugin with this variable is retired; set HYBRID=" in said
    )


def test_the_new_variable_wins(host: Host) -> None:
    host.stack(HYBRID="rabbit", AMQP1_SERVICE="qpid-hybrid")
    assert host.units() == []


@pytest.mark.parametrize(
    ("variable", "value", "mode"),
    [
        ("AMQP1_SERVICE", "qpid-dual", "qpid-dual"),
        ("ZEROMQ_MATCHMAKER", "redis", "zmq-hybrid"),
        ("NOTIFY_SERVICE", "kafka", "rabbit-kafka"),
    ],
)
def test_modes_of_retired_plugins(
    host: Host, variable: str, value: str, mode: str
) -> None:
    assert mode in modes.load()
    host.local_conf |= {variable: value, "HYBRID_DATA_DIR": "/nowhere"}
    assert f"set HYBRID={mode} instead" in host.run("stack.sh").stdout
