# SPDX-License-Identifier: Apache-2.0
"""The AMQP 1.0 broker: Apache ActiveMQ Artemis, embedded in a Java of its own.

The command `fetch` gets it by Maven, with the build file `files/broker.pom.xml`. It
is configured for the addresses of the `amqp` driver; what each setting does:
https://artemis.apache.org/components/artemis/documentation/
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from hybrid_messaging import resources, state, urls
from hybrid_messaging.engines import (
    EngineError,
    Fetch,
    Launch,
    Missing,
    Options,
    Progress,
    TakePort,
    Traffic,
    java,
    templates,
)
from hybrid_messaging.engines.artemis_management import ArtemisManagement

TITLE = "AMQP 1.0 broker"
START_TIMEOUT = 120.0
STOP_TIMEOUT = 20.0
CREDENTIALS = "user:password@"

USERNAME = "hybrid"
HEAP = "512m"
DISK_RESERVE = "50MB"
IDLE_TIMEOUT = 16
#: Seconds that a cast waits for its server; a call waits for as long as its caller.
RPC_EXPIRY = 300

ARTEMIS = "ActiveMQ Artemis"
VERSION = "2.55.0"
#: The oldest Java that this release runs on.
JAVA = 17
BUILD_FILE = resources.FILES / "broker.pom.xml"

#: Why it is no other broker, as tried with the `amqp` driver.
UNFIT = (
    "not RabbitMQ 3.10, which makes no addresses for replies",
    "not Qpid Broker-J 10.1, which makes no addresses for fanouts",
)
#: Addresses of the `amqp` driver, by what becomes of messages to them.
RPC, NOTIFY = "openstack.org/om/rpc", "openstack.org/om/notify"
MULTICAST = (f"{RPC}/multicast", f"{NOTIFY}/multicast")

# the class in Artemis that runs a broker without the scripts around it; it reads
# etc/broker.xml below the directory that it is given
_MAIN = "org.apache.activemq.artemis.core.server.embedded.Main"
_DOMAIN = "services"
_DROPPED = "hybrid-messaging.dropped"
_PERMISSIONS = (
    "createAddress",
    "deleteAddress",
    "createDurableQueue",
    "deleteDurableQueue",
    "createNonDurableQueue",
    "deleteNonDurableQueue",
    "send",
    "consume",
    "browse",
    "manage",
)


def missing(options: Options) -> list[Missing]:
    """See `hybrid_messaging.engines.Engine`."""
    lacking = java.missing_runtime(JAVA)
    if missing_libraries():
        lacking.append(Missing(f"{ARTEMIS} {VERSION}", "hybrid-messaging fetch broker"))
    return lacking


def describe(options: Options) -> str:
    """See `hybrid_messaging.engines.Engine`."""
    return f"{ARTEMIS} {VERSION} ({'; '.join(UNFIT)})"


def fetch_with_maven(progress: Progress) -> Path:
    """Fetch the broker's libraries.

    :returns: where they are
    :raises EngineError: if that fails
    """
    return java.fetch_with_maven(f"{ARTEMIS} {VERSION}", BUILD_FILE, _home(), progress)


SOURCES: Mapping[str, Fetch] = {"maven": fetch_with_maven}


def prepare(
    name: str,
    directory: Path,
    take_port: TakePort,
    previous: state.Engine | None,
    options: Options,
) -> Launch:
    """See `hybrid_messaging.engines.Engine`."""
    runtime = java.runtime(JAVA)
    lacking = missing(options)
    certificates = options.certificates
    if runtime is None or lacking:
        raise EngineError(
            f"{TITLE}: this machine lacks "
            + "; ".join(f"{lack.what}: {lack.install}" for lack in lacking)
        )
    before = previous.details if previous else {}
    port = options.port or take_port(previous.port if previous else None)
    username = options.username or before.get("username", USERNAME)
    password = options.password or before.get("password") or secrets.token_urlsafe(24)
    (directory / "etc").mkdir(exist_ok=True)
    broker = templates.render(
        "broker.xml",
        name=name,
        listener=urls.Host(options.host, port),
        domain=_DOMAIN,
        certificates=certificates and certificates.seen_from(directory),
        role=_DOMAIN,
        permissions=_PERMISSIONS,
        idle_timeout=IDLE_TIMEOUT,
        disk_reserve=DISK_RESERVE,
        dropped=_DROPPED,
        multicast=MULTICAST,
        rpc=RPC,
        rpc_expiry=RPC_EXPIRY,
        notify=NOTIFY,
    )
    login = templates.render("broker-login.config", domain=_DOMAIN)
    logging = templates.render("broker-logging.properties")
    for file, text in (
        ("etc/broker.xml", broker),
        ("login.config", login),
        ("logging.properties", logging),
        ("users.properties", f"{username} = {password}\n"),
        ("roles.properties", f"{_DOMAIN} = {username}\n"),
    ):
        templates.write_private(directory / file, text)
    return Launch(
        command=(
            str(runtime),
            f"-Xmx{HEAP}",
            # one without memory left is better restarted than waited for
            "-XX:+ExitOnOutOfMemoryError",
            *("-cp", f"{_home()}/libs/*"),
            # below the working directory: Artemis splits a path at its commas, and the
            # others are URLs or quoted
            "-Djava.security.auth.login.config=login.config",
            "-Djava.util.logging.config.file=logging.properties",
            *(_MAIN, "."),
        ),
        port=port,
        url=urls.build(
            "amqp",
            [(options.host, port)],
            username,
            password,
            query=urls.tls("amqp", options.ca_file),
        ),
        details={"username": username, "password": password},
    )


def is_ready(engine: state.Engine) -> bool:
    """See `hybrid_messaging.engines.Engine`."""
    try:
        # nobody else knows our password: whoever takes it is our broker
        with management(engine) as asked:
            return bool(asked.get("started"))
    except EngineError:
        return False


def set_up(engine: state.Engine) -> None:
    """See `hybrid_messaging.engines.Engine`; queues are made by their users."""


def traffic(engine: state.Engine) -> Traffic:
    """See `hybrid_messaging.engines.Engine`."""
    with management(engine) as asked:
        return Traffic(
            version=f"{ARTEMIS} {asked.get('version')}",
            # the one that asks is no client
            connections=asked.get("connectionCount") - 1,
            destinations=len(asked.queues()),
            received=asked.get("totalMessagesAdded"),
            delivered=asked.get("totalMessagesAcknowledged"),
            waiting=asked.get("totalMessageCount"),
        )


def management(engine: state.Engine) -> ArtemisManagement:
    """Connect to the management of a broker; use the result as a context manager.

    :raises EngineError: if it does not answer
    """
    return ArtemisManagement(
        engine.host,
        engine.port,
        engine.details["username"],
        engine.details["password"],
        engine.ca_file,
    )


def missing_libraries() -> bool:
    """Whether `fetch` has not been here."""
    return not _home().is_dir()


def _home() -> Path:
    return java.cache() / f"artemis-{VERSION}"
