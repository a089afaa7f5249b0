# SPDX-License-Identifier: Apache-2.0
"""Deployments of `up` for tests: in a directory of their own, ended without traces."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import kombu
import psutil
from tests.functional import routers

from hybrid_messaging import modes, state, state_directory
from hybrid_messaging.engines import Options, deployment
from hybrid_messaging.service_configs.transports import Side, resolve
from hybrid_messaging.smoke import runner
from hybrid_messaging.smoke.outcome import Result, Status
from hybrid_messaging.smoke.table import select

T = TypeVar("T")

#: The URL of a server that nobody asks for anything.
NOWHERE = {"rpc": "amqp://127.0.0.1:1/", "notify": "rabbit://u:p@127.0.0.1:1/"}
COMMAND_TIMEOUT = 200


class Deployment:
    """What `up` runs in one state directory.

    :param router: as for `up --router`
    """

    def __init__(self, state_dir: Path, router: str = "embedded") -> None:
        self.dir = state_dir
        self.router = router
        self.told: list[str] = []
        self._deployment = deployment.Deployment(state_dir, self.told.append)

    def up(
        self,
        mode: str = modes.DEFAULT,
        given: Mapping[str, str] | None = None,
        repair: bool = False,
        tls: bool | None = None,
    ) -> deployment.Started:
        options = Options(router=self.router, tls=tls)
        return self._deployment.up(modes.get(mode), given or {}, options, repair)

    def up_router(self, repair: bool = False) -> deployment.Started:
        """Only the router: a deployment that is there at once."""
        return self.up(given={"notify": NOWHERE["notify"]}, repair=repair)

    def down(self) -> bool:
        return self._deployment.down()

    def restart(self, name: str) -> state.State:
        return self._deployment.restart(name)

    def engine(self, name: str) -> state.Engine:
        loaded = state_directory.load(self.dir)
        assert loaded is not None
        found = loaded.engine(name)
        assert found is not None
        return found

    def process(self, name: str) -> psutil.Process:
        return psutil.Process(self.engine(name).pid)

    def health(self) -> dict[str, str]:
        reports = self._deployment.reports() or []
        return {report.engine.name: report.health for report in reports}

    def processes(self) -> list[psutil.Process]:
        """Every process that works for this deployment, found without its state."""
        mark = str(self.dir)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.cwd().startswith(mark) or any(
                    mark in word for word in process.cmdline()
                )
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def looks(self, look: Callable[[psutil.Process], T]) -> list[T]:
        """What a look at each of them finds; some end before it is their turn."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(look(process))
        return found

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Run a command of the command line in a process of its own."""
        program = Path(sys.executable).with_name("hybrid-messaging")
        command, *rest = words
        return subprocess.Popen(
            [program, command, "--state-dir", self.dir, *rest],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> tuple[int, Any, str]:
        """Run a command for a script: its exit code, JSON and standard error."""
        with self.start(*words, "-f", "json") as process:
            output, errors = process.communicate(timeout=COMMAND_TIMEOUT)
        return process.returncode, json.loads(output or "null"), errors


@contextlib.contextmanager
def deployed(state_dir: Path, router: str = "embedded") -> Iterator[Deployment]:
    """A deployment whose engines do not survive its test."""
    made = Deployment(state_dir, router)
    try:
        yield made
    finally:
        made.down()


def smoke(
    place: Deployment,
    *names: str,
    disruptive: bool = False,
    queues: str | None = None,
) -> dict[str, Result]:
    """Make some checks in this process; none of them may fail."""
    found = resolve(Side(), Side(), state_dir=place.dir, queues=queues)
    setup = runner.Setup(found.rpc, found.notify, place.dir, disruptive=disruptive)
    results = {item.check: item for item in runner.results(setup, select(names))}
    failed = [item for item in results.values() if item.status is Status.FAILED]
    assert failed == [], failed
    return results


def router_option(kind: str) -> str:
    """What `--router` takes for a kind of the tests' routers."""
    return kind if kind == "embedded" else str(routers.native_program())


def store(url: str, queue: str, text: str, ca_file: str | None = None) -> None:
    """Store a message in a durable queue; returns when the broker has it.

    The queue itself may be on disk only seconds later, see `on_disk`.

    :param ca_file: the certificate to trust, for a broker with TLS
    """
    with kombu.Connection(
        url.replace("rabbit://", "amqp://", 1),
        ssl={"ca_certs": ca_file} if ca_file else None,
        transport_options={"confirm_publish": True},
    ) as connection:
        target = kombu.Queue(queue, durable=True, channel=connection)
        target.declare()
        connection.Producer().publish(text, routing_key=queue, delivery_mode=2)


def on_disk(node: state.Engine, queue: str) -> bool:
    """Whether a node has begun to write down a queue, and has written all before.

    So ask for one that was declared after the one that is to be kept.
    """
    found = holding(Path(node.log).with_name("mnesia"), queue)
    return any("msg_stores" not in file.parts for file in found)


def holding(directory: Path, *texts: str) -> dict[Path, int]:
    """The files below a directory that hold one of some texts, and their modes.

    Servers replace and remove files while we look.
    """
    found = {}
    # other than rglob(), it takes directories that vanish
    for folder, _, names in os.walk(directory):
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(OSError):
                content = path.read_bytes() if path.is_file() else b""
                if any(text.encode() in content for text in texts):
                    found[path] = stat.S_IMODE(path.stat().st_mode)
    return found


def stored(url: str, queue: str) -> str | None:
    """Take a message out of a durable queue."""
    with kombu.Connection(url.replace("rabbit://", "amqp://", 1)) as connection:
        target = kombu.Queue(queue, durable=True, channel=connection)
        found = target.get(no_ack=True)
        return found.payload if found else None
