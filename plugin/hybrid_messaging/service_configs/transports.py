# SPDX-License-Identifier: Apache-2.0
"""The two transports that services are to use, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hybrid_messaging import modes, servers, state_directory, urls
from hybrid_messaging.servers.rabbit import QUEUES, Rabbit
from hybrid_messaging.servers.transport import Transport, TransportError


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
                "--ca-file and --zmq-key-directory apply only to --mode with hosts; in"
                " a URL, use its own options instead"
            )
        if mode is not None:
            rpc, notify = _from_mode(modes.get(mode), rpc, notify)
        elif not (rpc.url and notify.url):
            rpc, notify = _from_state(
                state_dir or state_directory.default_state_dir(), rpc, notify
            )
        found = Transports(
            _usable("RPC", rpc.url, lambda found: found.no_rpc),
            _usable("notifications", notify.url, lambda found: found.no_notifications),
        )
        return found if queues is None else _with_queues(found, queues)
    except (urls.UrlError, modes.ModeError, state_directory.StateError) as error:
        raise TransportError(str(error)) from error


def resolve_one(
    role: str, url: str | None, state_dir: Path | None = None
) -> urls.TransportURL:
    """Decide on one of the two transports alone: a given URL, else what runs.

    :param role: `rpc` or `notify`
    :param state_dir: the state directory of `up`; default: its own default
    :raises TransportError: it is missing, or unfit for its purpose
    """
    try:
        if not url:
            found = _from_state(
                state_dir or state_directory.default_state_dir(), Side(), Side()
            )
            url = found[role == "notify"].url
        if role == "rpc":
            return _usable("RPC", url, lambda known: known.no_rpc)
        return _usable("notifications", url, lambda known: known.no_notifications)
    except (urls.UrlError, state_directory.StateError) as error:
        raise TransportError(str(error)) from error


def _with_queues(found: Transports, queues: str) -> Transports:
    if queues not in QUEUES:
        raise TransportError(
            f"there are no {queues} queues: choose one of {', '.join(QUEUES)}"
        )
    if not isinstance(servers.get(found.notify), Rabbit):
        raise TransportError(
            f"{queues} queues exist only on RabbitMQ, but notifications go to"
            f" {urls.shown(str(found.notify))}: omit --notify-queues and unset"
            " HYBRID_NOTIFY_QUEUES"
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
            f"mode {mode} can use any server: give its URL with --{role}-url"
        )
    if not side.hosts:
        raise TransportError(
            f"mode {mode} needs the host of the server: give it with --{role}-host"
        )
    named = servers.get(urls.parse(f"{scheme}://{','.join(side.hosts)}/"))
    if any(host.username for host in named.url.hosts):
        raise TransportError(
            f"--{role}-host takes only hosts: give the user with --{role}-user"
        )
    return Side(
        urls.build(
            scheme,
            [(host.host, host.port or named.port) for host in named.url.hosts],
            side.user,
            side.password,
            query=named.trusting(side.ca_file, side.key_directory),
        )
    )


def _from_state(state_dir: Path, rpc: Side, notify: Side) -> tuple[Side, Side]:
    running = state_directory.load(state_dir)
    if running is None:
        raise TransportError(
            f"{state_dir} has no deployment: start one with `hybrid-messaging up`, or"
            " name the transports with --rpc-url and --notify-url"
        )
    return (
        rpc if rpc.url else Side(running.rpc_url),
        notify if notify.url else Side(running.notify_url),
    )


def _usable(
    purpose: str, text: str | None, objection: Callable[[Transport], str]
) -> urls.TransportURL:
    assert text is not None
    url = urls.parse(text)
    known = servers.get(url)
    reason = objection(known) or known.defect
    if not reason and not all(host.host for host in url.hosts or (urls.Host(""),)):
        reason = "the URL names no host"
    if not reason and "@" in text.partition("://")[2].partition("/")[2]:
        reason = (
            "there is an @ after the host: write %2F for a / in a user name or"
            " password, and %40 for an @ in a virtual host"
        )
    if not reason and "$" in str(url):
        # in names and passwords it is percent-encoded by now
        reason = "a host name cannot contain $"
    if reason:
        raise TransportError(f"{urls.shown(text)} for {purpose}: {reason}")
    return url
