# SPDX-License-Identifier: Apache-2.0
"""What each service will really use, and what is wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybrid_messaging import urls
from hybrid_messaging.drivers.amqp.addressing import ROUTERS
from hybrid_messaging.drivers.zmq import options as zmq
from hybrid_messaging.drivers.zmq.names import is_loopback
from hybrid_messaging.service_configs import (
    cells,
    connecting,
    preview,
    rabbit_releases,
    replace,
    strays,
    zmq_encryption,
)
from hybrid_messaging.service_configs.connecting import ConnectError
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.interpreter import Drivers
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.reading import ServiceConfig, load
from hybrid_messaging.service_configs.services import identify
from hybrid_messaging.service_configs.settings import (
    AUTHENTICATED,
    DRIVER,
    DURABLE,
    KAFKA,
    NOTIFICATIONS,
    RABBIT,
    SECURITY,
    ZMQ,
)
from hybrid_messaging.service_configs.transports import (
    is_kafka,
    is_rabbit,
    is_zmq,
    kind,
    servers,
)

RPC = "RPC"
NOTIFY = "notifications"

#: Notification drivers that put nothing on a transport.
_SILENT = {"log": "to the service's log", "test": "to a list in memory", "noop": ""}
#: Those that do, of oslo.messaging's own.
_PUBLISHING = frozenset({"messaging", "messagingv2", "routing"})
_PRIORITY = "info"
#: What librdkafka sends at the most (`message.max.bytes`); oslo.messaging leaves it so.
_KAFKA_LARGEST = 1_000_000


@dataclass
class Route:
    """One of the two transports of a service, as it will be used.

    :param role: `RPC` or `NOTIFY`
    :param option: section and name of the option that decides on the URL
    :param text: the URL, with its passwords
    :param url: the same, None if it is no transport URL
    :param engine: what stands behind it
    :param delivery: `direct`, `queued` or `unknown`
    :param durable: whether messages outlive a restart of the server; None where
        that is not the configuration's to say
    :param encryption: how messages are encrypted; None for others than zmq://
    """

    role: str
    option: tuple[str, str]
    text: str
    url: urls.TransportURL | None = None
    engine: str = "unknown"
    delivery: str = "unknown"
    durable: bool | None = None
    encryption: str | None = None


@dataclass
class Report:
    """A service, its two transports, and the problems that were found.

    `rpc` is None for a service that has none, both transports are None if the
    files could not be read.
    """

    service: str
    files: tuple[str, ...]
    rpc: Route | None = None
    notify: Route | None = None
    drivers: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)


@dataclass
class Checker:
    """Examines services; what it has learnt of a server serves all of them.

    :param drivers: what the services' Python can import
    :param timeout: seconds for each step of a connection; None: connect nowhere
    :param tell: is told what is being waited for
    :param same_rpc: a service whose RPC goes elsewhere than the others' is an error,
        not a warning
    """

    drivers: Drivers
    timeout: float | None
    tell: Callable[[str], None] = lambda line: None
    same_rpc: bool = False
    _connected: dict[Any, str | ConnectError] = field(default_factory=dict)
    _plain: dict[tuple[str, int], bool] = field(default_factory=dict)
    _broken: dict[Any, list[rabbit_releases.Rule]] = field(default_factory=dict)

    def check(
        self,
        services: Iterable[Sequence[Path]],
        config_dirs: Sequence[Path] | None = None,
    ) -> list[Report]:
        """Examine services, each given by the files that it is started with.

        :param config_dirs: see `reading.load`
        """
        reports: list[Report] = []
        read: list[tuple[ServiceConfig, Report]] = []
        groups: dict[Any, str] = {}
        for files in services:
            try:
                config = load(files, config_dirs)
            except ServiceConfigError as error:
                reports.append(_unreadable(files, error))
                continue
            report = self.examine(config)
            reports.append(report)
            report.problems += _listening(config, report, groups)
            read.append((config, report))
        severity = Severity.ERROR if self.same_rpc else Severity.WARNING
        for report, problem in _elsewhere(read, severity):
            report.problems.append(problem)
        nova = [item for item in read if item[0].service.name == "nova"]
        if nova and self.timeout is not None:
            nova[0][1].problems += _cell_problems([config for config, _ in nova])
        return reports

    def examine(self, config: ServiceConfig) -> Report:
        """Read off one service's transports and find what is wrong with them."""
        rpc = None
        if config.service.rpc:
            rpc = Route(RPC, ("DEFAULT", "transport_url"), config.rpc_url)
        section = (
            NOTIFICATIONS if config.conf[NOTIFICATIONS].transport_url else "DEFAULT"
        )
        notify = Route(NOTIFY, (section, "transport_url"), config.notify_url)
        problems: list[Problem] = []
        for route in filter(None, (rpc, notify)):
            problems += self._examine_route(config, route)
        problems += self._publishing(config)
        for rule in (_unset, _shared, _stored, _durable, _consumed, _exposed):
            problems += rule(config, rpc, notify)
        problems += strays.problems(config)
        return Report(
            config.service.name,
            tuple(document.path for document in config.documents),
            rpc,
            notify,
            tuple(config.conf[NOTIFICATIONS].driver),
            tuple(config.conf[NOTIFICATIONS].topics),
            list(dict.fromkeys(problems)),
        )

    # -- one transport ---------------------------------------------------

    def _examine_route(self, config: ServiceConfig, route: Route) -> Iterator[Problem]:
        where = config.where(*route.option)
        if config.is_unknown(*route.option):
            return
        try:
            route.url = url = urls.parse(route.text)
            known = kind(url)
            options = config.driver_options(url)
        except ValueError as error:
            yield Problem(Severity.ERROR, "bad-url", str(error), "correct it", where)
            return
        route.engine, route.delivery = known.engine, known.delivery
        if route.delivery == "queued":
            route.durable = True
        if is_rabbit(url):
            route.durable = options.amqp_durable_queues or options.rabbit_quorum_queue
        yield from self._driver(url, where)
        if is_kafka(url):
            yield from _authenticated(config, url, options)
        if is_zmq(url) and route.role == RPC:
            yield from _found(config, url, options)
            encryption = zmq_encryption.of(url, options)
            route.encryption = encryption.text
            yield from zmq_encryption.problems(config, encryption, options)
        defect = known.defect(url)
        objection = known.no_rpc if route.role == RPC else known.no_notifications
        if objection:
            yield Problem(
                Severity.ERROR,
                "unfit-transport",
                f"{route.role} cannot use {url.scheme}://: {objection}",
                f"choose another transport for {route.role} with `configure`",
                where,
            )
        elif defect:
            yield Problem(Severity.ERROR, "unusable-url", defect, "change it", where)
        elif self.timeout is not None:
            yield from self._servers(config, route, url, options, where)
            if is_zmq(url):
                yield from _resolved(config, options)

    def _driver(self, url: urls.TransportURL, where: str) -> Iterator[Problem]:
        name = url.scheme.partition("+")[0]
        reason = self.drivers.transport.get(name, "it is not installed")
        if reason:
            package = _PACKAGES.get(name, "oslo.messaging")
            yield Problem(
                Severity.ERROR,
                "driver-not-importable",
                f"the service cannot import the driver for {name}://: {reason}",
                f"install it into the service's environment: pip install {package}",
                where,
            )

    def _servers(
        self,
        config: ServiceConfig,
        route: Route,
        url: urls.TransportURL,
        options: Any,
        where: str,
    ) -> Iterator[Problem]:
        """Connect to every server of a transport."""
        hosts = url.hosts or (urls.Host("localhost"),)
        failed: list[ConnectError] = []
        products = set()
        for host in hosts:
            answer = self._connect(url, host, options)
            if isinstance(answer, ConnectError):
                failed.append(answer)
                continue
            products.add(answer)
            if is_rabbit(url):
                yield from self._by_release(config, route, url, host, options, answer)
            if self._takes_plain(url, host, options):
                yield Problem(
                    Severity.WARNING,
                    "plain-accepted",
                    f"{':'.join(map(str, connecting.address(url, host)))} is used with "
                    "TLS, but can be used without it, too",
                    "close its listener without TLS, or have it require TLS",
                    where,
                )
        for error in failed:
            # the others of several servers stand in for one that is down
            spare = error.code == "unreachable" and len(failed) < len(hosts)
            severity = Severity.WARNING if spare else Severity.ERROR
            yield Problem(severity, error.code, str(error), error.cure, where)
        if url.scheme == "amqp" and products:
            product = products.pop()
            route.engine = product or route.engine
            if product in ROUTERS:
                route.delivery = "direct"
            elif product:
                route.delivery = "queued"
        if route.role == NOTIFY and is_kafka(url) and not failed:
            yield from self._limited(config, url, options)
        if route.role == NOTIFY and is_rabbit(url) and route.durable and not failed:
            yield from self._leftovers(config, url, hosts[0], options, where)

    def _limited(
        self, config: ServiceConfig, url: urls.TransportURL, options: Any
    ) -> Iterator[Problem]:
        """Topics that refuse what the client library sends."""
        assert self.timeout is not None
        topics = [f"{topic}.{_PRIORITY}" for topic in config.conf[NOTIFICATIONS].topics]
        limits = connecting.kafka_limits(url, options, topics, self.timeout)
        for topic, limit in limits.items():
            if limit < _KAFKA_LARGEST:
                yield Problem(
                    Severity.WARNING,
                    "topic-too-small",
                    f"topic {topic} takes {limit} bytes, and services send up to "
                    f"{_KAFKA_LARGEST}: larger notifications are lost",
                    f"raise max.message.bytes of {topic}, or message.max.bytes of the "
                    "brokers",
                    config.where(NOTIFICATIONS, "topics"),
                )

    def _connect(
        self, url: urls.TransportURL, host: urls.Host, options: Any
    ) -> str | ConnectError:
        assert self.timeout is not None
        one = dataclasses.replace(url, hosts=(host,))
        key = (str(one), repr(options))
        if key not in self._connected:
            self.tell(f"connecting to {urls.redact(str(one))}")
            try:
                answer = connecting.connect(url, host, options, self.timeout)
            except ConnectError as error:
                self._connected[key] = error
            else:
                self._connected[key] = answer
        return self._connected[key]

    def _by_release(
        self,
        config: ServiceConfig,
        route: Route,
        url: urls.TransportURL,
        host: urls.Host,
        options: Any,
        said: str,
    ) -> Iterator[Problem]:
        """What this RabbitMQ refuses of the service's options, or ignores."""
        assert self.timeout is not None
        rpc = route.role == RPC
        key = (str(dataclasses.replace(url, hosts=(host,))), repr(options), rpc)
        if key not in self._broken:
            self._broken[key] = []
            with contextlib.suppress(ConnectError):  # it is gone by now
                self._broken[key] += rabbit_releases.broken(
                    said, url, host, options, rpc, self.timeout
                )
        for rule in self._broken[key]:
            yield Problem(
                rule.severity,
                rule.code,
                f"{said} {rule.message}",
                rule.cure(functools.partial(_setting, config, RABBIT)),
                config.where(RABBIT, rule.option),
            )

    def _takes_plain(
        self, url: urls.TransportURL, host: urls.Host, options: Any
    ) -> bool:
        """Whether a server with which the driver speaks TLS can do without."""
        assert self.timeout is not None
        if not connecting.is_encrypted(url, options):
            return False
        key = connecting.address(url, host)
        if key not in self._plain:
            self._plain[key] = connecting.takes_plain(url, host, options, self.timeout)
        return self._plain[key]

    def _leftovers(
        self,
        config: ServiceConfig,
        url: urls.TransportURL,
        host: urls.Host,
        options: Any,
        where: str,
    ) -> Iterator[Problem]:
        """Queues of former days that stop durable notifications.

        oslo.messaging then sends none at all: the declaration fails with 406,
        and the publisher tries again for ever.
        """
        assert self.timeout is not None
        exchange = config.service.exchange
        if config.is_set("DEFAULT", "control_exchange"):
            exchange = config.conf.control_exchange
        topics = config.conf[NOTIFICATIONS].topics
        queues = [f"{topic}.{_PRIORITY}" for topic in topics]
        with connecting.rabbit_connection(
            url, host, options, self.timeout
        ) as connection:
            found = connecting.lacks_durability(
                connection, exchange, queues, options.rabbit_quorum_queue
            )
        wanted = "a quorum queue" if options.rabbit_quorum_queue else "durable"
        for name in found:
            yield Problem(
                Severity.ERROR,
                "not-durable-on-server",
                f"{name} exists on RabbitMQ (virtual host {url.vhost or '/'!r}) and is "
                f"not {wanted}: notifications cannot be sent to it as configured",
                "stop the services, then delete it, or restart RabbitMQ, which drops "
                "whatever is not durable; or use a virtual host of its own",
                where,
            )

    def _publishing(self, config: ServiceConfig) -> Iterator[Problem]:
        """The notification drivers."""
        names = config.conf[NOTIFICATIONS].driver
        where = config.where(NOTIFICATIONS, "driver")
        place = config.service.place(NOTIFICATIONS, "driver")
        cure = f"set [{place.section}] {place.key} = {DRIVER}"
        unknown = {
            name: self.drivers.notification.get(name, "there is no such driver")
            for name in names
            if name.strip()
        }
        for name, reason in unknown.items():
            if reason:
                yield Problem(
                    Severity.ERROR,
                    "notification-driver-unknown",
                    f"the service cannot import notification driver {name}: {reason}",
                    cure,
                    where,
                )
        if config.service.notifies and not set(names) & _PUBLISHING:
            used = [_SILENT[name] for name in names if _SILENT.get(name)]
            yield Problem(
                Severity.WARNING,
                "no-notification-driver",
                "the service publishes no notifications: "
                + (f"they go {' and '.join(used)}" if used else "it has no driver"),
                cure,
                where,
            )


