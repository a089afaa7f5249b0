# SPDX-License-Identifier: Apache-2.0
"""The router's configuration file: what is understood, and what is refused how."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_messaging.router import config

FULL = """\
# a comment, and another one at the end of a line
router {
    mode: standalone   # alone
    id: router.one
    workerThreads: 4
    defaultDistribution: closest
    saslConfigDir: /etc/sasl
    saslConfigName: router
}

listener {
    name: open
    host: ::1
    port: amqp
    role: normal
    authenticatePeer: no
    saslMechanisms: ANONYMOUS PLAIN
    idleTimeoutSeconds: 8
    initialHandshakeTimeoutSeconds: 3
    linkCapacity: 100
}
listener {
    port: 0
    sslProfile: tls
    requireSsl: yes
    authenticatePeer: true
    saslMechanisms: EXTERNAL
}
sslProfile {
    name: tls
    caCertFile: /etc/ca.pem
    certFile: /etc/cert.pem
    privateKeyFile: /etc/key.pem
    protocols: TLSv1.3
}
address {
    prefix: openstack.org/om/rpc/multicast
    distribution: multicast
}
address {
    prefix: plain
}
log {
    module: DEFAULT
    enable: Warning+
    outputFile: /var/log/router.log
}
"""


def test_the_page_names_every_attribute() -> None:
    page = (Path(__file__).parents[2] / "doc" / "source" / "router.rst").read_text()
    known = [name for section in config._SECTIONS.values() for name in section]
    assert [name for name in known if f"``{name}``" not in page] == []


def test_everything_it_understands() -> None:
    profile = config.SslProfile(
        "tls", "/etc/cert.pem", "/etc/key.pem", "/etc/ca.pem", "TLSv1.3"
    )
    assert config.parse(FULL, "full") == config.RouterConfig(
        id="router.one",
        default_distribution="closest",
        sasl_config_dir="/etc/sasl",
        sasl_config_name="router",
        log_level="WARNING",
        log_file="/var/log/router.log",
        listeners=(
            config.Listener(
                name="open",
                host="::1",
                port=5672,
                sasl_mechanisms="ANONYMOUS PLAIN",
                idle_timeout=8,
                handshake_timeout=3,
                link_capacity=100,
            ),
            config.Listener(
                port=0,
                ssl_profile=profile,
                require_ssl=True,
                authenticate_peer=True,
                sasl_mechanisms="EXTERNAL",
            ),
        ),
        addresses=(
            config.AddressRule("openstack.org/om/rpc/multicast", "multicast"),
            config.AddressRule("plain", "balanced"),
        ),
    )


def test_standard_error_is_the_default_log() -> None:
    read = config.parse("log {\n outputFile: stderr\n}", "it")
    assert read.log_file == config.RouterConfig().log_file == ""


def test_an_empty_file_is_a_router_without_listeners() -> None:
    read = config.parse("\n# nothing\n", "it")
    assert (read.listeners, read.addresses) == ((), ())
    assert read.id


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "listner {\n}",
            "it:1: unknown section 'listner'; this router knows ",
        ),
        ("listener\n{\n}", "it:1: expected 'section {', not 'listener'"),
        ("}", "it:1: expected 'section {', not '}'"),
        ("listener {\n  port 5\n}", "it:2: expected 'attribute: value' or '}', not"),
        ("listener {\n  port:\n}", "it:2: expected 'attribute: value' or '}', not"),
        (
            "listener {\n  http: yes\n}",
            "it:2: unknown attribute 'http' of listener; this router knows "
            "name, host, port, ",
        ),
        ("listener {\n  port: 70000\n}", "it:2: port is '70000', must be a port"),
        ("listener {\n  port: -1\n}", "it:2: port is '-1', must be a port"),
        ("listener {\n role: edge\n}", "it:2: role is 'edge', must be one of normal"),
        ("router {\n mode: interior\n}", "it:2: mode is 'interior', must be one of "),
        ("listener {\n linkCapacity: 0\n}", "it:2: linkCapacity is '0', must be a"),
        (
            "sslProfile {\n protocols: TLSv1.1 TLSv1.2\n}",
            "it:2: protocols is 'TLSv1.1 TLSv1.2', must be some of TLSv1.2, TLSv1.3",
        ),
        (
            "listener {\n requireSsl: maybe\n}",
            "it:2: requireSsl is 'maybe', must be yes",
        ),
        ("listener {\n requireSsl: yes\n}", "it:1: requireSsl needs an sslProfile"),
        (
            "\nlistener {\n sslProfile: x\n}",
            "it:2: there is no sslProfile named 'x'",
        ),
        ("sslProfile {\n name: x\n}", "it:3: sslProfile has no certFile"),
        ("address {\n distribution: closest\n}", "it:3: address has no prefix"),
        (
            "address {\n prefix: x\n distribution: linkBalanced\n}",
            "it:3: distribution is 'linkBalanced', must be one of balanced, closest, ",
        ),
        ("log {\n enable: loud\n}", "it:2: enable is 'loud', must be one of trace, "),
        ("router {\n id: x\n", "it:1: section 'router' is not closed with '}'"),
    ],
)
def test_what_it_does_not_understand_is_an_error(text: str, complaint: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.parse(text, "it")
    assert str(caught.value).startswith(complaint)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "router.conf"
    path.write_text(FULL)
    assert config.load(path).id == "router.one"


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing", tmp_path, binary):
        with pytest.raises(config.ConfigError, match=str(path)):
            config.load(path)


def test_messages_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "router.conf"
    path.write_text("router {\n  id: x\n  bogus: 1\n}\n")
    with pytest.raises(
        config.ConfigError, match=f"{path}:3: unknown attribute 'bogus'"
    ):
        config.load(path)
