# SPDX-License-Identifier: Apache-2.0
"""A host for the shell half: stack.sh, unstack.sh and clean.sh, played small."""

from __future__ import annotations

import configparser
import contextlib
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_messaging.engines.ports import Ports

ROOT = Path(__file__).parents[2]
CONTROLLER = "192.0.2.1"
#: What a node has that is not the controller.
COMPUTE = {"SERVICE_HOST": CONTROLLER, "ENABLED_SERVICES": "n-cpu"}
#: Those that have a port of their own.
ENGINES = ("ROUTER", "RABBITMQ_NOTIFY", "KAFKA", "BROKER", "REDIS", "ZMQ_PROXY")


class Host:
    """A machine with DevStack and the plugin, as far as messaging goes.

    `local_conf` holds the variables of the localrc section; `functions` is the
    part of the environment that says whose functions the plugin calls.
    """

    def __init__(self, directory: Path, functions: dict[str, str]) -> None:
        self.dest = directory
        self.functions = functions
        with Ports() as ports:
            self.local_conf = {
                "RABBIT_PASSWORD": "secretrabbit",
                "HYBRID_VERIFY": "False",
                "HYBRID_ROUTER": "embedded",
                **{f"HYBRID_{engine}_PORT": str(ports.take()) for engine in ENGINES},
            }
        for script in ("stack.sh", "unstack.sh", "clean.sh"):
            (directory / script).symlink_to(ROOT / "tests/devstack/run.sh")

    def run(self, script: str, command: str = ":") -> subprocess.CompletedProcess[str]:
        """Run a script of DevStack; output and errors are together in stdout."""
        conf = self.dest / "local.conf"
        conf.write_text(
            "".join(
                f"{name}={shlex.quote(value)}\n"
                for name, value in self.local_conf.items()
            )
        )
        return subprocess.run(
            [self.dest / script, conf, ROOT, command],
            env={
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
                "HOME": str(self.dest),
                "DEST": str(self.dest),
                "XDG_CACHE_HOME": str(self.dest / "cache"),
                "PYTHON": sys.executable,
                "SERVICE_TIMEOUT": "240",
                **self.functions,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def stack(self, command: str = ":", **local_conf: str) -> str:
        """Run stack.sh, which is to succeed; give what it said."""
        self.local_conf |= local_conf
        done = self.run("stack.sh", command)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def refused(self, **local_conf: str) -> str:
        """Run stack.sh, which is to fail before it changes anything."""
        self.local_conf |= local_conf
        done = self.run("stack.sh")
        assert done.returncode != 0, done.stdout
        assert self.calls() == []
        return done.stdout

    def has_skrouterd(self) -> None:
        """Put something that is called like it on PATH, and listens in its place."""
        program = self.dest / "bin/skrouterd"
        program.parent.mkdir()
        program.write_text(
            "#!/bin/bash\n"
            "# skrouterd --version, skrouterd -c FILE\n"
            "if [[ $1 == --version ]]; then echo 3.5.1; exit; fi\n"
            "port=$(sed -n '/^listener/,$ s/^ *port: //p' \"$2\" | head -n 1)\n"
            f'exec {sys.executable} -m http.server --bind 127.0.0.1 "$port"\n'
        )
        program.chmod(0o755)

    def calls(self) -> list[str]:
        """What was asked of the machine, in order."""
        path = self.dest / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def ini(self, name: str) -> dict[str, dict[str, str]]:
        """A configuration file below the host's directory."""
        parser = configparser.RawConfigParser(default_section="no default")
        parser.optionxform = str  # type: ignore[assignment]
        assert parser.read(self.dest / name)
        return {section: dict(parser[section]) for section in parser.sections()}

    def enabled(self) -> list[str]:
        """The services that stack.sh has had enabled."""
        text = (self.dest / "stackenv").read_text().strip()
        return [name for name in text.partition("=")[2].split(",") if name]

    def units(self) -> list[str]:
        return sorted(path.name for path in (self.dest / "units").glob("*"))

    def runs(self, engine: str) -> bool:
        """Whether something listens in the place of an engine."""
        return listens(int(self.local_conf[f"HYBRID_{engine.upper()}_PORT"]))

    def router_runs(self) -> bool:
        return self.runs("router")


def listens(port: int, host: str = "127.0.0.1") -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 30):
        return True
    return False


#: Whose functions the plugin calls: ours, and DevStack's if it is there.
FUNCTIONS = [{}] + [
    {name: os.environ[name]} for name in ("DEVSTACK_DIR",) if name in os.environ
]


@pytest.fixture(params=FUNCTIONS, ids=lambda names: "devstack" if names else "ours")
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path, request.param)
    yield made
    if made.units():
        made.run("unstack.sh")
