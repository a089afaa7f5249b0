# SPDX-License-Identifier: Apache-2.0
"""The AMQP 1.0 broker: Apache ActiveMQ Artemis, embedded in a Java of its own.

The command `fetch` gets it by Maven, with the build file `files/broker.pom.xml`. It
is configured for the addresses of the `amqp` driver; what each setting does:
https://artemis.apache.org/components/artemis/documentation/
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hybrid_messaging import resources, state, urls, whole_file
from hybrid_messaging.engines import (
    EngineError,
    Launch,
    Missing,
    Options,
    Progress,
    Traffic,
    java,
    templates,
)
from hybrid_messaging.engines.artemis_management import ArtemisManagement
from hybrid_messaging.engines.kinds import Kind, Preparation, login

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
    "not RabbitMQ 3.10, which has no addresses for replies",
    "not Qpid Broker-J 10.1, which has no addresses for fanouts",
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


def fetch_with_maven(progress: Progress) -> Path:
    """Fetch the broker's libraries.

    :returns: where they are
    :raises EngineError: if that fails
    """
    return java.fetch_with_maven(f"{ARTEMIS} {VERSION}", BUILD_FILE, _home(), progress)


class Broker(Kind):
    """ActiveMQ Artemis."""

    title = "AMQP 1.0 broker"
    start_timeout = 120.0
    stop_timeout = 20.0
    sources: ClassVar = {"maven": fetch_with_maven}

    def missing(self, options: Options) -> list[Missing]:
        lacking = java.missing_runtime(JAVA)
        if missing_libraries():
            what = f"{ARTEMIS} {VERSION}"
            lacking.append(Missing(what, "hybrid-messaging fetch broker"))
        return lacking

    def describe(self, options: Options) -> str:
        return f"{ARTEMIS} {VERSION} ({'; '.join(UNFIT)})"

    def configure(self, engine: Preparation) -> Launch:
        directory, options = engine.directory, engine.options
        runtime = java.runtime(JAVA)
        lacking = self.missing(options)
        certificates = options.certificates
        if runtime is None or lacking:
            raise EngineError(
                f"{self.title}: this machine lacks "
                + "; ".join(f"{lack.what}: {lack.install}" for lack in lacking)
            )
        port = engine.take_main_port()
        user = login(options, engine.before(state.Details))
        (directory / "etc").mkdir(exist_ok=True)
        broker = templates.render(
            "broker.xml",
            name=engine.name,
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
        realm = templates.render("broker-login.config", domain=_DOMAIN)
        logging = templates.render("broker-logging.properties")
        for file, text in (
            ("etc/broker.xml", broker),
            ("login.config", realm),
            ("logging.properties", logging),
            ("users.properties", f"{user['username']} = {user['password']}\n"),
            ("roles.properties", f"{_DOMAIN} = {user['username']}\n"),
        ):
            whole_file.write(directory / file, text)
        return Launch(
            command=(
                str(runtime),
                f"-Xmx{HEAP}",
                # one without memory left is better restarted than waited for
                "-XX:+ExitOnOutOfMemoryError",
                *("-cp", f"{_home()}/libs/*"),
                # below the working directory: Artemis splits a path at its commas, and
                # the others are URLs or quoted
                "-Djava.security.auth.login.config=login.config",
                "-Djava.util.logging.config.file=logging.properties",
                *(_MAIN, "."),
            ),
            port=port,
            url=urls.build(
                "amqp",
                [(options.host, port)],
                user["username"],
                user["password"],
                query=urls.tls("amqp", options.ca_file),
            ),
            details=state.Details(**user),
        )

    def is_ready(self, engine: state.Engine) -> bool:
        try:
            # nobody else knows our password: whoever takes it is our broker
            with ArtemisManagement.of(engine) as asked:
                return bool(asked.get("started"))
        except EngineError:
            return False

    def traffic(self, engine: state.Engine) -> Traffic:
        with ArtemisManagement.of(engine) as asked:
            return Traffic(
                version=f"{ARTEMIS} {asked.get('version')}",
                # the one that asks is no client
                connections=asked.get("connectionCount") - 1,
                destinations=len(asked.queues()),
                received=asked.get("totalMessagesAdded"),
                delivered=asked.get("totalMessagesAcknowledged"),
                waiting=asked.get("totalMessageCount"),
            )


def missing_libraries() -> bool:
    """Whether `fetch` has not been here."""
    return not _home().is_dir()


def _home() -> Path:
    return java.cache() / f"artemis-{VERSION}"
