# SPDX-License-Identifier: Apache-2.0
"""What `up` has started: records, and their form in JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hybrid_messaging import json_files, modes, urls
from hybrid_messaging.json_files import (
    Damage,
    Shape,
    items,
    maybe,
    number,
    one_of,
    record,
    text,
    whole,
)

#: Stands for the pid of an engine that has been configured, not started.
NOT_STARTED = 0


@dataclass(frozen=True, kw_only=True)
class Details:
    """What an engine's kind needs to find it again, and to start it as it was.

    Fields are texts and ports. A user and a password are what its clients need; all
    but routers have them.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Login:
    """A user of an engine."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RotatingDetails(Details):
    """Of an engine that may have two users at a time.

    :param next: a user whom the engine may know already, and services do not
    :param former: the user of services that have not been configured anew
    """

    next: Login | None = None
    former: Login | None = None

    @property
    def login(self) -> Login | None:
        """The user of its URL; None: it lets in everybody."""
        if self.username is None:
            return None
        return Login(username=self.username, password=self.password or "")

    @property
    def others(self) -> tuple[Login, ...]:
        """The users besides that of its URL."""
        return tuple(each for each in (self.next, self.former) if each is not None)

    @property
    def all(self) -> tuple[Login, ...]:
        """All users."""
        return (*([self.login] if self.login else []), *self.others)


@dataclass(frozen=True, kw_only=True)
class KafkaDetails(Details):
    """Of a Kafka.

    :param kafka: directory of the release that the user has chosen
    :param version: of what is started
    :param cluster: its identifier, unlike any other
    """

    kafka: str | None
    version: str
    controller_port: int
    cluster: str


@dataclass(frozen=True, kw_only=True)
class RabbitMQDetails(RotatingDetails):
    """Of a node of RabbitMQ; `cookie` is what Erlang nodes trust each other by."""

    management_port: int
    distribution_port: int
    epmd_port: int
    cookie: str = field(repr=False)
    node: str


@dataclass(frozen=True, kw_only=True)
class RedisDetails(RotatingDetails):
    """Of a Redis.

    :param admin_password: of the user who may change users
    """

    admin_password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RouterDetails(RotatingDetails):
    """Of a router.

    :param router: which program it is, as ``--router`` takes it
    :param id: unlike that of any other router
    :param link_port: where other routers link to it; None: nowhere
    """

    router: str
    id: str
    link_port: int | None = None


_D = TypeVar("_D", bound=Details)


@dataclass(frozen=True)
class Engine:
    """One engine that `up` has started.

    `started` is the process's creation time in seconds since the epoch: pids are
    reused, (pid, started) are not. `details` are those of its kind (`DETAILS`).
    """

    name: str
    kind: str
    roles: tuple[str, ...]
    host: str
    port: int
    url: str
    pid: int
    started: float
    log: str
    details: Details = field(default_factory=Details)
    #: the certificate to trust where it speaks TLS; None: it does not
    ca_file: str | None = None

    def details_as(self, kind: type[_D]) -> _D:
        """Its details, which are of this class, since it is of that kind."""
        assert isinstance(self.details, kind), self.kind
        return self.details


@dataclass(frozen=True)
class State:
    """What runs in a state directory; its URLs contain passwords."""

    mode: str
    rpc_url: str
    notify_url: str
    engines: tuple[Engine, ...] = ()

    def engine(self, name: str) -> Engine | None:
        """The engine with this name, if it has ever been started here."""
        return next((item for item in self.engines if item.name == name), None)

    @classmethod
    def of(
        cls, mode: str, engines: Iterable[Engine], given: Mapping[str, str]
    ) -> State:
        """What runs, by its engines.

        :param given: URLs of roles without an engine
        """
        found = tuple(engines)
        urls = {**given}
        for role in {role for item in found for role in item.roles}:
            urls[role] = _joined([item.url for item in found if role in item.roles])
        return cls(mode, urls["rpc"], urls["notify"], found)

    def replace(self, engine: Engine) -> State:
        """The same with another record of an engine."""
        engines = (
            engine if item.name == engine.name else item for item in self.engines
        )
        return self.of(self.mode, engines, self.given)

    @property
    def urls(self) -> dict[str, str]:
        """The URLs of both roles."""
        return {"rpc": self.rpc_url, "notify": self.notify_url}

    @property
    def given(self) -> dict[str, str]:
        """The URLs that came from the user: those of roles without an engine."""
        served = {role for item in self.engines for role in item.roles}
        return {role: url for role, url in self.urls.items() if role not in served}

    @property
    def nodes(self) -> int:
        """How many routers it has."""
        return sum(item.kind == "router" for item in self.engines)

    @property
    def has_tls(self) -> bool:
        """Whether its engines speak TLS."""
        return any(item.ca_file for item in self.engines)


def _joined(found: list[str]) -> str:
    """The URL of several engines that carry the same."""
    if len(found) == 1:
        return found[0]
    parsed = [urls.parse(url) for url in found]
    hosts = tuple(host for url in parsed for host in url.hosts)
    return str(dataclasses.replace(parsed[0], hosts=hosts))


def _url(value: Any) -> str:
    """A transport URL."""
    url: str = text()(value)
    try:
        urls.parse(url)
    except urls.UrlError:
        raise Damage("is not a transport URL") from None
    return url


_PORT = whole(1, 65535)
#: The class of `Engine.details`, by kind.
DETAILS: dict[str, type[Details]] = {
    "broker": Details,
    "kafka": KafkaDetails,
    "rabbitmq": RabbitMQDetails,
    "redis": RedisDetails,
    "router": RouterDetails,
}
#: Those that may let in everybody.
_OPEN = {"router"}
_LOGIN = record({"username": text(), "password": text()}, Login)
_FIELDS = {
    "int": _PORT,
    "int | None": maybe(_PORT),
    "str": text(),
    "str | None": maybe(text()),
    "Login | None": maybe(_LOGIN),
}
#: Engines have directories of these names in the state directory.
_NAME = text(re.compile(r"[a-z][a-z0-9-]{0,62}\Z"), "engine name")
_ENGINE = {
    "name": _NAME,
    "kind": one_of(DETAILS, "engine kind"),
    "roles": items(one_of(("rpc", "notify"), "role")),
    "host": text(),
    "port": _PORT,
    "url": _url,
    # as large as Linux gives them (PID_MAX_LIMIT)
    "pid": whole(NOT_STARTED, 1 << 22),
    "started": number(0, 1e11),
    "log": text(),
    "details": lambda value: value,  # `_engine` reads it
    "ca_file": maybe(text()),
}


def _engine(value: Any) -> Engine:
    fields: dict[str, Any] = record(_ENGINE)(value)
    details = _details(fields["kind"])
    fields["details"] = json_files.inside("details", details, fields["details"])
    return Engine(**fields)


def _details(kind: str) -> Shape:
    shapes = {
        item.name: _FIELDS[str(item.type)] for item in dataclasses.fields(DETAILS[kind])
    }
    if kind not in _OPEN:
        shapes |= dict.fromkeys(("username", "password"), text())
    return record(shapes, DETAILS[kind])


def decode(data: Any) -> State:
    """The state that `encode` has written.

    :raises Damage: it is none
    """
    shape = record(
        {
            "mode": one_of(modes.load(), "mode"),
            "rpc_url": _url,
            "notify_url": _url,
            "engines": items(_engine),
        },
        State,
    )
    found: State = shape(data)
    names = [engine.name for engine in found.engines]
    if len(set(names)) < len(names):
        raise Damage("have a name twice", "engines")
    return found


def encode(state: State) -> dict[str, Any]:
    """The state as JSON has it.

    :raises Damage: it could not be read again
    """
    data: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(state)))
    decode(data)
    return data
