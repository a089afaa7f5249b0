# SPDX-License-Identifier: Apache-2.0
"""What `status` shows of servers that `up` has not started."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest
from tests.functional import commands
from tests.functional.peer import Peer
from tests.functional.routers import Router, at_hand

PROGRAM = Path(sysconfig.get_path("scripts")) / "hybrid-messaging"
NOWHERE = "127.0.0.1:1"
FILES = ("nova/nova.conf", "nova/nova_cell1.conf", "cinder/cinder.conf")


@pytest.fixture(params=at_hand())
def router(request: pytest.FixtureRequest, tmp_path: Path) -> Router:
    made = Router(request.param, tmp_path).start()
    yield made
    made.stop()


def test_servers_that_files_name(
    router: Router, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rpc = f"amqp://u:secret@127.0.0.1:{router.port}"
    files = [tmp_path / "etc" / name for name in FILES]
    for file, vhost in zip(files, ("", "cell1", ""), strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"[DEFAULT]\ntransport_url = {rpc}/{vhost}\n"
            "[oslo_messaging_notifications]\n"
            f"transport_url = rabbit://v:hidden@{NOWHERE}/\n"
        )
    before = router.log()
    with Peer(router.port):
        result = commands.run(
            *(capsys, "status", "--discover", tmp_path / "etc", "-f", "json"),
            *("--config", files[1]),
        )
        said = router.log().removeprefix(before)
    assert result.code == 2
    first, second = result.rows
    assert first["server"] == f"127.0.0.1:{router.port}"
    assert first["services"] == "cinder, nova"
    assert (first["kind"], first["carries"], first["status"]) == ("router", "rpc", "up")
    assert first["version"].split()[0].endswith("router")
    # the peer; what asks does not count itself
    assert first["connections"] == 1
    assert (second["carries"], second["status"]) == ("notify", "unreachable")
    assert (second["kind"], second["version"]) == (None, None)
    assert f"{NOWHERE} cannot be reached" in result.err
    assert "secret" not in result.out + result.err
    assert "hidden" not in result.out + result.err
    # the router takes it for a client like any other
    assert "framing-error" not in said


def test_nothing_answers(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("status", "--rpc-url", f"zmq://{NOWHERE}/", "-f", "json")
    result = commands.run(capsys, *words)
    (row,) = result.rows
    assert (result.code, row["status"], row["carries"]) == (1, "unreachable", "rpc")


def test_it_waits_until_they_are_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    router = Router("embedded", tmp_path)
    url = f"amqp://127.0.0.1:{router.port}/"
    with subprocess.Popen(
        [
            *(PROGRAM, "status", "--rpc-url", url),
            *("--wait", "120", "-f", "value", "-c", "status"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(3)
        router.start()
        try:
            assert waiting.communicate(timeout=120) == ("up\n", "")
        finally:
            router.stop()
    assert waiting.returncode == 0


def test_files_without_a_transport(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nova, cinder = tmp_path / "nova.conf", tmp_path / "cinder.conf"
    nova.write_text("[DEFAULT]\ndebug = true\n")
    cinder.write_text("[DEFAULT]\ntransport_url = amqp:/h\n")
    words = ("status", "-f", "json", "--config", nova)
    result = commands.run(capsys, *words)
    assert result.code == 1
    assert "none of these files has a transport_url" in result.err
    result = commands.run(capsys, *words, "--config", cinder)
    assert (result.code, result.rows) == (1, [])
    assert "cinder.conf: not a transport URL" in result.err
