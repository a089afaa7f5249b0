# SPDX-License-Identifier: Apache-2.0
"""The server processes of a run: what they do, and that none stays behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import oslo_messaging
import psutil
import pytest

from hybrid_messaging.smoke import endpoint, worker
from hybrid_messaging.smoke.outcome import Failure
from hybrid_messaging.smoke.run import Run
from hybrid_messaging.smoke.servers import Process, Servers
from hybrid_messaging.workers import loop
from hybrid_messaging.workers.fork_server import ForkServer

# oslo.messaging's transport within one process
FAKE = Run("fake://", "fake://")
TIMEOUT = 60.0


class Lines:
    """A text stream between two threads; reading ends when it is closed."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self.source = os.fdopen(read)
        self.sink = os.fdopen(write, "w", buffering=1)

    def put(self, **values: Any) -> None:
        self.sink.write(json.dumps(values) + "\n")

    def get(self) -> dict[str, Any]:
        return json.loads(self.source.readline())


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What a worker that cannot close would end with, instead of ending us."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(loop, "FAREWELL", TIMEOUT)
    return codes


@pytest.fixture
def talk(exits: list[int]) -> Iterator[tuple[Lines, Lines]]:
    """A worker in a thread: the lines to it, and those from it."""
    commands, events = Lines(), Lines()
    commands.sink.write(FAKE.to_json() + "\n")
    thread = threading.Thread(
        target=loop.obey,
        args=(commands.source, events.sink, worker.Worker),
        daemon=True,
    )
    thread.start()
    yield commands, events
    commands.sink.close()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert not exits


def test_a_worker_serves(talk: tuple[Lines, Lines]) -> None:
    commands, events = talk
    commands.put(do="serve", server="one")
    assert events.get() == {"event": "serving"}
    with contextlib.closing(Client()) as client:
        assert client.call("echo", data="x") == {"server": "one", "data": "x"}
        client.rpc.cast({}, "note", token="t")
        assert events.get() == {"event": "noted", "token": "t"}
        assert client.call("work", token="w", seconds=0) == "one"
        assert events.get() == {"event": "working", "token": "w"}
        with pytest.raises(endpoint.SmokeError, match="too bad"):
            client.call("fail", text="too bad")


def test_a_worker_listens(talk: tuple[Lines, Lines]) -> None:
    commands, events = talk
    commands.put(do="listen")
    assert events.get() == {"event": "listening"}
    transport = oslo_messaging.get_notification_transport(FAKE.conf(), "fake://")
    oslo_messaging.Notifier(
        transport, "me", driver="messagingv2", topics=[FAKE.notify_topic]
    ).info({}, "something", {"is": "new"})
    assert events.get() == {
        "event": "notified",
        "type": "something",
        "payload": {"is": "new"},
    }


def test_a_worker_tells_what_it_cannot_do(exits: list[int]) -> None:
    output = io.StringIO()
    lines = f'{Run("pigeon://", "fake://").to_json()}\n{{"do": "serve", "server": "s"}}'
    loop.obey(io.StringIO(lines), output, worker.Worker)
    told = json.loads(output.getvalue())
    assert told["event"] == "error" and "pigeon" in told["text"]


class Client:
    """A client of the fake servers, in the same process."""

    def __init__(self) -> None:
        self.transport = oslo_messaging.get_rpc_transport(
            FAKE.conf(), "fake://", allowed_remote_exmods=[endpoint.__name__]
        )
        self.rpc = oslo_messaging.get_rpc_client(
            self.transport, FAKE.rpc_target(), timeout=TIMEOUT
        )

    def call(self, method: str, **arguments: Any) -> Any:
        return self.rpc.call({}, method, **arguments)

    def close(self) -> None:
        self.transport.cleanup()


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers(FAKE)
    yield made
    made.close()
    assert not workers()


def soon() -> float:
    return time.monotonic() + TIMEOUT


def workers() -> list[psutil.Process]:
    """The workers among our descendants, and what forks them."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "hybrid_messaging.smoke.worker" in child.cmdline():
                found.append(child)
    return found


@pytest.fixture
def forks() -> Iterator[ForkServer]:
    with ForkServer("hybrid_messaging.smoke.worker") as made:
        yield made


def test_servers_are_started_once_and_replaced_if_killed(servers: Servers) -> None:
    one, two = servers.get(2, TIMEOUT)
    assert [one.name, two.name] == FAKE.servers[:2]
    assert servers.any() is one
    one.kill()
    kept, new = servers.get(2, TIMEOUT)
    assert kept is two
    assert new is not one and new.name == one.name and new.alive
    assert len(workers()) == 1 + 2


def test_any_process_need_not_serve(servers: Servers) -> None:
    assert not servers.any().serving
    (process,) = servers.get(1, TIMEOUT)
    assert process.serving


def test_a_server_that_is_not_ready_in_time(servers: Servers) -> None:
    with pytest.raises(Failure, match="did not start to serve within 0 s"):
        servers.get(1, 0)


def test_what_a_process_waits_for(forks: ForkServer) -> None:
    process = Process(forks, Run("pigeon://u:secret@h/", "fake://"), "one")
    try:
        assert process.wait("serving", 0) is None
        process.tell("serve", server="one")
        with pytest.raises(Failure, match="pigeon") as caught:
            process.wait("serving", TIMEOUT)
        assert "secret" not in str(caught.value)
    finally:
        process.kill()
    with pytest.raises(Failure):
        process.wait("other", TIMEOUT)
    process.tell("serve", server="one")
    process.ask_to_end()
    process.end(soon())


def test_a_process_that_has_ended_tells_its_last_words(forks: ForkServer) -> None:
    process = Process(
        forks, Run("fake://", "fake://", {"no-such-group": {"x": 1}}), "one"
    )
    with pytest.raises(Failure, match=r"has ended; .*no-such-group"):
        process.wait("serving", TIMEOUT)
    process.end(soon())


def test_a_process_that_does_not_end_is_killed(forks: ForkServer) -> None:
    process = Process(forks, FAKE, "one")
    process.tell("serve", server="one")
    process.wait("serving", TIMEOUT)
    process.end(time.monotonic() + 0.1)  # nobody has asked it to
    assert not process.alive