def _unset(
    config: ServiceConfig, rpc: Route | None, notify: Route
) -> Iterator[Problem]:
    """No option decides on a transport."""
    for route in filter(None, (rpc, notify)):
        if not config.is_set(*route.option):
            yield Problem(
                Severity.WARNING,
                "transport-not-set",
                f"no transport_url for {route.role}: the service uses the default, "
                f"{urls.shown(route.text)}",
                "set it with `configure`",
                config.documents[0].path,
            )


def _shared(
    config: ServiceConfig, rpc: Route | None, notify: Route
) -> Iterator[Problem]:
    """RPC and notifications go through the same server."""
    if rpc is None or rpc.url is None or notify.url is None:
        return
    common = servers(rpc.url) & servers(notify.url)
    if common and not strays.is_on(config):
        engine, host, port = min(common)
        yield Problem(
            Severity.WARNING,
            "shared-backend",
            f"RPC and notifications share one server: {engine} on {host}:{port}",
            "give them transports of their own with `configure`",
            config.where(*notify.option),
        )


def _stored(
    config: ServiceConfig, rpc: Route | None, notify: Route
) -> Iterator[Problem]:
    """Notifications have to wait somewhere for their consumer."""
    if notify.url is None or notify.url.scheme != "amqp":
        return
    where = config.where(*notify.option)
    cure = "send notifications to a broker: `configure --notify-url rabbit://…`"
    if notify.delivery == "direct":
        yield Problem(
            Severity.ERROR,
            "notifications-not-stored",
            f"notifications go through {notify.engine}, which stores none: without a "
            "consumer at that moment they cannot be sent",
            cure,
            where,
        )
    elif notify.delivery == "unknown":
        yield Problem(
            Severity.WARNING,
            "notifications-maybe-not-stored",
            "notifications go over amqp://, and it takes a connection to know whether "
            "a broker is there or a router, which stores none",
            f"check with a connection, or {cure}",
            where,
        )


