# SPDX-License-Identifier: Apache-2.0
"""The command line itself: output for people and scripts, errors, exit codes."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybrid_messaging import modes, state, state_directory, urls
from hybrid_messaging.cli import app, engine
from hybrid_messaging.engines import deployment, kinds
from hybrid_messaging.engines.kinds import rabbitmq

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Run:
    """Runs a command; gives its exit code, standard output and standard error."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("HYBRID", "HYBRID_RPC_URL", "HYBRID_NOTIFY_URL", "HYBRID_ROUTER"):
        monkeypatch.delenv(name, raising=False)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def call(*words: str) -> tuple[int, str, str]:
        try:
            code = app.main(words)
        except SystemExit as ended:  # argparse
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Where the commands look when they are not told."""
    return tmp_path / "hybrid-messaging"


def test_no_command_shows_which_there_are(run: Run) -> None:
    code, output, _ = run()
    assert code == 1
    for command in ("mode list", "mode show", "up", "down", "status"):
        assert f"\n  {command} " in output


def test_version(run: Run) -> None:
    code, output, _ = run("--version")
    assert code == 0
    assert output.split()[-1] == importlib.metadata.version("hybrid-messaging")


def test_an_unknown_command(run: Run) -> None:
    assert run("sideways")[0] == 2


def test_mode_list_for_people(run: Run) -> None:
    code, output, _ = run("mode", "list")
    assert code == 0
    assert "| qpid-hybrid " in output and "| the same" in output


def test_mode_list_for_scripts(run: Run) -> None:
    code, output, _ = run("mode", "list", "-f", "json")
    assert code == 0
    available = {row["mode"]: row["available"] for row in json.loads(output)}
    assert set(available.values()) == {True}


def test_mode_show_names_what_is_missing_and_its_cure(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rabbitmq, "PACKAGED_SERVER", tmp_path / "nowhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    code, output, _ = run("mode", "show", "qpid-hybrid")
    assert code == 0
    assert "rabbitmq-server: sudo dnf install rabbitmq-server" in output
    code, output, _ = run("mode", "show", "-f", "json")
    shown = json.loads(output)
    assert shown["mode"] == "qpid-hybrid"
    assert shown["rpc_url"].startswith("amqp://127.0.0.1:")
    assert shown["engines"][0] == "router: AMQP 1.0 router, embedded"
    assert len(shown["missing"]) == 3


def test_mode_show_of_a_mode_to_come(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    to_come = modes.Mode("to-come", "amqp", "pigeon", "rabbit", "rabbitmq")
    monkeypatch.setattr(modes, "get", lambda name: to_come)
    code, output, _ = run("mode", "show", "to-come", "-f", "json")
    assert code == 0
    assert not json.loads(output)["available"]
    assert "not available yet in this release" in output


def test_fetch(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = {"one": lambda progress: tmp_path / "1", "two": lambda progress: tmp_path}
    monkeypatch.setattr(kinds.get("kafka"), "sources", sources)
    assert run("fetch", "kafka")[:2] == (0, f"{tmp_path}/1\n")
    assert run("fetch", "kafka", "--source", "two")[:2] == (0, f"{tmp_path}\n")
    for words, message in (
        (("kafka", "--source", "three"), "invalid choice: 'three'"),
        # what is no package of a distribution, and what is no engine
        (("rabbitmq",), "invalid choice: 'rabbitmq'"),
        (("ports",), "invalid choice: 'ports'"),
    ):
        code, _, errors = run("fetch", *words)
        assert code == 2
        assert message in errors
    code, _, errors = run("fetch", "broker", "--source", "two")
    assert (code, errors) == (1, "broker has no source two; choose maven\n")


def test_mode_show_where_nothing_is_started(run: Run) -> None:
    code, output, _ = run("mode", "show", "external")
    assert code == 0
    assert "the one that you give" in output and "nothing" in output


def test_urls_for_those_who_write_files_themselves(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_RPC_PASSWORD", "a@b")
    monkeypatch.setenv("HYBRID_NOTIFY_PASSWORD", "c")
    words = (
        *("urls", "--mode", "qpid-hybrid", "--vhost", "cell", "-f", "value"),
        *("--rpc-host", "[::1]:5673", "--rpc-user", "r@hybrid"),
        *("--notify-host", "one", "--notify-host", "two", "--notify-user", "n"),
    )
    code, output, _ = run(*words, "--show-passwords")
    assert code == 0
    assert output.splitlines() == [
        "amqp://r%40hybrid:a%40b@[::1]:5673/cell",
        "rabbit://n:c@one:5672,n:c@two:5672/?amqp_durable_queues=true",
    ]
    assert "a%40b" not in run(*words)[1]


def test_urls_of_several_virtual_hosts(run: Run) -> None:
    words = ("urls", "--rpc-url", "amqp://r@one/own?ssl=true", "-f", "json")
    more = ("--notify-url", "rabbit://two/", "--vhost", "", "--vhost", "cell")
    code, output, _ = run(*words, *more)
    assert code == 0
    assert json.loads(output) == {
        "rpc": "amqp://r@one/own?ssl=true",
        "notify": "rabbit://two/?amqp_durable_queues=true",
        "rpc cell": "amqp://r@one/cell?ssl=true",
    }


def test_urls_in_the_files_of_deployment_tools(run: Run) -> None:
    words = ("urls", "--for", "devstack", "--rpc-url", "amqp://r:hush@one/own")
    more = ("--notify-url", "rabbit://n:hush@two/", "--vhost", "v")
    code, output, _ = run(*words, *more)
    assert code == 0
    assert output.startswith("# local.conf")
    assert "HYBRID_RPC_URL='amqp://r:***@one:5672/v'\n" in output
    assert "hush" not in output
    code, output, _ = run(*words, *more, "--show-passwords", "-f", "json")
    assert code == 0
    [text] = json.loads(output).values()
    assert "HYBRID_RPC_URL=amqp://r:hush@one:5672/v\n" in text
    code, _, errors = run(*words, *more, "--vhost", "w")
    assert code == 1 and "single --vhost" in errors


def test_urls_of_servers_that_speak_tls(run: Run) -> None:
    code, output, _ = run(
        *("urls", "--mode", "zmq-kafka", "-f", "value"),
        *("--rpc-host", "one:1", "--notify-host", "two:2"),
        *("--ca-file", "/ca.pem", "--zmq-key-directory", "/keys"),
    )
    assert code == 0
    rpc, notify = map(urls.parse, output.split())
    assert rpc.query == {"zmq_redis_ca_file": "/ca.pem", "zmq_key_directory": "/keys"}
    assert notify.query == {"security_protocol": "SASL_SSL", "ssl_cafile": "/ca.pem"}


def test_an_engine_for_another_supervisor(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HYBRID_ENGINE_PASSWORD", "hush")
    directory = tmp_path / "new" / "router"
    words = ("engine", "prepare", "router", str(directory), "--router", "embedded")
    code, output, _ = run(
        *words, "--port", "5673", "--user", "nova@hybrid", "-f", "json"
    )
    assert code == 0
    found = json.loads(output)
    assert found["command"].endswith(f"--config {directory}/router.conf")
    assert found["url"] == "amqp://nova%40hybrid:***@127.0.0.1:5673/"
    assert directory.stat().st_mode & 0o077 == 0
    assert "port: 5673" in (directory / "router.conf").read_text()
    assert (directory / "environment").read_text() == ""


def test_an_engine_with_tls_for_another_supervisor(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HYBRID_ENGINE_PASSWORD", "hush")
    tls, directory = tmp_path / "new" / "tls", tmp_path / "router"
    words = (
        *("engine", "prepare", "router", str(directory), "--router", "embedded"),
        *("--port", "5673", "--user", "nova@hybrid", "--certificates", str(tls)),
    )
    code, _, errors = run(*words)
    assert code == 1
    assert f"`hybrid-messaging engine certificates {tls}`" in errors
    make = ("engine", "certificates", str(tls), "-f", "json")
    # an address as it stands in a URL
    code, output, _ = run(*make, "--name", "[2001:db8::1]")
    assert code == 0
    made = json.loads(output)
    assert made["authority"] == str(tls / "ca.pem")
    assert json.loads(run(*make)[1]) == made
    code, output, _ = run(*words, "-f", "json")
    assert code == 0
    assert urls.parse(json.loads(output)["url"]).query == {
        "ssl_ca_file": made["authority"]
    }
    config = (directory / "router.conf").read_text()
    assert "requireSsl: yes" in config and f"certFile: {made['host']}\n" in config


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--edge-port", "5674", "the embedded router cannot connect to other routers"),
        ("--interior", "[::1]:5674", "the embedded router cannot connect to other"),
        (
            "--interior",
            "router.example",
            "'router.example' is not of the form HOST:PORT",
        ),
        ("--interior", "::1", "'::1' is not of the form HOST:PORT"),
    ],
)
def test_a_router_at_an_edge_that_cannot_be(
    run: Run, tmp_path: Path, option: str, value: str, told: str
) -> None:
    words = ("engine", "prepare", "router", str(tmp_path), "--router", "embedded")
    code, _, errors = run(*words, "--port", "5673", option, value)
    assert code != 0
    assert told in errors


NOBODY = ("--port", "1")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("prepare", "templates", "/x", *NOBODY), 2, "invalid choice: 'templates'"),
        (("prepare", "router", "/x", "--port", "99999"), 2, "'99999' is not a port"),
        (("prepare", "router", "/x", "--port", "-5"), 2, "'-5' is not a port"),
        (("prepare", "router", "/x", "--port", "0"), 2, "'0' is not a port"),
        (("prepare", "router", "/x", *NOBODY, "--edge-port", "0"), 2, "is not a port"),
        (
            ("prepare", "router", "/x", *NOBODY, "--host", "a b"),
            2,
            "not a host name or an addr",
        ),
        (("prepare", "redis", "/x", *NOBODY, "--user", "a\nb"), 2, "contains spaces"),
        (("prepare", "redis", "/x", *NOBODY, "--user", "a"), 1, "HYBRID_ENGINE_PASSW"),
        (("prepare", "router", "/proc/x", *NOBODY), 1, "/proc/x: No such file"),
        (("setup", "redis", "--port", "65536"), 2, "'65536' is not a port"),
        (("setup", "redis", *NOBODY), 1, "nothing listens at 127.0.0.1:1"),
        (("setup", "rabbitmq", *NOBODY), 1, "nothing listens at 127.0.0.1:1"),
    ],
)
def test_nonsense_about_engines_is_refused(
    run: Run, words: tuple[str, ...], code: int, told: str
) -> None:
    found, output, errors = run("engine", *words)
    assert (found, output) == (code, "")
    assert told in errors
    assert not Path("/x").exists()


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--timeout", "-1", "negative or not a number"),
        ("--timeout", "nan", "negative or not a number"),
        ("--timeout", "0", "more than 0"),
        ("--rabbitmq-management", "99999", "is not a port"),
    ],
)
def test_nonsense_about_checks_is_refused(
    run: Run, option: str, value: str, told: str
) -> None:
    code, output, errors = run("check", "/nowhere.conf", option, value)
    assert (code, output) == (2, "")
    assert told in errors


def test_a_password_of_two_lines_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HYBRID_ENGINE_PASSWORD", "hush\nloopback_users = none")
    words = ("engine", "prepare", "redis", str(tmp_path / "new"), "--user", "a")
    code, output, errors = run(*words, "--port", "1")
    assert (code, output) == (1, "")
    assert "contains control characters" in errors and "hush" not in errors
    assert not (tmp_path / "new").exists()


def test_the_environment_of_an_engine_is_as_systemd_reads_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KEPT", "as it is")
    path = tmp_path / "environment"
    engine._write_environment(path, {"KEPT": "as it is", "NEW": 'a "b" $c \\d'})
    assert path.read_text() == 'NEW="a \\"b\\" \\$c \\\\d"\n'
    assert path.stat().st_mode & 0o077 == 0


def test_an_error_is_one_line(run: Run) -> None:
    code, output, errors = run("mode", "show", "qpd")
    assert code == 1
    assert output == ""
    assert errors.startswith("there is no mode 'qpd'; choose one of ")
    assert errors.count("\n") == 1


def test_an_error_has_a_traceback_for_those_who_ask(run: Run) -> None:
    code, _, errors = run("--debug", "mode", "show", "qpd")
    assert code == 1
    assert "Traceback" in errors


def test_nothing_is_up(run: Run, state_dir: Path) -> None:
    code, output, errors = run("status", "-f", "json")
    assert (code, json.loads(output)) == (1, [])
    assert errors.startswith(f"{state_dir} has no deployment; to show servers")
    assert run("down") == (0, "", f"nothing is up in {state_dir}\n")
    assert run("--quiet", "down") == (0, "", "")
    assert not state_dir.exists()


def test_a_damaged_state_is_one_line_everywhere(run: Run, state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / state_directory.STATE_FILE).write_text("{")
    for command in ("up", "down", "status"):
        code, _, errors = run(command)
        assert code == 1
        assert "is damaged" in errors and errors.count("\n") == 1


def test_a_variable_with_a_typo_spoils_no_help(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_TLS", "maybe")
    for words in (("up", "--help"), ("bench", "run", "--help")):
        assert run(*words)[0] == 0
    told = "HYBRID_TLS in the environment: 'maybe' is neither true nor false\n"
    assert run("up", "external") == (1, "", told)
    # what is on the command line counts, but a typo is a typo
    given = ("--rpc-url", "amqp://a/", "--notify-url", "rabbit://b/")
    assert run("up", "external", "--no-tls", *given)[0] == 0
    monkeypatch.setenv("CLIFF_MAX_TERM_WIDTH", "wide")
    code, _, errors = run("mode", "list")
    assert (code, errors.count("\n")) == (0, 1)
    assert "ignored CLIFF_MAX_TERM_WIDTH: 'wide' is not a number" in errors


def test_nobody_needs_a_home_to_be_helped(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert run("status", "--help")[0] == 0
    code, _, errors = run("status")
    assert code == 1
    assert "name a directory with --state-dir" in errors


INTERRUPT = """
import importlib.abc, os, signal, sys

