# SPDX-License-Identifier: Apache-2.0
"""What is rendered for the hosts of a cluster, and what becomes of it later."""

from __future__ import annotations

import configparser
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from hybrid_messaging import resources, urls
from hybrid_messaging.cli.app import main
from hybrid_messaging.cluster import (
    ClusterError,
    credentials,
    reading,
    rendering,
    transports,
)
from hybrid_messaging.cluster.topology import ROLES, Topology

Run = Callable[..., tuple[int, str, str]]

TOPOLOGY = """\
cluster: region-one
zones:
  east: [west]
  west: [east]
rpc: amqp
notifications: rabbit
hosts:
  mq1:
    address: 192.0.2.1
    zone: east
    roles: [interior, redis, sentinel, rabbitmq, kafka]
  mq2:
    address: 192.0.2.2
    zone: east
    roles: [interior, redis, sentinel, rabbitmq, kafka]
  mq3:
    address: 192.0.2.3
    zone: west
    roles: [interior, redis, sentinel, rabbitmq, kafka]
  compute1: {address: 192.0.2.9, zone: west, roles: [edge]}
"""
HOSTS = ("mq1", "mq2", "mq3", "compute1")
#: The attributes of skupper-router's management schema that the template uses, by
#: entity (python/skupper_router/management/skrouter.json, 3.5).
ATTRIBUTES = {
    "router": {"mode", "id", "saslConfigDir", "saslConfigName"},
    "sslProfile": {"name", "caCertFile", "certFile", "privateKeyFile", "protocols"},
    "listener": {
        *("name", "host", "port", "role", "authenticatePeer", "saslMechanisms"),
        *("idleTimeoutSeconds", "initialHandshakeTimeoutSeconds", "sslProfile"),
        *("requireSsl", "http", "httpRootDir", "websockets", "healthz", "metrics"),
    },
    "connector": {
        *("name", "host", "port", "role", "cost", "idleTimeoutSeconds", "sslProfile"),
        *("saslMechanisms", "saslUsername", "saslPassword", "verifyHostname"),
    },
    "address": {"prefix", "distribution"},
    "policy": {"maxConnections"},
    "log": {"module", "enable", "outputFile"},
}
VALUES = {
    "mode": {"interior", "edge"},
    "role": {"normal", "inter-router", "edge"},
    "distribution": {"multicast", "closest", "balanced"},
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cluster")
    return render(place)


@pytest.fixture(autouse=True)
def without_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def topology(place: Path, text: str = TOPOLOGY) -> Topology:
    path = place / "mq.yaml"
    path.write_text(text)
    return reading.read(path)


def render(place: Path, text: str = TOPOLOGY) -> Path:
    rendering.render(topology(place, text), place / "mq")
    return place / "mq"


def changed(place: Path, text: str = TOPOLOGY, write: bool = True) -> dict[str, str]:
    found, _ = rendering.render(topology(place, text), place / "mq", write)
    return {str(change.path): change.action for change in found}


def all_files(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path.relative_to(directory)): (
            path.read_bytes(),
            path.stat().st_mode,
            path.stat().st_mtime_ns,
        )
        for path in directory.rglob("*")
        if path.is_file()
    }


# -- routers -----------------------------------------------------------------------


