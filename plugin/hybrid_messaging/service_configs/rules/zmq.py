# SPDX-License-Identifier: Apache-2.0
"""ZeroMQ: whether servers can be found, and who else can talk to them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from hybrid_messaging.drivers.zmq import options as zmq
from hybrid_messaging.drivers.zmq.names import is_loopback
from hybrid_messaging.servers.zmq import Zmq
from hybrid_messaging.service_configs.codes import found as problem
from hybrid_messaging.service_configs.problem import Problem
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import RPC, Routes

_PASSWORD = "put a user and a password of Redis into the URL"  # noqa: S105
_WAIVER = "plaintext_beyond_loopback"


def found(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Servers tell, for as long as they are there, where all reach them."""
    for known in _used(routes):
        yield from _registered(config, known)


def _used(routes: Routes) -> Iterator[Zmq]:
    """Of the bus that RPC uses, and of that which it moves away from."""
    for route in routes.carrying(RPC):
        if isinstance(route.transport, Zmq):
            yield route.transport


def _registered(config: ServiceConfig, known: Zmq) -> Iterator[Problem]:
    options = known.options
    if options.zmq_target_update >= options.zmq_target_expire:
        yield problem(
            "registration-expires",
            f"registrations expire after {options.zmq_target_expire} s, but servers"
            f" renew them only every {options.zmq_target_update} s",
            f"set [{Zmq.group}] zmq_target_expire to three times zmq_target_update",
            config.where(Zmq.group, "zmq_target_expire"),
        )
    told = zmq.host(options)
    hosts = known.url.hosts
    if is_loopback(told) and not all(is_loopback(host.host) for host in hosts):
        yield problem(
            "local-address",
            f"servers register as {told}, which other hosts cannot reach",
            f"set [{Zmq.group}] rpc_zmq_bind_address to an address of the services' "
            "network",
            config.where(Zmq.group, "rpc_zmq_bind_address"),
        )


def encrypted(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Servers have keys where they need them."""
    for known in _used(routes):
        yield from _keyed(config, known)


def _keyed(config: ServiceConfig, known: Zmq) -> Iterator[Problem]:
    encryption = known.encryption
    if encryption.refused:
        address = known.options.rpc_zmq_bind_address
        yield problem(
            "no-keys",
            f"servers do not start: to listen on {address} they need keys, and Redis"
            " has no password to derive them from",
            f"{_PASSWORD}; or set [{Zmq.group}] zmq_key_directory, or"
            " rpc_zmq_bind_address = 127.0.0.1 if all services are on this host",
            config.where(Zmq.group, "rpc_zmq_bind_address"),
        )
    if encryption.waived:
        yield problem(
            "plain-text",
            "no encryption and no authentication: anyone who reaches the port of a"
            " server can call it and read its traffic",
            f"remove {_WAIVER}, and {_PASSWORD} if there is none",
            config.where(Zmq.group, _WAIVER),
        )


def resolved(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """What clients are told is a name that is known, here at least."""
    if routes.servers is None or routes.machine:
        return
    for route in routes.carrying(RPC):
        known = route.usable
        if isinstance(known, Zmq):
            yield from _resolved(config, known)


def _resolved(config: ServiceConfig, known: Zmq) -> Iterator[Problem]:
    told = zmq.host(known.options)
    try:
        socket.getaddrinfo(told, None)
    except (OSError, UnicodeError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) else "it is not a valid name"
        )
        yield problem(
            "address-unknown",
            f"servers register as {told}, which has no address on this host: {reason}",
            f"set [{Zmq.group}] rpc_zmq_host to an address or a name that all hosts "
            "resolve",
            config.where(Zmq.group, "rpc_zmq_host"),
        )
