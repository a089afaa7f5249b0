# SPDX-License-Identifier: Apache-2.0
"""A deployment: the services' configs, databases and commands."""

from __future__ import annotations

import abc
import os
import socket
import string
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .environment import HERE, PINS, Environment
from .processes import Command
from .workload import Workload

TEMPLATES = HERE / "templates"
#: Modules that services import or run instead of what this machine lacks.
STAND_INS = HERE / "stand_ins"
#: How services run that know both, and what tells them, where it is not their default;
#: others know native threads only.
THREADING = {
    "native": {"OS_CINDER_DISABLE_EVENTLET_PATCHING": "1"},
    "eventlet": {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "0"},
}
#: One line per request served and per notification sent: what is compared with the
#: router's counters and with what ceilometer stored.
LOGGING = (
    "default_log_levels = oslo_messaging.rpc.server=DEBUG,"
    "oslo.messaging.notification=INFO,sqlalchemy=WARNING"
)


@dataclass(frozen=True)
class Deployment(abc.ABC):
    """Where a deployment's files are, and how its services are run.

    :param environment: the virtual environment with the services
    :param checkout: directory with hybrid-messaging, for ``PYTHONPATH``
    :param directory: holds etc, state and log
    :param threading: one of :data:`THREADING`
    :param ports: a TCP port for each of :attr:`APIS`
    """

    environment: Environment
    checkout: Path
    directory: Path
    threading: str
    ports: Mapping[str, int]

    #: what the environment is built from
    PINS: ClassVar[Sequence[Path]] = (PINS,)
    #: the services with a REST interface
    APIS: ClassVar[Sequence[str]]
    #: the processes that serve RPC; each value is part of the server's topics
    SERVERS: ClassVar[Mapping[str, str]]
    #: the methods that one pass of the workloads calls, casts or sends to all, by the
    #: process that serves them
    METHODS: ClassVar[Mapping[str, frozenset[str]]]
    #: the notifications that one pass sends at least, by event type
    NOTIFICATIONS: ClassVar[Counter[str]]
    #: where notifications are published to, besides oslo.messaging's own exchange
    EXCHANGES: ClassVar[frozenset[str]]
    #: the lone servers that are restarted while users ask for something
    RESTARTED: ClassVar[Sequence[str]]

    @property
    def logs(self) -> Path:
        """The directory of the logs."""
        return self.directory / "log"

    @property
    def setup_log(self) -> Path:
        """What the services' tools print; they notify, too."""
        return self.logs / "setup.log"

    @property
    def events(self) -> Path:
        """The file in which ceilometer stores what it receives."""
        return self.directory / "state" / "ceilometer" / "events.json"

    def config(self, project: str, name: str = "") -> Path:
        """Return the path of a project's config file.

        :param name: of the file, if it is not the project's
        """
        return self.directory / "etc" / project / (name or f"{project}.conf")

    @property
    @abc.abstractmethod
    def configs(self) -> list[Path]:
        """All config files that name a transport."""

    @property
    def variables(self) -> dict[str, str]:
        """The services' environment variables."""
        return {
            **os.environ,
            "PYTHONPATH": f"{self.checkout}{os.pathsep}{STAND_INS}",
            "PATH": f"{self.environment.root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            # stevedore keeps a file for every search path it has seen
            "XDG_CACHE_HOME": str(self.directory / "cache"),
        }

    @abc.abstractmethod
    def write(self, transport_url: str) -> None:
        """Write configs and databases of a deployment on one message bus.

        :param transport_url: the bus, for RPC and notifications alike
        """

    def configured(self) -> None:  # noqa: B027
        """Do what has to be done when ``configure`` has moved the configs."""

    def ready(self) -> None:  # noqa: B027
        """Do what has to be done when the services run for the first time."""

    @abc.abstractmethod
    def commands(self) -> Sequence[Command]:
        """Return the services, by the programs that they come with."""

    @abc.abstractmethod
    def workloads(self) -> Sequence[Workload]:
        """Return what users do with the services."""

    def render(self, path: Path, template: Path, **values: object) -> None:
        """Write a file from a template; its project's directories are made.

        :param path: below ``etc/PROJECT``
        :param values: besides paths and ports
        """
        project = path.parent.name
        state = self.directory / "state" / project
        for directory in (self.logs, path.parent, state / "locks"):
            directory.mkdir(parents=True, exist_ok=True)
        ports = {f"{name}_port": port for name, port in self.ports.items()}
        text = string.Template(template.read_text()).substitute(
            config=path.parent,
            state=state,
            etc=self.environment.root / "etc",
            bin=self.environment.root / "bin",
            logging=LOGGING,
            **ports,
            **values,
        )
        path.write_text(text)

    def command(self, name: str, *files: Path) -> Command:
        """Return the command that runs a program with config files."""
        program = self.environment.script(name)
        return Command(name, [program, *options(*files)], THREADING[self.threading])

    def served(self, name: str, module: str, *arguments: str, **more: str) -> Command:
        """Return the command that serves an API with native threads.

        :param name: one of :attr:`APIS`
        :param module: has the WSGI application
        :param arguments: those of the application
        :param more: environment variables
        """
        return Command(
            f"{name}-api",
            [
                self.environment.script("python"),
                str(HERE / "serve_wsgi.py"),
                module,
                str(self.ports[name]),
                *arguments,
            ],
            THREADING["native"] | more,
        )

    def run(self, *command: str) -> str:
        """Run a program of the environment; return what it prints, and log it.

        :raises RuntimeError: if it fails
        """
        program, *arguments = command
        done = subprocess.run(
            [self.environment.script(program), *arguments],
            env=self.variables | THREADING["native"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with self.setup_log.open("a") as log:
            log.write(done.stdout)
        if done.returncode:
            raise RuntimeError(f"{command!r} failed:\n{done.stdout}")
        return done.stdout

    def run_all(self, *sequences: Sequence[Sequence[str]]) -> None:
        """Run sequences of programs at the same time, each in its order."""

        def go(commands: Sequence[Sequence[str]]) -> None:
            for command in commands:
                self.run(*command)

        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(go, commands) for commands in sequences]:
                done.result()


def options(*files: Path) -> list[str]:
    """Return the options with which services take config files."""
    return [word for file in files for word in ("--config-file", str(file))]


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """Return TCP ports of the loopback interface that nothing listens on."""
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    try:
        return {name: opened.getsockname()[1] for name, opened in sockets.items()}
    finally:
        for opened in sockets.values():
            opened.close()