def _durable(
    config: ServiceConfig, rpc: Route | None, notify: Route
) -> Iterator[Problem]:
    """Notifications in RabbitMQ outlive its restart."""
    if notify.url is not None and is_rabbit(notify.url) and notify.durable is False:
        yield Problem(
            Severity.WARNING,
            "notifications-not-durable",
            "notifications are lost when RabbitMQ restarts: their queues are not "
            "durable",
            _setting(config, RABBIT, DURABLE, "true") + ", as `configure` does",
            config.where(RABBIT, DURABLE),
        )


def _consumed(
    config: ServiceConfig, rpc: Route | None, notify: Route
) -> Iterator[Problem]:
    """Ceilometer's agent listens where it is told to, else where it publishes."""
    option = ("notification", "messaging_urls")
    if (
        config.service.name != "ceilometer"
        or notify.url is None
        or not config.is_set(*option)
    ):
        return
    listened = frozenset[strays.Bus]()
    for url in config.own_option(*option, multi=True) or ():
        listened |= strays.buses(url)
    published = strays.buses(notify.text)
    if not published & listened:
        yield Problem(
            Severity.ERROR,
            "consumer-elsewhere",
            f"the notification agent listens on {strays.named(listened)}, and its "
            f"notifications go to {strays.named(published)}",
            "remove [notification] messaging_urls, or add the notification transport "
            "to it",
            config.where(*option),
        )