def entities(text: str) -> list[tuple[str, dict[str, str]]]:
    """The sections of a router's configuration file."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [
        (
            name,
            dict(
                line.strip().split(": ", 1)
                for line in body.splitlines()
                if line.strip()
            ),
        )
        for name, body in re.findall(
            r"^(\w+) \{\n(.*?)^\}", "\n".join(lines), re.MULTILINE | re.DOTALL
        )
    ]


def of(rendered: Path, host: str) -> list[tuple[str, dict[str, str]]]:
    return entities((rendered / f"hosts/{host}/router/router.conf").read_text())


def named(found: list[tuple[str, dict[str, str]]], kind: str) -> dict[str, dict]:
    return {values["name"]: values for entity, values in found if entity == kind}


@pytest.mark.parametrize("tls", [True, False])
def test_routers_are_told_only_what_their_schema_knows(
    tmp_path: Path, tls: bool
) -> None:
    directory = render(tmp_path, f"{TOPOLOGY}tls: {tls}\n")
    for host in HOSTS:
        found = of(directory, host)
        assert {"router", "listener", "address", "policy", "log"} <= dict(found).keys()
        for entity, values in found:
            assert values.keys() <= ATTRIBUTES[entity]
            for name, allowed in VALUES.items():
                assert values.get(name) in allowed | {None}
        # the router refuses a name that another entity has, of whatever kind
        names = [values["name"] for _, values in found if "name" in values]
        assert len(set(names)) == len(names)
        own = {name for name in names if name not in HOSTS}
        assert all("_" in name for name in own), "a host may be called like this"


def test_each_pair_of_interiors_has_one_link_with_the_cost_of_its_zones(
    rendered: Path,
) -> None:
    costs = {
        (host, name): values["cost"]
        for host in ("mq1", "mq2", "mq3")
        for name, values in named(of(rendered, host), "connector").items()
    }
    assert costs == {("mq1", "mq2"): "1", ("mq1", "mq3"): "10", ("mq2", "mq3"): "10"}


def test_routers_link_with_certificates_and_services_log_in_with_a_password(
    rendered: Path,
) -> None:
    found = named(of(rendered, "mq1"), "listener")
    mechanisms = {name: values["saslMechanisms"] for name, values in found.items()}
    assert mechanisms == {
        "for_services": "PLAIN",
        "for_edges": "EXTERNAL",
        "for_routers": "EXTERNAL",
        "for_http": "PLAIN",
    }
    profiles = named(of(rendered, "mq1"), "sslProfile")
    assert "caCertFile" in profiles[found["for_routers"]["sslProfile"]]
    # with an authority, a listener wants a certificate of its clients
    assert "caCertFile" not in profiles[found["for_services"]["sslProfile"]]
    # or else it takes AMQP as well
    assert found["for_http"]["websockets"] == "no"


def test_an_edge_serves_its_own_host_and_has_two_uplinks(rendered: Path) -> None:
    found = of(rendered, "compute1")
    listeners = named(found, "listener")
    assert set(listeners) == {"for_services", "for_http"}
    assert listeners["for_services"]["host"] == "127.0.0.1"
    uplinks = named(found, "connector")
    assert list(uplinks) == ["mq3", "mq1"]
    assert {values["role"] for values in uplinks.values()} == {"edge"}
    assert dict(found)["router"]["id"] == "compute1"


def test_a_link_is_given_up_before_a_service_is(rendered: Path) -> None:
    """What is under way to a host that has vanished fails after that."""
    silences = {
        (host, entity, values["role"]): values["idleTimeoutSeconds"]
        for host in ("mq1", "mq2", "compute1")
        for entity, values in of(rendered, host)
        if entity in ("listener", "connector") and values["name"] != "for_http"
    }
    assert silences == {
        **{("mq1", "listener", role): "4" for role in ("edge", "inter-router")},
        **{("mq2", "listener", role): "4" for role in ("edge", "inter-router")},
        **{(host, "listener", "normal"): "16" for host in ("mq1", "mq2", "compute1")},
        **{(host, "connector", "inter-router"): "4" for host in ("mq1", "mq2")},
        ("compute1", "connector", "edge"): "4",
    }


# -- the other roles ---------------------------------------------------------------


def text_of(rendered: Path, path: str) -> str:
    return (rendered / "hosts" / path).read_text()


def test_redis_replicates_the_first_and_sentinels_agree_by_majority(
    rendered: Path,
) -> None:
    assert "\nreplicaof" not in text_of(rendered, "mq1/redis/redis.conf")
    for host in ("mq2", "mq3"):
        text = text_of(rendered, f"{host}/redis/redis.conf")
        assert "\nreplicaof 192.0.2.1 6379\n" in text
        assert "\nmin-replicas-to-write 1\n" in text
    assert "monitor oslo-messaging-zeromq 192.0.2.1 6379 2\n" in text_of(
        rendered, "mq3/sentinel/sentinel.conf"
    )


@pytest.mark.parametrize(("release", "permits"), [("4.2", False), ("4.3", True)])
def test_rabbitmq_gets_the_keys_of_its_release(
    tmp_path: Path, release: str, permits: bool
) -> None:
    directory = render(tmp_path, f"{TOPOLOGY}rabbitmq-release: {release}\n")
    text = text_of(directory, "mq1/rabbitmq/rabbitmq.conf")
    assert ("deprecated_features.permit.transient_nonexcl_queues" in text) is permits
    assert ("cluster_partition_handling = pause_minority" in text) is not permits
    nodes = re.findall(r"nodes\.\d+ = (.*)", text)
    assert nodes == ["mq1@mq1", "mq2@mq2", "mq3@mq3"]


def test_definitions_have_the_hash_of_a_password_and_not_itself(
    rendered: Path,
) -> None:
    secrets = credentials.load(rendered)
    assert secrets is not None
    text = text_of(rendered, "mq1/rabbitmq/definitions.json")
    users = {user["name"]: user for user in json.loads(text)["users"]}
    assert secrets.rabbitmq not in text
    assert users["hybrid"]["password_hash"] == secrets.rabbitmq_hash(secrets.rabbitmq)
    assert users["monitor"]["tags"] == "monitoring"


def test_a_kafka_node_keeps_its_number_when_others_come_and_go(tmp_path: Path) -> None:
    render(tmp_path)
    fewer = TOPOLOGY.replace("mq2", "mq7")
    numbers = {
        host: re.search(
            r"node\.id = (\d+)",
            text_of(render(tmp_path, fewer), f"{host}/kafka/kafka.properties"),
        )[1]  # type: ignore[index]
        for host in ("mq1", "mq7", "mq3")
    }
    assert numbers == {"mq1": "1", "mq7": "4", "mq3": "3"}


def test_units_start_what_was_rendered(rendered: Path) -> None:
    units = list(rendered.glob("hosts/*/systemd/*.service"))
    assert len(units) == 16
    for path in units:
        unit = configparser.RawConfigParser(strict=False, delimiters="=")
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(path)
        assert unit["Service"]["User"] == "hybrid-messaging"
        for name in re.findall(r"/etc/hybrid-messaging/([\w./-]+)", path.read_text()):
            if not name.startswith(("rabbitmq/conf.d", "rabbitmq/advanced.config")):
                there = path.parent.parent / name
                assert there.exists() or name == "rabbitmq/rabbitmq-env.conf"


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_rendered(role: str) -> None:
    assert role in rendering.ROLES


def test_a_proxy_of_zmq_uses_the_sentinels(tmp_path: Path) -> None:
    text = TOPOLOGY.replace("rpc: amqp", "rpc: zmq").replace("[edge]", "[zmq-proxy]")
    directory = render(tmp_path, text.replace("interior, ", ""))
    found = configparser.RawConfigParser()
    found.read_string(text_of(directory, "compute1/zmq-proxy/zmq-proxy.conf"))
    url = urls.parse(found["DEFAULT"]["transport_url"])
    assert url.scheme == "zmq+sentinel"
    assert [host.host for host in url.hosts] == ["192.0.2.3", "192.0.2.1", "192.0.2.2"]


# -- URLs --------------------------------------------------------------------------


def url_of(path: Path, variable: str) -> urls.TransportURL:
    (line,) = (
        line for line in path.read_text().splitlines() if line.startswith(variable)
    )
    return urls.parse(line.partition("=")[2].strip("'"))


@pytest.mark.parametrize(
    ("where", "hosts"),
    [
        ("zones/east", ["192.0.2.1", "192.0.2.2"]),
        ("zones/west", ["192.0.2.3", "192.0.2.1"]),
        ("hosts/mq2", ["192.0.2.2", "192.0.2.1"]),
        ("hosts/compute1", ["127.0.0.1"]),
    ],
)
def test_urls_of_rpc_name_the_nearest_routers(
    rendered: Path, where: str, hosts: list[str]
) -> None:
    url = url_of(rendered / where / "services.env", transports.RPC_VARIABLE)
    assert [host.host for host in url.hosts] == hosts
    assert url.query == {"ssl_ca_file": "/etc/hybrid-messaging/tls/ca.pem"}
    assert {host.username for host in url.hosts} == {"hybrid@hybrid-messaging"}


def test_urls_ask_for_no_tls_where_servers_have_none(tmp_path: Path) -> None:
    directory = render(tmp_path, f"{TOPOLOGY}tls: false\n")
    files = [*directory.rglob("services.env")]
    assert files
    assert not [file for file in files if "ssl" in file.read_text()]


def test_urls_of_notifications_name_all_nodes_nearest_first(rendered: Path) -> None:
    url = url_of(rendered / "zones/west/services.env", transports.NOTIFY_VARIABLE)
    assert [host.host for host in url.hosts] == ["192.0.2.3", "192.0.2.1", "192.0.2.2"]
    assert url.vhost == "openstack"
    assert url.query["rabbit_quorum_queue"] == "true"


# -- secrets and permissions -------------------------------------------------------


def test_nobody_else_can_read_a_secret(rendered: Path) -> None:
    secrets = credentials.load(rendered)
    assert secrets is not None
    words = [*secrets.secrets(), "PRIVATE KEY"]
    words = [word for word in words if word != secrets.kafka_cluster]
    words.remove(secrets.rabbitmq_salt)
    assert stat.S_IMODE(rendered.stat().st_mode) == 0o700
    for name, (data, mode, _) in all_files(rendered).items():
        if any(word in data.decode() for word in words):
            assert stat.S_IMODE(mode) == 0o600, name
        else:
            assert stat.S_IMODE(mode) in (0o600, 0o644), name


def test_all_hosts_have_a_certificate_of_one_authority_for_their_address(
    rendered: Path,
) -> None:
    authority = x509.load_pem_x509_certificate(
        (rendered / "authority/ca.pem").read_bytes()
    )
    for host, address in (("mq1", "192.0.2.1"), ("compute1", "192.0.2.9")):
        folder = rendered / "hosts" / host / "tls"
        found = x509.load_pem_x509_certificate((folder / "host.pem").read_bytes())
        found.verify_directly_issued_by(authority)
        assert {host, address} <= told_names(found)
        assert (folder / "ca.pem").read_bytes() == (
            rendered / "authority/ca.pem"
        ).read_bytes()


def told_names(found: x509.Certificate) -> set[str]:
    """What a certificate is for."""
    told = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        *map(str, told.get_values_for_type(x509.IPAddress)),
        *told.get_values_for_type(x509.DNSName),
    }


def test_a_rabbitmq_node_passes_for_the_others(rendered: Path) -> None:
    """Services that go on to it expect the one to which they were connected first."""
    local = {"localhost", "127.0.0.1", "::1"}
    nodes = {f"mq{n}" for n in (1, 2, 3)} | {f"192.0.2.{n}" for n in (1, 2, 3)}
    for host, names in (("mq2", nodes), ("compute1", {"compute1", "192.0.2.9"})):
        pem = (rendered / "hosts" / host / "tls/host.pem").read_bytes()
        assert told_names(x509.load_pem_x509_certificate(pem)) == names | local


# -- again -------------------------------------------------------------------------


def test_rendering_again_touches_nothing(tmp_path: Path) -> None:
    directory = render(tmp_path)
    before = all_files(directory)
    assert changed(tmp_path) == {}
    assert all_files(directory) == before


def test_a_host_that_comes_changes_only_what_knows_it(tmp_path: Path) -> None:
    render(tmp_path)
    more = TOPOLOGY + "  c2: {address: 192.0.2.10, zone: east, roles: [edge]}\n"
    found = changed(tmp_path, more)
    assert found.pop("inventory.yaml") == "changed"
    assert found
    assert all(path.startswith("hosts/c2/") for path in found)
    assert set(found.values()) == {"new"}
    gone = changed(tmp_path)
    assert gone.pop("inventory.yaml") == "changed"
    assert set(gone.values()) == {"removed"}
    assert not (tmp_path / "mq/hosts/c2").exists()


def test_an_address_that_changes_brings_a_new_certificate(tmp_path: Path) -> None:
    render(tmp_path)
    found = changed(tmp_path, TOPOLOGY.replace("192.0.2.9", "192.0.2.90"))
    assert found == {
        "hosts/compute1/tls/host.pem": "changed",
        "inventory.yaml": "changed",
    }


def test_a_dry_run_writes_nothing_at_all(tmp_path: Path) -> None:
    assert changed(tmp_path, write=False)
    assert not (tmp_path / "mq").exists()
    directory = render(tmp_path)
    before = all_files(directory)
    assert changed(tmp_path, TOPOLOGY.replace("rabbit\n", "kafka\n"), write=False)
    assert all_files(directory) == before


def test_a_difference_shows_what_changes_and_no_secret(tmp_path: Path) -> None:
    directory = render(tmp_path)
    old = credentials.load(directory)
    assert old is not None
    found, new = rendering.render(
        topology(tmp_path, TOPOLOGY.replace("192.0.2.3", "192.0.2.33")), directory
    )
    shown = "".join(change.difference(new.secrets()) for change in found)
    assert "-    host: 192.0.2.3\n+    host: 192.0.2.33\n" in shown
    assert "hosts/mq3/tls/host.pem: changed" in shown
    assert "PRIVATE" not in shown
    assert not [secret for secret in old.secrets() if secret in shown]


def test_a_difference_shows_no_former_secret(tmp_path: Path) -> None:
    directory = render(tmp_path)
    former = "a-former-password"
    for name in ("redis/redis.conf", "services.env"):
        with (directory / "hosts/mq1" / name).open("a") as file:
            file.write(f"{former}\n")
    gone = directory / "hosts/gone"
    gone.mkdir()
    (gone / "users.conf").write_text(former)
    found, secrets = rendering.render(topology(tmp_path), directory)
    shown = [change.difference(secrets.secrets()) for change in found]
    assert shown == [
        "hosts/mq1/redis/redis.conf: changed\n",
        "hosts/mq1/services.env: changed\n",
        "hosts/gone/users.conf: removed\n",
    ]


def test_permissions_that_somebody_changed_are_mended(tmp_path: Path) -> None:
    directory = render(tmp_path)
    (directory / "hosts/mq1/redis/redis.conf").chmod(0o644)
    assert changed(tmp_path) == {"hosts/mq1/redis/redis.conf": "permissions"}
    assert changed(tmp_path) == {}


def lose_all_keys(directory: Path) -> None:
    for path in (directory / "authority/ca.key", *directory.glob("hosts/*/tls/host*")):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda directory: (directory / "credentials.json").unlink(), "no cred"),
        (lambda d: (d / "credentials.json").write_text("{"), "is damaged"),
        (lambda d: (d / "credentials.json").write_text('{"services": 1}'), "damaged"),
        (lambda directory: (directory / "authority/ca.key").unlink(), "is missing"),
        (lambda d: (d / "authority/ca.pem").write_text("x"), "damaged"),
        (lambda directory: lose_all_keys(directory), "is missing"),
        (lambda directory: directory.chmod(0o777), "others may write"),
    ],
)
def test_what_was_lost_is_not_made_anew_in_silence(
    tmp_path: Path, damage, said: str
) -> None:
    directory = render(tmp_path)
    damage(directory)
    before = all_files(directory)
    with pytest.raises(ClusterError, match=said):
        render(tmp_path)
    assert all_files(directory) == before


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    directory = render(tmp_path)
    path = directory / "hosts/mq1/redis/redis.conf"
    # even if it holds the same today
    other = path.rename(tmp_path / "other")
    before = other.read_bytes()
    path.symlink_to(other)
    render(tmp_path)
    assert other.read_bytes() == before
    assert not path.is_symlink()


def test_a_write_that_fails_leaves_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ClusterError, match="No space left"):
        render(tmp_path)
    assert all_files(tmp_path / "mq") == {}
    monkeypatch.undo()
    render(tmp_path)


# -- the command, and what the documentation shows -----------------------------------


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command; gives its exit code, standard output and standard error."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def call(*words: object) -> tuple[int, str, str]:
        code = main(["cluster", *map(str, words)])
        # of this run's standard error
        root.handlers[:] = handlers
        return code, *capsys.readouterr()

    yield call
    root.setLevel(level)


def test_the_command_shows_what_has_changed(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "mq.yaml"
    path.write_text(TOPOLOGY)
    code, out, err = run("render", path, "--diff", "-f", "json")
    assert code == 0
    assert {"file": "credentials.json", "action": "new"} in json.loads(out)
    assert "+    id: mq1\n" in err
    secrets = credentials.load(tmp_path / "mq")
    assert secrets is not None
    assert not [secret for secret in secrets.secrets() if secret in out + err]
    code, out, err = run("render", path, tmp_path / "mq", "-f", "json")
    assert (code, json.loads(out)) == (0, [])


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "mq.yaml"
    path.write_text(TOPOLOGY.replace("[edge]", "[router]"))
    code, out, err = run("render", path)
    assert (code, out) == (1, "")
    assert err.startswith(f"{path}, line 20: 'router' is not a role: write some of ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_sample_can_be_rendered(tmp_path: Path) -> None:
    sample = resources.FILES / "samples" / "cluster.yaml"
    rendering.render(reading.read(sample), tmp_path / "mq")


def test_the_inventory_has_what_the_playbook_asks_for(tmp_path: Path) -> None:
    directory = render(tmp_path, f"{TOPOLOGY}user: mq\nstate: /srv/mq\n")
    (group,) = yaml.safe_load((directory / "inventory.yaml").read_text()).values()
    assert group["hosts"]["mq2"] == {"ansible_host": "192.0.2.2"}
    assert group["vars"]["hybrid_messaging_user"] == "mq"
    assert group["vars"]["hybrid_messaging_state"] == "/srv/mq"
    playbook = (resources.FILES / "samples" / "cluster-playbook.yaml").read_text()
    asked = set(re.findall(r"\bhybrid_messaging_\w+", playbook))
    assert asked == group["vars"].keys()
    # what hosts have is removed from them by these names
    units = {
        path.stem.removeprefix("hybrid-messaging-")
        for path in directory.glob("hosts/*/systemd/*.service")
    }
    folders = {path.name for path in directory.glob("hosts/*/*") if path.is_dir()}
    servers = set(group["vars"]["hybrid_messaging_servers"])
    assert units | folders - {"tls", "systemd"} <= servers


def test_the_playbook_carries_a_host_to_where_its_servers_look(rendered: Path) -> None:
    sample = resources.FILES / "samples" / "cluster-playbook.yaml"
    (play,) = yaml.safe_load(sample.read_text())
    tasks = {task["name"]: task for task in play["tasks"]}
    copied = next(
        task for name, task in tasks.items() if name.startswith("Copy the conf")
    )
    copied = copied["ansible.builtin.copy"]
    assert copied["dest"].startswith("{{ directory }}/")
    user = tasks["Create a user for the servers"]["ansible.builtin.user"]
    assert user["group"] == copied["group"]
    # root sources a file of the one, and servers write to the other only
    assert tasks["Create directories"]["loop"] == [
        {"path": "{{ directory }}", "owner": "root"},
        {"path": "{{ hybrid_messaging_state }}", "owner": "{{ user }}"},
    ]
    folders = tasks["Create directories for the configuration"]["ansible.builtin.file"]
    urls_ = tasks["Copy the URLs for services, which only root can read"][
        "ansible.builtin.copy"
    ]
    assert {each["owner"] for each in (copied, folders, urls_)} == {"root"}
    assert (urls_["group"], urls_["mode"]) == ("root", "0600")
    found = tasks["List the rendered files"]["ansible.builtin.find"]
    assert found["excludes"] == rendering.SERVICES
    assert copied["mode"] == "{{ '0644' if item.roth else '0640' }}"
    assert (rendered / "hosts/mq1/systemd").is_dir()
