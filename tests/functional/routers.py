# SPDX-License-Identifier: Apache-2.0
"""Real routers for tests: started on free ports, killed, paused, restarted, asked.

`embedded` is the project's own router. `native` is skupper-router or Qpid
Dispatch, named by the environment variable HYBRID_TEST_ROUTER or found on PATH.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.functional.waiting import until

from hybrid_messaging import urls
from hybrid_messaging.engines.amqp_management import Management
from hybrid_messaging.engines.kinds.router import ADDRESSES
from hybrid_messaging.engines.router_program import NATIVE

HOST = "127.0.0.1"
START_TIMEOUT = 30.0
STOP_TIMEOUT = 60.0

_USERS = "users.sasldb"


def native_program() -> str | None:
    """The router of the machine, if it has one."""
    named = os.environ.get("HYBRID_TEST_ROUTER")
    if named:
        return shutil.which(named) or named
    return next(filter(None, map(shutil.which, NATIVE)), None)


def at_hand() -> tuple[str, ...]:
    """The kinds of router that can be tested here."""
    return ("embedded", "native") if native_program() else ("embedded",)


def described(kind: str) -> str:
    """A kind of router, and which one that is here."""
    return kind if kind == "embedded" else f"{kind} ({native_program()})"


#: Not `random` itself, which hypothesis seeds alike in each process.
_CHANCE = random.SystemRandom()


def free_port(host: str = HOST) -> int:
    """A TCP port that nobody listens on.

    It is below those that the system gives to connections: one of them could have it
    while a server restarts.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = _CHANCE.randrange(10_000, 32_000)
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port


@dataclass(frozen=True)
class Tls:
    """Certificates of a listener; with `client_ca`, clients must have one, too.

    :param required: it refuses whoever comes without TLS
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    required: bool = True


@dataclass(frozen=True)
class Settings:
    """What a test may want of a router."""

    host: str = HOST
    idle_timeout: int = 16
    link_capacity: int = 250
    #: passwords by user (or user@realm): SASL PLAIN is required then
    users: Mapping[str, str] = field(default_factory=dict)
    mechanisms: str = ""
    tls: Tls | None = None
    addresses: tuple[tuple[str, str], ...] = ADDRESSES
    #: the ports for other routers: its own one, and those that it connects to
    mesh: tuple[int, ...] = ()
    #: what the embedded router's process does first, with its modules at hand
    patch: str = ""


class Router:
    """A router process.

    :param kind: one of those at hand
    :param directory: for its configuration and log, exists
    """

    def __init__(
        self, kind: str, directory: Path, settings: Settings | None = None
    ) -> None:
        self.kind = kind
        self.settings = settings or Settings()
        self.port = free_port(self.settings.host)
        self._directory = directory
        self._log = directory / "router.log"
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "router.conf").write_text(self._config())

    # -- life --------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Router:
        """Start it and wait until it accepts connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command(), str(self._directory / "router.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._accepts, f"the {self.kind} router listens", START_TIMEOUT)
        return self

    def stop(self) -> None:
        """End it in order; fail if it does not end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Keep it from running: its sockets stay, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> Router:
        self.stop()
        return self.start()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def set_password(self, user: str, password: str) -> None:
        """Change the password of a user (or user@realm), or add one."""
        name, _, realm = user.partition("@")
        # it goes through standard input; -p: without a terminal
        command = ["saslpasswd2", "-c", "-p", "-f", self._directory / _USERS]
        subprocess.run(
            [*command, *(["-u", realm] if realm else []), name],
            input=password.encode(),
            check=True,
            env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"},
        )

    # -- use ---------------------------------------------------------------

    def url(
        self,
        vhost: str = "",
        username: str | None = None,
        password: str | None = None,
        host: str | None = None,
        **query: object,
    ) -> str:
        """The transport URL of this router."""
        return urls.build(
            "amqp",
            [(host or self.settings.host, self.port)],
            username,
            password,
            vhost or None,
            {key: str(value) for key, value in query.items()},
        )

    def management(self) -> Management:
        """Its management; for routers without users and TLS."""
        return Management(self.settings.host, self.port, timeout=20)

    def connections(self) -> int:
        """How many connections there are besides this one's own."""
        with self.management() as management:
            return len(management.connections()) - 1

    def addresses(self, part: str) -> dict[str, dict[str, Any]]:
        """What the router tells of its addresses with `part` in their name."""
        with self.management() as management:
            return {
                row["name"]: row
                for row in management.addresses()
                if part in row["name"]
            }

    def resident(self) -> int:
        """Bytes of memory that the process uses."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(row for row in status.splitlines() if row.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    # -- inside ------------------------------------------------------------

    def _command(self) -> list[str]:
        if self.kind == "embedded" and self.settings.patch:
            code = (
                "import functools, sys\n"
                "from hybrid_messaging.router import __main__, memory, program\n"
                f"{self.settings.patch}\n"
                "sys.exit(__main__.main())"
            )
            return [sys.executable, "-c", code, "--config"]
        if self.kind == "embedded":
            return [sys.executable, "-m", "hybrid_messaging.router", "--config"]
        program = native_program()
        assert program is not None
        return [program, "-c"]

    def _accepts(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(
                f"the {self.kind} router ended with {self._process.returncode}:\n"
                + self.log()[-4000:]
            )
        try:
            socket.create_connection((self.settings.host, self.port), 1).close()
        except OSError:
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        # one that a test has paused is to end, too
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(
                f"the {self.kind} router does not end on {how.name}"
            ) from None

    def _config(self) -> str:
        settings = self.settings
        mechanisms = settings.mechanisms or ("PLAIN" if settings.users else "ANONYMOUS")
        mode = "interior" if settings.mesh else "standalone"
        router = {"mode": mode, "id": f"test-{self.port}"}
        if settings.users:
            self._write_users()
            router["saslConfigDir"] = str(self._directory)
            router["saslConfigName"] = "router-sasl"
        listener = {
            "host": settings.host,
            "port": self.port,
            "authenticatePeer": "no" if mechanisms == "ANONYMOUS" else "yes",
            "saslMechanisms": mechanisms,
            "idleTimeoutSeconds": settings.idle_timeout,
            "linkCapacity": settings.link_capacity,
        }
        sections = [("router", router)]
        if settings.tls is not None:
            profile = {
                "name": "tls",
                "certFile": settings.tls.certificate,
                "privateKeyFile": settings.tls.key,
            }
            if settings.tls.client_ca is not None:
                profile["caCertFile"] = settings.tls.client_ca
            sections.append(("sslProfile", profile))
            required = "yes" if settings.tls.required else "no"
            listener |= {"sslProfile": "tls", "requireSsl": required}
        sections.append(("listener", listener))
        for number, port in enumerate(settings.mesh):
            link = {"host": settings.host, "port": port, "role": "inter-router"}
            sections.append(("connector" if number else "listener", link))
        sections += [
            ("address", {"prefix": prefix, "distribution": distribution})
            for prefix, distribution in settings.addresses
        ]
        sections.append(("log", {"module": "DEFAULT", "enable": "info+"}))
        return "\n".join(
            f"{name} {{\n"
            + "".join(f"    {key}: {value}\n" for key, value in attributes.items())
            + "}"
            for name, attributes in sections
        )

    def _write_users(self) -> None:
        for user, password in self.settings.users.items():
            self.set_password(user, password)
        (self._directory / "router-sasl.conf").write_text(
            "pwcheck_method: auxprop\n"
            "auxprop_plugin: sasldb\n"
            f"sasldb_path: {self._directory / _USERS}\n"
            "mech_list: PLAIN ANONYMOUS EXTERNAL\n"
        )