def _exposed(
    config: ServiceConfig, rpc: Route | None, notify: Route
) -> Iterator[Problem]:
    """Files with passwords, and their backups, that every user can read."""
    for document in config.documents:
        if not any(
            preview.shown(option.key, option.value) != option.value
            for option in document.options
        ):
            continue
        path = Path(os.path.realpath(document.path))
        for file in filter(None, (path, replace.backup_of(path))):
            if _is_readable_by_all(file):
                yield Problem(
                    Severity.WARNING,
                    "readable-by-all",
                    f"every user of this machine can read {file}, which has passwords",
                    f"chmod o= {shlex.quote(str(file))}, if the service's user may "
                    "still read it",
                    document.path,
                )


def _is_readable_by_all(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & stat.S_IROTH) and all(
            directory.stat().st_mode & stat.S_IXOTH for directory in file.parents
        )
    except OSError:
        return False  # it is gone by now


def _authenticated(
    config: ServiceConfig, url: urls.TransportURL, options: Any
) -> Iterator[Problem]:
    """Kafka's client does not send user and password unless it is told to."""
    user = next((host.username for host in url.hosts if host.username), None)
    if user and not options.security_protocol.startswith("SASL"):
        yield Problem(
            Severity.WARNING,
            "credentials-not-used",
            f"user {user} and its password are not sent to Kafka: {SECURITY} is "
            + options.security_protocol,
            f"{_setting(config, KAFKA, SECURITY, AUTHENTICATED)}, or SASL_SSL with TLS",
            config.where(KAFKA, SECURITY),
        )


