# SPDX-License-Identifier: Apache-2.0
"""What of a service sends or takes messages elsewhere than its two transports do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from oslo_utils import strutils

from hybrid_messaging import servers, urls
from hybrid_messaging.servers.transport import Server
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.settings import NOTIFICATIONS
from hybrid_messaging.service_configs.source import read

AUDIT = ("audit_middleware_notifications", "transport_url")
_DRIVER = (NOTIFICATIONS, "driver")
#: What makes middleware of PasteDeploy that publishes notifications to a URL of its
#: own, and the name under which it takes that URL.
_MIDDLEWARE = {
    ("paste.filter_factory", "keystonemiddleware.audit:filter_factory"): (
        "transport_url"
    ),
    ("use", "egg:keystonemiddleware#audit"): "transport_url",
    (
        "paste.filter_factory",
        "oslo_messaging.notify.middleware:RequestNotifier.factory",
    ): "url",
    ("paste.filter_factory", "ceilometermiddleware.swift:filter_factory"): "url",
    ("use", "egg:ceilometermiddleware#swift"): "url",
}
_NOTIFIER = re.compile(rb"""^[^#\n]*\bnotifier://([^\s'"]+)""", re.MULTILINE)


class Bus(NamedTuple):
    """Where messages of one URL meet: one server, and a virtual host of it."""

    engine: str
    host: str
    port: int
    vhost: str

    def __str__(self) -> str:
        return f"{Server(*self[:3])}, virtual host {self.vhost!r}"


def buses(text: str) -> frozenset[Bus]:
    """The buses that a transport URL leads to; none if it is no URL."""
    try:
        known = servers.get(urls.parse(text))
    except urls.UrlError:
        return frozenset()
    vhost = known.url.vhost if known.has_vhosts else None
    return frozenset(Bus(*server, vhost or "/") for server in known.servers)


def named(found: frozenset[Bus]) -> str:
    """Buses in a sentence."""
    return " and ".join(map(str, sorted(found))) or (
        "something that is not a transport URL"
    )


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
        key = _MIDDLEWARE.get((option.key, option.value))
        if key is not None:
            for url in document.find(option.section, key)[-1:]:
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


def is_on(config: ServiceConfig) -> bool:
    """Whether the part of a service is used that has notifications over RPC."""
    part = config.service.over_rpc
    if part is None:
        return False
    if part.enabled:
        return strutils.bool_from_string(config.own_option(*part.enabled))
    return part.listens or config.publishes
