# SPDX-License-Identifier: Apache-2.0
"""Engines before they start: what they find, configure and refuse."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jinja2
import psutil
import pytest
from tests.functional.waiting import ended, until

from hybrid_messaging import engines, modes, state, state_directory
from hybrid_messaging.engines import (
    HOST,
    EngineError,
    Options,
    amqp_management,
    kinds,
    ports,
    processes,
    router_users,
    templates,
)
from hybrid_messaging.engines.deployment import Deployment
from hybrid_messaging.engines.kinds import rabbitmq
from hybrid_messaging.router import config as embedded_config

ROUTER = kinds.get("router")
RABBITMQ = kinds.get("rabbitmq")

MakeProgram = Callable[[str], Path]


@pytest.fixture
def make_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeProgram:
    """Puts programs on an otherwise empty PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))

    def make(name: str) -> Path:
        program = directory / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        return program

    return make


@pytest.fixture
def no_packaged_rabbitmq(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rabbitmq, "PACKAGED_SERVER", tmp_path / "nowhere")


def take(preferred: int | None) -> int:
    return preferred or 1000


def record(launch: engines.Launch, kind: str) -> state.Engine:
    return state.Engine(
        name=kind,
        kind=kind,
        roles=("rpc",),
        host=HOST,
        port=launch.port,
        url=launch.url,
        pid=state.NOT_STARTED,
        started=0,
        log="",
        details=launch.details,
    )


# -- the registry and the templates ---------------------------------------


def test_every_kind_of_the_mode_table_can_be_made() -> None:
    wanted = {item.kind for mode in modes.load().values() for item in mode.engines}
    assert wanted == set(kinds.KINDS)
    for name in wanted:
        kind = kinds.get(name)
        assert kind is kinds.get(name)
        assert kind.title and kind.start_timeout > 0 and kind.stop_timeout > 0


@pytest.mark.parametrize("name", ["pigeon", "ports", "kinds", "a.b", ""])
def test_what_is_no_kind_is_one_sentence(name: str) -> None:
    with pytest.raises(EngineError, match=f"engine {name} is not available"):
        kinds.get(name)


def test_a_template_wants_all_its_values() -> None:
    with pytest.raises(jinja2.UndefinedError):
        templates.render("router.conf", id="x")


# -- ports ------------------------------------------------------------------


def test_ports_are_none_that_the_system_gives_to_connections() -> None:
    """One of these would be taken now and then when an engine restarts."""
    with ports.Ports() as free:
        found = {free.take() for _ in range(50)}
    assert len(found) == 50
    assert all(port in ports.LASTING for port in found)


def test_ports_are_free_and_handed_out_once() -> None:
    with ports.Ports() as free:
        taken = [free.take() for _ in range(20)]
        assert len(set(taken)) == 20
        assert free.take(taken[0]) != taken[0]
    with ports.Ports() as free:
        assert free.take(taken[0]) == taken[0]


def test_a_port_in_use_is_replaced() -> None:
    with socket.create_server((HOST, 0)) as other:
        used = other.getsockname()[1]
        assert ports.answers(HOST, used)
        with ports.Ports() as free:
            assert free.take(used) not in (used, 0)
    assert not ports.answers(HOST, used)


# -- processes --------------------------------------------------------------


def sleeper(*extra: str) -> list[str]:
    return [sys.executable, "-c", "\n".join([*extra, "import time; time.sleep(600)"])]


def spawn(command: list[str], directory: Path) -> psutil.Popen:
    return processes.spawn(command, None, directory, directory / "log")


def test_a_spawned_process_is_detached_and_found_again(tmp_path: Path) -> None:
    process = spawn(sleeper(), tmp_path)
    try:
        assert int((tmp_path / "pid").read_text()) == process.pid
        assert processes.find(process.pid, tmp_path) == process
        assert processes.find(process.pid, tmp_path.parent) is None
        session = Path(f"/proc/{process.pid}/stat").read_text().split()[5]
        assert int(session) == process.pid
    finally:
        processes.stop([(process, 10)])
    assert processes.find(process.pid, tmp_path) is None


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("raise SystemExit(3)", "with exit code 3"),
        ("import os; os.kill(os.getpid(), 15)", "by SIGTERM"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "by SIGKILL, perhaps because memory ran out",
        ),
    ],
)
def test_it_is_known_how_a_process_ended(
    ending: str, words: str, tmp_path: Path
) -> None:
    code = spawn(sleeper(ending), tmp_path).wait(60)
    assert code is not None
    assert processes.how_it_ended(code) == words


