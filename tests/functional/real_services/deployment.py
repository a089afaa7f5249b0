# SPDX-License-Identifier: Apache-2.0
"""The deployment: the services' configs, databases and commands."""

from __future__ import annotations

import os
import socket
import string
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import HERE, Environment
from .processes import Command

TEMPLATES = HERE / "templates"
#: Projects with a config file each, in the layout of /etc.
PROJECTS = ("ironic", "cinder", "ceilometer")
#: How Cinder runs; the two others know native threads only.
THREADING = ("native", "eventlet")
#: What tells Cinder not to be patched by eventlet.
_NATIVE = {"OS_CINDER_DISABLE_EVENTLET_PATCHING": "1"}


@dataclass(frozen=True)
class Deployment:
    """Where the deployment's files are, and how its services are run.

    :param environment: the virtual environment with the services
    :param checkout: directory with hybrid-messaging, for ``PYTHONPATH``
    :param directory: holds etc, state and log
    :param threading: one of :data:`THREADING`
    :param ironic_port: of ironic-api
    :param cinder_port: of cinder-api
    """

    environment: Environment
    checkout: Path
    directory: Path
    threading: str
    ironic_port: int
    cinder_port: int

    @property
    def logs(self) -> Path:
        """The directory of the logs."""
        return self.directory / "log"

    @property
    def events(self) -> Path:
        """The file in which ceilometer stores what it receives."""
        return self.directory / "state" / "ceilometer" / "events.json"

    def config(self, project: str) -> Path:
        """Return the path of a project's config file."""
        return self.directory / "etc" / project / f"{project}.conf"

    @property
    def configs(self) -> list[Path]:
        """All config files that name a transport."""
        return [self.config(project) for project in PROJECTS]

    @property
    def variables(self) -> dict[str, str]:
        """The services' environment variables."""
        return {
            **os.environ,
            "PYTHONPATH": str(self.checkout),
            # stevedore keeps a file for every search path it has seen
            "XDG_CACHE_HOME": str(self.directory / "cache"),
            **(_NATIVE if self.threading == "native" else {}),
        }

    def write(self, transport_url: str) -> None:
        """Write configs and databases of a deployment on one message bus.

        :param transport_url: the bus, for RPC and notifications alike
        """
        self.logs.mkdir(parents=True)
        for project in PROJECTS:
            config = self.config(project)
            config.parent.mkdir(parents=True)
            state = self.directory / "state" / project
            (state / "locks").mkdir(parents=True)
            values = {
                "transport_url": transport_url,
                "config": config.parent,
                "state": state,
                "etc": self.environment.root / "etc",
                "ironic_port": self.ironic_port,
                "cinder_port": self.cinder_port,
            }
            _render(config, values)
            if project == "ceilometer":
                _render(config.parent / "event_pipeline.yaml", values)
        self._create_schemas()

    def commands(self) -> Sequence[Command]:
        """Return the services, by the programs that they come with."""
        api = (
            [
                self.environment.script("python"),
                str(HERE / "serve_wsgi.py"),
                "cinder.wsgi.api",
                str(self.cinder_port),
            ]
            # cinder-api ends in native threads; DevStack runs it by WSGI, too
            if self.threading == "native"
            else [self.environment.script("cinder-api")]
        )
        return [
            self._command("ironic-conductor", "ironic"),
            self._command("ironic-api", "ironic"),
            self._command("cinder-scheduler", "cinder"),
            self._command("cinder-volume", "cinder"),
            Command("cinder-api", [*api, *self._options("cinder")]),
            self._command("ceilometer-agent-notification", "ceilometer"),
        ]

    def _options(self, project: str) -> list[str]:
        return ["--config-file", str(self.config(project))]

    def _command(self, name: str, project: str) -> Command:
        program = self.environment.script(name)
        return Command(name, [program, *self._options(project)])

    def _create_schemas(self) -> None:
        ironic = [self.environment.script("ironic-dbsync"), *self._options("ironic")]
        cinder = [self.environment.script("cinder-manage"), *self._options("cinder")]
        running = [
            subprocess.Popen(
                command,
                env=self.variables | _NATIVE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for command in ([*ironic, "create_schema"], [*cinder, "db", "sync"])
        ]
        outputs = [process.communicate()[0] for process in running]
        for process, output in zip(running, outputs, strict=True):
            if process.returncode:
                raise RuntimeError(f"no database schema: {process.args!r}:\n{output}")


def free_ports(count: int) -> list[int]:
    """Return TCP ports of the loopback interface that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [opened.getsockname()[1] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def _render(path: Path, values: dict[str, object]) -> None:
    template = string.Template((TEMPLATES / path.name).read_text())
    path.write_text(template.substitute(values))
