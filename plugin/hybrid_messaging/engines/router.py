# SPDX-License-Identifier: Apache-2.0
"""The AMQP 1.0 router: skupper-router, Qpid Dispatch, or our own.

All three read the same configuration and answer the same questions. skupper-router
may also be in a container image.
"""

from __future__ import annotations

import functools
import ipaddress
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_messaging import state, urls
from hybrid_messaging.attempts import attempts
from hybrid_messaging.engines import (
    EngineError,
    Fetch,
    Launch,
    Missing,
    Options,
    TakePort,
    Traffic,
    container,
    router_program,
    router_users,
    templates,
)

if TYPE_CHECKING:
    from hybrid_messaging.engines.amqp_management import Management

TITLE = "AMQP 1.0 router"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
CREDENTIALS = ""

SOURCES: Mapping[str, Fetch] = {
    router_program.CONTAINER: functools.partial(container.pull, router_program.IMAGE),
}

#: How messages to the addresses of the `amqp` driver travel, by prefix.
ADDRESSES = (
    ("openstack.org/om/rpc/multicast", "multicast"),
    ("openstack.org/om/rpc/unicast", "closest"),
    ("openstack.org/om/rpc/anycast", "balanced"),
    ("openstack.org/om/notify/multicast", "multicast"),
    ("openstack.org/om/notify/unicast", "closest"),
    ("openstack.org/om/notify/anycast", "balanced"),
    # addressing_mode = legacy
    ("broadcast", "multicast"),
    ("exclusive", "closest"),
    ("unicast", "closest"),
)
#: Who may use a router with TLS; the realm belongs to the name.
USERNAME = "hybrid@hybrid-messaging"
IDLE_TIMEOUT = 16
WORKER_THREADS = 2
#: Seconds that a router at the edge has to get into the one in the middle; it tries
#: every few seconds.
INTERIOR_TIMEOUT = 30.0

_INTERIOR_POLL = 0.2


def missing(options: Options) -> list[Missing]:
    """See `hybrid_messaging.engines.Engine`."""
    choice = describe(options)
    lacking = router_program.missing(choice)
    return lacking + (router_users.missing(choice) if options.tls else [])


def describe(options: Options) -> str:
    """See `hybrid_messaging.engines.Engine`."""
    return options.router or router_program.default()


def prepare(
    name: str,
    directory: Path,
    take_port: TakePort,
    previous: state.Engine | None,
    options: Options,
) -> Launch:
    """See `hybrid_messaging.engines.Engine`."""
    before = previous.details if previous else {}
    choice = options.router or before.get("router") or describe(options)
    if choice == router_program.EMBEDDED and (options.edge_port or options.interior):
        raise EngineError(
            f"the router {choice} has no links to other routers: give one of "
            f"{', '.join(router_program.NATIVE)}, or the path of one of these, with "
            "--router"
        )
    shown = options.certificates
    command = router_program.command(
        choice, directory, (shown.authority, shown.host) if shown else ()
    )
    username, password = options.username, options.password
    if options.certificates and not username:
        username = USERNAME
        password = before.get("password") or secrets.token_urlsafe(24)
    port = options.port or take_port(previous.port if previous else None)
    # unlike every other router's, so that `is_ready` knows it
    router_id = f"hybrid-messaging-{secrets.token_hex(4)}"
    config = directory / "router.conf"
    password_file = directory / "router.password"
    password_file.unlink(missing_ok=True)
    if options.interior and username:
        templates.write_private(password_file, password or "")
    templates.write_private(
        config,
        templates.render(
            "router.conf",
            mode=_mode(options),
            id=router_id,
            host=options.host,
            port=port,
            edge_port=options.edge_port,
            interior=options.interior,
            interior_is_named=options.interior and not _is_address(options.interior[0]),
            username=username,
            password_file=password_file,
            directory=directory,
            sasl=router_users.write(choice, directory, username, password)
            if username
            else None,
            certificates=options.certificates,
            worker_threads=WORKER_THREADS,
            idle_timeout=IDLE_TIMEOUT,
            addresses=ADDRESSES,
        ),
    )
    return Launch(
        command=(*command, str(config)),
        port=port,
        url=urls.build(
            "amqp",
            [(options.host, port)],
            username,
            password,
            query=urls.tls("amqp", options.ca_file),
        ),
        details={
            "router": choice,
            "id": router_id,
            "username": username,
            "password": password,
        },
    )


def is_ready(engine: state.Engine) -> bool:
    """See `hybrid_messaging.engines.Engine`."""
    try:
        with management(engine) as asked:
            return bool(asked.router()["id"] == engine.details["id"])
    except EngineError:
        return False


def set_up(engine: state.Engine) -> None:
    """See `hybrid_messaging.engines.Engine`: get a router at the edge into the middle.

    Addresses come and go with users.
    """
    with management(engine) as asked:
        if asked.router()["mode"] != "edge":
            return
        for _ in attempts(INTERIOR_TIMEOUT, _INTERIOR_POLL):
            (interior,) = asked.connectors()
            if interior["connectionStatus"] == "SUCCESS":
                return
        raise EngineError(
            "the router at the edge cannot get into the one at "
            f"{interior['host']}:{interior['port']}: {interior['connectionMsg']}"
        )


def traffic(engine: state.Engine) -> Traffic:
    """See `hybrid_messaging.engines.Engine`."""
    with management(engine) as asked:
        metrics = asked.metrics()
        return Traffic(
            version=f"{asked.product} {asked.version}",
            # the one that asks is no client
            connections=metrics["connectionCount"] - 1,
            destinations=len(asked.addresses()),
            received=metrics["deliveriesIngress"],
            delivered=metrics["deliveriesEgress"],
        )


def management(engine: state.Engine) -> Management:
    """Connect to the management of a router; use the result as a context manager.

    :raises EngineError: if it does not answer
    """
    from hybrid_messaging.engines.amqp_management import Management

    return Management(
        engine.host,
        engine.port,
        engine.details.get("username"),
        engine.details.get("password"),
        engine.ca_file,
    )


def _mode(options: Options) -> str:
    if options.interior:
        return "edge"
    return "interior" if options.edge_port else "standalone"


def _is_address(host: str) -> bool:
    # a router compares names, but not addresses, with a certificate; who signed it
    # has to do then
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
