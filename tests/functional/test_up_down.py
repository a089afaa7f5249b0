# SPDX-License-Identifier: Apache-2.0
"""`up`, `status` and `down` with real engines, on good days and on bad ones."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.functional.deployments import (
    NOWHERE,
    Deployment,
    deployed,
    on_disk,
    router_option,
    store,
    stored,
)
from tests.functional.waiting import Stopwatch, until

from hybrid_messaging import state, state_directory
from hybrid_messaging.engines import EngineError, kinds, ports, router_program
from hybrid_messaging.state_directory import StateError

#: The image of a skupper-router that Podman has here.
IMAGE = os.environ.get("HYBRID_TEST_ROUTER_IMAGE")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Deployment]:
    """A state directory in which nothing is up yet."""
    with deployed(tmp_path / "state") as made:
        yield made


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A whole `qpid-hybrid`; its tests leave it up."""
    with deployed(tmp_path_factory.mktemp("hybrid") / "state") as made:
        made.up()
        yield made


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    return {
        tuple(connection.laddr)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def executable(path: Path, script: str) -> str:
    # nobody has to wait for one that does not even tell its version
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit\n{script}\n')
    path.chmod(0o755)
    return str(path)


# -- good days ------------------------------------------------------------------


def test_the_whole_way_on_the_command_line(router_kind: str, tmp_path: Path) -> None:
    with deployed(tmp_path / "state", router_option(router_kind)) as place:
        code, addresses, told = place.run("up", "--router", place.router)
        assert code == 0, told
        assert "router is ready after" in told and "rabbitmq is ready after" in told
        rpc, notify = addresses
        assert (rpc["carries"], rpc["engine"]) == ("RPC", "router")
        assert (notify["carries"], notify["engine"]) == ("notifications", "rabbitmq")
        assert rpc["url"].startswith("amqp://127.0.0.1:")
        assert notify["url"].startswith("rabbit://hybrid:***@127.0.0.1:")

        code, again, told = place.run("up")
        assert (code, again, told) == (0, addresses, "qpid-hybrid is already up\n")

        code, rows, _ = place.run("status")
        assert code == 0
        assert [(row["engine"], row["status"]) for row in rows] == [
            ("router", "up"),
            ("rabbitmq", "up"),
        ]
        assert [row["pid"] for row in rows] == [rpc["pid"], notify["pid"]]
        assert [row["connections"] for row in rows] == [0, 0]
        loaded = state_directory.load(place.dir)
        assert loaded is not None
        code, rows, _ = place.run("status", "--show-passwords")
        assert [row["url"] for row in rows] == [loaded.rpc_url, loaded.notify_url]

        for listeners in place.looks(listening):
            assert {host for host, _ in listeners} <= {"127.0.0.1"}
        secret = loaded.engines[1].details.password
        for words in place.looks(psutil.Process.cmdline):
            assert secret not in " ".join(words)
        for surroundings in place.looks(psutil.Process.environ):
            assert secret not in "".join(surroundings.values())
        taken = {item.port for item in loaded.engines}
        node = loaded.engines[1].details_as(state.RabbitMQDetails)
        taken |= {node.management_port, node.distribution_port, node.epmd_port}

        with place.start("down") as command:
            command.communicate(timeout=100)
        assert command.returncode == 0
        assert place.processes() == []
        assert not any(ports.answers("127.0.0.1", port) for port in taken)
        assert list(tmp_path.iterdir()) == []


def test_up_again_is_quick(hybrid: Deployment) -> None:
    with Stopwatch() as watch:
        started = hybrid.up()
    assert started.already
    assert watch.seconds < 20  # 0.1 on a machine that does nothing else


def test_two_of_a_kind(place: Deployment) -> None:
    rpc, notify = place.up("rabbit-dual").state.engines
    assert (rpc.name, notify.name) == ("rabbitmq-rpc", "rabbitmq-notify")
    store(rpc.url, "here", "x")
    assert stored(rpc.url, "here") == "x"
    with pytest.raises(Exception, match="NOT_FOUND"):
        stored(notify.url, "here")


def test_two_directories_side_by_side(place: Deployment, tmp_path: Path) -> None:
    place.up_router()
    with deployed(tmp_path / "other") as other:
        other.up_router()
        assert other.engine("router").url != place.engine("router").url
        assert place.health() == other.health() == {"router": "up"}
    assert place.health() == {"router": "up"}


def test_two_at_once_in_one_directory(place: Deployment) -> None:
    words = ("up", "--notify-url", NOWHERE["notify"], "--router", "embedded")
    with place.start(*words) as one, place.start(*words) as other:
        assert one.wait(100) == other.wait(100) == 0
        told = [one.stderr.read(), other.stderr.read()]  # type: ignore[union-attr]
    assert sum("is ready after" in text for text in told) == 1
    assert sum("is already up" in text for text in told) == 1
    assert len(list(filter(None, place.looks(listening)))) == 1


def test_a_restart_in_order_keeps_ports_and_data(hybrid: Deployment) -> None:
    before = hybrid.engine("rabbitmq")
    store(before.url, "kept", "still here")
    after = hybrid.restart("rabbitmq")
    assert after.engine("rabbitmq") == hybrid.engine("rabbitmq")
    assert hybrid.engine("rabbitmq").pid != before.pid
    assert hybrid.engine("rabbitmq").url == before.url
    assert stored(before.url, "kept") == "still here"
    with pytest.raises(EngineError, match="has no engine redis"):
        hybrid.restart("redis")


# -- bad days -------------------------------------------------------------------


def test_after_a_reboot_everything_comes_back(hybrid: Deployment) -> None:
    before = state_directory.load(hybrid.dir)
    assert before is not None
    store(before.notify_url, "rebooted", "still here")
    store(before.notify_url, "declared-after-it", "")
    until(
        lambda: on_disk(before.engines[1], "declared-after-it"), "the queue is on disk"
    )
    for item in before.engines:
        process = psutil.Process(item.pid)
        process.kill()
        process.wait(30)
    code, rows, _ = hybrid.run("status")
    assert code == 1
    assert [row["status"] for row in rows] == ["down", "down"]
    after = hybrid.up().state
    assert (after.rpc_url, after.notify_url) == (before.rpc_url, before.notify_url)
    assert [item.pid for item in after.engines] != [item.pid for item in before.engines]
    assert stored(after.notify_url, "rebooted") == "still here"


def test_half_of_it_is_refused_or_repaired(hybrid: Deployment) -> None:
    before = state_directory.load(hybrid.dir)
    assert before is not None
    process = hybrid.process("router")
    process.kill()
    process.wait(30)
    code, rows, _ = hybrid.run("status")
    assert code == 2
    assert [row["status"] for row in rows] == ["down", "up"]
    with pytest.raises(StateError) as caught:
        hybrid.up()
    message = str(caught.value)
    assert f"router (pid {process.pid}) is down, rabbitmq" in message
    assert "hybrid-messaging up --repair" in message
    assert str(hybrid.dir / "router" / "router.log") in message
    after = hybrid.up(repair=True).state
    assert after.rpc_url == before.rpc_url
    assert after.engines[1] == before.engines[1]
    assert hybrid.health() == {"router": "up", "rabbitmq": "up"}


@pytest.mark.skipif(IMAGE is None, reason="HYBRID_TEST_ROUTER_IMAGE names no image")
def test_a_router_in_a_container_ends_even_if_podman_is_killed(tmp_path: Path) -> None:
    with deployed(tmp_path / "state", f"container:{IMAGE}") as place:
        given = {"notify": NOWHERE["notify"]}
        port = place.up(given=given, tls=True).state.engines[0].port
        process = place.process("router")
        process.kill()
        process.wait(30)
        assert ports.answers("127.0.0.1", port), "nothing is left to end"
        # which takes the port that it has had
        again = place.up(given=given, repair=True).state.engines[0].port
        assert (again, place.health()) == (port, {"router": "up"})
        place.down()
        assert place.processes() == []
        assert not ports.answers("127.0.0.1", port)


def test_one_that_hangs_is_told_from_one_that_runs(
    place: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.up_router()
    hanging = place.process("router")
    hanging.suspend()
    try:
        with pytest.raises(StateError, match=r"is not answering.*--repair"):
            place.up_router()
        monkeypatch.setattr(kinds.get("router"), "stop_timeout", 0.2)
        place.up_router(repair=True)
    finally:
        until(lambda: not hanging.is_running(), "the one that hangs is gone")
    assert place.health() == {"router": "up"}


def test_a_former_port_that_is_taken(place: Deployment) -> None:
    before = place.up_router().state.engines[0]
    process = place.process("router")
    process.kill()
    process.wait(30)
    with socket.create_server((before.host, before.port)):
        after = place.up_router().state.engines[0]
    assert after.port != before.port
    assert "an address has changed" in place.told[-1]


def test_another_pid_owner_is_left_alone(place: Deployment) -> None:
    """After a reboot a pid of ours may be anybody's."""
    place.up_router()
    process = place.process("router")
    process.kill()
    process.wait(30)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        loaded = state_directory.load(place.dir)
        assert loaded is not None
        content = (place.dir / state_directory.STATE_FILE).read_text()
        (place.dir / state_directory.STATE_FILE).write_text(
            content.replace(f'"pid": {process.pid}', f'"pid": {stranger.pid}')
        )
        assert place.engine("router").pid == stranger.pid
        assert place.health() == {"router": "down"}
        assert place.down()
        assert stranger.poll() is None
        stranger.kill()


def test_an_engine_that_ends_at_once(tmp_path: Path) -> None:
    script = executable(
        tmp_path / "skrouterd", "echo no license for rabbit://u:p@h; exit 7"
    )
    with (
        deployed(tmp_path / "state", script) as place,
        pytest.raises(EngineError) as caught,
    ):
        place.up_router()
    how = "router ended while it started (with exit code 7); the end of its log:"
    assert how in str(caught.value)
    assert "no license for rabbit://u:***@h" in str(caught.value)
    assert not place.dir.exists()


def test_an_engine_that_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = executable(tmp_path / "skrouterd", "echo thinking; sleep 600 & wait")
    monkeypatch.setattr(kinds.get("router"), "start_timeout", 0.5)
    with deployed(tmp_path / "state", script) as place:
        with pytest.raises(EngineError, match=r"was not ready after (?s:.*)thinking"):
            place.up_router()
        assert place.processes() == []
        assert not place.dir.exists()


def test_a_failed_restart_keeps_what_is_known(
    place: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = place.up_router().state
    process = place.process("router")
    process.kill()
    process.wait(30)
    with monkeypatch.context() as patch:
        patch.setattr(router_program, "command", lambda *_: ("/nowhere/skrouterd",))
        with pytest.raises(EngineError, match="cannot start /nowhere/skrouterd"):
            place.up_router()
    assert state_directory.load(place.dir) == before
    assert place.up_router().state.rpc_url == before.rpc_url


@pytest.mark.parametrize(
    ("how", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_an_interrupted_up_leaves_nothing(
    tmp_path: Path, how: signal.Signals, code: int
) -> None:
    # with a router that is never ready, `up` cannot be done before the signal
    script = executable(tmp_path / "skrouterd", "sleep 600 & wait")
    with deployed(tmp_path / "state", script) as place:
        with place.start("up", "--router", place.router) as command:
            until(
                lambda: any(
                    "beam" in name for name in place.looks(psutil.Process.name)
                ),
                "all engines are being started",
            )
            command.send_signal(how)
            _, told = command.communicate(timeout=100)
        assert command.returncode == code, told
        assert "stopping rabbitmq" in told
        assert place.processes() == []
        assert not place.dir.exists()


def test_down_finds_what_a_killed_up_has_started(place: Deployment) -> None:
    with place.start("up", "--router", "embedded") as command:
        until(lambda: (place.dir / "rabbitmq" / "pid").exists(), "the node is started")
        until(lambda: place.engine("rabbitmq").pid, "its pid is known")
        command.kill()
    with pytest.raises(StateError, match="--repair"):
        place.up()
    assert place.down()
    until(lambda: place.processes() == [], "nothing runs any more")
    assert not place.dir.exists()


def test_down_finds_what_was_started_and_not_written_down(place: Deployment) -> None:
    place.up_router()
    process = place.process("router")
    content = (place.dir / state_directory.STATE_FILE).read_text()
    (place.dir / state_directory.STATE_FILE).write_text(
        content.replace(f'"pid": {process.pid}', f'"pid": {state.NOT_STARTED}')
    )
    assert place.engine("router").pid == state.NOT_STARTED
    assert place.health() == {"router": "up"}
    assert place.down()
    assert not process.is_running()
    assert not place.dir.exists()


def test_a_full_disk_leaves_nothing_running(
    place: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = state_directory.save
    times = iter(range(10))

    def full(state_dir: Path, new: state.State) -> None:
        if next(times) == 1:  # with the engine's pid
            raise StateError("cannot write: No space left on device")
        saved(state_dir, new)

    monkeypatch.setattr(state_directory, "save", full)
    with pytest.raises(StateError, match="No space left"):
        place.up_router()
    assert place.processes() == []
    assert not place.dir.exists()


def test_what_others_keep_there_stays(place: Deployment) -> None:
    place.up_router()
    (place.dir / "notes").touch()
    assert place.down()
    assert [item.name for item in place.dir.iterdir()] == ["notes"]
    (place.dir / "notes").unlink()
    place.dir.rmdir()


def test_a_command_waits_for_another_at_work(place: Deployment) -> None:
    place.up_router()
    with state_directory.lock(place.dir, 0):
        command = place.start("down")
        assert command.stderr is not None
        line = command.stderr.readline()
        assert "waiting for another command" in line
        assert place.health() == {"router": "up"}
    with command:
        command.communicate(timeout=100)
    assert command.returncode == 0
    assert not place.dir.exists()