def test_trouble_of_our_own_is_no_end_of_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def environ(_: psutil.Process) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    process = spawn(sleeper(), tmp_path)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(psutil.Process, "environ", environ)
            with pytest.raises(OSError, match="Too many open files"):
                processes.find(process.pid, tmp_path)
    finally:
        processes.stop([(process, 10)])


@pytest.mark.parametrize("shown", [{}, {"PATH": "/bin"}])
def test_a_process_that_executes_another_program_is_found(
    shown: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of it, it shows nothing or only a part of its environment."""
    process, whole = spawn(sleeper(), tmp_path), psutil.Process.environ
    looks: dict[int, int] = {}

    def environ(looked_at: psutil.Process) -> dict[str, str]:
        looks[looked_at.pid] = looks.get(looked_at.pid, 0) + 1
        return shown if looks[looked_at.pid] == 1 else whole(looked_at)

    try:
        for pid in (process.pid, state.NOT_STARTED):
            with monkeypatch.context() as patched:
                looks.clear()
                patched.setattr(psutil.Process, "environ", environ)
                assert processes.find(pid, tmp_path) == process
        with monkeypatch.context() as patched:
            looks.clear()
            patched.setattr(psutil.Process, "environ", environ)
            processes.stop_descendants(tmp_path)
        assert not process.is_running()
    finally:
        processes.stop([(process, 10)])


def test_a_configured_engine_has_no_process(tmp_path: Path) -> None:
    assert processes.find(state.NOT_STARTED, tmp_path) is None


def test_a_process_whose_pid_nobody_has_noted_is_found(tmp_path: Path) -> None:
    process = spawn(sleeper(), tmp_path)
    try:
        assert processes.find(state.NOT_STARTED, tmp_path) == process
        assert processes.find(state.NOT_STARTED, tmp_path.parent) is None
    finally:
        processes.stop([(process, 10)])
    assert processes.find(state.NOT_STARTED, tmp_path) is None


def test_only_what_we_have_started_is_found(tmp_path: Path) -> None:
    """Whatever pid somebody has written down."""
    place = os.path.realpath(tmp_path)
    for mark, session in (
        ({processes.MARK: "/"}, True),
        ({}, True),
        ({processes.MARK: place}, False),
    ):
        with subprocess.Popen(
            sleeper(),
            cwd=tmp_path,
            env={"LC_ALL": "C", **mark},
            start_new_session=session,
        ) as stranger:
            try:
                until(psutil.Process(stranger.pid).environ, "it has an environment")
                assert processes.find(stranger.pid, tmp_path) is None
                assert processes.find(state.NOT_STARTED, tmp_path) is None
            finally:
                stranger.kill()
    for pid in (-1, -os.getpid(), 1, 1 << 22, 1 << 40):
        assert processes.find(pid, tmp_path) is None


def test_a_process_of_another_user_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, owner = spawn(sleeper(), tmp_path), os.geteuid()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "geteuid", lambda: owner + 1)
            assert processes.find(process.pid, tmp_path) is None
            assert processes.find(state.NOT_STARTED, tmp_path) is None
            processes.stop_descendants(tmp_path)
        assert processes.find(process.pid, tmp_path) == process
    finally:
        processes.stop([(process, 10)])


def test_a_process_that_nobody_waited_for_has_ended(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], cwd=tmp_path)
    try:
        zombie = psutil.Process(child.pid)
        deadline = time.monotonic() + 30
        while zombie.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert processes.find(child.pid, tmp_path) is None
    finally:
        child.wait()


def test_whoever_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = sleeper(
        "import signal, subprocess, sys, pathlib",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "child = subprocess.Popen([sys.executable, '-c', 'import time;"
        " time.sleep(600)'])",
        "pathlib.Path('ready').touch()",
    )
    process = spawn(stubborn, tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (child,) = process.children()
    processes.stop([(process, 0.1)])
    for member in (process, child):
        assert ended(member)


def test_a_descendant_in_a_session_of_its_own_is_ended(tmp_path: Path) -> None:
    """It may have only been started when its engine's family was listed."""
    leaving = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time;"
        " time.sleep(600)'], start_new_session=True, cwd='/')\n"
        "pathlib.Path('child').write_text(str(child.pid))"
    )
    for name in ("ours", "other"):
        (tmp_path / name).mkdir()
        spawn([sys.executable, "-c", leaving], tmp_path / name).wait(30)
    ours, other = (
        psutil.Process(int((tmp_path / name / "child").read_text()))
        for name in ("ours", "other")
    )
    try:
        processes.stop_descendants(tmp_path / "ours")
        assert ended(ours)
        assert other.is_running()
    finally:
        processes.stop_descendants(tmp_path / "other")
    assert ended(other)


