# SPDX-License-Identifier: Apache-2.0
"""The process that forks workers: what it survives, and what it says if it does not."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from hybrid_messaging.smoke.run import Run
from hybrid_messaging.smoke.servers import Process
from hybrid_messaging.workers import fork_server
from hybrid_messaging.workers.fork_server import ForkServer

FAKE = Run("fake://", "fake://")
TIMEOUT = 60.0


@pytest.fixture
def forks() -> Iterator[ForkServer]:
    with ForkServer("hybrid_messaging.smoke.worker") as made:
        yield made


def servers() -> list[psutil.Process]:
    """The fork servers among our children."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if fork_server.__name__ in child.cmdline():
                found.append(child)
    return found


def server() -> psutil.Process:
    """The only one."""
    [found] = servers()
    return found


def serve(process: Process) -> None:
    process.tell("serve", server=process.name)
    assert process.wait("serving", TIMEOUT)


def end(process: Process) -> None:
    process.ask_to_end()
    process.end(time.monotonic() + TIMEOUT)


def test_each_worker_ends_when_its_own_input_does(forks: ForkServer) -> None:
    one, two = Process(forks, FAKE, "one"), Process(forks, FAKE, "two")
    assert one.pid != two.pid
    assert psutil.Process(one.pid).ppid() == server().pid
    end(one)
    assert not one.alive
    serve(two)
    end(two)


def test_ctrl_c_ends_the_workers_and_not_what_forks_them(forks: ForkServer) -> None:
    one = Process(forks, FAKE, "one")
    serve(one)
    for pid in (server().pid, one.pid):
        os.kill(pid, signal.SIGINT)
    one.end(time.monotonic() + TIMEOUT)
    two = Process(forks, FAKE, "two")
    serve(two)
    end(two)


def test_workers_outlive_it_and_the_next_is_refused(forks: ForkServer) -> None:
    one = Process(forks, FAKE, "one")
    killed = server()
    killed.kill()
    killed.wait(TIMEOUT)
    serve(one)
    with pytest.raises(OSError, match="its fork server has ended"):
        Process(forks, FAKE, "two")
    end(one)


def test_a_module_that_cannot_be_loaded() -> None:
    with (
        ForkServer("hybrid_messaging.no_such_module") as forks,
        pytest.raises(OSError, match="No module named"),
    ):
        Process(forks, FAKE, "one")


def test_a_system_that_has_no_process_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(signal, "signal", lambda *_: signal.SIG_DFL)
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    served: list[bool] = []
    thread = threading.Thread(
        target=lambda: served.append(fork_server.fork_on_order(theirs)), daemon=True
    )
    with theirs:
        with ours:
            thread.start()
            read, write = os.pipe()
            for _ in range(2):  # it goes on
                socket.send_fds(ours, [b"fork"], [read])
                answer, handles, _, _ = socket.recv_fds(ours, 256, 1)
                assert answer == b"Resource temporarily unavailable" and not handles
            os.close(read)
            with pytest.raises(BrokenPipeError):  # it has closed what it was sent
                os.write(write, b"x")
            os.close(write)
        thread.join(TIMEOUT)
    assert served == [False]


def test_one_that_hangs_ends_with_its_owner() -> None:
    with ForkServer("hybrid_messaging.smoke.worker") as forks:
        one = Process(forks, FAKE, "one")
        server().suspend()
    assert not servers()
    serve(one)
    end(one)


def test_one_that_was_never_needed_ends_as_well() -> None:
    with ForkServer("hybrid_messaging.smoke.worker"):
        assert not servers()