def _setting(config: ServiceConfig, section: str, key: str, value: str) -> str:
    """How a driver's option is set for a service."""
    if config.service.places:
        return f"add {key}={value} to the query of the URL"
    return f"set [{section}] {key} = {value}"


def _found(
    config: ServiceConfig, url: urls.TransportURL, options: Any
) -> Iterator[Problem]:
    """Servers of ZeroMQ tell, for as long as they are there, where all reach them."""
    if options.zmq_target_update >= options.zmq_target_expire:
        yield Problem(
            Severity.ERROR,
            "registration-expires",
            f"servers are forgotten after {options.zmq_target_expire} s, and renew "
            f"their registration only every {options.zmq_target_update} s",
            f"set [{ZMQ}] zmq_target_expire to three times zmq_target_update",
            config.where(ZMQ, "zmq_target_expire"),
        )
    told = zmq.host(options)
    if is_loopback(told) and not all(is_loopback(host.host) for host in url.hosts):
        yield Problem(
            Severity.WARNING,
            "local-address",
            f"clients are told to connect to {told}, which other hosts cannot reach",
            f"set [{ZMQ}] rpc_zmq_bind_address to an address of the services' network",
            config.where(ZMQ, "rpc_zmq_bind_address"),
        )


def _resolved(config: ServiceConfig, options: Any) -> Iterator[Problem]:
    """What clients are told is a name that is known, here at least."""
    told = zmq.host(options)
    try:
        socket.getaddrinfo(told, None)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no name"
        yield Problem(
            Severity.ERROR,
            "address-unknown",
            f"clients are told to connect to {told}, which has no address here: "
            f"{reason}",
            f"set [{ZMQ}] rpc_zmq_host to an address or a name that all hosts resolve",
            config.where(ZMQ, "rpc_zmq_host"),
        )


