# SPDX-License-Identifier: Apache-2.0
"""`configure` on files as operators have them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy
from oslo_config import cfg
from oslo_messaging import TransportURL
from tests.functional import commands
from tests.functional.commands import Result

from hybrid_messaging import state, state_directory
from hybrid_messaging.service_configs import replace

Configure = Callable[..., Result]

RPC = "amqp://router.example:5672/"
NOTIFY = "rabbit://hybrid:hush%2540@broker.example:5672/"
CINDER = """\
[DEFAULT]
# All messages
transport_url = rabbit://openstack:former@controller:5672/
enabled_backends = lvm

[oslo_messaging_notifications]
driver = noop

[keystone_authtoken]
password = unspoken
"""
SECRETS = ("hush", "former", "unspoken")


@pytest.fixture
def configure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Configure:
    """Runs `configure` with the transports in the environment."""
    monkeypatch.setenv("HYBRID_RPC_URL", RPC)
    monkeypatch.setenv("HYBRID_NOTIFY_URL", NOTIFY)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def call(*words: object) -> Result:
        result = commands.run(capsys, "configure", *words)
        for secret in SECRETS:
            assert secret not in result.out + result.err
        return result

    return call


@pytest.fixture
def cinder(tmp_path: Path) -> Path:
    path = tmp_path / "cinder.conf"
    path.write_text(CINDER)
    return path


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def seen(path: Path, section: str = "DEFAULT") -> TransportURL:
    """The transport as the service will see it."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(path)], default_config_dirs=[], use_env=False)
    if section == "DEFAULT":
        return TransportURL.parse(conf)
    conf.register_opt(cfg.StrOpt("transport_url"), group=section)
    return TransportURL.parse(conf, conf[section].transport_url)


# -- rewriting ---------------------------------------------------------------


def test_a_single_rabbitmq_becomes_two_transports(
    configure: Configure, cinder: Path
) -> None:
    result = configure(cinder, "-f", "json")
    assert result.code == 0
    assert cinder.read_text() == (
        CINDER.replace("rabbit://openstack:former@controller:5672/", RPC).replace(
            "driver = noop\n", f"driver = messagingv2\ntransport_url = {NOTIFY}\n"
        )
        + "\n[oslo_messaging_rabbit]\namqp_durable_queues = true\n"
    )
    [row] = result.rows
    assert row["result"] == "rewritten"
    assert row["rpc"] == RPC
    assert row["notifications"] == "rabbit://hybrid:***@broker.example:5672/"
    assert Path(row["backup"]).read_text() == CINDER
    assert f"hybrid-messaging check {cinder}" in row["next"]
    [host] = seen(cinder, "oslo_messaging_notifications").hosts
    assert (host.username, host.password) == ("hybrid", "hush%40")


def test_the_second_time_nothing_changes(configure: Configure, cinder: Path) -> None:
    configure(cinder)
    before = tree(cinder.parent), cinder.stat()
    result = configure(cinder, "-f", "json")
    assert [row["result"] for row in result.rows] == ["unchanged"]
    assert result.rows[0]["next"] == []
    assert (tree(cinder.parent), cinder.stat()) == before


def test_people_read_what_to_do_next(configure: Configure, cinder: Path) -> None:
    result = configure(cinder)
    assert "rewritten" in result.out
    assert "restart all services of cinder" in result.err


def test_a_dry_run_shows_the_difference_and_changes_nothing(
    configure: Configure, cinder: Path
) -> None:
    before = tree(cinder.parent)
    result = configure("--dry-run", cinder)
    assert result.code == 0
    assert tree(cinder.parent) == before
    shown = result.out.splitlines()
    assert "-transport_url = rabbit://openstack:***@controller:5672/" in shown
    assert f"+transport_url = {RPC}" in shown
    assert "+transport_url = rabbit://hybrid:***@broker.example:5672/" in shown
    assert " password = ***" in shown
    [row] = configure("--dry-run", cinder, "-f", "json").rows
    assert row["result"] == "would be rewritten"
    assert row["diff"].startswith(f"--- {cinder}\n+++ {cinder}\n@@")
    assert row["backup"] is None


