# SPDX-License-Identifier: Apache-2.0
"""Settings of tools, put into URLs as their templates do, are what was asked for.

Here, the expressions of the tools' templates are written again, in Python. What comes
of them is read by oslo.messaging.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
import yaml
from oslo_config import cfg

from hybrid_messaging import urls
from hybrid_messaging.servers import options
from hybrid_messaging.service_configs import (
    deployment_tools,
    replace,
    rewriting,
)
from hybrid_messaging.service_configs.catalogue import SERVICES
from hybrid_messaging.service_configs.deployment_tools import rendered, tools
from hybrid_messaging.service_configs.deployment_tools.parts import complete
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.reading import load
from hybrid_messaging.service_configs.transports import TransportError, Transports

PASSWORD = "a/b@c:d%41 {{x}}'\"\\#?&="
ODD = urls.build("x", [("h", 1)], "n@v", PASSWORD)[4:-4]
PLAIN = "rabbit://openstack:hush@mq:5672/"
RPC = {
    "one host": "amqp://nova:hush@router/",
    "no user": "amqp://router:45672/",
    "several hosts": "amqp://u:p@one:5673,u:p@[fd00::2]:5673/",
    "an odd password": f"amqp://{ODD}one:5672,{ODD}two:5672/",
    "a virtual host": "amqp://u:p@one/a%20b%2Fc",
    "TLS": "amqp://u:p@one/?ssl_ca_file=%2Fca%20%26.pem",
    "options": "amqp://u:p@one/v?ssl=true&idle_timeout=5&sasl_mechanisms=PLAIN",
    "several ports": "amqp://u:p@one:1,u:p@two:2/",
    "several users": "amqp://u:p@one,v:q@two/",
    "Redis": "zmq://u:p@redis/?zmq_key_directory=%2Fkeys",
    "Sentinels": "zmq+sentinel://u:p@one,u:p@two/",
    "RabbitMQ": f"rabbit://{ODD}one:5671/v?ssl=true&ssl_ca_file=%2Fca.pem",
}
NOTIFY = {
    "durable": PLAIN,
    "quorum": f"rabbit://{ODD}mq/%2Fa?rabbit_quorum_queue=true",
    "classic": "rabbit://u:p@mq/a?amqp_durable_queues=true",
    "TLS": "rabbit://u:p@one:5671,u:p@two:5671/?ssl=true&ssl_ca_file=%2Fca.pem",
    "Kafka": f"kafka://{ODD}k:9092/",
    "AMQP 1.0": "amqp://u:p@artemis/",
}
PAIRS = {
    **{f"RPC, {name}": (url, PLAIN) for name, url in RPC.items()},
    **{f"notifications, {name}": (RPC["TLS"], url) for name, url in NOTIFY.items()},
}
#: What keeps notifications: it may stand in a URL, or in the file beside it.
KEEPING = {"amqp_durable_queues", "rabbit_quorum_queue", "security_protocol"}
TLS = {"ssl", "ssl_ca_file", "ssl_version"}
DEFAULTS = options.defaults()
SERVICE = {service.name: service for service in SERVICES}

Read = tuple[str, list[tuple[Any, ...]], str, dict[str, str]]


@pytest.fixture(params=PAIRS.values(), ids=PAIRS)
def transports(request: pytest.FixtureRequest) -> Transports:
    return Transports(*map(urls.parse, request.param))


def read(text: str) -> Read:
    """A URL as oslo.messaging reads it, and without what keeps notifications."""
    url = oslo_messaging.TransportURL.parse(cfg.ConfigOpts(), text)
    hosts = [
        (host.hostname, host.port, host.username or "", host.password or "")
        for host in url.hosts
    ]
    query = {key: url.query[key] for key in set(url.query) - KEEPING}
    return url.transport, hosts, url.virtual_host or "", query


def asked(url: urls.TransportURL) -> Read:
    """The same of what was asked for, with usual ports filled in."""
    return read(str(complete(url, urls.TransportURL)))


def settings(tool: str, transports: Transports) -> dict[str, str]:
    parts = tools.parts(tool, transports)
    return {part.file: part.settings for part in parts}


def rpc_of(service: str, transports: Transports) -> urls.TransportURL:
    notify = transports.notify
    shared = SERVICE[service].over_rpc and notify.scheme != "kafka"
    return notify if shared else transports.rpc


def test_kolla_ansible(transports: Transports) -> None:
    parts = settings("kolla-ansible", transports)
    values = yaml.safe_load(parts.pop("/etc/kolla/globals.d/hybrid-messaging.yml"))

    def rendered(name: str, cell: str = "") -> Read:
        vhost = f"nova_{cell}" if cell else values["om_rpc_vhost"]
        return read(values[name].replace("{{ nova_cell_rpc_vhost }}", vhost))

    rpc, notify = asked(transports.rpc), asked(transports.notify)
    assert rendered("rpc_transport_url") == rpc
    assert rendered("notify_transport_url") == notify
    assert rendered("nova_cell_notify_transport_url") == notify
    vhost = rpc[2] or ("/" if rpc[0] == "rabbit" else "")
    assert rendered("nova_cell_rpc_transport_url") == (*rpc[:2], vhost, rpc[3])
    cell = rendered("nova_cell_rpc_transport_url", "cell1")
    assert cell == (*rpc[:2], "nova_cell1", rpc[3])
    assert values["om_rpc_port"] == str(rpc[1][0][1])
    assert values["om_rpc_transport"] == rpc[0]
    for name in re.findall("{{ (.*?) }}", yaml.safe_dump(values)):
        assert name in ("om_notify_port", "nova_cell_rpc_vhost")
    for file, text in parts.items():
        url = Document(text.encode(), file).value("DEFAULT", "transport_url")
        assert read(url or "") == notify
    assert bool(parts) == (notify[0] != "kafka")


def osa(values: dict[str, Any], service: str, role: str) -> tuple[str, dict[str, Any]]:
    """The URL of a service's template, and what overrides the service's file."""

    def value(name: str, default: str = "") -> Any:
        usual = values.get(f"oslomsg_{role}_{name}", default)
        return values.get(f"{service}_oslomsg_{role}_{name}", usual)

    user = f"{value('userid')}:{value('password')}"
    hosts = ",".join(
        f"{user}@{host}:{value('port')}" for host in value("servers").split(",")
    )
    url = f"{value('transport')}://{hosts}/{value('vhost')}"
    if value("use_ssl"):
        url += f"?ssl=1&ssl_version={value('ssl_version', 'TLSv1_2')}"
        url += f"&ssl_ca_file={value('ssl_ca_file')}"
    else:
        url += "?ssl=0"
    overrides = [
        each
        for name, each in values.items()
        if re.fullmatch(rf"{service}_\w+_overrides", name)
    ]
    return url, overrides[0] if overrides else {}


def is_encrypted(query: dict[str, str]) -> bool:
    return "ssl_ca_file" in query or query.get("ssl") in ("1", "true")


@pytest.mark.parametrize("service", ["nova", "barbican", "keystone", "swift"])
def test_openstack_ansible(transports: Transports, service: str) -> None:
    (text,) = settings("openstack-ansible", transports).values()
    values = yaml.safe_load(text)
    places = {"notify": ("oslo_messaging_notifications", "transport_url")}
    wanted = {"notify": transports.notify}
    if SERVICE[service].rpc:
        places["rpc"] = ("DEFAULT", "transport_url")
        wanted["rpc"] = rpc_of(service, transports)
    if service == "swift":
        places = {"notify": ("filter:ceilometer", "url")}
    for role, (section, key) in places.items():
        text, overrides = osa(values, service, role)
        scheme, hosts, vhost, query = asked(wanted[role])
        if section in overrides:
            assert read(overrides[section][key]) == (scheme, hosts, vhost, query)
            continue
        # the driver takes what the template appends
        options.of(DEFAULTS, urls.parse(text))
        found = read(text)
        if scheme == "rabbit":
            vhost = vhost or "/"
        assert found[:3] == (scheme, hosts, vhost)
        assert found[3].get("ssl_ca_file") == query.get("ssl_ca_file")
        assert is_encrypted(found[3]) == is_encrypted(query)
        assert query.keys() <= TLS
    if transports.notify.scheme == "rabbit":
        classic = "amqp_durable_queues" in transports.notify.query
        assert values["oslomsg_rabbit_quorum_queues"] is not classic


def test_openstack_ansible_has_no_overrides_where_variables_will_do() -> None:
    usual = Transports(urls.parse(RPC["TLS"]), urls.parse(PLAIN))
    (part,) = tools.parts("openstack-ansible", usual)
    overrides = [name for name in yaml.safe_load(part.settings) if "overrides" in name]
    assert overrides == ["ceilometer_ceilometer_conf_overrides"]
    assert not any("whole URL" in note for note in part.notes)


@pytest.mark.parametrize(
    ("rpc", "notify", "reason"),
    [
        ("options", "durable", "no variable for idle_timeout, sasl_mechanisms"),
        ("several ports", "durable", "one user and one port"),
        ("Redis", "durable", r"\?ssl=, which zmq:// does not accept"),
        ("TLS", "quorum", "do not encode"),
        ("TLS", "classic", "no variable for amqp_durable_queues"),
        ("TLS", "Kafka", r"\?ssl=, which kafka:// does not accept"),
    ],
)
def test_openstack_ansible_says_why_there_are_overrides(
    rpc: str, notify: str, reason: str
) -> None:
    transports = Transports(urls.parse(RPC[rpc]), urls.parse(NOTIFY[notify]))
    (part,) = tools.parts("openstack-ansible", transports)
    assert re.search(reason, " ".join(part.notes))


def test_openstack_helm(transports: Transports) -> None:
    (text,) = settings("openstack-helm", transports).values()
    conf = yaml.safe_load(text)["conf"]
    notify = asked(transports.notify)
    for chart, sections in conf.items():
        own = sections["oslo_messaging_notifications"]["transport_url"]
        assert read(own) == notify
        assert ("DEFAULT" in sections) == SERVICE[chart].rpc
        if "DEFAULT" in sections:
            rpc = sections["DEFAULT"]["transport_url"]
            assert read(rpc) == asked(rpc_of(chart, transports))
    listening = conf["ceilometer"]["notification"]["messaging_urls"]
    assert [read(url) for url in listening["values"]] == [notify]


def oslo_conf(sections: dict[str, dict[str, Any]]) -> str:
    """What helm-toolkit.utils.to_oslo_conf makes of values, which charts render."""
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        for key, value in values.items():
            several = value["values"] if isinstance(value, dict) else [value]
            lines += [f"{key} = {each}" for each in several]
    return "".join(f"{line}\n" for line in lines)


def test_what_charts_make_of_values(transports: Transports, tmp_path: Path) -> None:
    (text,) = settings("openstack-helm", transports).values()
    for chart, sections in yaml.safe_load(text)["conf"].items():
        path = tmp_path / f"{chart}.conf"
        path.write_text(oslo_conf(sections))
        config = load([path])
        assert read(config.notify_url) == asked(transports.notify)
        if "DEFAULT" in sections:
            assert read(config.rpc_url) == asked(rpc_of(chart, transports))
        if chart == "ceilometer":
            [url] = config.own_option("notification", "messaging_urls", multi=True)
            assert read(url) == asked(transports.notify)


def test_puppet(transports: Transports) -> None:
    found: dict[str, Read] = {}
    for text in settings("puppet", transports).values():
        if "<|" not in text:
            for name, url in yaml.safe_load(text).items():
                assert "%{" not in url  # what Hiera would interpolate
                # Oslo::TransportURL, which swift's parameter is not of
                assert re.match("(rabbit|kombu)://[^/]", url) or "swift" in name
                found[name] = read(url)
        for line in text.splitlines() if "<|" in text else ():
            match = re.fullmatch(
                r"([A-Z]\w+)_config <\| title == '(.+)' \|> \{ value => '([^'\\]*)' \}",
                line,
            )
            assert match, line
            parameter = "default" if match[2].startswith("DEFAULT") else "notification"
            found[f"{match[1].lower()}::{parameter}_transport_url"] = read(match[3])
    for service in ("barbican", "nova", "trove"):
        rpc = asked(rpc_of(service, transports))
        assert found[f"{service}::default_transport_url"] == rpc
    notify = asked(transports.notify)
    assert found["nova::notification_transport_url"] == notify
    assert found["swift::proxy::ceilometer::default_transport_url"] == notify
    assert not {"keystone::default_transport_url"} & found.keys()


def test_charms(transports: Transports) -> None:
    (text,) = settings("charms", transports).values()
    for application in yaml.safe_load(text).values():
        flags = application["config-flags"]
        # a colon in front of the first = makes YAML of it
        assert 0 < flags.find(":") < (flags.find("=") % len(flags))
        (name, url), *more = yaml.safe_load(flags).items()
        assert (name, more) == ("transport_url", [])
        assert read(url) == asked(transports.rpc)


def test_devstack(transports: Transports) -> None:
    (text,) = settings("devstack", transports).values()
    script = text.removeprefix("[[local|localrc]]\n")
    script += 'printf "%s\\n" "$HYBRID" "$HYBRID_RPC_URL" "$HYBRID_NOTIFY_URL"'
    shown = subprocess.run(
        ["bash", "-c", script], check=True, capture_output=True, text=True
    )
    mode, rpc, notify = shown.stdout.splitlines()
    assert mode == "external"
    assert read(rpc) == asked(transports.rpc)
    assert read(notify) == asked(transports.notify)


@pytest.mark.parametrize("tool", deployment_tools.NAMES)
def test_passwords_are_hidden_and_change_nothing_else(tool: str) -> None:
    transports = Transports(
        urls.parse("amqp://nova:hush-1@one,nova:hush-1@two/?ssl_key_password=hush-2"),
        urls.parse("rabbit://nova:hush-3@mq/"),
    )
    plain = "".join(map(str, tools.parts(tool, transports)))
    hidden = "".join(map(str, tools.parts(tool, transports, hidden=True)))
    assert "hush-1" in plain and "hush" not in hidden
    assert "--show-passwords" in hidden
    assert hidden.count("\n") - plain.count("\n") == 1


def test_notes_are_comments(transports: Transports) -> None:
    for tool in deployment_tools.NAMES:
        for part in tools.parts(tool, transports):
            text = str(part)
            assert text.endswith(part.settings)
            head = text.removesuffix(part.settings).splitlines()
            assert all(line.startswith("# ") for line in head)


def test_a_host_that_a_tool_would_take_for_something_else() -> None:
    transports = Transports(urls.parse("amqp://{{x}}/"), urls.parse(PLAIN))
    with pytest.raises(TransportError, match=r"amqp://\{\{x\}\}/"):
        tools.parts("kolla-ansible", transports)


def test_every_service_of_a_tool_is_one_that_is_known() -> None:
    from hybrid_messaging.service_configs.deployment_tools import (
        kolla_ansible,
        openstack_ansible,
        openstack_helm,
        puppet,
    )

    for names in (
        kolla_ansible._SHARING,
        openstack_ansible._OVERRIDES,
        openstack_helm._CHARTS,
        puppet._MODULES,
    ):
        assert set(names) <= SERVICE.keys()
        assert list(names) == sorted(names)


@pytest.mark.parametrize("tool", deployment_tools.NAMES)
def test_every_tool_says_what_decides(tool: str) -> None:
    assert tools.variables(tool)


HEADERS = {
    "# Ansible managed\n\n": "openstack-ansible",
    "#{{ ansible_managed}}\n": "openstack-ansible",
    "###\n# [ WARNING ]\n# cinder configuration file maintained by Juju\n": "charms",
    "# Config managed by neutron-openvswitch charm\n": "charms",
    "# This file is managed by Puppet\n": "puppet",
    "; Generated by Chef for node x\n": None,
    "# The ansible module of X\n": "",
    "[x]\ny = managed by puppet\n": "",
}
PLACES = {
    "etc/kolla/nova-compute/nova.conf": "kolla-ansible",
    "etc/kolla/nova-compute/nova.conf.d/x.conf": "kolla-ansible",
    "etc/kolla/config/nova.conf": "",
    "etc/kolla/config/nova/x/nova.conf": "",
    "home/kolla/etc/nova/nova.conf": "",
    "kolla/nova.conf": "",
    "config-data/puppet-generated/nova/etc/nova/nova.conf": "puppet",
    "etc/nova/nova.conf": "",
}


def tool_of(document: Document) -> str | None:
    found = rendered.author(document)
    return found.tool if found else ""


@pytest.mark.parametrize("header", HEADERS)
def test_a_file_is_known_by_what_it_begins_with(header: str) -> None:
    text = f"{header}[DEFAULT]\ndebug = true\n"
    assert tool_of(Document(text.encode(), "/etc/nova/nova.conf")) == HEADERS[header]


@pytest.mark.parametrize("place", PLACES)
def test_a_file_is_known_by_where_it_is(place: str, tmp_path: Path) -> None:
    assert tool_of(Document(b"", tmp_path / place)) == PLACES[place]


def test_a_file_of_a_virtual_environment_of_openstack_ansible() -> None:
    path = "/openstack/venvs/nova-30.0.0/etc/nova/nova.conf"
    assert tool_of(Document(b"", path)) == "openstack-ansible"


def test_a_file_of_a_secret_of_kubernetes(tmp_path: Path) -> None:
    version = tmp_path / "..2026_11_29_12_00_00.1"
    version.mkdir()
    (version / "nova.conf").touch()
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "nova.conf").symlink_to("..data/nova.conf")
    assert tool_of(Document(b"", tmp_path / "nova.conf")) == "openstack-helm"


def test_what_is_undone_later_is_said_once_for_each_tool(tmp_path: Path) -> None:
    paths = [
        tmp_path / "kolla" / container / "nova.conf"
        for container in ("nova-api", "nova-compute", "nova-scheduler")
    ]
    other = tmp_path / "glance-api.conf"
    chef = tmp_path / "keystone.conf"
    for path in (*paths, other, chef):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[DEFAULT]\n")
    chef.write_text("# managed by Chef\n")
    transports = Transports(urls.parse(RPC["one host"]), urls.parse(PLAIN))

    def said() -> list[str]:
        targets = [rewriting.Target(path) for path in (*paths, other, chef)]
        plan = rewriting.plan(targets, transports)
        lines = [line for item in plan for line in rewriting.warnings(item, plan)]
        replace.replace([replace.Replacement(item.source, item.data) for item in plan])
        return [line for line in lines if "will undo this" in line]

    kolla, unknown = said()
    assert kolla.startswith(f"{paths[0]} and 2 more: kolla-ansible writes these files")
    assert "rpc_transport_url" in kolla
    assert "`hybrid-messaging urls --for kolla-ansible`" in kolla
    assert unknown.startswith(f"{chef}: Chef writes this file")
    assert unknown.endswith("give it the URLs of `hybrid-messaging urls` as well")
    assert said() == []
