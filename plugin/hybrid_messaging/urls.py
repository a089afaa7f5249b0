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
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib import parse as urlparse

#: What stands in for a password wherever a person or a log could read it.
HIDDEN = "***"
#: The options with which drivers speak TLS, by transport: they have them in their
#: groups, and take them from a URL as well.
TLS_OPTIONS = {
    "amqp": {"ssl_ca_file": "{ca_file}"},
    "kafka": {"security_protocol": "SASL_SSL", "ssl_cafile": "{ca_file}"},
    "rabbit": {"ssl": "true", "ssl_ca_file": "{ca_file}"},
    "zmq": {"zmq_redis_ca_file": "{ca_file}"},
}
#: The driver whose URLs name two buses: the one that services move to, after its `+`,
#: and in the query the one that they move from.
MIGRATE = "migrate"


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

    @property
    def driver(self) -> str:
        """The driver of oslo.messaging that the scheme names."""
        return self.scheme.partition("+")[0]

    def __str__(self) -> str:
        url = f"{self.scheme}://{','.join(map(str, self.hosts))}/"
        url += urlparse.quote(self.vhost or "", safe="")
        if self.query:
            url += "?" + urlparse.urlencode(self.query)
        return url


@dataclass(frozen=True)
class HiddenURL(TransportURL):
    """One whose text hides passwords."""

    def __str__(self) -> str:
        return shown(super().__str__())


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


def destination(url: TransportURL) -> TransportURL:
    """Where a URL of a migration moves to; any other URL is its own destination.

    :param url: migrate+URL, as the driver `migrate` takes it
    """
    driver, _, scheme = url.scheme.partition("+")
    if driver != MIGRATE or not scheme:
        return url
    query = {name: value for name, value in url.query.items() if name not in _MOVING}
    return replace(url, scheme=scheme, query=query)


def origin(url: TransportURL) -> str | None:
    """Where a URL of a migration moves from; None if it does not say so itself.

    :param url: any transport URL
    """
    if url.driver != MIGRATE:
        return None
    return url.query.get("from_url") or None


def moving(to: TransportURL, origin: str) -> TransportURL:
    """The URL with which a service uses two buses.

    :param to: the bus that it moves to
    :param origin: the URL of the one that it moves from, as it stands in its file
    """
    query = {**to.query, "from_url": origin}
    return replace(to, scheme=f"{MIGRATE}+{to.scheme}", query=query)


def tls(scheme: str, ca_file: str | None) -> dict[str, str]:
    """The options of a URL with which its driver speaks TLS.

    :param scheme: the transport, such as ``amqp`` or ``rabbit``
    :param ca_file: the certificate to trust; None: no TLS, no options
    """
    if ca_file is None:
        return {}
    return {
        option: value.format(ca_file=ca_file)
        for option, value in TLS_OPTIONS[scheme].items()
    }


