# SPDX-License-Identifier: Apache-2.0
"""What of a service sends or takes messages elsewhere than its two transports do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from oslo_utils import strutils

from hybrid_messaging import urls
from hybrid_messaging.service_configs.catalogue import CELLS
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.layers import Layer, default_directories
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.reading import ServiceConfig, load
from hybrid_messaging.service_configs.settings import NOTIFICATIONS
from hybrid_messaging.service_configs.source import read
from hybrid_messaging.service_configs.transports import is_kafka, is_zmq, servers

RPC = ("DEFAULT", "transport_url")
AUDIT = ("audit_middleware_notifications", "transport_url")
_DRIVER = (NOTIFICATIONS, "driver")
#: Notification drivers that send nothing.
_SILENT = {"", "noop", "log", "test"}
#: Middleware of PasteDeploy that publishes notifications to a URL of its own, and the
#: names under which it takes that URL.
_MIDDLEWARE = {
    "keystonemiddleware.audit:filter_factory": "transport_url",
    "oslo_messaging.notify.middleware:RequestNotifier.factory": "url",
    "ceilometermiddleware.swift:filter_factory": "url",
}
_NOTIFIER = re.compile(rb"""^[^#\n]*\bnotifier://([^\s'"]+)""", re.MULTILINE)


class Bus(NamedTuple):
    """Where messages of one URL meet: one server, and a virtual host of it."""

    engine: str
    host: str
    port: int
    vhost: str

    def __str__(self) -> str:
        return f"{self.engine} on {self.host}:{self.port}, virtual host {self.vhost!r}"


def buses(text: str) -> frozenset[Bus]:
    """The buses that a transport URL leads to; none if it is no URL."""
    try:
        url = urls.parse(text)
    except urls.UrlError:
        return frozenset()
    vhost = "/" if is_kafka(url) or is_zmq(url) else url.vhost or "/"
    return frozenset(Bus(*server, vhost) for server in servers(url))


def named(found: frozenset[Bus]) -> str:
    """Buses in a sentence."""
    return " and ".join(map(str, sorted(found))) or "what is no transport URL"


def problems(config: ServiceConfig) -> Iterator[Problem]:
    """All that is found in a service's files, and in those beside them."""
    for rule in (_not_checked, _quoted, _overridden, _over_rpc, _elsewhere):
        yield from rule(config)


class Elsewhere(NamedTuple):
    """A further URL to which a service publishes.

    :param where: file, and line of it where there is one
    """

    what: str
    text: str
    where: str


def further(documents: tuple[Document, ...]) -> Iterator[Elsewhere]:
    """The URLs to which a service publishes besides its two transports.

    :param documents: its files, of which the first is in its directory
    """
    for document in documents:
        for option in document.find(*AUDIT)[-1:]:
            if option.value.strip():
                yield Elsewhere(
                    "the audit middleware",
                    option.value,
                    f"{document.path}, line {option.start + 1}",
                )
    directory = Path(documents[0].path).parent
    for path in sorted(directory.glob("*paste*.ini")):
        yield from _middleware(path)
    if Path(documents[0].path).name.startswith("ceilometer."):
        for path in sorted(directory.glob("*pipeline*.yaml")):
            yield from _publishers(path)


def _middleware(path: Path) -> Iterator[Elsewhere]:
    try:
        document = Document(read(path).data, path)
    except ServiceConfigError:
        return
    for option in document.options:
        if option.key == "paste.filter_factory" and option.value in _MIDDLEWARE:
            for url in document.find(option.section, _MIDDLEWARE[option.value])[-1:]:
                yield Elsewhere(
                    f"the middleware of [{option.section}]",
                    url.value,
                    f"{path}, line {url.start + 1}",
                )


def _publishers(path: Path) -> Iterator[Elsewhere]:
    """Publishers of Ceilometer's pipelines with a server of their own.

    `notifier://host:port/vhost?driver=kafka`, see NotifierPublisher of Ceilometer.
    """
    try:
        data = read(path).data
    except ServiceConfigError:
        return
    for match in _NOTIFIER.finditer(data):
        rest, _, query = match[1].decode("utf-8", "replace").partition("?")
        if rest.partition("/")[0]:
            line = data.count(b"\n", 0, match.start(1)) + 1
            driver = re.search(r"(?:^|&)driver=([\w+]+)", query)
            yield Elsewhere(
                "a publisher of Ceilometer's pipelines",
                f"{driver[1] if driver else 'rabbit'}://{rest}",
                f"{path}, line {line}",
            )


def _elsewhere(config: ServiceConfig) -> Iterator[Problem]:
    """Middleware and pipelines that publish to a URL of their own."""
    usual = buses(config.notify_url)
    for item in further(config.documents):
        theirs = buses(item.text)
        if not theirs & usual:
            yield Problem(
                Severity.WARNING,
                "notifications-elsewhere",
                f"{item.what} publishes to {named(theirs)}, and other notifications go "
                f"to {named(usual)}",
                "remove its URL, so that it uses the service's, or see that somebody "
                "listens there",
                item.where,
            )


def _overridden(config: ServiceConfig) -> Iterator[Problem]:
    """Files that have programs of the service use other transports."""
    main = Path(config.documents[0].path)
    for layer in config.layers:
        files = [main, *layer.files]
        directories = [*default_directories(files), *layer.directories]
        try:
            other = load(
                files, [path for path in directories if path.is_dir()], config.service
            )
        except ServiceConfigError as error:
            if layer.certain:
                where = str(error).removesuffix(f": {error.reason}")
                yield Problem(
                    Severity.ERROR,
                    "unreadable",
                    f"programs of the service cannot read it: {error.reason}",
                    "correct it, then check again",
                    where,
                )
            continue
        yield from _differences(config, other, layer)


def _differences(
    config: ServiceConfig, other: ServiceConfig, layer: Layer
) -> Iterator[Problem]:
    main = config.documents[0].path
    # programs of several cells differ in their virtual hosts
    vhosts = CELLS not in config.service.files
    pairs = []
    if config.service.rpc:
        pairs.append(("RPC", RPC, config.rpc_url, other.rpc_url, vhosts))
    section = NOTIFICATIONS if other.conf[NOTIFICATIONS].transport_url else RPC[0]
    option = (section, RPC[1])
    pairs.append(("notifications", option, config.notify_url, other.notify_url, True))
    for role, option, text, theirs, whole in pairs:
        here, there = buses(text), buses(theirs)
        if {bus if whole else bus[:3] for bus in here} == {
            bus if whole else bus[:3] for bus in there
        }:
            continue
        yield Problem(
            Severity.ERROR if layer.certain else Severity.WARNING,
            "overridden",
            f"{role} of the programs that read this file as well as {main} go to "
            f"{named(there)}, and not to {named(here)}"
            + ("" if layer.certain else "; it is not known whether there are any"),
            "configure this file as well, or remove the option from it",
            other.where(*option),
        )


def _over_rpc(config: ServiceConfig) -> Iterator[Problem]:
    """Notifications that a service sends or takes with its RPC transport."""
    part = config.service.over_rpc
    here, there = buses(config.rpc_url), buses(config.notify_url)
    if part is None or here & there or not is_on(config):
        return
    message = (
        f"listens on its RPC transport, {named(here)}, and so hears nothing that goes "
        f"to {named(there)}"
        if part.listens
        else f"publishes on its RPC transport, {named(here)}, and nobody listens there "
        f"to notifications, which go to {named(there)}"
    )
    yield Problem(
        Severity.ERROR,
        "notifications-over-rpc",
        f"{part.what} {message}",
        f"set [DEFAULT] transport_url of {config.service.name}, whose RPC is its own, "
        "to the transport of notifications",
        config.where(*RPC),
    )


def is_on(config: ServiceConfig) -> bool:
    """Whether the part of a service is used that has notifications over RPC."""
    part = config.service.over_rpc
    if part is None:
        return False
    if part.enabled:
        return strutils.bool_from_string(config.own_option(*part.enabled))
    return part.listens or not set(config.conf[NOTIFICATIONS].driver) <= _SILENT


def _not_checked(config: ServiceConfig) -> Iterator[Problem]:
    """Values that only the service can work out."""
    for section, key, name in config.unknown:
        yield Problem(
            Severity.WARNING,
            "not-checked",
            f"{key} refers to ${name}, whose value only the service knows, so it was "
            "not checked",
            f"set {name} in the service's file to have it checked",
            config.where(section, key),
        )


def _quoted(config: ServiceConfig) -> Iterator[Problem]:
    """Quotes around each item of a list: oslo.config removes the outer ones alone."""
    topics = config.conf[NOTIFICATIONS].topics
    odd = [topic for topic in topics if re.search("['\"]", topic)]
    if odd:
        yield Problem(
            Severity.ERROR,
            "quoted-list",
            f"quotes have become part of topics: {', '.join(odd)}",
            "write the topics without quotes",
            config.where(NOTIFICATIONS, "topics"),
        )