def test_restore_brings_the_original_back(
    configure: Configure, cinder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(cinder.parent)
    configure(cinder)
    monkeypatch.setenv("HYBRID_RPC_URL", "amqp://elsewhere/")
    configure(cinder)
    assert seen(cinder).hosts[0].hostname == "elsewhere"
    result = configure("--restore", cinder, "-f", "json")
    assert [row["result"] for row in result.rows] == ["restored"]
    assert tree(cinder.parent) == before
    again = configure("--restore", cinder)
    assert again.code == 1
    assert "there is nothing to restore" in again.err


def test_restore_refuses_what_was_edited_since(
    configure: Configure, cinder: Path
) -> None:
    configure(cinder)
    with cinder.open("a") as file:
        file.write("# mine\n")
    before = tree(cinder.parent)
    result = configure("--restore", cinder)
    assert result.code == 1
    assert "has been edited since" in result.err and "cp -p" in result.err
    assert tree(cinder.parent) == before
    assert "--restore will refuse" in configure(cinder).err


# -- where the transports come from ------------------------------------------


def test_what_runs_in_the_state_directory(
    configure: Configure, cinder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYBRID_RPC_URL")
    monkeypatch.delenv("HYBRID_NOTIFY_URL")
    missing = configure(cinder)
    assert missing.code == 1
    assert "hybrid-messaging up" in missing.err
    default = state_directory.default_state_dir()
    for place, port in ((default, 1), (cinder.parent / "other", 2)):
        place.mkdir(parents=True)
        found = state.State("rabbit-kafka", f"rabbit://h:{port}/", "kafka://k:9092/")
        state_directory.save(place, found)
    assert configure(cinder).code == 0
    assert seen(cinder).hosts[0].port == 1
    assert configure(cinder, "--state-dir", cinder.parent / "other").code == 0
    assert seen(cinder).hosts[0].port == 2


def test_urls_on_the_command_line_come_first(
    configure: Configure, cinder: Path
) -> None:
    words = ("--rpc-url", "rabbit://r/", "--notify-url", "kafka://k:1/")
    assert configure(cinder, *words).code == 0
    assert seen(cinder).transport == "rabbit"
    assert seen(cinder, "oslo_messaging_notifications").transport == "kafka"
    assert "durable" not in cinder.read_text()


def test_a_mode_and_hosts_with_passwords_from_the_environment(
    configure: Configure, cinder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYBRID_RPC_URL")
    monkeypatch.delenv("HYBRID_NOTIFY_URL")
    monkeypatch.setenv("HYBRID_NOTIFY_PASSWORD", "hush$my_ip/")
    words = ["--mode", "qpid-kafka", "--rpc-host", "a", "--rpc-host", "b:1"]
    words += ["--notify-host", "::1", "--notify-user", "u@x"]
    result = configure(cinder, *words)
    assert result.code == 1  # an IPv6 address stands in brackets
    words[words.index("::1")] = "[::1]"
    assert configure(cinder, *words).code == 0
    assert [host.hostname for host in seen(cinder).hosts] == ["a", "b"]
    [host] = seen(cinder, "oslo_messaging_notifications").hosts
    assert (host.username, host.password) == ("u@x", "hush$my_ip/")


# -- several files -----------------------------------------------------------


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """The files of a controller with a cell."""
    root = tmp_path / "etc"
    texts = {
        "cinder/cinder.conf": CINDER,
        "keystone/keystone.conf": "[DEFAULT]\ndebug = true\n",
        "nova/nova.conf": CINDER + f"[api_database]\nconnection = sqlite:///{root}/api"
        f"\n[database]\nconnection = sqlite:///{root}/cell0\n",
        "nova/nova_cell1.conf": CINDER.replace("5672/", "5672/nova_cell1")
        + f"[database]\nconnection = sqlite:///{root}/cell1\n",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    engine = sqlalchemy.create_engine(f"sqlite:///{root}/api")
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE cell_mappings (id INTEGER, uuid TEXT, name TEXT, "
            "transport_url TEXT, database_connection TEXT, disabled BOOLEAN)",
            "INSERT INTO cell_mappings VALUES (1, "
            "'00000000-0000-0000-0000-000000000000', 'cell0', 'none:///', 'x', 0)",
            "INSERT INTO cell_mappings VALUES (2, 'the-uuid', 'cell1', "
            "'rabbit://openstack:former@controller:5672/nova_cell1', "
            f"'sqlite:///{root}/cell1', 0)",
        ):
            connection.execute(sqlalchemy.text(statement))
    engine.dispose()
    return root


def test_a_whole_controller(configure: Configure, etc: Path) -> None:
    before = tree(etc)
    refused = configure("--discover", etc)
    assert refused.code == 1
    assert "they would share one" in refused.err
    assert tree(etc) == before

    result = configure("--discover", etc, "--keep-vhosts", "-f", "json")
    assert result.code == 0
    rows = {Path(row["file"]).name: row for row in result.rows}
    assert rows["keystone.conf"]["rpc"] == "none"
    assert "amqp" not in (etc / "keystone/keystone.conf").read_text().partition("[o")[0]
    assert seen(etc / "nova/nova.conf").virtual_host == ""
    assert seen(etc / "nova/nova_cell1.conf").virtual_host == "nova_cell1"
    notify = seen(etc / "nova/nova_cell1.conf", "oslo_messaging_notifications")
    assert notify.virtual_host == ""
    steps = [step for row in result.rows for step in row["next"]]
    assert (
        f"run nova-manage --config-file {etc}/nova/nova.conf --config-file "
        f"{etc}/nova/nova_cell1.conf cell_v2 update_cell --cell_uuid the-uuid"
    ) in steps
    store(etc, seen(etc / "nova/nova_cell1.conf"))
    result = configure("--restore", "--discover", etc, "-f", "json")
    assert result.code == 0
    assert [step for row in result.rows for step in row["next"]] == [
        f"run nova-manage --config-file {etc}/nova/nova.conf --config-file "
        f"{etc}/nova/nova_cell1.conf cell_v2 update_cell --cell_uuid the-uuid",
        "restart all services of cinder, keystone, nova",
    ]
    after = tree(etc)
    assert after.pop("api") != before.pop("api")
    assert after == before


def store(etc: Path, url: TransportURL) -> None:
    """Have a cell's mapping follow, as nova-manage does."""
    engine = sqlalchemy.create_engine(f"sqlite:///{etc}/api")
    statement = "UPDATE cell_mappings SET transport_url = :url WHERE name = 'cell1'"
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement), {"url": str(url)})
    engine.dispose()


def test_a_virtual_host_for_one_file(configure: Configure, etc: Path) -> None:
    nova = etc / "nova"
    result = configure(nova / "nova.conf", f"{nova}/nova_cell1.conf=c1")
    assert result.code == 0
    assert seen(nova / "nova_cell1.conf").virtual_host == "c1"
    assert seen(nova / "nova.conf").virtual_host == ""
    assert configure(nova / "nova.conf", "--vhost", "all").code == 0
    assert seen(nova / "nova.conf").virtual_host == "all"


def test_an_equals_sign_may_be_part_of_a_name(
    configure: Configure, cinder: Path
) -> None:
    odd = cinder.rename(cinder.with_name("a=b.conf"))
    assert configure(odd).code == 0
    assert seen(odd).virtual_host == ""
    assert configure(f"{odd}=v").code == 0
    assert seen(odd).virtual_host == "v"


def test_fragments_that_override_are_found_and_rewritten(
    configure: Configure, etc: Path
) -> None:
    fragment = etc / "cinder/cinder.conf.d/50-bus.conf"
    fragment.parent.mkdir()
    fragment.write_text("[DEFAULT]\ntransport_url = rabbit://\n")
    result = configure("--discover", etc, "--keep-vhosts", "-f", "json")
    rows = {row["file"]: row for row in result.rows}
    assert rows[str(fragment)]["result"] == "rewritten"
    assert rows[str(fragment)]["service"] == "cinder"
    assert seen(fragment).transport == "amqp"


def test_overriding_fragments_are_named(configure: Configure, cinder: Path) -> None:
    fragment = cinder.with_name("cinder.conf.d") / "50-bus.conf"
    fragment.parent.mkdir()
    fragment.write_text("[DEFAULT]\ntransport_url = rabbit://\n")
    assert f"warning: {fragment}: overrides" in configure(cinder).err


# -- bad input ---------------------------------------------------------------


def directory(path: Path) -> None:
    path.mkdir()


def binary(path: Path) -> None:
    path.write_bytes(b"\x7fELF\0\0")


def malformed(path: Path) -> None:
    path.write_text("[DEFAULT]\n\nformer\n")


def headless(path: Path) -> None:
    path.write_text("# c\ndebug = true\n[DEFAULT]\n")


def broken_section(path: Path) -> None:
    path.write_text("[DEFAULT\ndebug = true\n")


def read_only(path: Path) -> None:
    path.write_text(CINDER)
    path.chmod(0o440)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (directory, ": is a directory"),
        (binary, ", line 1: not a text file"),
        (malformed, ", line 3: neither an option"),
        (headless, ", line 2: this option precedes the first section"),
        (broken_section, ", line 1: a section must end"),
        (read_only, ": is read-only (mode 440)"),
        (os.mkfifo, ": is not a file"),
        (loop, ": is a symbolic link that leads back to itself"),
        (dangling, ": is a symbolic link to nowhere, which does not exist"),
        (lambda path: None, ": cannot be read: No such file"),
    ],
)
def test_one_bad_file_and_none_is_changed(
    configure: Configure,
    cinder: Path,
    make: Callable[[Path], None],
    reason: str,
) -> None:
    bad = cinder.with_name("bad.conf")
    make(bad)
    before = tree(cinder.parent)
    result = configure(cinder, bad)
    assert result.code == 1
    assert f"{bad}{reason}" in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert tree(cinder.parent) == before


