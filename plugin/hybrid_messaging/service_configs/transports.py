# SPDX-License-Identifier: Apache-2.0
"""The two transports that services are to use, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from kombu.utils.url import parse_url

from hybrid_messaging import modes, state, urls


class TransportError(ValueError):
    """The transports are not known, or no service could use them."""


class Kind(NamedTuple):
    """What stands behind the scheme of a transport URL.

    `delivery` is how messages reach their receiver: direct, queued, or unknown
    where only the server can tell. `group` holds the driver's options, `besides`
    those of another group, which a URL cannot have. A reason in `no_rpc` or
    `no_notifications` says why the transport does not carry these. `defect` tells
    why the driver cannot use a URL that is a right one, or ''.
    """

    engine: str
    delivery: str
    port: int
    group: str | None = None
    besides: str | None = None
    no_rpc: str = ""
    no_notifications: str = ""
    defect: Callable[[urls.TransportURL], str] = lambda url: ""


#: Queues of RabbitMQ that outlive its restart, with the option of oslo.messaging's
#: driver that asks for them.
QUEUES = {"durable": "amqp_durable_queues", "quorum": "rabbit_quorum_queue"}

_KAFKA_PORT = 9092
#: The scheme of URLs that name Sentinels, which know where Redis is.
SENTINEL = "zmq+sentinel"


def rabbit_defect(url: urls.TransportURL) -> str:
    """Why oslo.messaging's rabbit driver cannot use a URL that is a right one, or ''.

    The driver builds a URL for kombu from the parts of the transport URL
    (`impl_rabbit.Connection._transform_transport_url`) in which a `/` of user
    name and password and the whole virtual host stand as they are.
    """
    for host in url.hosts:
        user, password = host.username or "guest", host.password or "guest"
        given = f"amqp://{quote(user)}:{quote(password)}@localhost/{url.vhost or ''}"
        try:
            seen = parse_url(given)
            taken = (seen["userid"], seen["password"]) == (user, password)
        except ValueError:
            taken = False
        if not taken:
            return (
                "oslo.messaging's rabbit driver cannot use this user name or "
                "password: change it to one without a slash"
            )
        if (seen["virtual_host"] or "/") != (url.vhost or "/"):
            return (
                f"oslo.messaging's rabbit driver cannot use virtual host {url.vhost!r}:"
                " choose one without ?, # and %"
            )
    return ""


def kafka_defect(url: urls.TransportURL) -> str:
    """Why oslo.messaging's kafka driver cannot use a URL that is a right one, or ''.

    The driver hands ``host:port`` on as it finds it, takes one user for all hosts,
    and publishes to topics with the virtual host in their names, which its own
    listeners do not listen on (`impl_kafka.KafkaDriver.listen_for_notifications`).
    """
    if not url.hosts or any(host.port is None for host in url.hosts):
        return (
            "oslo.messaging's kafka driver wants hosts, each with a port: "
            f"{_KAFKA_PORT} is Kafka's own"
        )
    if url.vhost:
        return (
            "Kafka has no virtual hosts, and notifications that oslo.messaging sends "
            f"to {url.vhost!r} reach no listener: leave it out"
        )
    if len({(host.username, host.password) for host in url.hosts}) > 1:
        return "oslo.messaging's kafka driver wants the same user for all hosts"
    return ""


def zmq_defect(url: urls.TransportURL) -> str:
    """Why the zmq driver cannot use a URL that is a right one, or ''."""
    if len(url.hosts) > 1 and url.scheme != SENTINEL:
        return (
            "the zmq driver takes one Redis server; several that stand in for each "
            f"other need Sentinels: {SENTINEL}://"
        )
    return ""


_RABBIT = Kind(
    "RabbitMQ", "queued", 5672, "oslo_messaging_rabbit", defect=rabbit_defect
)
_AMQP = Kind("AMQP 1.0 router or broker", "unknown", 5672, "oslo_messaging_amqp")
_KAFKA = Kind(
    "Kafka",
    "queued",
    _KAFKA_PORT,
    "oslo_messaging_kafka",
    no_rpc="oslo.messaging carries no RPC over Kafka",
    defect=kafka_defect,
)
_ZMQ = Kind(
    "ZeroMQ, matched by Redis",
    "direct",
    6379,
    "oslo_messaging_zmq",
    "matchmaker_redis",
    no_notifications="nothing stores a notification that is sent over ZeroMQ",
    defect=zmq_defect,
)

#: By scheme; one that is not here counts without what follows a `+` in it.
KINDS = {
    "amqp": _AMQP,
    "kafka": _KAFKA,
    "kombu": _RABBIT,
    "rabbit": _RABBIT,
    "zmq": _ZMQ,
    SENTINEL: _ZMQ._replace(port=26379),
}


def kind(url: urls.TransportURL) -> Kind:
    """What stands behind a URL; a scheme that we do not know stands for itself."""
    unknown = Kind(url.scheme, "unknown", 0)
    return KINDS.get(url.scheme) or KINDS.get(url.scheme.partition("+")[0], unknown)


def is_rabbit(url: urls.TransportURL) -> bool:
    """Whether oslo.messaging's driver for RabbitMQ serves this URL."""
    return kind(url) is _RABBIT


def is_kafka(url: urls.TransportURL) -> bool:
    """Whether oslo.messaging's driver for Kafka serves this URL."""
    return kind(url) is _KAFKA


def is_zmq(url: urls.TransportURL) -> bool:
    """Whether our driver for ZeroMQ serves this URL."""
    return kind(url).group == _ZMQ.group


