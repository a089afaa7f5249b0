# SPDX-License-Identifier: Apache-2.0
"""What all kinds of transports offer, and what they share to offer it."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple, Protocol

from hybrid_messaging import engines, state, urls
from hybrid_messaging.engines import kinds
from hybrid_messaging.servers.census import Census
from hybrid_messaging.servers.insight import Insight, Look

#: How we introduce ourselves.
CLIENT = "hybrid-messaging check"
#: Seconds for each step of a connection, where nobody asks for others.
TIMEOUT = 5.0
#: Seconds that a run without a service's configuration waits for servers of a target
#: that has none. Its own servers do not restart, and somebody waits for the result.
RESTART_TIMEOUT = 2

_PLAIN_TIMEOUT = 2.0


class TransportError(ValueError):
    """A transport is not known, or no service could use it."""


class ConnectError(Exception):
    """A server cannot be used.

    :param code: `unreachable`, `wrong-credentials`, `mechanism-missing`,
        `vhost-missing`, `tls-failed`, `protocol-error` or `unfit-server`
    :param cure: what to do about it
    """

    def __init__(self, code: str, message: str, cure: str) -> None:
        super().__init__(message)
        self.code = code
        self.cure = cure


class Server(NamedTuple):
    """One server of a transport.

    :param title: what people call such servers
    """

    title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.title} on {urls.Host(self.host, self.port)}"


@dataclass(frozen=True)
class Inventory:
    """What is found on a server.

    :param source: who has told it
    :param names: by what they are, such as queues
    :param complete: False where only the names of one run could be looked for
    :param note: what else it tells, to be added to `source`
    """

    source: str
    names: Mapping[str, Sequence[str]]
    complete: bool = True
    note: str = ""

    def all(self) -> list[str]:
        """All names, whatever they are."""
        return [name for names in self.names.values() for name in names]


class Names(Protocol):
    """What a run uses on a bus, by its names."""

    @property
    def topic(self) -> str:
        """Topic of its RPC servers."""

    @property
    def exchange(self) -> str:
        """Exchange of its RPC servers."""

    @property
    def notify_exchange(self) -> str:
        """Exchange of its notifications."""

    @property
    def notify_queue(self) -> str:
        """Where a broker stores its notifications."""

    @property
    def queues(self) -> Sequence[str]:
        """What it could be known by as queues on a broker."""

    @property
    def exchanges(self) -> Sequence[str]:
        """What it could be known by as exchanges on a broker."""


@dataclass(frozen=True, repr=False)
class Transport:
    """The servers of one URL, as the driver uses them that its scheme names.

    As it stands here, it is a transport of which no more is known than its URL.

    :param url: its transport URL
    :param options: those of the driver, None if they are not known
    :param engine: what `up` has started there, if it has
    """

    #: how messages reach their receiver: direct, queued, or unknown where only the
    #: server can tell
    delivery: ClassVar[str] = "unknown"
    #: the group of the driver's options
    group: ClassVar[str | None] = None
    #: another group with options of the driver, which a URL cannot have
    besides: ClassVar[str | None] = None
    #: why the transport carries no RPC, or ''
    no_rpc: ClassVar[str] = ""
    #: why it carries no notifications, or ''
    no_notifications: ClassVar[str] = ""
    #: messages of different virtual hosts do not meet
    has_vhosts: ClassVar[bool] = True
    #: what to install for the driver
    package: ClassVar[str] = "oslo.messaging"
    #: by check of `smoke`, what to look at if it fails
    look_at: ClassVar[Mapping[str, str]] = MappingProxyType({})
    #: the driver drops the first notification that waits for a listener
    drops_first: ClassVar[bool] = False
    #: the servers tell their users how much goes through
    tells_traffic: ClassVar[bool] = False

    #: the options that turn TLS off
    _without_tls: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    #: the options that name the certificate to trust; the first that is set
    _ca_files: ClassVar[Sequence[str]] = ()
    #: the options that name our own certificate, and its key
    _own_files: ClassVar[tuple[str, str]] = ("ssl_cert_file", "ssl_key_file")

    url: urls.TransportURL
    options: Any = None
    engine: state.Engine | None = None

    # -- from the URL alone ----------------------------------------------

    @property
    def title(self) -> str:
        """What people call the servers."""
        return self.url.scheme

    @property
    def port(self) -> int:
        """The port of a host of the URL that has none; 0 if it is not known."""
        return 0

    @property
    def hosts(self) -> tuple[urls.Host, ...]:
        """The servers, at least one."""
        return self.url.hosts or (urls.Host("localhost"),)

    @property
    def servers(self) -> frozenset[Server]:
        """Each server."""
        return frozenset(
            Server(self.title, host.host.lower() or "localhost", host.port or self.port)
            for host in self.hosts
        )

    @property
    def key(self) -> tuple[str, str]:
        """What is alike of two transports between which servers see no difference."""
        return str(self.url), repr(self.options)

    def only(self, host: urls.Host) -> Transport:
        """The same transport with one of its servers alone."""
        return dataclasses.replace(
            self, url=dataclasses.replace(self.url, hosts=(host,))
        )

    @property
    def defect(self) -> str:
        """Why the driver cannot use the URL, though it is a right one, or ''."""
        return ""

    def address(self, host: urls.Host) -> tuple[str, int]:
        """Name and port of a server, with the defaults of the driver."""
        return host.host or "localhost", host.port or self.port

    def shown(self, host: urls.Host) -> str:
        """Name and port of a server, as in a URL."""
        return str(urls.Host(*self.address(host)))

    @property
    def durable(self) -> bool | None:
        """Whether messages outlive a restart of the servers; None: we cannot tell.

        It may take the options.
        """
        return None

    def trusting(
        self, ca_file: str | None, key_directory: str | None
    ) -> dict[str, str]:
        """Options of the URL with which the driver has encrypted connections.

        :param ca_file: the certificate to trust; None: no TLS
        :param key_directory: with the CURVE keys of services, for a driver that has
            some; None: as it does without
        """
        return urls.tls(self.url.driver, ca_file)

    def known_as(self, said: str) -> tuple[str, str]:
        """What people call a server, and how it delivers.

        :param said: what `connect` has returned, '' if nothing is known of the server
        """
        return self.title, self.delivery

    def trial_query(self, role: str, configured: bool) -> Mapping[str, str]:
        """Options for the URL of a run that tries the bus, unless it has them.

        :param role: `rpc` or `notify`
        :param configured: the options come from a service's configuration
        """
        return {}

    # -- with the options of the driver ----------------------------------

    @property
    def encrypted(self) -> bool:
        """Whether the driver speaks TLS with the servers; it takes the options."""
        return False

    @property
    def ca_file(self) -> str | None:
        """What the driver trusts, '' for the system's; None without TLS."""
        if not self.encrypted:
            return None
        named = (getattr(self.options, name, None) for name in self._ca_files)
        return next(filter(None, named), "")

    @property
    def files(self) -> list[str]:
        """What the driver reads to connect; it takes the options."""
        names = (*self._ca_files, *self._own_files) if self.encrypted else ()
        return [path for name in names if (path := getattr(self.options, name, None))]

    def connect(self, host: urls.Host, timeout: float) -> str:
        """Connect, authenticate, open the virtual host, and disconnect.

        :param host: the server to connect to
        :param timeout: seconds for each step
        :returns: what the server says it is, '' if it does not
        :raises ConnectError: it did not work
        """
        try:
            return self._connect(host, timeout)
        except UnicodeError as error:
            # of a name with an empty part, or one that is too long
            raise unreachable(
                self.shown(host), "this is not a valid host name"
            ) from error

    def takes_plain(self, host: urls.Host, timeout: float) -> bool:
        """Whether a server with which drivers speak TLS can be used without it.

        :param host: one of the servers, which can be used with TLS
        :param timeout: seconds for each step
        """
        without = SimpleNamespace(**{**vars(self.options), **self._without_tls})
        plain = dataclasses.replace(self, options=without)
        try:
            # some servers wait for the rest of what they take for TLS
            plain._greet(host, min(timeout, _PLAIN_TIMEOUT))
        except ConnectError as error:
            # who objects to the user has heard the password
            return error.code in ("wrong-credentials", "vhost-missing")
        return True

    def inspect(self, hosts: Sequence[urls.Host], look: Look) -> Insight:
        """What can be seen of the servers' state with the credentials of the URL.

        :param hosts: those that can be used, at least one
        """
        insight = Insight()
        if self.encrypted:
            self._certificates(hosts, look, insight)
        self._inspect(hosts, look, insight)
        return insight

    def grace(self) -> float | None:
        """Seconds that a call waits for somebody to listen before it fails.

        None: it waits for its whole timeout.
        """
        return None

    def engine_kind(self, said: str) -> str | None:
        """The kind of engine that the servers are; None if they do not say.

        :param said: what `connect` has returned
        """
        return None

    def traffic(self, said: str) -> engines.Traffic | None:
        """Ask the only server for its counters.

        :param said: what `connect` has returned
        :returns: None if it does not tell us
        """
        kind = self.engine_kind(said)
        if kind is None or not self.tells_traffic:
            return None
        (host,) = self.hosts
        name, port = self.address(host)
        server = state.Engine(
            name=kind,
            kind=kind,
            roles=(),
            host=name,
            port=port,
            url=str(self.url),
            pid=state.NOT_STARTED,
            started=0.0,
            log="",
            details=state.Details(username=host.username, password=host.password),
            ca_file=self.ca_file,
        )
        try:
            return kinds.get(kind).traffic(server)
        except (engines.EngineError, ImportError):
            return None

    # -- what is on the servers ------------------------------------------

    def prepare(self, names: Names) -> None:
        """Make on the server what has to be there before a notification is sent.

        :raises EngineError: it refuses
        """

    def waiting(self, names: Names) -> int | None:
        """How many of a run's notifications are stored; None: it cannot tell.

        :raises EngineError: it does not answer
        """
        return None

    def inventory(self, names: Names) -> Inventory:
        """What is on the server.

        :raises EngineError: it does not tell
        """
        raise engines.EngineError(
            f"{self.url.scheme}:// is unknown, so nothing can be checked"
        )

    def census(self, look: Look) -> Census:
        """Who uses the servers for RPC, on the virtual host of the URL.

        :param look: `timeout` and `management` count
        :raises EngineError: they do not tell
        """
        raise engines.EngineError(f"{self.title} does not tell who uses it")

    def is_rpc(self, name: str) -> bool:
        """Whether a name of the inventory is one that RPC uses, whoever's it is."""
        return False

    def clean_up(self, names: Names) -> None:
        """Remove what a run has left on the server.

        :raises EngineError: it refuses
        """

    def _connect(self, host: urls.Host, timeout: float) -> str:
        """See `connect`; all that can be said if we do not speak the language."""
        name, port = self.address(host)
        if port:
            connected(name, port, timeout).close()
        return ""

    def _inspect(
        self, hosts: Sequence[urls.Host], look: Look, insight: Insight
    ) -> None:
        """See `inspect`; what is particular to a kind."""

    def _certificates(
        self, hosts: Sequence[urls.Host], look: Look, insight: Insight
    ) -> None:
        from hybrid_messaging.servers import certificates

        own = tuple(getattr(self.options, name, None) or "" for name in self._own_files)
        files = filter(None, (self.ca_file, own[0]))
        insight.problems += certificates.of_files(files, look.days)
        for host in hosts:
            name, port = self.address(host)
            try:
                insight.problems += certificates.of_server(
                    name, port, look.timeout, look.days, (own[0], own[1])
                )
            except (OSError, ConnectError) as error:
                insight.unseen.append(f"the certificate of {self.shown(host)}: {error}")

    def _greet(self, host: urls.Host, timeout: float) -> str:
        """Find out whether a server talks to us, without having to log in."""
        return self.connect(host, timeout)

    def __str__(self) -> str:
        return urls.shown(str(dataclasses.replace(self.url, query={})))


def connected(name: str, port: int, timeout: float) -> socket.socket:
    """A TCP connection.

    :raises ConnectError: there is none
    """
    try:
        return socket.create_connection((name, port), timeout)
    except OSError as error:
        server = str(urls.Host(name, port))
        raise unreachable(server, error.strerror or str(error)) from error


def unreachable(server: str, reason: object) -> ConnectError:
    """Nothing answers."""
    return ConnectError(
        "unreachable",
        f"{server} cannot be reached: {reason}",
        "start the server, correct host and port, or open the firewall",
    )


def tls_failed(server: str, reason: object) -> ConnectError:
    """Something is wrong with TLS, on either side."""
    return ConnectError(
        "tls-failed",
        f"{server}: TLS failed: {reason}",
        "check the TLS options of the driver, and whether this port speaks TLS",
    )


def protocol_error(server: str, protocol: str, reason: object) -> ConnectError:
    """Something else answers."""
    return ConnectError(
        "protocol-error",
        f"{server} does not speak {protocol}: {reason}",
        "check that host and port belong to the right server",
    )
