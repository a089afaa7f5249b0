# SPDX-License-Identifier: Apache-2.0
"""The router's configuration file: the subset of skupper-router's that we understand.

The syntax is that of skrouterd.conf(5): sections `name {`, one attribute
`key: value` a line, `}`, comments from `#` to the end of the line. Whatever
would be ignored is refused instead, with the line that says it.
"""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_messaging import tls

DISTRIBUTIONS = ("balanced", "closest", "multicast")
#: skupper-router's log levels, and Python's
LEVELS = {
    "trace": "DEBUG",
    "debug": "DEBUG",
    "info": "INFO",
    "notice": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "critical": "CRITICAL",
}

_STREAMS = {"stderr": ""}
_BOOLEANS = {
    word: value
    for value, words in ((True, "yes true on"), (False, "no false off"))
    for word in words.split()
}
_SECTION = re.compile(r"([\w.-]+)\s*\{$")
_ATTRIBUTE = re.compile(r"([\w-]+)\s*:\s*(\S.*)$")


class ConfigError(Exception):
    """A configuration that can't be used; the text names file and line."""


@dataclasses.dataclass(frozen=True)
class SslProfile:
    """Where a listener's certificates are."""

    name: str
    cert_file: str
    private_key_file: str
    ca_cert_file: str = ""
    #: separated by blanks
    protocols: str = tls.VERSIONS


@dataclasses.dataclass(frozen=True)
class Listener:
    """An address to accept connections on, and on which terms."""

    host: str = "127.0.0.1"
    port: int = 5672
    name: str = ""
    #: peers must authenticate: by a SASL mechanism or by a client certificate
    authenticate_peer: bool = False
    #: separated by blanks; empty: all that the SASL library has
    sasl_mechanisms: str = ""
    #: seconds
    idle_timeout: int = 16
    #: unsettled messages that one link may have under way
    link_capacity: int = 250
    #: seconds that a peer has to authenticate itself and to open the connection;
    #: 0: for ever
    handshake_timeout: int = 10
    ssl_profile: SslProfile | None = None
    require_ssl: bool = False


@dataclasses.dataclass(frozen=True)
class AddressRule:
    """How messages to the addresses below a prefix are distributed."""

    prefix: str
    distribution: str = "balanced"


@dataclasses.dataclass(frozen=True)
class RouterConfig:
    """Everything that a router needs to know before it starts."""

    id: str = dataclasses.field(default_factory=socket.gethostname)
    default_distribution: str = "balanced"
    sasl_config_dir: str = ""
    sasl_config_name: str = "skrouterd"
    log_level: str = "INFO"
    #: empty: standard error
    log_file: str = ""
    listeners: tuple[Listener, ...] = ()
    addresses: tuple[AddressRule, ...] = ()


#: How oslo.messaging's addresses are distributed, today's and the legacy ones.
OPENSTACK_ADDRESSES = (
    *(
        AddressRule(f"openstack.org/om/{service}/{kind}", distribution)
        for service in ("rpc", "notify")
        for kind, distribution in (
            ("multicast", "multicast"),
            ("unicast", "closest"),
            ("anycast", "balanced"),
        )
    ),
    AddressRule("broadcast", "multicast"),
    AddressRule("exclusive", "closest"),
    AddressRule("unicast", "closest"),
)


class _Attribute(NamedTuple):
    field: str
    convert: Callable[[str], Any] = str


