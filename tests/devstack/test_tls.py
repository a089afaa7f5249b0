# SPDX-License-Identifier: Apache-2.0
"""HYBRID_TLS: engines that refuse whoever comes without it, on one node and several."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from cryptography import x509
from tests.devstack.conftest import COMPUTE, CONTROLLER, Host

from hybrid_messaging import modes, urls
from hybrid_messaging.engines import EngineError, certificates
from hybrid_messaging.engines.amqp_management import Management

SHARED = "data/CA/hybrid-messaging"
OURS = "data/hybrid-messaging"
# a cell's URL of RPC, and the notifications'
TELL_URLS = """
    get_transport_url nova_cell1 >$DEST/urls
    get_notification_url >>$DEST/urls
"""
RABBITMQ = ("../../rabbitmq/conf.d/hybrid-messaging.conf", "listeners.tcp = none")
#: By engine: the file below its directory, with what it says about TLS there.
CONFIGURED = {
    "router": ("router/router.conf", "requireSsl: yes"),
    "broker": ("broker/etc/broker.xml", "sslEnabled=true"),
    "kafka": ("kafka/kafka.properties", "CLIENT:SASL_SSL,"),
    "redis": ("redis/redis.conf", "\nport 0\n"),
    "rabbitmq": RABBITMQ,
    "rabbitmq-rpc": RABBITMQ,
    "rabbitmq-notify": ("rabbitmq_notify/rabbitmq.conf", "listeners.tcp = none"),
}


def told(host: Host) -> list[urls.TransportURL]:
    """The URLs of a cell's RPC and of notifications that services are told."""
    return [urls.parse(line) for line in (host.dest / "urls").read_text().split()]


@pytest.mark.parametrize("mode", sorted(modes.load().keys() - {"external"}))
def test_engines_of_every_mode_speak_tls(host: Host, mode: str) -> None:
    host.stack(TELL_URLS, HYBRID=mode, HYBRID_TLS="True")
    ca_file = str(host.dest / SHARED / "ca.pem")
    for url in told(host):
        # a broker is told to be durable, too
        wanted = urls.tls(url.scheme, ca_file)
        assert {name: url.query.get(name) for name in wanted} == wanted
    for placement in modes.get(mode).engines:
        file, text = CONFIGURED[placement.name]
        assert text in (host.dest / OURS / file).read_text()


def test_the_router_refuses_whoever_comes_without_tls(host: Host) -> None:
    host.stack(HYBRID_TLS="True")
    port = int(host.local_conf["HYBRID_ROUTER_PORT"])
    login = ("127.0.0.1", port, "openstack@devstack", "secretrabbit")
    with Management(*login, str(host.dest / SHARED / "ca.pem")) as management:
        assert management.router()["id"]
    with pytest.raises(EngineError):
        Management(*login)


def test_keys_are_where_only_those_get_at_them_who_need_them(host: Host) -> None:
    host.stack(HYBRID_TLS="True", HYBRID="rabbit", HOST_IP="192.0.2.9")
    ours = host.dest / OURS / "tls"
    for path in (ours, ours / "ca.key", ours / "host.pem"):
        assert path.stat().st_mode & 0o077 == 0
    # all nodes get this, so that it is the certificate alone
    (shared,) = (host.dest / SHARED).iterdir()
    assert shared.name == "ca.pem" and b"PRIVATE" not in shared.read_bytes()
    # RabbitMQ runs as another user, with a copy
    copies = host.dest / "rabbitmq/hybrid-messaging"
    names = " ".join(str(ours / name) for name in ("ca.pem", "host.pem"))
    wanted = [
        f"install -o rabbitmq -g rabbitmq -m 600 -t {copies} {names}",
        "restart_service rabbitmq-server",
    ]
    assert [call for call in host.calls() if call in wanted] == wanted
    # clients know the node by any of its names
    certificate = x509.load_pem_x509_certificate((ours / "host.pem").read_bytes())
    extensions = certificate.extensions
    alternative = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", socket.gethostname()} <= set(
        alternative.get_values_for_type(x509.DNSName)
    )
    assert {"127.0.0.1", "::1", "192.0.2.9"} <= set(
        map(str, alternative.get_values_for_type(x509.IPAddress))
    )
    assert host.run("clean.sh").returncode == 0
    for path in (host.dest / OURS, shared.parent, copies):
        assert not path.exists()


