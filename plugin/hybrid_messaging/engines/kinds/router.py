# SPDX-License-Identifier: Apache-2.0
"""The AMQP 1.0 router: skupper-router, Qpid Dispatch, or our own.

All three read the same configuration and answer the same questions. skupper-router
may also be in a container image.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hybrid_messaging import state, urls, whole_file
from hybrid_messaging.attempts import attempts
from hybrid_messaging.engines import (
    EngineError,
    Launch,
    Missing,
    Options,
    Traffic,
    container,
    router_program,
    router_users,
    templates,
)
from hybrid_messaging.engines.kinds import Preparation, RotatingKind, logins

if TYPE_CHECKING:
    from hybrid_messaging.engines.amqp_management import Management

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
#: Seconds of silence after which a client is gone, and a link between routers.
IDLE_TIMEOUT, LINK_IDLE_TIMEOUT = 16, 4
WORKER_THREADS = 2
#: Seconds that a router has to get into others; it tries every few seconds.
LINK_TIMEOUT = 30.0

_LINK_POLL = 0.2


class Router(RotatingKind):
    """A router, of which `router_program` has the programs."""

    title = "AMQP 1.0 router"
    start_timeout = 60.0
    # ours waits for clients that move to another router, and for answers
    stop_timeout = 40.0
    credentials = ""
    sources: ClassVar = {
        router_program.CONTAINER: functools.partial(
            container.pull, router_program.IMAGE
        ),
    }

    def missing(self, options: Options) -> list[Missing]:
        choice = self.describe(options)
        lacking = router_program.missing(choice)
        return lacking + (router_users.missing(choice) if options.tls else [])

    def describe(self, options: Options) -> str:
        return options.router or router_program.default()

    def configure(self, engine: Preparation) -> Launch:
        directory, options = engine.directory, engine.options
        take_port = engine.take_port
        before = engine.before(state.RouterDetails)
        choice = options.router or (before and before.router) or self.describe(options)
        if choice == router_program.EMBEDDED and (
            options.edge_port or options.interior or options.links is not None
        ):
            raise EngineError(
                "the embedded router cannot connect to other routers: choose one of"
                f" {', '.join(router_program.NATIVE)}, the path of one of these, or"
                " container with --router"
            )
        shown = options.certificates
        command = router_program.command(
            choice, directory, (shown.authority, shown.host) if shown else ()
        )
        port = engine.take_main_port()
        details = _details(choice, options, before)
        if options.links is not None:
            link_port = take_port(before.link_port if before else None)
            details = dataclasses.replace(details, link_port=link_port)
        config = directory / "router.conf"
        password_file = directory / "router.password"
        password_file.unlink(missing_ok=True)
        if options.interior and details.login:
            whole_file.write(password_file, details.login.password)
        whole_file.write(
            config,
            templates.render(
                "router.conf",
                mode=_mode(options),
                id=details.id,
                host=options.host,
                port=port,
                edge_port=options.edge_port,
                link_port=details.link_port,
                links=options.links or {},
                link_idle_timeout=LINK_IDLE_TIMEOUT,
                interior=options.interior,
                interior_is_named=options.interior
                and not _is_address(options.interior[0]),
                username=details.username,
                password_file=password_file,
                directory=directory,
                sasl=router_users.write(choice, directory, details.all)
                if details.all
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
                details.username,
                details.password,
                query=urls.tls("amqp", options.ca_file),
            ),
            details=details,
        )

    def is_ready(self, engine: state.Engine) -> bool:
        try:
            with management(engine) as asked:
                found = asked.router()
        except EngineError:
            return False
        return found["id"] == engine.details_as(state.RouterDetails).id

    def set_up(self, engine: state.Engine) -> None:
        """See that others can link to the router, and wait for its links to them.

        Addresses come and go with users.
        """
        with management(engine) as asked:
            if asked.router()["mode"] == "standalone":
                return
            for where in asked.deaf():
                raise EngineError(
                    f"{engine.name} cannot listen on {where}: stop what has this port"
                    " there, and restart the router, which does not try again"
                )
            for _ in attempts(LINK_TIMEOUT, _LINK_POLL):
                missing = [
                    each
                    for each in asked.connectors()
                    if each["connectionStatus"] != "SUCCESS"
                ]
                if not missing:
                    return
            raise EngineError(
                f"{engine.name} cannot connect to the router at"
                f" {missing[0]['host']}:{missing[0]['port']}:"
                f" {missing[0]['connectionMsg']}"
            )

    def admit(self, engine: state.Engine, login: state.Login) -> None:
        router_users.add(*_where(engine), login)

    def dismiss(self, engine: state.Engine, login: state.Login) -> None:
        router_users.remove(*_where(engine), login)

    def users(self, engine: state.Engine) -> list[str]:
        with management(engine) as asked:
            found = [each["user"] for each in asked.connections()]
        # the one that asks is no client
        if engine.details.username in found:
            found.remove(engine.details.username)
        return found

    def traffic(self, engine: state.Engine) -> Traffic:
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

    return Management.of(engine)


def _where(engine: state.Engine) -> tuple[str, Path]:
    """Which router it is, and where its files are: beside its log."""
    return engine.details_as(state.RouterDetails).router, Path(engine.log).parent


def _details(
    choice: str, options: Options, before: state.RouterDetails | None
) -> state.RouterDetails:
    # unlike every other router's, so that `is_ready` knows it
    found = state.RouterDetails(
        router=choice, id=f"hybrid-messaging-{secrets.token_hex(4)}"
    )
    if options.username or options.certificates:
        return dataclasses.replace(found, **logins(options, before, USERNAME))
    return found


def _mode(options: Options) -> str:
    if options.interior:
        return "edge"
    linked = options.edge_port or options.links is not None
    return "interior" if linked else "standalone"


def _is_address(host: str) -> bool:
    # a router compares names, but not addresses, with a certificate; who signed it
    # has to do then
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