def _one_of(*choices: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text

    return convert


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError("yes or no") from None


def _number(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"a number from {low} to {high}")
        return int(text)

    return convert


def port(text: str) -> int:
    """A port's number or its name.

    :raises ValueError: it is neither; the text says what it would have to be
    """
    named = {"amqp": 5672, "amqps": 5671}
    try:
        return named.get(text) or _number(0, 65535)(text)
    except ValueError:
        raise ValueError("a port number, amqp or amqps") from None


def _protocols(text: str) -> str:
    known = tls.VERSIONS.split()
    if not set(text.split()) <= set(known):
        raise ValueError(f"some of {', '.join(known)}")
    return text


def _level(text: str) -> str:
    return LEVELS[_one_of(*LEVELS)(text.lower().removesuffix("+"))]


_SECTIONS: dict[str, dict[str, _Attribute]] = {
    "router": {
        "mode": _Attribute("", _one_of("standalone")),
        "id": _Attribute("id"),
        "workerThreads": _Attribute("", _number(1, 1024)),
        "defaultDistribution": _Attribute(
            "default_distribution", _one_of(*DISTRIBUTIONS)
        ),
        "saslConfigDir": _Attribute("sasl_config_dir"),
        "saslConfigName": _Attribute("sasl_config_name"),
    },
    "listener": {
        "name": _Attribute("name"),
        "host": _Attribute("host"),
        "port": _Attribute("port", port),
        "role": _Attribute("", _one_of("normal")),
        "authenticatePeer": _Attribute("authenticate_peer", _boolean),
        "saslMechanisms": _Attribute("sasl_mechanisms"),
        "idleTimeoutSeconds": _Attribute("idle_timeout", _number(0, 86400)),
        "initialHandshakeTimeoutSeconds": _Attribute(
            "handshake_timeout", _number(0, 86400)
        ),
        "linkCapacity": _Attribute("link_capacity", _number(1, 1_000_000)),
        "sslProfile": _Attribute("ssl_profile"),
        "requireSsl": _Attribute("require_ssl", _boolean),
    },
    "sslProfile": {
        "name": _Attribute("name"),
        "caCertFile": _Attribute("ca_cert_file"),
        "certFile": _Attribute("cert_file"),
        "privateKeyFile": _Attribute("private_key_file"),
        "protocols": _Attribute("protocols", _protocols),
    },
    "address": {
        "prefix": _Attribute("prefix"),
        "distribution": _Attribute("distribution", _one_of(*DISTRIBUTIONS)),
    },
    "log": {
        "module": _Attribute("", _one_of("DEFAULT")),
        "enable": _Attribute("log_level", _level),
        "outputFile": _Attribute("log_file", lambda text: _STREAMS.get(text, text)),
    },
}

_REQUIRED = {
    "sslProfile": ("name", "certFile", "privateKeyFile"),
    "address": ("prefix",),
}


class _Section(NamedTuple):
    kind: str
    line: int
    values: dict[str, Any]


def load(path: Path) -> RouterConfig:
    """Read a configuration file.

    :raises ConfigError: it can't be read, or says something we don't understand
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: this is not a text file") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> RouterConfig:
    """Read a configuration.

    :param name: what to call it in messages
    :raises ConfigError: it says something we don't understand
    """
    settings: dict[str, Any] = {}
    profiles: dict[str, SslProfile] = {}
    listeners: list[_Section] = []
    addresses: list[AddressRule] = []
    for section in _sections(text, name):
        if section.kind == "listener":
            listeners.append(section)
        elif section.kind == "sslProfile":
            profile = SslProfile(**section.values)
            profiles[profile.name] = profile
        elif section.kind == "address":
            addresses.append(AddressRule(**section.values))
        else:
            settings |= section.values
    return RouterConfig(
        **settings,
        listeners=tuple(_listener(item, profiles, name) for item in listeners),
        addresses=tuple(addresses),
    )


def _listener(section: _Section, profiles: dict[str, SslProfile], name: str) -> Any:
    wanted = section.values.get("ssl_profile")
    if wanted is not None and wanted not in profiles:
        raise ConfigError(
            f"{name}:{section.line}: there is no sslProfile named '{wanted}'"
        )
    if section.values.get("require_ssl") and wanted is None:
        raise ConfigError(f"{name}:{section.line}: requireSsl needs an sslProfile")
    profile = None if wanted is None else profiles[wanted]
    return Listener(**{**section.values, "ssl_profile": profile})


def _sections(text: str, name: str) -> list[_Section]:
    sections: list[_Section] = []
    current: _Section | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        where = f"{name}:{number}"
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        if current is None:
            match = _SECTION.match(line)
            if match is None:
                raise ConfigError(f"{where}: expected 'section {{', not '{line}'")
            if match[1] not in _SECTIONS:
                raise ConfigError(
                    f"{where}: unknown section '{match[1]}'; this router knows"
                    f" {', '.join(_SECTIONS)}"
                )
            current = _Section(match[1], number, {})
        elif line == "}":
            _complete(current, where)
            sections.append(current)
            current = None
        else:
            _attribute(current, line, where)
    if current is not None:
        raise ConfigError(
            f"{name}:{current.line}: section '{current.kind}' is not closed with '}}'"
        )
    return sections


def _attribute(section: _Section, line: str, where: str) -> None:
    match = _ATTRIBUTE.match(line)
    if match is None:
        raise ConfigError(f"{where}: expected 'attribute: value' or '}}', not '{line}'")
    key, text = match[1], match[2].strip()
    known = _SECTIONS[section.kind]
    attribute = known.get(key)
    if attribute is None:
        raise ConfigError(
            f"{where}: unknown attribute '{key}' of {section.kind}; this router knows"
            f" {', '.join(known)}"
        )
    try:
        value = attribute.convert(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {key} is '{text}', must be {error}") from error
    if attribute.field:
        section.values[attribute.field] = value


def _complete(section: _Section, where: str) -> None:
    known = _SECTIONS[section.kind]
    for key in _REQUIRED.get(section.kind, ()):
        if known[key].field not in section.values:
            raise ConfigError(f"{where}: {section.kind} has no {key}")