def _listening(
    config: ServiceConfig, report: Report, groups: dict[Any, str]
) -> Iterator[Problem]:
    """Listeners of one group share Kafka's notifications out among themselves.

    :param groups: the service that was found first, by brokers and group
    """
    url = report.notify.url if report.notify else None
    if url is None or not is_kafka(url) or not config.service.listens:
        return
    try:
        group = config.driver_options(url).consumer_group
    except ValueError:
        return  # it is a problem already
    other = groups.setdefault((servers(url), group), config.service.name)
    if other != config.service.name:
        yield Problem(
            Severity.ERROR,
            "consumer-group-shared",
            f"{other} and {config.service.name} listen as one group, {group}: each "
            "notification reaches only one of them",
            f"set [{KAFKA}] consumer_group to another name for each",
            config.where(KAFKA, "consumer_group"),
        )


def _elsewhere(
    read: Iterable[tuple[ServiceConfig, Report]], severity: Severity
) -> Iterator[tuple[Report, Problem]]:
    """Services whose RPC goes to other servers than that of most.

    Files of one service are cells of Nova, say, which may differ.
    """
    option = ("DEFAULT", "transport_url")
    set_ones = [
        (config, report, servers(report.rpc.url))
        for config, report in read
        if report.rpc
        and report.rpc.url
        and config.is_set(*option)
        # theirs stays with the notifications
        and not strays.is_on(config)
    ]
    used: dict[str, frozenset[tuple[str, str, int]]] = {}
    for _, report, theirs in set_ones:
        used[report.service] = used.get(report.service, frozenset()) | theirs
    with_most = max(
        used.values(),
        key=lambda mine: sum(not mine.isdisjoint(other) for other in used.values()),
        default=frozenset(),
    )
    others = [name for name in used if not used[name].isdisjoint(with_most)]
    for config, report, theirs in set_ones:
        if used[report.service].isdisjoint(with_most):
            where, there = map(_named, (theirs, with_most))
            yield (
                report,
                Problem(
                    severity,
                    "rpc-elsewhere",
                    f"RPC goes to {where}, and that of {', '.join(others)} to {there}",
                    "give all services that call each other the same transport with "
                    "`configure`",
                    config.where(*option),
                ),
            )


def _named(found: Iterable[tuple[str, str, int]]) -> str:
    return " and ".join(
        f"{engine} on {host}:{port}" for engine, host, port in sorted(found)
    )


def _unreadable(files: Sequence[Path], error: ServiceConfigError) -> Report:
    where = error.path if error.line is None else f"{error.path}, line {error.line}"
    return Report(
        identify(files[0]).name,
        tuple(map(str, files)),
        problems=[
            Problem(
                Severity.ERROR,
                "unreadable",
                f"the service cannot read its configuration: {error.reason}",
                "correct it, then check again",
                where,
            )
        ],
    )


def _cell_problems(configs: Sequence[ServiceConfig]) -> list[Problem]:
    """Nova's cell mappings that do not follow Nova's files."""
    files = [
        cells.NovaFile(
            Path(config.documents[0].path),
            config.rpc_url,
            config.rpc_url,
            config.own_option("database", "connection"),
            config.own_option("api_database", "connection"),
        )
        for config in configs
    ]
    if not any(file.api_database for file in files):
        return []
    try:
        found = cells.outdated(files)
    except cells.DatabaseUnread as error:
        return [
            Problem(
                Severity.WARNING,
                "cells-not-read",
                f"Nova keeps RPC URLs in its database, which was not read: {error}",
                "compare them yourself with `nova-manage cell_v2 list_cells`",
                str(files[0].path),
            )
        ]
    return [
        Problem(
            Severity.ERROR,
            "cell-mapping-outdated",
            f"Nova's database sends RPC for cell {cell.name} to {cell.transport_url}",
            f"run {cell.command}",
            str(files[0].path),
        )
        for cell in found
    ]


#: What to install for a scheme, where it is not oslo.messaging's own.
_PACKAGES = {
    "amqp": "hybrid-messaging",
    "kafka": "oslo.messaging[kafka]",
    "zmq": "hybrid-messaging",
}
