# SPDX-License-Identifier: Apache-2.0
"""Rendered clusters for tests: all hosts on this machine, each with its address.

The address is one of the loopback interface, or the host is a network namespace. What
runs is what systemd would run: the commands and the environment of the rendered units.
The two directories that all hosts call alike become those of one host.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil
import pytest
from tests.functional.namespaces import SWITCH, Network

from hybrid_messaging.cluster import checking, reading, rendering
from hybrid_messaging.cluster.findings import Finding, Severity
from hybrid_messaging.cluster.topology import EDGE, INTERIOR, Host, Topology

STOP_TIMEOUT = 60.0
#: Seconds that a server may take to answer `cluster check`.
CHECK_TIMEOUT = 5.0
#: Nodes of RabbitMQ and Kafka take half a minute of two busy processors.
LARGE = pytest.mark.skipif(
    not os.environ.get("HYBRID_TEST_CLUSTERS"),
    reason="takes long: set HYBRID_TEST_CLUSTERS to 1",
)

ROUTER = "router"
#: Units by role, where they are called otherwise.
_UNITS = {INTERIOR: ROUTER, EDGE: ROUTER}


class Server:
    """A server of a host, as its unit describes it.

    :param unit: the text of the unit file
    :param enter: what commands on its host begin with
    """

    def __init__(self, unit: str, log: Path, enter: Sequence[str] = ()) -> None:
        lines = [line.partition("=") for line in unit.splitlines()]
        self._before = [value for name, _, value in lines if name == "ExecStartPre"]
        (self._command,) = (value for name, _, value in lines if name == "ExecStart")
        settings = [value for name, _, value in lines if name == "Environment"]
        words = (shlex.split(setting)[0].partition("=") for setting in settings)
        self.environment = {**os.environ, **{name: value for name, _, value in words}}
        self._log = log
        self._enter = enter
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Prepare and start it."""
        with self._log.open("ab") as log:
            for command in (*self._before, self._command):
                self._process = subprocess.Popen(
                    [*self._enter, *shlex.split(command)],
                    env=self.environment,
                    cwd=self._log.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    umask=0o077,
                )
                if command is not self._command and self._process.wait(60):
                    raise AssertionError(f"{command} failed:\n{self.log()}")

    def kill(self) -> None:
        """End it at once, with all that it has started."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Keep it from running: its sockets stay, nobody answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Its process, while it runs."""
        assert self._process is not None
        return self._process

    def log(self) -> str:
        """The end of what it said."""
        if not self._log.exists():
            return ""
        return self._log.read_text(errors="replace")[-4000:]

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(how)
        # one that a test has paused is to end, too
        process.send_signal(signal.SIGCONT)
        process.wait(STOP_TIMEOUT)
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


class Cluster:
    """A rendered cluster.

    :param place: a directory of its own
    :param text: of the topology file
    :param network: where the hosts are, if they are not on the loopback interface
    """

    def __init__(self, place: Path, text: str, network: Network | None = None) -> None:
        self._place = place
        self._network = network
        self.file = place / "mq.yaml"
        self.directory = place / "mq"
        #: by host and unit
        self.servers: dict[tuple[str, str], Server] = {}
        self.topology: Topology
        self.render(text)

    def render(self, text: str) -> list[str]:
        """Render a topology, and carry what has changed to its host.

        :param text: of the topology file
        :returns: the hosts whose servers have something new
        """
        self.file.write_text(text)
        self.topology = reading.read(self.file)
        changes, _ = rendering.render(self.topology, self.directory)
        changed = {
            change.path.parts[1]
            for change in changes
            if change.path.parts[0] == "hosts"
            and change.path.name != rendering.SERVICES
        }
        found = [host for host in self.topology.hosts if host.name in changed]
        for host in found:
            self._carry(host)
        return [host.name for host in found]

    def start(self, role: str, hosts: Iterable[str] | None = None) -> None:
        """Start the servers of a role, on all hosts or some."""
        for host in self.topology.having(role):
            if hosts is None or host.name in hosts:
                self.servers[host.name, _UNITS.get(role, role)].start()

    def variables(self, zone: str) -> Mapping[str, str]:
        """The URLs of a zone, with the certificate of the rendered directory."""
        rendered = self.directory / "zones" / zone
        return self._variables(rendered, rendered)

    def variables_of(self, host: str) -> Mapping[str, str]:
        """The URLs of a host, with its certificate."""
        carried = self._place / host / "etc"
        return self._variables(carried, carried / "tls")

    def findings(self) -> list[Finding]:
        """What `cluster check` finds, where all hosts can be reached."""

        def check() -> list[Finding]:
            return checking.check(self.topology, self.directory, CHECK_TIMEOUT)

        return self._network.within(SWITCH, check) if self._network else check()

    def faults(self, role: str = "") -> list[str]:
        """What it finds wrong, with one role or all: severity, role, host, message."""
        return [
            f"{one.severity.value} {one.role} {one.host}: {one.message}"
            for one in self.findings()
            if one.severity is not Severity.OK and role in ("", one.role)
        ]

    def is_whole(self, role: str = "") -> bool:
        """Whether it finds nothing wrong."""
        return not self.faults(role)

    def end(self) -> None:
        """Kill whatever still runs."""
        for server in self.servers.values():
            server.kill()

    def _variables(self, folder: Path, trusted: Path) -> Mapping[str, str]:
        text = (folder / rendering.SERVICES).read_text()
        before = f"{self.topology.directory}/tls".replace("/", "%2F")
        words = (shlex.split(line)[0].partition("=") for line in text.splitlines())
        return {
            name: url.replace(before, str(trusted).replace("/", "%2F"))
            for name, _, url in words
        }

    def _carry(self, host: Host) -> None:
        """Put the rendered directory of a host where its servers look for it."""
        mine = self._place / host.name
        (mine / "state").mkdir(parents=True, exist_ok=True)
        rendered = self.directory / "hosts" / host.name
        shutil.copytree(rendered, mine / "etc", dirs_exist_ok=True)
        moved = {
            self.topology.directory: str(mine / "etc"),
            self.topology.state: str(mine / "state"),
        }
        for path in (mine / "etc").rglob("*"):
            if path.is_file():
                text = path.read_text()
                for before, after in moved.items():
                    text = text.replace(before, after)
                path.write_text(text)
        for unit in (mine / "etc" / "systemd").iterdir():
            name = unit.stem.removeprefix("hybrid-messaging-")
            log = mine / "state" / f"{name}.log"
            enter = self._network.enter(host.name) if self._network else ()
            server = Server(unit.read_text(), log, enter)
            self.servers.setdefault((host.name, name), server)