def test_stop_takes_what_has_ended(tmp_path: Path) -> None:
    process = spawn([sys.executable, "-c", ""], tmp_path)
    process.wait(30)
    processes.stop([(process, 10)])


def test_a_process_without_pid_file_is_not_left_running(tmp_path: Path) -> None:
    (tmp_path / "pid").mkdir()
    with pytest.raises(IsADirectoryError):
        spawn(sleeper(), tmp_path)
    left = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
            left += [child] if child.cwd() == str(tmp_path) else []
    assert not left


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert processes.tail(log) == ""
    log.write_bytes(b"one\ntwo\xff\nthree\n\n")
    assert processes.tail(log, lines=2) == "two\N{REPLACEMENT CHARACTER}\nthree"


# -- the router ---------------------------------------------------------------


def test_the_embedded_router_is_taken_where_there_is_no_other(
    make_program: MakeProgram, tmp_path: Path
) -> None:
    assert ROUTER.describe(Options()) == "embedded"
    launch = ROUTER.prepare("router", tmp_path, take, None, Options())
    assert launch.command[1:3] == ("-m", "hybrid_messaging.router")
    make_program("qdrouterd")
    assert ROUTER.describe(Options()) == "qdrouterd"
    program = make_program("skrouterd")
    assert ROUTER.describe(Options()) == "skrouterd"
    launch = ROUTER.prepare("router", tmp_path, take, None, Options())
    assert launch.command == (str(program), "-c", str(tmp_path / "router.conf"))


def test_a_router_stays_what_it_was(make_program: MakeProgram, tmp_path: Path) -> None:
    launch = ROUTER.prepare("router", tmp_path, take, None, Options())
    make_program("skrouterd")
    again = ROUTER.prepare(
        "router", tmp_path, take, record(launch, "router"), Options()
    )
    assert again.details.router == "embedded"
    assert again.details.id != launch.details.id


@pytest.mark.usefixtures("make_program")
def test_a_router_that_is_not_there(tmp_path: Path) -> None:
    options = Options(router="/nowhere/skrouterd")
    with pytest.raises(EngineError, match="lacks /nowhere/skrouterd: build"):
        ROUTER.prepare("router", tmp_path, take, None, options)
    assert [lack.what for lack in ROUTER.missing(options)] == ["/nowhere/skrouterd"]
    assert ROUTER.missing(Options()) == []
    assert ROUTER.missing(Options(router="embedded")) == []


@pytest.mark.parametrize(
    ("name", "told", "good"),
    [
        ("skrouterd", "3.0.0", True),
        ("skrouterd", "2.7.3", False),
        ("skrouterd", "10.0", True),
        ("qdrouterd", "1.19.0", True),
        ("qdrouterd", "1.16.0", False),
        ("qdrouterd", "from the sources", True),
    ],
)
def test_an_old_router_is_refused(
    make_program: MakeProgram, tmp_path: Path, name: str, told: str, good: bool
) -> None:
    program = make_program(name)
    program.write_text(f"#!/bin/sh\necho {told}\n")
    options = Options(router=str(program))
    assert (ROUTER.missing(options) == []) is good
    if good:
        ROUTER.prepare("router", tmp_path, take, None, options)
        return
    assert f"{name} " in ROUTER.missing(Options())[0].what
    with pytest.raises(EngineError, match=rf"or later: .* is {told}"):
        ROUTER.prepare("router", tmp_path, take, None, options)


