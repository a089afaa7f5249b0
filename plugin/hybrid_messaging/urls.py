# SPDX-License-Identifier: Apache-2.0
"""Transport URLs: build and parse them, and hide their passwords.

The syntax is that of oslo.messaging's ``TransportURL``
(``oslo_messaging/transport.py``)::

    scheme://[user:password@]host:port[,[user:password@]host:port…]/[vhost][?query]

This module does without oslo.messaging, whose import takes longer than most
commands, and without a configuration object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib import parse as urlparse

#: What stands in for a password wherever a person or a log could read it.
HIDDEN = "***"


class UrlError(ValueError):
    """A transport URL that oslo.messaging could not use."""


@dataclass(frozen=True)
class Host:
    """One server of a transport URL; names and passwords are not encoded here."""

    host: str
    port: int | None = None
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        netloc = f"[{self.host}]" if ":" in self.host else self.host
        if self.port is not None:
            netloc += f":{self.port}"
        if self.username is None and self.password is None:
            return netloc
        credentials = urlparse.quote(self.username or "", safe="")
        if self.password is not None:
            credentials += ":" + urlparse.quote(self.password, safe="")
        return f"{credentials}@{netloc}"


@dataclass(frozen=True)
class TransportURL:
    """A parsed transport URL; ``str()`` gives it back, percent-encoded."""

    scheme: str
    hosts: tuple[Host, ...] = ()
    vhost: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        url = f"{self.scheme}://{','.join(map(str, self.hosts))}/"
        url += urlparse.quote(self.vhost or "", safe="")
        if self.query:
            url += "?" + urlparse.urlencode(self.query)
        return url


def build(
    scheme: str,
    hosts: Sequence[tuple[str, int | None]],
    username: str | None = None,
    password: str | None = None,
    vhost: str | None = None,
    query: Mapping[str, str] | None = None,
) -> str:
    """Build a transport URL, percent-encoding whatever needs it.

    :param scheme: the transport, such as ``amqp`` or ``rabbit``
    :param hosts: (name or address, TCP port) of each server; an IPv6 address
        comes without brackets
    :param username: for every host
    :param password: for every host
    :param vhost: the virtual host; None or '' for the default one
    :param query: options of this URL
    """
    servers = tuple(Host(host, port, username, password) for host, port in hosts)
    return str(TransportURL(scheme, servers, vhost, query or {}))


def tls(scheme: str, ca_file: str | None) -> dict[str, str]:
    """The options of a URL with which its driver speaks TLS.

    :param scheme: the transport, such as ``amqp`` or ``rabbit``
    :param ca_file: the certificate to trust; None: no TLS, no options
    """
    if ca_file is None:
        return {}
    return {
        option: value.format(ca_file=ca_file) for option, value in _TLS[scheme].items()
    }


def parse(url: str) -> TransportURL:
    """Take a transport URL apart, as oslo.messaging does.

    :param url: the URL, percent-encoded
    :raises UrlError: if it is none; the message hides passwords
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise UrlError(
            f"not a transport URL: {redact(url)!r}: "
            "it has the form scheme://user:password@host:port/vhost"
        )
    hosts = tuple(_host(item, url) for item in parts["netloc"].split(",") if item)
    return TransportURL(
        parts["scheme"].lower(),
        hosts,
        urlparse.unquote(parts["path"][1:]) or None,
        {
            key: ",".join(values)
            for key, values in urlparse.parse_qs(parts["query"] or "").items()
        },
    )


def _host(netloc: str, url: str) -> Host:
    credentials, at, address = netloc.rpartition("@")
    username = password = None
    if at:
        name, colon, secret = credentials.partition(":")
        username = urlparse.unquote(name)
        password = urlparse.unquote(secret) if colon else None
    match = _ADDRESS.fullmatch(address)
    if match is None or not set("[]").isdisjoint(credentials):
        # what should be the address may be a piece of a password
        raise UrlError(
            f"not a transport URL: {redact(url)}: it lacks a host and a port; other "
            "characters than letters and digits in a user name or password are "
            "percent-encoded"
        )
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > 65535:
        raise UrlError(f"not a transport URL: {redact(url)}: no such port: {port}")
    return Host(match["ipv6"] or match["name"], port, username, password)


def redact(text: str) -> str:
    """Hide the password of every URL in a text.

    Meant for logs, errors and differences between files: URLs whose passwords
    are not percent-encoded as they should be are hidden too, rather too much
    than too little.
    """
    text = _AUTHORITY.sub(_hide_authority, text)
    return _SECRET_OPTION.sub(rf"\g<1>{HIDDEN}", text)


def _hide_authority(match: re.Match[str]) -> str:
    authority, rest = match["authority"], match["rest"]
    if ":" in authority and "@" in rest:
        # a raw / ? or # inside a password cuts the authority short
        return (
            match["scheme"]
            + authority.partition(":")[0]
            + f":{HIDDEN}@"
            + rest.rpartition("@")[2]
        )
    if "@" in authority:
        return match["scheme"] + _PASSWORD.sub(rf"\1:{HIDDEN}@", authority) + rest
    return match[0]


# options that drivers have in their groups, and take from a URL as well
_TLS = {
    "amqp": {"ssl_ca_file": "{ca_file}"},
    "kafka": {"security_protocol": "SASL_SSL", "ssl_cafile": "{ca_file}"},
    "rabbit": {"ssl": "true", "ssl_ca_file": "{ca_file}"},
    "zmq": {"zmq_redis_ca_file": "{ca_file}"},
}
# not urllib's urlsplit(): newer ones refuse several hosts of which some are IPv6
# addresses
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<netloc>[^/?#]*)(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?:\#.*)?"
)
_ADDRESS = re.compile(
    r"(?: \[(?P<ipv6>[^\]]+)\] | (?P<name>[^:\[\]@/]*) ) (?: :(?P<port>[0-9]*) )?",
    re.VERBOSE,
)
# the rest runs to the next white space, but not into another URL
_AUTHORITY = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)"
    r"(?P<authority>[^\s/?#]*)"
    r"(?P<rest>(?:(?![A-Za-z][A-Za-z0-9+.-]*://)\S)*)"
)
_PASSWORD = re.compile(r"((?:^|(?<=,))[^:@,]*):.*?@(?=[^@,]*(?:,|$))")
_SECRET_OPTION = re.compile(r"([?&][A-Za-z0-9_.-]*(?:password|secret)=)[^&\s\"']+")
