# SPDX-License-Identifier: Apache-2.0
"""The command `hybrid-messaging router`, as a supervisor runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.functional.peer import Peer
from tests.functional.routers import free_port
from tests.functional.waiting import until

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "router.log"


@pytest.fixture
def start(log: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str) -> subprocess.Popen[bytes]:
        code = "import sys; from hybrid_messaging.cli.app import main; sys.exit(main())"
        with log.open("ab") as output:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", code, "router", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            )
        return started[-1]

    yield run
    for each in started:
        each.kill()
        each.wait()


def _port(log: Path) -> int:
    pattern = re.compile(r"listening on 127\.0\.0\.1:(\d+)$", re.MULTILINE)
    found = until(lambda: pattern.search(log.read_text()), "it says where it listens")
    return int(found[1])


def test_it_listens_where_it_says_and_ends_when_told(start: Start, log: Path) -> None:
    process = start("--port", "0")
    with Peer(_port(log)) as peer:
        every = "openstack.org/om/rpc/multicast/openstack/command"
        receivers = [peer.receiver(every, credit=1) for _ in range(2)]
        peer.send(peer.sender(every), "to both")
        assert [peer.accept(receiver) for receiver in receivers] == ["to both"] * 2
        process.terminate()
        assert process.wait(20) == 0
    assert "SIGTERM: stopping" in log.read_text()


def test_it_writes_the_log_that_its_file_names(
    start: Start, log: Path, tmp_path: Path
) -> None:
    own, settings, port = tmp_path / "own.log", tmp_path / "it.conf", free_port()
    settings.write_text(
        f"listener {{\n  port: {port}\n}}\n"
        f"log {{\n  enable: info+\n  outputFile: {own}\n}}\n"
    )
    start("--config", str(settings))
    until(own.exists, "the log is there")
    assert _port(own) == port
    own.rename(tmp_path / "rotated.log")
    with Peer(port) as peer:
        peer.round_trip()
    until(own.exists, "it goes on in a new file")
    assert log.read_text() == ""


def test_a_wrong_file_is_one_line_and_an_exit_code(
    start: Start, log: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "it.conf"
    settings.write_text("listener {\n  prot: 5672\n}\n")
    assert start("--config", str(settings)).wait(20) == 1
    (line,) = log.read_text().splitlines()
    assert line.startswith(f"{settings}:2: unknown attribute 'prot' of listener")
