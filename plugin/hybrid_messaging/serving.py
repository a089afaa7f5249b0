# SPDX-License-Identifier: Apache-2.0
"""The servers that files or URLs name: whether they answer, and what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid_messaging import urls
from hybrid_messaging.engines import Traffic
from hybrid_messaging.servers import options
from hybrid_messaging.servers.transport import ConnectError, Transport
from hybrid_messaging.service_configs import reading
from hybrid_messaging.service_configs.settings import NOTIFICATIONS

UP = "up"
RPC, NOTIFY = "rpc", "notify"


@dataclass(frozen=True)
class Use:
    """A transport of a service.

    :param service: whose it is; '' if only its URL is known
    :param role: `RPC` or `NOTIFY`
    :param transport: with the options of its driver
    :param old: it is the bus that the service moves away from
    """

    service: str
    role: str
    transport: Transport
    old: bool = False


@dataclass(frozen=True)
class Server:
    """One server, by all who use it.

    :param host: name or address, and `port`: where it is
    :param uses: at least one; the transport of each has this host alone
    """

    host: str
    port: int
    uses: tuple[Use, ...]

    @property
    def roles(self) -> list[str]:
        """What it carries."""
        carried = (f"{use.role} (old)" if use.old else use.role for use in self.uses)
        return list(dict.fromkeys(carried))

    @property
    def services(self) -> list[str]:
        """Who uses it."""
        return sorted({use.service for use in self.uses if use.service})

    @property
    def url(self) -> urls.TransportURL:
        """A URL that leads to it, without virtual host and options."""
        return dataclasses.replace(self.uses[0].transport.url, vhost=None, query={})

    @property
    def encrypted(self) -> bool:
        """Whether drivers speak TLS with it."""
        return any(use.transport.encrypted for use in self.uses)


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
            yield Use(config.service.name, role, config.transport(url))
            if old := config.origin(url):
                transport = config.transport(urls.parse(old))
                yield Use(config.service.name, role, transport, old=True)


def in_url(role: str, text: str) -> Iterator[Use]:
    """The transport of a URL that is in no file, and that from which services move.

    :raises ValueError: it is none, or has an option that its driver does not have
    """
    url, conf = urls.parse(text), options.defaults()
    yield Use("", role, options.transport(conf, url))
    if old := urls.origin(url):
        yield Use("", role, options.transport(conf, urls.parse(old)), old=True)


def servers(uses: Iterable[Use]) -> list[Server]:
    """The servers of transports, each once."""
    found: dict[tuple[str, str, int], dict[tuple[str, ...], Use]] = {}
    for use in uses:
        transport = use.transport
        for host in transport.hosts:
            one = dataclasses.replace(use, transport=transport.only(host))
            where = (transport.title, *transport.address(host))
            key = (use.service, use.role, str(use.old), *one.transport.key)
            found.setdefault(where, {})[key] = one
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
    for one in {use.transport.key: use.transport for use in server.uses}.values():
        try:
            version = one.connect(one.hosts[0], timeout)
        except ConnectError as error:
            return Answer(error.code, problem=str(error))
    first = server.uses[0].transport
    traffic = first.traffic(version)
    told = traffic.version if traffic else ""
    return Answer(UP, first.engine_kind(version), told or version, traffic)
