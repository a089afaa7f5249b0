# SPDX-License-Identifier: Apache-2.0
"""The AMQP 1.0 router: skupper-router, Qpid Dispatch, or our own.

All three read the same configuration and answer the same questions.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from hybrid_messaging import state, urls
from hybrid_messaging.engines import (
    EngineError,
    Launch,
    Missing,
    Options,
    Progress,
    TakePort,
    Traffic,
    templates,
)

TITLE = "AMQP 1.0 router"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
CREDENTIALS = ""
SOURCES: Mapping[str, Callable[[Progress], Path]] = {}

#: Our own router, in Python: for one host.
EMBEDDED = "embedded"
#: The routers that are looked for on PATH, the living project first.
NATIVE = ("skrouterd", "qdrouterd")

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
IDLE_TIMEOUT = 16
WORKER_THREADS = 2

_SASL = "router-sasl"
_SASLPASSWD_TIMEOUT = 30.0


def missing(options: Options) -> list[Missing]:
    """See `hybrid_messaging.engines.Engine`."""
    wanted = options.router
    if wanted in (None, EMBEDDED) or shutil.which(str(wanted)):
        return []
    return [
        Missing(
            str(wanted),
            "build or install it (https://github.com/skupperproject/skupper-router), "
            f"or take --router {EMBEDDED}",
        )
    ]


def describe(options: Options) -> str:
    """See `hybrid_messaging.engines.Engine`."""
    return options.router or next(filter(shutil.which, NATIVE), EMBEDDED)


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
    command = _command(choice)
    port = options.port or take_port(previous.port if previous else None)
    # unlike every other router's, so that `is_ready` knows it
    router_id = f"hybrid-messaging-{secrets.token_hex(4)}"
    config = directory / "router.conf"
    templates.write_private(
        config,
        templates.render(
            "router.conf",
            id=router_id,
            host=options.host,
            port=port,
            directory=directory,
            sasl=_write_user(directory, options) if options.username else None,
            worker_threads=WORKER_THREADS,
            idle_timeout=IDLE_TIMEOUT,
            addresses=ADDRESSES,
        ),
    )
    return Launch(
        command=(*command, str(config)),
        port=port,
        url=urls.build(
            "amqp", [(options.host, port)], options.username, options.password
        ),
        details={"router": choice, "id": router_id},
    )


def is_ready(engine: state.Engine) -> bool:
    """See `hybrid_messaging.engines.Engine`."""
    from hybrid_messaging.engines.amqp_management import Management

    try:
        with Management(engine.host, engine.port) as management:
            return bool(management.router()["id"] == engine.details["id"])
    except EngineError:
        return False


def set_up(engine: state.Engine) -> None:
    """See `hybrid_messaging.engines.Engine`; addresses come and go with users."""


def traffic(engine: state.Engine) -> Traffic:
    """See `hybrid_messaging.engines.Engine`."""
    from hybrid_messaging.engines.amqp_management import Management

    with Management(engine.host, engine.port) as management:
        metrics = management.metrics()
        return Traffic(
            version=f"{management.product} {management.version}",
            # the one that asks is no client
            connections=metrics["connectionCount"] - 1,
            destinations=len(management.addresses()),
            received=metrics["deliveriesIngress"],
            delivered=metrics["deliveriesEgress"],
        )


def _write_user(directory: Path, options: Options) -> str:
    """Make the one user of the router, with Cyrus SASL.

    :returns: the name of the SASL configuration in `directory`
    """
    name, at, realm = str(options.username).partition("@")
    if not (name and at and realm and options.password):
        raise EngineError(
            "a router's user has a realm (name@realm), so that it is the same one "
            "whatever the host is called, and a password"
        )
    users = directory / f"{_SASL}.users"
    users.unlink(missing_ok=True)
    # Debian has it where only root looks for programs
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
    program = shutil.which("saslpasswd2", path=path)
    if program is None:
        raise EngineError(
            "saslpasswd2 is not installed here, which makes the router's users: "
            "install sasl2-bin (Debian, Ubuntu) or cyrus-sasl-lib (RHEL)"
        )
    try:
        subprocess.run(
            [program, "-c", "-p", "-f", users, "-u", realm, name],
            input=options.password,
            capture_output=True,
            text=True,
            check=True,
            timeout=_SASLPASSWD_TIMEOUT,
        )
    except subprocess.CalledProcessError as error:
        raise EngineError(f"{program} cannot write {users}: {error.stderr}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{program} cannot write {users}: {error}") from error
    templates.write_private(
        directory / f"{_SASL}.conf", templates.render("router-sasl.conf", users=users)
    )
    return _SASL


def _command(choice: str) -> tuple[str, ...]:
    if choice == EMBEDDED:
        return (sys.executable, "-m", "hybrid_messaging.router", "--config")
    program = shutil.which(choice)
    if program is None:
        raise EngineError(
            f"router {choice} is not installed here: give the path of a skrouterd or "
            f"qdrouterd, or take the router that comes along: --router {EMBEDDED}"
        )
    return (str(Path(program).absolute()), "-c")
