# SPDX-License-Identifier: Apache-2.0
"""The two transports of a service, as they will be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hybrid_messaging import urls
from hybrid_messaging.drivers.zmq.names import is_loopback
from hybrid_messaging.servers import rabbit_releases
from hybrid_messaging.servers.insight import Insight, Look
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.servers.transport import ConnectError, Transport
from hybrid_messaging.servers.zmq import Zmq
from hybrid_messaging.service_configs.interpreter import Environment
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.settings import NOTIFICATIONS

#: What `oslo_messaging.notify.Notifier` has methods for.
_PRIORITIES = ("audit", "critical", "debug", "error", "info", "sample", "warn")

RPC = "RPC"
NOTIFY = "notifications"

Answer = str | ConnectError
"""What a server says it is, or why it cannot be used."""


@dataclass
class Servers:
    """What servers answer; each is asked once, for all services.

    :param timeout: seconds for each step of a connection
    :param tell: is told what is being waited for
    :param days: how long certificates have to be good for
    :param management: port of RabbitMQ's management, None if it is not to be asked
    """

    timeout: float
    tell: Callable[[str], None] = lambda line: None
    days: float = 30.0
    management: int | None = None
    _answers: dict[Any, Answer] = field(default_factory=dict)
    _plain: dict[Any, bool] = field(default_factory=dict)
    _broken: dict[Any, list[rabbit_releases.Rule]] = field(default_factory=dict)
    _insights: dict[Any, Insight] = field(default_factory=dict)

    def connect(self, transport: Transport, host: urls.Host) -> Answer:
        """Connect to one server of a transport."""
        one = transport.only(host)
        if one.key not in self._answers:
            self.tell(f"connecting to {urls.shown(str(one.url))}")
            try:
                self._answers[one.key] = transport.connect(host, self.timeout)
            except ConnectError as error:
                self._answers[one.key] = error
        return self._answers[one.key]

    def inspect(
        self, transport: Transport, hosts: Sequence[urls.Host], queues: Sequence[str]
    ) -> Insight:
        """Look at the state of servers that can be used."""
        key = (transport.key, tuple(hosts), tuple(queues))
        if key not in self._insights:
            look = Look(self.timeout, self.days, self.management, queues)
            self._insights[key] = transport.inspect(hosts, look)
        return self._insights[key]

    def takes_plain(self, transport: Transport, host: urls.Host) -> bool:
        """Whether a server with which the driver speaks TLS can do without."""
        if not transport.encrypted:
            return False
        key = transport.address(host)
        if key not in self._plain:
            self._plain[key] = transport.takes_plain(host, self.timeout)
        return self._plain[key]

    def differing(
        self, rabbit: Rabbit, host: urls.Host, exchange: str, queues: list[str]
    ) -> dict[str, str]:
        """Which of an exchange and queues a RabbitMQ has otherwise; see `Rabbit`."""
        with suppress(ConnectError):  # it is gone by now
            return rabbit.declared_otherwise(host, exchange, queues, self.timeout)
        return {}

    def broken(
        self, rabbit: Rabbit, host: urls.Host, said: str, rpc: bool
    ) -> list[rabbit_releases.Rule]:
        """What a RabbitMQ refuses of the options of its driver, or ignores."""
        key = (rabbit.only(host).key, rpc)
        if key not in self._broken:
            self._broken[key] = []
            with suppress(ConnectError):  # it is gone by now
                self._broken[key] += rabbit_releases.broken(
                    rabbit, host, said, rpc, self.timeout
                )
        return self._broken[key]


@dataclass
class Route:
    """One of the two transports of a service.

    :param role: `RPC` or `NOTIFY`
    :param option: section and name of the option that decides on the URL
    :param where: file and line of it
    :param text: the URL, with its passwords
    :param transport: the same with the options of its driver, None if it has none
    :param error: why it has none
    :param engine: what stands behind it
    :param delivery: `direct`, `queued` or `unknown`
    :param durable: whether messages outlive a restart of the server; None where
        that is not the configuration's to say
    :param encryption: how messages are encrypted; None for others than zmq://
    :param answers: of its servers, as far as they were asked
    :param insight: into the state of those that can be used
    :param left: what can be asked from the machine of the service only
    :param old: the bus that the service moves away from; None: it does not move
    """

    role: str
    option: tuple[str, str]
    where: str
    text: str
    transport: Transport | None = None
    error: str = ""
    engine: str = "unknown"
    delivery: str = "unknown"
    durable: bool | None = None
    encryption: str | None = None
    answers: list[tuple[urls.Host, Answer]] = field(default_factory=list)
    insight: Insight = field(default_factory=Insight)
    left: list[str] = field(default_factory=list)
    old: Route | None = None

    @property
    def objection(self) -> str:
        """Why the transport does not carry these messages, or ''."""
        if self.transport is None:
            return ""
        known = self.transport
        return known.no_rpc if self.role == RPC else known.no_notifications

    @property
    def usable(self) -> Transport | None:
        """The transport, unless the driver cannot use it for these messages."""
        known = self.transport
        return None if known is None or self.objection or known.defect else known

    @property
    def failures(self) -> list[ConnectError]:
        """Why servers that were asked cannot be used."""
        return [answer for _, answer in self.answers if not isinstance(answer, str)]

    @property
    def asked(self) -> list[urls.Host]:
        """The servers that were asked."""
        return [host for host, _ in self.answers]

    @property
    def reached(self) -> bool:
        """Whether servers were asked, and all of them can be used."""
        return bool(self.answers) and not self.failures


@dataclass(frozen=True)
class Routes:
    """Both transports of a service, and what can be asked about them.

    :param rpc: None for a service without RPC
    :param environment: what the service's Python can import
    :param servers: None if none is to be asked
    :param machine: the other one that the service runs on, '' if it is this one
    """

    rpc: Route | None
    notify: Route
    environment: Environment
    servers: Servers | None = None
    machine: str = ""

    def __iter__(self) -> Iterator[Route]:
        """Both, and the buses that they move away from."""
        yield from self.carrying(RPC)
        yield from self.carrying(NOTIFY)

    def carrying(self, role: str) -> Iterator[Route]:
        """One of both, and the bus that it moves away from."""
        route = self.rpc if role == RPC else self.notify
        while route is not None:
            yield route
            route = route.old


def of(
    config: ServiceConfig,
    environment: Environment,
    servers: Servers | None,
    machine: str = "",
) -> Routes:
    """Read off the transports of a service, and connect to their servers.

    :param machine: the other one that the service runs on, '' if it is this one
    """
    rpc = None
    if config.service.rpc:
        rpc = _route(config, RPC, "DEFAULT", config.rpc_url)
    own = config.conf[NOTIFICATIONS].transport_url
    section = NOTIFICATIONS if own else "DEFAULT"
    notify = _route(config, NOTIFY, section, config.notify_url)
    found = Routes(rpc, notify, environment, servers, machine)
    if servers is not None:
        for route in found:
            _ask(config, route, servers, machine)
    return found


def _route(config: ServiceConfig, role: str, section: str, text: str) -> Route:
    option = (section, "transport_url")
    route = Route(role, option, config.where(*option), text)
    if config.is_unknown(*option):
        return route
    _understand(config, route)
    with suppress(urls.UrlError):
        origin = config.origin(urls.parse(text))
        if origin is not None:
            route.old = Route(role, option, route.where, origin)
            _understand(config, route.old)
    return route


def _understand(config: ServiceConfig, route: Route) -> None:
    """Find out what a URL says."""
    if not route.text:
        route.error = "a migrate+ URL names no bus to move from: add from_url to it"
        return
    try:
        route.transport = known = config.transport(urls.parse(route.text))
    except ValueError as error:
        route.error = str(error)
        return
    route.durable = known.durable
    route.engine, route.delivery = known.known_as("")
    if isinstance(known, Zmq) and route.role == RPC:
        route.encryption = known.encryption.text


def _ask(config: ServiceConfig, route: Route, servers: Servers, machine: str) -> None:
    """Connect to the servers of a route, and look at those that can be used."""
    known = route.usable
    if known is None or not _is_used(config, route):
        return
    hosts, left = _from_here(known, machine)
    route.answers = [(host, servers.connect(known, host)) for host in hosts]
    products = [
        (host, answer) for host, answer in route.answers if isinstance(answer, str)
    ]
    if products:
        queues = _queues(config) if route.role == NOTIFY else []
        usable = [host for host, _ in products]
        route.insight = servers.inspect(known, usable, queues)
        route.engine, route.delivery = known.known_as(products[0][1])
    route.left = left


def _from_here(known: Transport, machine: str) -> tuple[Sequence[urls.Host], list[str]]:
    """The servers that can be asked from this machine as from that of the service.

    :returns: and what cannot be looked at
    """
    if not machine:
        return known.hosts, []
    if known.files:
        return (), [
            f"{known}: to connect, the driver reads files of that host: "
            f"{', '.join(known.files)}"
        ]
    own = [host for host in known.hosts if is_loopback(host.host or "localhost")]
    return [host for host in known.hosts if host not in own], [
        f"{known.shown(host)}: a server on that host itself" for host in own
    ]


def _queues(config: ServiceConfig) -> list[str]:
    """All queues, or topics of Kafka, that notifications of a service may wait in."""
    topics = config.conf[NOTIFICATIONS].topics
    return [f"{topic}.{priority}" for topic in topics for priority in _PRIORITIES]


def _is_used(config: ServiceConfig, route: Route) -> bool:
    """Whether a service connects to a transport: perhaps not to a mere default."""
    return (
        route.role == RPC
        or config.is_set(*route.option)
        or config.service.listens
        or config.publishes
    )
