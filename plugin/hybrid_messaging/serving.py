# SPDX-License-Identifier: Apache-2.0
"""The servers that files or URLs name: whether they answer, and what they say."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_messaging import engines, state, urls
from hybrid_messaging.drivers.amqp.addressing import ROUTERS
from hybrid_messaging.engines import EngineError, Traffic
from hybrid_messaging.service_configs import connecting, reading
from hybrid_messaging.service_configs.connecting import ConnectError
from hybrid_messaging.service_configs.settings import NOTIFICATIONS
from hybrid_messaging.service_configs.transports import SENTINEL, kind

UP = "up"
RPC, NOTIFY = "rpc", "notify"

#: The engine behind a scheme whose server need not say what it is.
_KINDS = {"kafka": "kafka", "kombu": "rabbitmq", "rabbit": "rabbitmq", "zmq": "redis"}
#: Those that tell their users how much goes through; RabbitMQ has another port for it.
_TELLING = frozenset({"kafka", "redis", "router"})
#: The options of drivers that name the certificate to trust; the first that is set.
_CA_FILES = ("zmq_redis_ca_file", "ssl_ca_file", "ssl_cafile")


@dataclass(frozen=True)
class Use:
    """A transport of a service.

    :param service: whose it is; '' if only its URL is known
    :param role: `RPC` or `NOTIFY`
    :param options: those of the transport's driver
    """

    service: str
    role: str
    url: urls.TransportURL
    options: Any


@dataclass(frozen=True)
class Server:
    """One server, by all who use it.

    :param host: name or address, and `port`: where it is
    :param uses: at least one; the URL of each has this host alone
    """

    host: str
    port: int
    uses: tuple[Use, ...]

    @property
    def roles(self) -> list[str]:
        """What it carries."""
        return list(dict.fromkeys(use.role for use in self.uses))

    @property
    def services(self) -> list[str]:
        """Who uses it."""
        return sorted({use.service for use in self.uses if use.service})

    @property
    def url(self) -> urls.TransportURL:
        """A URL that leads to it, without virtual host and options."""
        return dataclasses.replace(self.uses[0].url, vhost=None, query={})

    @property
    def encrypted(self) -> bool:
        """Whether drivers speak TLS with it."""
        return any(connecting.is_encrypted(use.url, use.options) for use in self.uses)


@dataclass(frozen=True)
class Answer:
    """What became of a look at a server.

    :param status: `UP`, or the code of a `ConnectError`
    :param kind: that of the engine; None if the server does not say
    :param version: what it says it is
    :param traffic: None if it does not tell us
    :param problem: why it cannot be used, or ''
    """

    status: str
    kind: str | None = None
    version: str = ""
    traffic: Traffic | None = None
    problem: str = ""


def in_files(files: Sequence[Path]) -> Iterator[Use]:
    """The transports that the files of one service set.

    :raises ServiceConfigError: the service could not read them
    :raises ValueError: a URL is none, or has an option that its driver does not have
    """
    config = reading.load(files)
    asked = (
        (RPC, config.rpc_url, ["DEFAULT"] if config.service.rpc else []),
        # which is that of RPC, unless it has one of its own
        (NOTIFY, config.notify_url, [NOTIFICATIONS, "DEFAULT"]),
    )
    for role, text, sections in asked:
        if any(config.is_set(section, "transport_url") for section in sections):
            url = urls.parse(text)
            yield Use(config.service.name, role, url, config.driver_options(url))


def in_url(role: str, text: str) -> Use:
    """The transport of a URL that is in no file.

    :raises ValueError: it is none, or has an option that its driver does not have
    """
    url = urls.parse(text)
    return Use("", role, url, reading.driver_options(reading.defaults(), url))


def servers(uses: Iterable[Use]) -> list[Server]:
    """The servers of transports, each once."""
    found: dict[tuple[str, str, int], dict[str, Use]] = {}
    for use in uses:
        for host in use.url.hosts or (urls.Host("localhost"),):
            one = dataclasses.replace(
                use, url=dataclasses.replace(use.url, hosts=(host,))
            )
            where = (kind(use.url).engine, *connecting.address(use.url, host))
            found.setdefault(where, {})[repr(one)] = one
    return [
        Server(host, port, tuple(each.values()))
        for (_, host, port), each in found.items()
    ]


def look(server: Server, timeout: float) -> Answer:
    """Connect to a server as each of its users would, and ask it for its counters.

    :param timeout: seconds for each step of a connection
    """
    version = ""
    # what differs between services of one deployment is the virtual host
    for use in {(str(use.url), repr(use.options)): use for use in server.uses}.values():
        (host,) = use.url.hosts
        try:
            version = connecting.connect(use.url, host, use.options, timeout)
        except ConnectError as error:
            return Answer(error.code, problem=str(error))
    found = _kind(server, version)
    traffic = None
    if found in _TELLING:
        with contextlib.suppress(EngineError, ImportError):
            traffic = engines.get(found).traffic(_engine(server, found))
    told = traffic.version if traffic else ""
    return Answer(UP, found, told or version, traffic)


def _kind(server: Server, version: str) -> str | None:
    if version in ROUTERS:
        return "router"
    scheme = server.url.scheme
    return None if scheme == SENTINEL else _KINDS.get(scheme.partition("+")[0])


def _engine(server: Server, found: str) -> state.Engine:
    """The server, as the module of its kind of engine wants to know it."""
    use = server.uses[0]
    (host,) = use.url.hosts
    trusted = (getattr(use.options, name, None) for name in _CA_FILES)
    return state.Engine(
        name=found,
        kind=found,
        roles=tuple(server.roles),
        host=server.host,
        port=server.port,
        url=str(server.url),
        pid=state.NOT_STARTED,
        started=0.0,
        log="",
        details={"username": host.username, "password": host.password},
        # '' stands for the system's
        ca_file=next(filter(None, trusted), "") if server.encrypted else None,
    )