def parse(url: str) -> TransportURL:
    """Take a transport URL apart, as oslo.messaging does.

    :param url: the URL, percent-encoded
    :raises UrlError: if it is none; the message hides passwords
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise UrlError(
            f"not a transport URL: {_hidden(url)}: "
            "it has the form scheme://user:password@host:port/vhost"
        )
    netloc = parts["netloc"] or ""
    hosts = tuple(_host(item, url) for item in netloc.split(",") if item)
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
            f"not a transport URL: {_hidden(url)}: it has no host, or an invalid port;"
            " in a user name or password, percent-encode all characters except letters"
            " and digits"
        )
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > 65535:
        raise UrlError(f"not a transport URL: {_hidden(url)}: a port is out of range")
    return Host(match["ipv6"] or match["name"], port, username, password)


def shown(url: str) -> str:
    """A value that should be a transport URL, for people and logs.

    Of one that is none, nobody can tell where its password begins and ends. One that
    is may have a password where it does not belong.
    """
    try:
        parse(url)
    except UrlError:
        return _hidden(url)
    # in a text, blanks would end it
    url = _BLANK.sub(lambda blank: urlparse.quote(blank[0]), url)
    parts = _URL.fullmatch(url)
    assert parts is not None
    if parts["netloc"] is None:
        return url
    if "@" in url[parts.end("netloc") :]:
        return f"{parts['scheme']}://{_redact_body(url[parts.start('netloc') :])}"
    path, query = parts["path"], parts["query"]
    if not _DIVIDERS.isdisjoint(urlparse.unquote(path)):
        path = f"/{HIDDEN}"
    if query is not None:
        path += f"?{'&'.join(map(_shown_option, query.split('&')))}"
    return f"{parts['scheme']}://{_redact_body(parts['netloc'])}{path}"


def _shown_option(item: str) -> str:
    """What is shown of an option in the query of a URL."""
    name, sign, _ = item.partition("=")
    if not sign or "@" in urlparse.unquote(item):
        return HIDDEN
    return f"{name}={HIDDEN}" if _SECRET.search(urlparse.unquote(name)) else item


def _hidden(text: str) -> str:
    """What is left to show of a value that is no URL: its scheme, or a single word."""
    if _WORD.fullmatch(text):
        return text
    scheme = _SCHEME.match(text)
    return (scheme[0] if scheme else "") + HIDDEN


def redact(text: str) -> str:
    """Hide the password of every URL in a text.

    Meant for logs, errors and differences between files: URLs that are mistyped, or
    whose passwords are not percent-encoded as they should be, are hidden too, rather
    too much than too little. For a value that should be a URL there is `shown`.
    """
    return _hide_options(_BLACK.sub(_redact_word, text))


def _hide_options(text: str) -> str:
    return _SECRET_OPTION.sub(rf"\g<1>{HIDDEN}", text)


def _redact_word(match: re.Match[str]) -> str:
    """Hide the passwords in what stands between two blanks."""
    first, *bodies = match[0].split("://")
    # after a colon, what looks like a scheme may be within a password
    if not bodies or ":" in first:
        return _redact_mistyped(match[0])
    found = [first]
    body = ""
    for index, part in enumerate(bodies):
        body += part
        # it ends with the scheme of the next URL, unless this is within a password
        end = len(body.rstrip(_SCHEME_CHARACTERS))
        if index == len(bodies) - 1:
            found.append(_redact_body(body))
        elif body[:end].endswith(":"):
            body += "://"
        else:
            found.append(_redact_body(body[:end]) + body[end:])
            body = ""
    return "://".join(found)


def _redact_body(body: str) -> str:
    """Hide the passwords in what follows the `://` of a URL."""
    authority = _AUTHORITY.match(body)
    assert authority is not None
    rest = body[authority.end() :]
    if "@" in rest:
        # a raw / ? or # inside a password cuts the authority short
        before, _, after = body.rpartition("@")
        name, colon, _ = before.partition(":")
        return f"{name if colon else ''}{colon}{HIDDEN}@{_redact_body(after)}"
    hosts: list[str] = []
    user: str | None = None  # of a password whose end is in a later piece
    secret = False
    pieces = authority[0].split(",")
    last = max((i for i, piece in enumerate(pieces) if "@" in piece), default=-1)
    for index, piece in enumerate(pieces):
        before, at, host = piece.rpartition("@")
        name, colon, _ = before.partition(":")
        if user is not None:
            name, colon = user, ":"
        elif not at and index < last and ":" in piece and not _IPV6.fullmatch(piece):
            # a comma may be part of a password
            user = piece.partition(":")[0]
        # behind a colon, what looks like a user may be the rest of a password
        secret = secret or ":" in before or user is not None
        if at:
            hidden = f"{name if colon else ''}{colon}{HIDDEN}" if secret else before
            hosts.append(f"{hidden}@{_redact_host(host)}")
            user = None
        elif user is None:
            hosts.append(_redact_host(host))
        secret = secret or ":" in piece
    return ",".join(hosts) + _ENCODED_AT.sub(rf"\g<1>{HIDDEN}", rest)


def _redact_host(host: str) -> str:
    """Hide what stands where the port of a host should be."""
    name, colon, port = host.partition(":")
    if not colon or _IPV6.fullmatch(host) or _PORT.fullmatch(port):
        return host
    return f"{name}:{HIDDEN}"


def _redact_mistyped(word: str) -> str:
    """Hide what follows a colon, in a word that has an @ after it."""
    name, _, secret = word.partition(":")
    if "@" not in secret:
        return word
    return f"{name}:{HIDDEN}"


# options of the driver `migrate` itself
_MOVING = frozenset({"from_url", "restart_timeout"})
# not urllib's urlsplit(): newer ones refuse several hosts of which some are IPv6
# addresses
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):"
    # fake:/ is a URL, and any other one without hosts most probably mistyped
    r"(?://(?P<netloc>[^/?#]*)|(?=/?\Z))(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?:\#.*)?"
)
_ADDRESS = re.compile(
    r"(?: \[(?P<ipv6>[^\]]+)\] | (?P<name>[^:\[\]@/]*) ) (?: :(?P<port>[0-9]{0,5}) )?",
    re.VERBOSE,
)
_AUTHORITY = re.compile(r"[^/?#]*")
# as they stand in a text, with what ends a sentence or a quotation behind them
_PORT = re.compile(r"[0-9]{0,5}[\"'`)\]}>;.:…]*")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.%]*\](:[0-9]{0,5})?[\"'`)\]}>;.:…]*")
_BLACK = re.compile(r"\S+")
# of user, password and host
_DIVIDERS = frozenset(":@")
_BLANK = re.compile(r"\s")
_WORD = re.compile(r"[A-Za-z0-9._-]*")
_SCHEME_CHARACTERS = string.ascii_letters + string.digits + "+.-"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?=/)")
_SECRET = re.compile("password|secret", re.IGNORECASE)
_SECRET_OPTION = re.compile(r"([?&][A-Za-z0-9_.-]*(?:password|secret)=)[^&\s\"']+")
# what a raw / or ? has cut off of a password, in a URL that has been encoded anew
_ENCODED_AT = re.compile(
    r"(/|[?&][A-Za-z0-9_.-]*=)[^/?&\s\"']*%40[^?&\s\"']*", re.IGNORECASE
)
