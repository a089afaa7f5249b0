# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ 3.9 to 4: a private node beside whatever the system runs.

The node shares nothing with the system's: files, ports, Erlang cookie and epmd
are its own, and no file below ``/etc/rabbitmq`` is read. What each variable
does: https://www.rabbitmq.com/docs/configure#supported-environment-variables
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import secrets
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid_messaging import state, tls, urls
from hybrid_messaging.engines import (
    HOST,
    EngineError,
    Fetch,
    Launch,
    Missing,
    Options,
    TakePort,
    Traffic,
    ports,
    templates,
)

TITLE = "RabbitMQ"
START_TIMEOUT = 120.0
# with the management agent a node takes six seconds even when it is idle
STOP_TIMEOUT = 30.0
CREDENTIALS = "user:password@"
SOURCES: Mapping[str, Fetch] = {}

USERNAME = "hybrid"
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

_HTTP_TIMEOUT = 10.0
_LIBRARY = re.compile(r"rabbit-(\d+\.\d+\.\d+)")
# the ports of a node besides the one for AMQP 0-9-1
_MORE_PORTS = ("management", "distribution", "epmd")
# settings of another node, or of the supervisor that runs us
_FOREIGN_VARIABLES = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")


def missing(options: Options) -> list[Missing]:
    """See `hybrid_messaging.engines.Engine`."""
    manager = "apt-get" if shutil.which("apt-get") else "dnf"
    install = f"sudo {manager} install rabbitmq-server"
    programs = {
        "rabbitmq-server": _server(),
        "erl": shutil.which("erl"),
        "epmd": shutil.which("epmd"),
    }
    lacking = [Missing(name, install) for name, found in programs.items() if not found]
    version = _version(_server())
    if version and version < OLDEST:
        lacking.append(
            Missing(
                f"{TITLE} {_dotted(OLDEST)} or later (here is {_dotted(version)}, "
                "which lacks queues that oslo.messaging can ask for)",
                "https://www.rabbitmq.com/docs/download",
            )
        )
    return lacking


def describe(options: Options) -> str:
    """See `hybrid_messaging.engines.Engine`."""
    return str(_server() or "rabbitmq-server")


def prepare(
    name: str,
    directory: Path,
    take_port: TakePort,
    previous: state.Engine | None,
    options: Options,
) -> Launch:
    """See `hybrid_messaging.engines.Engine`."""
    server = _server()
    lacking = missing(options)
    if server is None or lacking:
        raise EngineError(
            f"{TITLE} is not installed here ({', '.join(m.what for m in lacking)}): "
            f"{lacking[0].install}"
        )
    before: Mapping[str, Any] = previous.details if previous else {}
    port = options.port or take_port(previous.port if previous else None)
    old_ports = before.get("ports", {})
    more_ports = {item: take_port(old_ports.get(item)) for item in _MORE_PORTS}
    username = options.username or before.get("username", USERNAME)
    password = options.password or before.get("password") or secrets.token_urlsafe(24)
    node = f"{name}@localhost"
    templates.write_private(
        directory / "rabbitmq.conf",
        templates.render(
            "rabbitmq.conf",
            host=options.host,
            port=port,
            management_host=HOST,
            management_port=more_ports["management"],
            username=username,
            password=password,
            certificates=options.certificates,
            permits_transient_queues=_version(server) >= REFUSES_TRANSIENT_QUEUES,
            memory_limit=MEMORY_LIMIT,
            disk_reserve=DISK_RESERVE,
        ),
    )
    templates.write_private(directory / "enabled_plugins", "[rabbitmq_management].\n")
    cookie = before.get("cookie") or secrets.token_hex(16)
    templates.write_private(directory / ".erlang.cookie", cookie, mode=0o400)
    return Launch(
        command=(str(server),),
        port=port,
        url=urls.build(
            "rabbit",
            [(options.host, port)],
            username,
            password,
            query=urls.tls("rabbit", options.ca_file),
        ),
        environment=_environment(directory, node, more_ports),
        details={
            "ports": more_ports,
            "username": username,
            "password": password,
            "cookie": cookie,
            "node": node,
        },
    )


def is_ready(engine: state.Engine) -> bool:
    """See `hybrid_messaging.engines.Engine`."""
    try:
        # nobody else knows our password: whoever takes it is our node
        _request(engine, "GET", "whoami")
    except EngineError:
        return False
    return ports.answers(engine.host, engine.port)


def set_up(engine: state.Engine) -> None:
    """See `hybrid_messaging.engines.Engine`; oslo.messaging declares its queues."""


def traffic(engine: state.Engine) -> Traffic:
    """See `hybrid_messaging.engines.Engine`."""
    overview = _request(engine, "GET", "overview")
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


def add_vhost(engine: state.Engine, vhost: str) -> str:
    """Create a virtual host, or accept the one that is there.

    :returns: the transport URL for it
    :raises EngineError: if the node refuses
    """
    path = urllib.parse.quote(vhost, safe="")
    username = engine.details["username"]
    _request(engine, "PUT", f"vhosts/{path}", {})
    _request(
        engine,
        "PUT",
        f"permissions/{path}/{username}",
        {"configure": ".*", "write": ".*", "read": ".*"},
    )
    return urls.build(
        "rabbit",
        [(engine.host, engine.port)],
        username,
        engine.details["password"],
        vhost,
        urls.tls("rabbit", engine.ca_file),
    )


def queues(engine: state.Engine) -> list[dict[str, Any]]:
    """List all queues: name, vhost, durable, messages, consumers and more.

    :raises EngineError: if the node does not answer
    """
    found: list[dict[str, Any]] = _request(engine, "GET", "queues")
    return found


def exchanges(engine: state.Engine) -> list[dict[str, Any]]:
    """List all exchanges: name, vhost, type, durable and more.

    :raises EngineError: if the node does not answer
    """
    found: list[dict[str, Any]] = _request(engine, "GET", "exchanges")
    return found


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


def _environment(
    directory: Path, node: str, more_ports: Mapping[str, int]
) -> dict[str, str]:
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(_FOREIGN_VARIABLES)
    }
    return {
        **inherited,
        "HOME": str(directory),
        "RABBITMQ_NODENAME": node,
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
        "RABBITMQ_DIST_PORT": str(more_ports["distribution"]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1}"
        ),
        "ERL_EPMD_PORT": str(more_ports["epmd"]),
        "ERL_EPMD_ADDRESS": HOST,
        # the start script becomes the node instead of waiting for it
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def _request(engine: state.Engine, method: str, path: str, body: object = None) -> Any:
    """Speak with the node's management API.

    https://www.rabbitmq.com/docs/http-api-reference
    """
    scheme = "https" if engine.ca_file else "http"
    address = f"{scheme}://{engine.host}:{engine.details['ports']['management']}"
    credentials = f"{engine.details['username']}:{engine.details['password']}"
    request = urllib.request.Request(  # noqa: S310
        f"{address}/api/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": "Basic " + base64.b64encode(credentials.encode()).decode(),
            "Content-Type": "application/json",
        },
    )
    # a proxy of the user's environment knows nothing of our loopback
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if engine.ca_file:
        trusting = tls.client(engine.ca_file)
        handlers.append(urllib.request.HTTPSHandler(context=trusting))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(request, timeout=_HTTP_TIMEOUT) as response:
            text = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(
            f"{TITLE}'s management at {address}/api/{path} fails: {error}"
        ) from error
    return json.loads(text) if text else None