def servers(url: urls.TransportURL) -> frozenset[tuple[str, str, int]]:
    """The (engine, host, port) that a URL leads to."""
    known = kind(url)
    return frozenset(
        (known.engine, host.host.lower() or "localhost", host.port or known.port)
        for host in url.hosts or (urls.Host("localhost"),)
    )


@dataclass(frozen=True)
class Transports:
    """The URLs for RPC and for notifications, as services are to see them."""

    rpc: urls.TransportURL
    notify: urls.TransportURL


@dataclass(frozen=True)
class Side:
    """What is known beforehand about one of the two transports.

    Either a URL, or servers (`host`, `host:port`, `[IPv6]:port`) and who we are
    there. With `ca_file` these servers speak TLS, and that certificate is trusted;
    `key_directory` has the CURVE keys of services that talk to each other.
    """

    url: str | None = None
    hosts: Sequence[str] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    key_directory: str | None = None


def resolve(
    rpc: Side,
    notify: Side,
    mode: str | None = None,
    state_dir: Path | None = None,
    queues: str | None = None,
) -> Transports:
    """Decide on the transports: given URLs, else mode and hosts, else what runs.

    :param mode: a mode of the table, with the hosts of both sides
    :param state_dir: the state directory of `up`; default: its own default
    :param queues: which of `QUEUES` notifications wait in; None leaves it open
    :raises TransportError: something is missing, or unfit for its purpose
    """
    try:
        trusting = any(side.ca_file or side.key_directory for side in (rpc, notify))
        if trusting and (mode is None or (rpc.url and notify.url)):
            raise TransportError(
                "--ca-file and --zmq-key-directory are about servers that --mode and "
                "hosts name: URLs that are given have such options themselves"
            )
        if mode is not None:
            rpc, notify = _from_mode(modes.get(mode), rpc, notify)
        elif not (rpc.url and notify.url):
            rpc, notify = _from_state(
                state_dir or state.default_state_dir(), rpc, notify
            )
        found = Transports(
            _usable("RPC", rpc.url, lambda found: found.no_rpc),
            _usable("notifications", notify.url, lambda found: found.no_notifications),
        )
        return found if queues is None else _with_queues(found, queues)
    except (urls.UrlError, modes.ModeError, state.StateError) as error:
        raise TransportError(str(error)) from error


def _with_queues(found: Transports, queues: str) -> Transports:
    if queues not in QUEUES:
        raise TransportError(
            f"there are no {queues} queues: choose one of {', '.join(QUEUES)}"
        )
    if not is_rabbit(found.notify):
        raise TransportError(
            f"{queues} queues are RabbitMQ's, and notifications go to "
            f"{urls.redact(str(found.notify))}: leave --notify-queues and "
            "HYBRID_NOTIFY_QUEUES out"
        )
    query = {**found.notify.query, QUEUES[queues]: "true"}
    return replace(found, notify=replace(found.notify, query=query))


def _from_mode(mode: modes.Mode, rpc: Side, notify: Side) -> tuple[Side, Side]:
    if mode.shared and not (notify.url or notify.hosts):
        notify = rpc
    return (
        _with_url("rpc", mode.name, mode.rpc, rpc),
        _with_url("notify", mode.name, mode.notify, notify),
    )


def _with_url(role: str, mode: str, scheme: str, side: Side) -> Side:
    if side.url:
        return side
    if scheme == modes.ANY_TRANSPORT:
        raise TransportError(
            f"mode {mode} takes any server: give its URL with --{role}-url"
        )
    if not side.hosts:
        raise TransportError(
            f"mode {mode} needs to know the server: give it with --{role}-host"
        )
    hosts = urls.parse(f"{scheme}://{','.join(side.hosts)}/").hosts
    if any(host.username for host in hosts):
        raise TransportError(f"--{role}-host takes hosts: the user is --{role}-user")
    port = KINDS[scheme].port
    query = urls.tls(scheme, side.ca_file)
    if side.key_directory and KINDS[scheme] is _ZMQ:
        query["zmq_key_directory"] = side.key_directory
    return Side(
        urls.build(
            scheme,
            [(host.host, host.port or port) for host in hosts],
            side.user,
            side.password,
            query=query,
        )
    )


def _from_state(state_dir: Path, rpc: Side, notify: Side) -> tuple[Side, Side]:
    running = state.load(state_dir)
    if running is None:
        raise TransportError(
            f"nothing has been started in {state_dir}: start it with `hybrid-messaging "
            "up`, or name the transports with --rpc-url and --notify-url"
        )
    return (
        rpc if rpc.url else Side(running.rpc_url),
        notify if notify.url else Side(running.notify_url),
    )


def _usable(
    purpose: str, text: str | None, objection: Callable[[Kind], str]
) -> urls.TransportURL:
    assert text is not None
    url = urls.parse(text)
    reason = objection(kind(url)) or kind(url).defect(url)
    if not reason and not all(host.host for host in url.hosts or (urls.Host(""),)):
        reason = "the URL names no host"
    if not reason and "@" in text.partition("://")[2].partition("/")[2]:
        reason = (
            "there is an @ after the host: a / in a user name or password is written "
            "%2F, an @ in a virtual host %40"
        )
    if not reason and "$" in str(url):
        # in names and passwords it is percent-encoded by now
        reason = "a host has no $ in its name"
    if reason:
        raise TransportError(f"{urls.shown(text)} for {purpose}: {reason}")
    return url