where = sys.argv.pop(1)
# whatever those who run the tests ignore
signal.signal(signal.SIGINT, signal.default_int_handler)

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == where:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from hybrid_messaging import cli
sys.exit(cli.main())
"""


@pytest.mark.parametrize(
    "module",
    ["cliff.app", "hybrid_messaging.cli.status", "hybrid_messaging.engines.deployment"],
)
def test_ctrl_c_while_modules_are_imported_is_no_traceback(
    module: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT, module, "status"],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_status_fits_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "rabbitmq-notify"
    url = "rabbit://hybrid:secret@127.0.0.1:65535/?ssl=true&ssl_ca_file=/ca.pem"
    known = state.Engine(
        *(name, "rabbitmq", ("notify",), "127.0.0.1", 65535, url, 1 << 22),
        started=time.time() - 999.5 * 24 * 3600,
        log="/log",
    )
    reports = [
        deployment.Report(known, deployment.SILENT),
        deployment.Report(known, deployment.DOWN),
    ]
    monkeypatch.setattr(deployment.Deployment, "reports", lambda self: reports)
    code, output, _ = run("status")
    lines = output.splitlines()
    assert (code, len(lines)) == (1, 6)
    assert max(map(len, lines)) <= 80
    assert "None" not in output and "not answering" in output and "999d" in output
    more = run("status", "--long")[1]
    assert "rabbit://hybrid:***@127.0.0.1:65535/" in more and "None" not in more
    assert run("status", "-c", "pid", "-f", "value")[1].split() == ["4194304"] * 2
    (row, _) = json.loads(run("status", "-f", "json")[1])
    assert row["waiting"] is None and row["pid"] == 1 << 22


def test_status_of_many_services_fits_a_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("nova", "cinder", "neutron", "ironic", "ceilometer", "barbican"):
        (tmp_path / name).mkdir()
        text = "[DEFAULT]\ntransport_url = amqp://127.0.0.1:1/\n"
        (tmp_path / name / f"{name}.conf").write_text(text)
    code, output, _ = run("status", "--discover", str(tmp_path))
    assert code == 1
    assert max(map(len, output.splitlines())) <= 80
    assert "None" not in output and "ceilometer," in output


COMPLETE = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_hybrid_messaging
echo "${COMPREPLY[*]}"
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("zmq-", "zmq-keys zmq-proxy"),
        ("engine ", "certificates drain prepare setup"),
        ("zmq-proxy status --r", "--rpc-url"),
        ("--debug up qpid-h", "qpid-hybrid"),
        ("up --router e", "embedded"),
        ("up --state-dir fetch --rep", "--repair"),
        ("fetch ", "broker kafka router"),
        ("fetch kafka --source ", "apache container maven"),
        ("engine setup ka", "kafka"),
        ("smoke --only fan", "fanout"),
        ("bench run 4", "4-hybrid"),
        ("urls --notify-queues ", "durable quorum"),
        ("mode ", "list show"),
        ("status --conf", "--config"),
        # names of files
        ("check ", ""),
        ("up --state-dir ", ""),
        # what somebody types is not executed
        ("$(exit) z", "zmq-keys zmq-proxy"),
    ],
)
def test_completion_offers_what_exists(
    completion: Path, typed: str, offered: str
) -> None:
    words = ["hybrid-messaging", *typed.split(" ")]
    found = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", completion, *words],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert found == f"{offered}\n"


@pytest.fixture(scope="module")
def completion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = Path(sys.executable).with_name("hybrid-messaging")
    path = tmp_path_factory.mktemp("completion") / "script"
    # a typo in the environment does not matter
    environment = {**os.environ, "HYBRID_TLS": "maybe"}
    with path.open("w") as file:
        subprocess.run([program, "complete"], check=True, stdout=file, env=environment)
    return path


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    application = app.HybridMessaging()
    for name, entry_point in application.command_manager:
        if entry_point.load().__module__.startswith("hybrid_messaging."):
            yield name, entry_point.load()(application, None).get_parser(name)


def test_each_option_explains_itself() -> None:
    """Also to those who have not read the option above it."""
    unclear = [
        f"{name}: {action.dest}: {action.help}"
        for name, parser in parsers()
        for action in parser._actions
        if not action.help
        or re.match(r"(of|the same|as for)\b", action.help)
        or re.search(r"\b(likewise|user there)\b", action.help)
    ]
    assert not unclear


def test_servers_of_others_are_kept_and_shown(run: Run, state_dir: Path) -> None:
    given = ("--rpc-url", "amqp://u:secret@a:1/", "--notify-url", "rabbit://v:x@b/")
    code, output, _ = run("up", "external", *given)
    assert code == 0
    assert "amqp://u:***@a:1/" in output and "secret" not in output
    assert "hybrid-messaging configure FILE" in output
    # again, without repeating oneself, for a script
    code, output, errors = run("up", "-f", "json")
    assert code == 0
    assert errors == "external is already up\n"
    assert [row["engine"] for row in json.loads(output)] == ["none", "none"]
    loaded = state_directory.load(state_dir)
    assert loaded and loaded.rpc_url == given[1]
    assert run("status")[0] == 0
    code, _, errors = run("up", "external", "--rpc-url", "amqp://c/")
    assert code == 1
    assert "is in use with other URLs" in errors
    code, _, errors = run("up", "rabbit")
    assert code == 1
    assert "is in use with mode external" in errors
    assert run("down")[0] == 0
    assert not state_dir.exists()


def test_the_environment_names_mode_and_urls(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HYBRID", "external")
    monkeypatch.setenv("HYBRID_RPC_URL", "amqp://a/")
    monkeypatch.setenv("HYBRID_NOTIFY_URL", "rabbit://b/")
    other = tmp_path / "other place"
    code, output, _ = run("up", "--state-dir", str(other))
    assert code == 0
    assert f"hybrid-messaging down --state-dir '{other}'" in output
    assert (other / state_directory.STATE_FILE).exists()


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("mode", "list"),
        ("urls", "--mode", "qpid-hybrid", "--rpc-host", "a", "--notify-host", "b"),
    ],
    ids=" ".join,
)
def test_commands_start_quickly(words: tuple[str, ...], tmp_path: Path) -> None:
    """Neither big libraries are imported, nor all that is installed looked through."""
    script = """
import importlib.metadata, sys
def packages_distributions(): raise AssertionError("it reads all metadata")
importlib.metadata.packages_distributions = packages_distributions
from hybrid_messaging.cli import app
app.main(sys.argv[1:])
slow = {"oslo_messaging", "oslo_utils", "proton", "requests"} & set(sys.modules)
assert not slow, slow
others = {"hybrid_messaging.cli.bench_run", "hybrid_messaging.cli.router"}
assert others.isdisjoint(sys.modules)
"""
    subprocess.run(
        [sys.executable, "-c", script, *words],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        check=True,
    )