@pytest.fixture
def install_rabbitmq(
    make_program: MakeProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Installs a release of RabbitMQ as packages do."""

    def install(version: str) -> None:
        make_program("erl")
        make_program("epmd")
        server = tmp_path / "rabbit" / "sbin" / "rabbitmq-server"
        server.parent.mkdir(parents=True)
        server.touch()
        (server.parent / "rabbitmq-env").touch()
        (tmp_path / "rabbit" / "plugins" / f"rabbit-{version}").mkdir(parents=True)
        (tmp_path / "rabbit" / "plugins" / f"rabbit_common-{version}").mkdir()
        monkeypatch.setattr(rabbitmq, "PACKAGED_SERVER", server)

    return install


@pytest.mark.parametrize(
    ("version", "good"), [("3.9.13", True), ("4.1.0", True), ("3.8.34", False)]
)
def test_an_old_rabbitmq_is_refused(
    install_rabbitmq: Callable[[str], None], tmp_path: Path, version: str, good: bool
) -> None:
    install_rabbitmq(version)
    lacking = RABBITMQ.missing(Options())
    assert (lacking == []) is good
    if not good:
        assert lacking[0].what.startswith("RabbitMQ 3.9 or later (version 3.8.34")
        with pytest.raises(EngineError, match=r"or later \(version 3\.8\.34"):
            RABBITMQ.prepare("rabbitmq", tmp_path, take, None, Options())


@pytest.mark.parametrize(
    ("version", "permitted"),
    [("3.10.8", False), ("4.2.9", False), ("4.3.0", True), ("4.10.1", True)],
)
def test_queues_of_rpc_are_permitted_where_they_would_be_refused(
    install_rabbitmq: Callable[[str], None],
    tmp_path: Path,
    version: str,
    permitted: bool,
) -> None:
    """An older node does not start with a key that it does not know."""
    install_rabbitmq(version)
    numbers = iter(range(2000, 3000))
    RABBITMQ.prepare("rabbitmq", tmp_path, lambda _: next(numbers), None, Options())
    key = "\ndeprecated_features.permit.transient_nonexcl_queues = true\n"
    assert (key in (tmp_path / "rabbitmq.conf").read_text()) is permitted


def test_a_router_for_one_user_and_a_network(tmp_path: Path) -> None:
    options = Options("embedded", "192.0.2.1", 5672, "nova@hybrid", "hu/sh")
    launch = ROUTER.prepare("router", tmp_path, take, None, options)
    assert launch.url == "amqp://nova%40hybrid:hu%2Fsh@192.0.2.1:5672/"
    config = embedded_config.load(tmp_path / "router.conf")
    (listener,) = config.listeners
    assert (listener.host, listener.port) == ("192.0.2.1", 5672)
    assert listener.sasl_mechanisms == "PLAIN"
    assert listener.authenticate_peer
    sasl = tmp_path / f"{config.sasl_config_name}.conf"
    assert f"sasldb_path: {tmp_path}/router-sasl.users" in sasl.read_text()
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o007 == 0, path
        assert b"hu/sh" not in path.read_bytes() or path.suffix == ".users"


@pytest.mark.parametrize("user", ["nova", "nova@", "@hybrid"])
def test_a_user_of_a_router_has_a_realm(tmp_path: Path, user: str) -> None:
    options = Options("embedded", username=user, password="hush")
    with pytest.raises(EngineError, match=r"needs a realm \(name@realm\)"):
        ROUTER.prepare("router", tmp_path, take, None, options)


def test_saslpasswd2_that_is_missing_or_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options("embedded", username="nova@hybrid", password="hush")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(router_users.shutil, "which", lambda name, path="": None)
    with pytest.raises(EngineError, match="is not installed here"):
        ROUTER.prepare("router", tmp_path, take, None, options)
    monkeypatch.setattr(
        router_users.shutil, "which", lambda name, path="": "/bin/false"
    )
    with pytest.raises(EngineError, match="/bin/false cannot write"):
        ROUTER.prepare("router", tmp_path, take, None, options)


def test_the_router_is_configured_for_the_driver(tmp_path: Path) -> None:
    launch = ROUTER.prepare("router", tmp_path, take, None, Options(router="embedded"))
    assert launch.url == "amqp://127.0.0.1:1000/"
    config = embedded_config.load(tmp_path / "router.conf")
    (listener,) = config.listeners
    assert (listener.host, listener.port) == (HOST, 1000)
    assert listener.sasl_mechanisms == "ANONYMOUS"
    assert not listener.authenticate_peer
    assert config.id == launch.details.id
    rules = {item.prefix: item.distribution for item in config.addresses}
    assert rules == {
        "openstack.org/om/rpc/multicast": "multicast",
        "openstack.org/om/rpc/unicast": "closest",
        "openstack.org/om/rpc/anycast": "balanced",
        "openstack.org/om/notify/multicast": "multicast",
        "openstack.org/om/notify/unicast": "closest",
        "openstack.org/om/notify/anycast": "balanced",
        "broadcast": "multicast",
        "exclusive": "closest",
        "unicast": "closest",
    }


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("Mopenstack.org/om/rpc/anycast/e/t", "openstack.org/om/rpc/anycast/e/t"),
        ("M0openstack.org/om/rpc/anycast/e/t", "openstack.org/om/rpc/anycast/e/t"),
        ("Ltemp.abc", ""),
        ("M$management", ""),
        ("M0$management", ""),
        ("Mmc/sfe.all", ""),
    ],
)
def test_addresses_of_clients(name: str, address: str) -> None:
    assert amqp_management._mobile(name) == address


def test_no_management_where_nobody_listens() -> None:
    with ports.Ports() as free:
        port = free.take()
    with pytest.raises(
        EngineError, match=f"cannot reach AMQP management at {HOST}:{port}"
    ):
        amqp_management.Management(HOST, port)


def test_whoever_listens_but_does_not_answer_is_no_router() -> None:
    with (
        socket.create_server((HOST, 0)) as silent,
        pytest.raises(EngineError, match="cannot reach AMQP management"),
    ):
        amqp_management.Management(HOST, silent.getsockname()[1], timeout=0.2)


# -- RabbitMQ -------------------------------------------------------------------


@pytest.mark.usefixtures("no_packaged_rabbitmq")
@pytest.mark.parametrize("manager", ["apt-get", "dnf"])
def test_rabbitmq_is_missing(
    make_program: MakeProgram, tmp_path: Path, manager: str
) -> None:
    make_program(manager)
    lacking = RABBITMQ.missing(Options())
    assert [lack.what for lack in lacking] == ["rabbitmq-server", "erl", "epmd"]
    assert {lack.install for lack in lacking} == {
        f"sudo {manager} install rabbitmq-server"
    }
    with pytest.raises(EngineError, match=f"not installed here.*sudo {manager}"):
        RABBITMQ.prepare("rabbitmq", tmp_path, take, None, Options())


@pytest.mark.usefixtures("no_packaged_rabbitmq")
def test_the_packages_wrapper_is_not_taken(make_program: MakeProgram) -> None:
    wrapper = make_program("rabbitmq-server")
    assert "rabbitmq-server" in [lack.what for lack in RABBITMQ.missing(Options())]
    make_program("rabbitmq-env")
    assert RABBITMQ.describe(Options()) == str(wrapper)


@pytest.mark.usefixtures("no_packaged_rabbitmq")
def test_the_node_is_private(
    make_program: MakeProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rabbitmq-server", "rabbitmq-env", "erl", "epmd"):
        make_program(name)
    monkeypatch.setenv("RABBITMQ_NODENAME", "rabbit@elsewhere")
    monkeypatch.setenv("ERL_FLAGS", "-setcookie public")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    directory = tmp_path / "rabbitmq"
    directory.mkdir()
    numbers = iter(range(2000, 3000))
    launch = RABBITMQ.prepare(
        "rabbitmq", directory, lambda _: next(numbers), None, Options()
    )
    environment = launch.environment or {}
    assert "ERL_FLAGS" not in environment and "NOTIFY_SOCKET" not in environment
    assert environment["RABBITMQ_NODENAME"] == "rabbitmq@localhost"
    for key, value in environment.items():
        if key.startswith("RABBITMQ_") and value.startswith("/"):
            assert value.startswith(f"{directory}/"), key
    password = launch.details.password
    assert not any(password in word for word in launch.command)
    assert password not in "".join(environment.values())
    for name, mode in (("rabbitmq.conf", 0o600), (".erlang.cookie", 0o400)):
        assert stat.S_IMODE((directory / name).stat().st_mode) == mode
    assert f"default_pass = {password}\n" in (directory / "rabbitmq.conf").read_text()

    again = RABBITMQ.prepare(
        "rabbitmq", directory, take, record(launch, "rabbitmq"), Options()
    )
    assert again.url == launch.url
    assert again.details == launch.details


@pytest.mark.usefixtures("no_packaged_rabbitmq")
def test_a_node_for_a_network(make_program: MakeProgram, tmp_path: Path) -> None:
    for name in ("rabbitmq-server", "rabbitmq-env", "erl", "epmd"):
        make_program(name)
    options = Options(
        host="192.0.2.1", port=5673, username="stackrabbit", password="hush"
    )
    numbers = iter(range(2000, 3000))
    launch = RABBITMQ.prepare(
        "rabbitmq", tmp_path, lambda _: next(numbers), None, options
    )
    assert launch.url == "rabbit://stackrabbit:hush@192.0.2.1:5673/"
    config = (tmp_path / "rabbitmq.conf").read_text()
    assert "listeners.tcp.local = 192.0.2.1:5673\n" in config
    # the management shows everything to everybody who may connect
    assert "management.tcp.ip = 127.0.0.1\n" in config


# -- what is refused before anything starts ---------------------------------------


def test_nothing_is_left_of_a_deployment_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir = tmp_path / "state"
    to_come = modes.Mode("to-come", "amqp", "pigeon", "rabbit", "rabbitmq")
    hybrid, external = modes.get("qpid-hybrid"), modes.get("external")
    for mode, given, message in (
        (to_come, {}, "engine pigeon is not available"),
        (external, {}, "give --rpc-url and --notify-url"),
        (hybrid, {"rpc": "rabbit://u:p@h/"}, "mode qpid-hybrid uses amqp://"),
    ):
        with pytest.raises(EngineError, match=message):
            Deployment(state_dir, print).up(mode, given, Options())
    given = {"notify": "rabbit://u:p@h/"}
    options = Options(router="/nowhere/skrouterd")
    with pytest.raises(EngineError, match="lacks /nowhere/skrouterd"):
        Deployment(state_dir, print).up(modes.get("qpid-hybrid"), given, options)
    # a program that is there, but cannot be run
    program = tmp_path / "skrouterd"
    program.write_text("#!/nowhere\n")
    program.chmod(0o755)
    options = Options(router=str(program))
    with pytest.raises(EngineError, match=f"cannot start {program}"):
        Deployment(state_dir, print).up(modes.get("qpid-hybrid"), given, options)
    assert not state_dir.exists()


@pytest.mark.parametrize("name", ["router", "tls"])
def test_nothing_is_written_where_a_link_leads(tmp_path: Path, name: str) -> None:
    state_dir, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    for directory in (state_dir, elsewhere):
        directory.mkdir()
    (state_dir / state_directory.LOCK_FILE).touch()
    (state_dir / name).symlink_to(elsewhere)
    given = {"notify": "rabbit://127.0.0.1:1/"}
    options = Options(router="embedded", tls=True)
    with pytest.raises(state_directory.StateError, match=rf"{name} is a symbolic link"):
        Deployment(state_dir, print).up(modes.get("qpid-hybrid"), given, options)
    assert not any(elsewhere.iterdir())