def test_duplicate_sections_are_no_mistake(configure: Configure, cinder: Path) -> None:
    cinder.write_text(CINDER + "[DEFAULT]\ntransport_url = rabbit://last/\n")
    assert configure(cinder).code == 0
    assert seen(cinder).transport == "amqp"


def test_unusual_bytes_survive(configure: Configure, cinder: Path) -> None:
    text = b"\xef\xbb\xbf# caf\xe9\r\n[DEFAULT]\r\nx = \xff\r\n  more"
    cinder.write_bytes(text)
    result = configure(cinder)
    assert result.code == 0
    assert "byte order mark" in result.err and "line 1: is not UTF-8" in result.err
    assert cinder.read_bytes().startswith(text + b"\r\ntransport_url = amqp://")


def test_no_files_at_all(configure: Configure, tmp_path: Path) -> None:
    assert "no files given" in configure().err
    empty = configure("--discover", tmp_path)
    assert empty.code == 1
    assert "no OpenStack service has its configuration here" in empty.err


def test_a_url_that_cannot_work(configure: Configure, cinder: Path) -> None:
    before = tree(cinder.parent)
    result = configure(cinder, "--notify-url", "rabbit://u:hush/1@h/")
    assert result.code == 1
    assert "percent-encode" in result.err
    assert tree(cinder.parent) == before


def test_two_at_once(configure: Configure, cinder: Path) -> None:
    before = tree(cinder.parent)
    with replace.exclusive([cinder]):
        result = configure(cinder)
    assert result.code == 1
    assert "another `hybrid-messaging configure` is running" in result.err
    assert tree(cinder.parent) == before


def test_a_file_that_would_grow_beyond_the_limit(
    configure: Configure, cinder: Path
) -> None:
    large = cinder.with_name("nova.conf")
    large.write_text(CINDER + "# comment\n" * 500)
    before = tree(cinder.parent)
    size = large.stat().st_size
    program = shutil.which("hybrid-messaging", path=Path(sys.executable).parent)
    assert program is not None
    result = subprocess.run(
        [program, "configure", cinder, large],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        # the limit would cut the measurements short, too
        env={name: os.environ[name] for name in os.environ if "COVERAGE" not in name},
    )
    assert result.returncode == 1
    assert (
        f"{large}: cannot be replaced: it would exceed the largest file"
        in result.stderr
    )
    assert tree(cinder.parent) == before