def test_the_authority_stays_until_tls_is_switched_off(host: Host) -> None:
    shared = host.dest / SHARED
    host.stack(HYBRID_TLS="True", HYBRID="zmq-hybrid")
    first = (shared / "ca.pem").read_bytes()
    assert host.run("unstack.sh").returncode == 0
    host.stack()
    assert (shared / "ca.pem").read_bytes() == first
    host.stack(TELL_URLS, HYBRID_TLS="False")
    assert "zmq_" not in (host.dest / "urls").read_text()
    assert "ssl" not in (host.dest / "urls").read_text()
    assert host.calls().count("restart_service rabbitmq-server") == 3
    assert not shared.exists() and not (host.dest / OURS / "tls").exists()
    left = [path for path in (host.dest / "rabbitmq").rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.parametrize(
    ("local_conf", "missing"),
    [
        ({}, f"{SHARED}/ca.pem"),
        # a node with an engine, but not with RPC's
        ({"HYBRID_NOTIFY_HOST": "127.0.0.1"}, f"{OURS}/tls/ca.key"),
    ],
)
def test_another_node_is_told_what_to_copy_from_where(
    host: Host, local_conf: dict[str, str], missing: str
) -> None:
    there = {f"{SHARED}/ca.pem", f"{OURS}/tls/ca.pem"} - {missing}
    for name in there if local_conf else ():
        (host.dest / name).parent.mkdir(parents=True)
        (host.dest / name).touch()
    said = host.refused(HYBRID_TLS="True", **COMPUTE, **local_conf)
    assert (
        f"HYBRID_TLS=True needs {host.dest / missing} on this node: copy it from the"
        f" same place on {CONTROLLER}" in said
    )


def test_other_nodes_have_the_authority_of_the_first(host: Host) -> None:
    host.stack(TELL_URLS, HYBRID_TLS="True", HYBRID="zmq-hybrid")
    here = told(host)
    assert host.run("unstack.sh").returncode == 0
    shutil.rmtree(host.dest / OURS)
    host.stack(TELL_URLS, **COMPUTE)
    assert [url.query for url in told(host)] == [url.query for url in here]
    assert not (host.dest / OURS / "tls").exists()


def test_an_engine_elsewhere_has_a_certificate_of_the_same_authority(
    host: Host,
) -> None:
    tls, shared = host.dest / OURS / "tls", host.dest / SHARED / "ca.pem"
    made = certificates.ensure(tls, [])
    shared.parent.mkdir(parents=True)
    shared.write_text("of an earlier stack")
    node = {**COMPUTE, "HYBRID_NOTIFY_HOST": "127.0.0.1"}
    said = host.refused(HYBRID_TLS="True", **node)
    assert f"{made.authority} is not {shared}, which services trust" in said
    shutil.copy(made.authority, shared)
    Path(made.host).unlink()
    host.stack()
    assert Path(made.authority).read_bytes() == shared.read_bytes()
    own, authority = (
        x509.load_pem_x509_certificate(Path(path).read_bytes())
        for path in (made.host, made.authority)
    )
    own.verify_directly_issued_by(authority)


def test_a_router_at_the_edge_has_a_certificate_of_the_authority_in_the_middle(
    host: Host,
) -> None:
    host.has_skrouterd()
    shared = host.dest / SHARED / "ca.pem"
    node = {**COMPUTE, "HYBRID_ROUTER": "skrouterd"}
    said = host.refused(HYBRID_TLS="True", HYBRID_EDGE_ROUTER="True", **node)
    assert f"copy it from the same place on {CONTROLLER}" in said
    made = certificates.ensure(host.dest / OURS / "tls", [])
    shared.parent.mkdir(parents=True)
    shutil.copy(made.authority, shared)
    host.stack(TELL_URLS)
    assert Path(made.authority).read_bytes() == shared.read_bytes()
    # its services trust what RabbitMQ on the controller shows, too
    assert {url.query["ssl_ca_file"] for url in told(host)} == {str(shared)}
    config = (host.dest / OURS / "router/router.conf").read_text()
    assert f"caCertFile: {made.authority}\n" in config


def test_tls_without_an_engine_is_refused(host: Host) -> None:
    said = host.refused(
        HYBRID="external",
        HYBRID_TLS="True",
        HYBRID_RPC_URL="amqp://nova:hush@router.example:5672/",
        HYBRID_NOTIFY_URL="rabbit://nova:hush@rabbit.example:5672/",
    )
    assert "have HYBRID_RPC_URL and HYBRID_NOTIFY_URL ask for TLS" in said


def test_a_given_url_is_left_alone(host: Host) -> None:
    url = "amqp://nova:hush@router.example:5672/"
    host.stack(TELL_URLS, HYBRID_TLS="True", HYBRID_RPC_URL=url)
    rpc, notify = told(host)
    assert str(rpc) == f"{url}nova_cell1"
    assert notify.query["ssl_ca_file"] == str(host.dest / SHARED / "ca.pem")
