# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ 3.9 to 4: a private node beside whatever the system runs.

The node shares nothing with the system's: files, ports, Erlang cookie and epmd
are its own, and no file below ``/etc/rabbitmq`` is read. What each variable
does: https://www.rabbitmq.com/docs/configure#supported-environment-variables
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path

from hybrid_messaging import state, urls, whole_file
from hybrid_messaging.engines import (
    HOST,
    EngineError,
    Launch,
    Missing,
    Options,
    Traffic,
    ports,
    rabbitmq_management,
    templates,
)
from hybrid_messaging.engines.kinds import Preparation, RotatingKind, logins

TITLE = "RabbitMQ"
#: The first with streams, which oslo.messaging's driver can ask for
#: (`rabbit_stream_fanout`); quorum queues are older.
OLDEST = (3, 9)
#: From here on RabbitMQ refuses queues that are neither durable nor exclusive, such as
#: those of RPC by oslo.messaging's defaults, unless its configuration permits them.
REFUSES_TRANSIENT_QUEUES = (4, 3)
#: Where the packages of Debian, Ubuntu and RHEL keep the real start script; the
#: one on PATH is a wrapper that insists on the user rabbitmq.
PACKAGED_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
MEMORY_LIMIT = "512MB"
DISK_RESERVE = "50MB"

_LIBRARY = re.compile(r"rabbit-(\d+\.\d+\.\d+)")
# settings of another node, or of the supervisor that runs us
_FOREIGN_VARIABLES = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")


class RabbitMQ(RotatingKind):
    """A node of RabbitMQ, with its management."""

    title = TITLE
    start_timeout = 120.0
    # with the management agent a node takes six seconds even when it is idle
    stop_timeout = 30.0

    def missing(self, options: Options) -> list[Missing]:
        manager = "apt-get" if shutil.which("apt-get") else "dnf"
        install = f"sudo {manager} install rabbitmq-server"
        programs = {
            "rabbitmq-server": _server(),
            "erl": shutil.which("erl"),
            "epmd": shutil.which("epmd"),
        }
        lacking = [
            Missing(name, install) for name, found in programs.items() if not found
        ]
        version = _version(_server())
        if version and version < OLDEST:
            lacking.append(
                Missing(
                    f"{TITLE} {_dotted(OLDEST)} or later (version {_dotted(version)}"
                    " is installed, and lacks queue types that oslo.messaging may use)",
                    "https://www.rabbitmq.com/docs/download",
                )
            )
        return lacking

    def describe(self, options: Options) -> str:
        return str(_server() or "rabbitmq-server")

    def configure(self, engine: Preparation) -> Launch:
        directory, options = engine.directory, engine.options
        take_port = engine.take_port
        server = _server()
        lacking = self.missing(options)
        if server is None or lacking:
            raise EngineError(
                f"{TITLE} is not installed here "
                f"({', '.join(m.what for m in lacking)}): {lacking[0].install}"
            )
        before = engine.before(state.RabbitMQDetails)
        port = engine.take_main_port()
        details = state.RabbitMQDetails(
            management_port=take_port(before.management_port if before else None),
            distribution_port=take_port(before.distribution_port if before else None),
            epmd_port=take_port(before.epmd_port if before else None),
            cookie=before.cookie if before else secrets.token_hex(16),
            node=f"{engine.name}@localhost",
            **logins(options, before),
        )
        whole_file.write(
            directory / "rabbitmq.conf",
            templates.render(
                "rabbitmq.conf",
                host=options.host,
                port=port,
                management_host=HOST,
                management_port=details.management_port,
                username=details.username,
                password=details.password,
                certificates=options.certificates,
                permits_transient_queues=_version(server) >= REFUSES_TRANSIENT_QUEUES,
                memory_limit=MEMORY_LIMIT,
                disk_reserve=DISK_RESERVE,
            ),
        )
        whole_file.write(directory / "enabled_plugins", "[rabbitmq_management].\n")
        whole_file.write(directory / ".erlang.cookie", details.cookie, mode=0o400)
        return Launch(
            command=(str(server),),
            port=port,
            url=urls.build(
                "rabbit",
                [(options.host, port)],
                details.username,
                details.password,
                query=urls.tls("rabbit", options.ca_file),
            ),
            environment=_environment(directory, details),
            details=details,
        )

    def is_ready(self, engine: state.Engine) -> bool:
        try:
            # nobody else knows our password: whoever takes it is our node
            rabbitmq_management.request(engine, "GET", "whoami")
        except EngineError:
            return False
        return ports.answers(engine.host, engine.port)

    def admit(self, engine: state.Engine, login: state.Login) -> None:
        rabbitmq_management.add_user(engine, login)

    def dismiss(self, engine: state.Engine, login: state.Login) -> None:
        rabbitmq_management.remove_user(engine, login.username)

    def users(self, engine: state.Engine) -> list[str]:
        return [each["user"] for each in rabbitmq_management.connections(engine)]

    def traffic(self, engine: state.Engine) -> Traffic:
        overview = rabbitmq_management.request(engine, "GET", "overview")
        totals = overview.get("object_totals", {})
        messages = overview.get("message_stats", {})
        return Traffic(
            version=overview["rabbitmq_version"],
            connections=totals.get("connections", 0),
            destinations=totals.get("queues", 0),
            received=messages.get("publish", 0),
            delivered=messages.get("deliver_get", 0),
            waiting=overview.get("queue_totals", {}).get("messages", 0),
        )


def _server() -> Path | None:
    on_path = shutil.which("rabbitmq-server")
    for candidate in (PACKAGED_SERVER, Path(on_path) if on_path else None):
        # the real script sources rabbitmq-env from its own directory
        if candidate and (candidate.resolve().parent / "rabbitmq-env").exists():
            return candidate
    return None


def _version(server: Path | None) -> tuple[int, ...]:
    """The version of a server, by the libraries beside it; () if these do not tell."""
    if server is None:
        return ()
    plugins = server.resolve().parent.parent / "plugins"
    names = (path.name for path in sorted(plugins.glob("rabbit-*")))
    found = next(filter(None, map(_LIBRARY.match, names)), None)
    return tuple(map(int, found[1].split("."))) if found else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _environment(directory: Path, details: state.RabbitMQDetails) -> dict[str, str]:
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(_FOREIGN_VARIABLES)
    }
    return {
        **inherited,
        "HOME": str(directory),
        "RABBITMQ_NODENAME": details.node,
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        # these need not exist, but without them the system's would be read
        "RABBITMQ_CONFIG_FILES": str(directory / "conf.d" / "*.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_DIST_PORT": str(details.distribution_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1}"
        ),
        "ERL_EPMD_PORT": str(details.epmd_port),
        "ERL_EPMD_ADDRESS": HOST,
        # the start script becomes the node instead of waiting for it
        "RUNNING_UNDER_SYSTEMD": "true",
    }
