# SPDX-License-Identifier: Apache-2.0
"""The AMQP 1.0 router: skupper-router, Qpid Dispatch, or our own.

All three read the same configuration and answer the same questions. skupper-router
may also be in a container image.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_messaging import state, urls
from hybrid_messaging.engines import (
    EngineError,
    Fetch,
    Launch,
    Missing,
    Options,
    TakePort,
    Traffic,
    container,
    templates,
)

if TYPE_CHECKING:
    from hybrid_messaging.engines.amqp_management import Management

TITLE = "AMQP 1.0 router"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
CREDENTIALS = ""

#: Our own router, in Python: for one host.
EMBEDDED = "embedded"
#: skupper-router from an image, `IMAGE` or that of ``container:IMAGE``.
CONTAINER = "container"
IMAGE = "quay.io/skupper/skupper-router:3.5.1"
SOURCES: Mapping[str, Fetch] = {
    CONTAINER: functools.partial(container.pull, IMAGE),
}
#: The routers that are looked for on PATH, the living project first.
NATIVE = ("skrouterd", "qdrouterd")
#: The oldest that have been seen to do what the driver needs, by major and minor.
OLDEST = {"skrouterd": (3, 0), "qdrouterd": (1, 19)}

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
_SASL = "router-sasl"
_SASLPASSWD = "saslpasswd2"
_SASLPASSWD_TIMEOUT = 30.0
_VERSION = re.compile(r"(\d+)\.(\d+)[\w.]*")
_VERSION_TIMEOUT = 10.0


def missing(options: Options) -> list[Missing]:
    """See `hybrid_messaging.engines.Engine`."""
    wanted = options.router
    image = _image(wanted)
    if image is not None:
        return container.missing(image) or _outdated(str(wanted))
    lacking = []
    if wanted not in (None, EMBEDDED) and not shutil.which(str(wanted)):
        lacking.append(
            Missing(
                str(wanted),
                "build or install it "
                "(https://github.com/skupperproject/skupper-router), "
                f"or take --router {EMBEDDED}",
            )
        )
    lacking += _outdated(describe(options))
    if options.tls and _find_saslpasswd() is None:
        lacking.append(Missing(_SASLPASSWD, _install_saslpasswd()))
    return lacking


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
    command = _command(choice, directory, options)
    if choice == EMBEDDED and (options.edge_port or options.interior):
        raise EngineError(
            f"the router {EMBEDDED} has no links to other routers: give one of "
            f"{', '.join(NATIVE)}, or the path of one of these, with --router"
        )
    for lack in _outdated(choice):
        raise EngineError(f"this machine lacks {lack.what}: {lack.install}")
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
            sasl=_write_user(choice, directory, username, password)
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
    deadline = time.monotonic() + INTERIOR_TIMEOUT
    with management(engine) as asked:
        while asked.router()["mode"] == "edge":
            (interior,) = asked.connectors()
            if interior["connectionStatus"] == "SUCCESS":
                return
            if time.monotonic() > deadline:
                raise EngineError(
                    "the router at the edge cannot get into the one at "
                    f"{interior['host']}:{interior['port']}: "
                    f"{interior['connectionMsg']}"
                )
            time.sleep(_INTERIOR_POLL)


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


def _write_user(
    choice: str, directory: Path, username: str, password: str | None
) -> str:
    """Make the one user of the router, with the Cyrus SASL that the router has.

    :returns: the name of the SASL configuration in `directory`
    """
    name, at, realm = username.partition("@")
    if not (name and at and realm and password):
        raise EngineError(
            "a router's user has a realm (name@realm), so that it is the same one "
            "whatever the host is called, and a password"
        )
    users = directory / f"{_SASL}.users"
    users.unlink(missing_ok=True)
    program = _saslpasswd(choice, directory)
    try:
        subprocess.run(
            [*program, "-c", "-p", "-f", users, "-u", realm, name],
            input=password,
            capture_output=True,
            text=True,
            check=True,
            timeout=_SASLPASSWD_TIMEOUT,
        )
        # it makes it readable for the group as well
        users.chmod(0o600)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise EngineError(f"{program[0]} cannot write {users}: {reason}") from error
    templates.write_private(
        directory / f"{_SASL}.conf", templates.render("router-sasl.conf", users=users)
    )
    return _SASL


def _outdated(choice: str) -> list[Missing]:
    """What to have instead of a router that is too old; one that does not tell is not.

    :param choice: as for ``--router``
    """
    image = _image(choice)
    name = NATIVE[0] if image else Path(choice).name
    oldest = OLDEST.get(name)
    program = container.command(image, name) if image else (shutil.which(choice),)
    if oldest is None or program == (None,):
        return []
    try:
        told = subprocess.run(
            [*program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT,
            text=True,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = _VERSION.search(told)
    if found is None or (int(found[1]), int(found[2])) >= oldest:
        return []
    return [
        Missing(
            f"{name} {'.'.join(map(str, oldest))} or later: {image or program[0]} is "
            f"{found[0]}, with which the amqp driver has not been seen to work",
            f"install a newer one, or take --router {EMBEDDED}",
        )
    ]


def _image(choice: str | None) -> str | None:
    """The image that a choice names."""
    name, _, image = (choice or "").partition(":")
    return (image or IMAGE) if name == CONTAINER else None


def _saslpasswd(choice: str, directory: Path) -> Sequence[str]:
    """What runs saslpasswd2: formats of its files differ between systems."""
    image = _image(choice)
    if image:
        return container.command(image, _SASLPASSWD, directory)
    program = _find_saslpasswd()
    if program is None:
        raise EngineError(
            f"{_SASLPASSWD} is not installed here, which makes the router's users: "
            + _install_saslpasswd()
        )
    return (program,)


def _find_saslpasswd() -> str | None:
    # Debian has it where only root looks for programs
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
    return shutil.which(_SASLPASSWD, path=path)


def _install_saslpasswd() -> str:
    if shutil.which("apt-get"):
        return "sudo apt-get install sasl2-bin"
    return "sudo dnf install cyrus-sasl"


def _command(choice: str, directory: Path, options: Options) -> tuple[str, ...]:
    if choice == EMBEDDED:
        return (sys.executable, "-m", "hybrid_messaging.router", "--config")
    image = _image(choice)
    if image:
        for lack in container.missing(image):
            raise EngineError(f"this machine lacks {lack.what}: {lack.install}")
        shown = options.certificates
        files = (shown.authority, shown.host) if shown else ()
        return (*container.command(image, NATIVE[0], directory, files), "-c")
    program = shutil.which(choice)
    if program is None:
        raise EngineError(
            f"router {choice} is not installed here: give the path of a skrouterd or "
            f"qdrouterd, or take the router that comes along: --router {EMBEDDED}"
        )
    return (str(Path(program).absolute()), "-c")
