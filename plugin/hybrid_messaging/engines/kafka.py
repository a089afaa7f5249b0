# SPDX-License-Identifier: Apache-2.0
"""A private Kafka: one node, broker and controller in one (KRaft), no ZooKeeper.

No distribution packages it. Its libraries are fetched from Apache or with Maven
into a cache, or belong to a release that the user has unpacked; started is the
broker's main class, without the scripts of the release.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_messaging import resources, state, urls
from hybrid_messaging.attempts import attempts
from hybrid_messaging.engines import (
    HOST,
    EngineError,
    Fetch,
    Launch,
    Missing,
    Options,
    Progress,
    TakePort,
    Traffic,
    java,
    ports,
    templates,
)

if TYPE_CHECKING:
    from confluent_kafka import KafkaException

TITLE = "Kafka"
START_TIMEOUT = 120.0
STOP_TIMEOUT = 60.0
CREDENTIALS = "user:password@"

#: What is fetched; the build file has it, too.
VERSION = "4.1.1"
#: The first without ZooKeeper.
OLDEST = (4, 0)
JAVA = 17
BUILD_FILE = resources.FILES / "kafka.pom.xml"
ARCHIVE = f"https://archive.apache.org/dist/kafka/{VERSION}/kafka_2.13-{VERSION}.tgz"

USERNAME = "hybrid"
HEAP = "512m"
#: Of connections without TLS; oslo.messaging's option has the same name.
SECURITY = {"security_protocol": "SASL_PLAINTEXT"}

#: What services publish to unless they are told otherwise, and with which
#: priorities (`oslo_messaging.notify.notifier`).
TOPIC = "notifications"
PRIORITIES = ("audit", "debug", "info", "warn", "error", "critical", "sample")
#: The group that listens for services: the driver's default.
GROUP = "oslo_messaging_consumer"

_CONFIG = "kafka.properties"
_DATA = "data"
_FORMAT_TIMEOUT = 60.0
_READY_TIMEOUT = 2.0
_TIMEOUT = 30.0
_PAUSE = 0.2
_JVM = (
    f"-Xmx{HEAP}",
    "-Xms64m",
    # a small heap on few cores: nothing that starts sooner or takes less
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    # it asks for the name of every address that is connected to, and waits; without
    # DNS that would be longer than clients do
    "-Djdk.net.hosts.file=/etc/hosts",
)
_LOG_LEVEL = "-Dlog4j2.level=INFO"
_LIBRARY = re.compile(r"kafka_2\.\d+-((\d+)\.(\d+)[^-]*)\.jar")
# unlike those that Kafka makes up, it never starts with a -
_ID_PREFIX = b"hybrid"


def missing(options: Options) -> list[Missing]:
    """See `hybrid_messaging.engines.Engine`."""
    lacking = java.missing_runtime(JAVA)
    if _home(options) is None:
        lacking.append(
            Missing(f"{TITLE} {VERSION}", "hybrid-messaging fetch kafka"),
        )
    if importlib.util.find_spec("confluent_kafka") is None:
        pip = f"{sys.executable} -m pip install"
        lacking.append(Missing("confluent-kafka", f"{pip} 'hybrid-messaging[kafka]'"))
    return lacking


def describe(options: Options) -> str:
    """See `hybrid_messaging.engines.Engine`."""
    return str(_home(options) or f"version {VERSION}")


def fetch_from_apache(progress: Progress) -> Path:
    """Fetch the release archive."""
    return java.fetch_archive(f"{TITLE} {VERSION}", ARCHIVE, _cached(), progress)


def fetch_with_maven(progress: Progress) -> Path:
    """Fetch the libraries, by the build file."""
    return java.fetch_with_maven(f"{TITLE} {VERSION}", BUILD_FILE, _cached(), progress)


SOURCES: Mapping[str, Fetch] = {
    "apache": fetch_from_apache,
    "maven": fetch_with_maven,
}


def prepare(
    name: str,
    directory: Path,
    take_port: TakePort,
    previous: state.Engine | None,
    options: Options,
) -> Launch:
    """See `hybrid_messaging.engines.Engine`."""
    before: Mapping[str, Any] = previous.details if previous else {}
    options = replace(options, kafka=options.kafka or before.get("kafka"))
    home, runtime = _home(options), java.runtime(JAVA)
    lacking = missing(options)
    certificates = options.certificates
    if lacking or home is None or runtime is None:
        raise EngineError(
            f"{TITLE} cannot be started here: "
            + "; ".join(f"{lack.what} is missing: {lack.install}" for lack in lacking)
        )
    version = _version(home)
    port = options.port or take_port(previous.port if previous else None)
    controller_port = take_port(before.get("ports", {}).get("controller"))
    username = options.username or USERNAME
    password = options.password or before.get("password") or secrets.token_urlsafe(24)
    cluster = before.get("cluster") or _new_id()
    # clients connect to the address that the broker tells them
    found_at = options.advertised or options.host
    templates.write_private(
        directory / _CONFIG,
        templates.render(
            _CONFIG,
            listener=urls.Host(options.host, port),
            advertised=urls.Host(found_at, port),
            controller=urls.Host(HOST, controller_port),
            username=username,
            password=password,
            certificates=certificates and certificates.seen_from(directory),
            data=_DATA,
        ),
    )
    program = (str(runtime), *_JVM)
    libraries = ("-cp", f"{home.absolute()}/libs/*")
    # Java reads file names in the encoding of the locale
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    if not (directory / _DATA / "meta.properties").exists():
        _format((*program, *libraries), directory, environment, cluster)
    return Launch(
        command=(*program, _LOG_LEVEL, *libraries, "kafka.Kafka", _CONFIG),
        port=port,
        url=urls.build(
            "kafka",
            [(found_at, port)],
            username,
            password,
            query=urls.tls("kafka", options.ca_file) or SECURITY,
        ),
        environment=environment,
        details={
            "kafka": options.kafka,
            "version": version,
            "ports": {"controller": controller_port},
            "username": username,
            "password": password,
            "cluster": cluster,
        },
    )


def is_ready(engine: state.Engine) -> bool:
    """See `hybrid_messaging.engines.Engine`."""
    # without anybody there, the client would wait for its whole timeout
    if not ports.answers(engine.host, engine.port):
        return False
    try:
        with _explained(engine):
            found = _admin(engine).list_topics(timeout=_READY_TIMEOUT)
    except EngineError:
        return False
    return bool(found.cluster_id == engine.details["cluster"])


def set_up(engine: state.Engine) -> None:
    """See `hybrid_messaging.engines.Engine`.

    A listener begins where its group has stopped, and a group that is new begins
    with what is published from then on: what waits for it would be skipped.
    """
    topics = [f"{TOPIC}.{priority}" for priority in PRIORITIES]
    with _explained(engine):
        existing = _admin(engine).list_topics(timeout=_TIMEOUT).topics
        create_topics(
            _settings(engine), [topic for topic in topics if topic not in existing]
        )
        begin_at_the_start(_settings(engine), GROUP, topics)


def traffic(engine: state.Engine) -> Traffic:
    """See `hybrid_messaging.engines.Engine`; counted since it was formatted."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    with _explained(engine):
        admin = _admin(engine)
        topics = {
            name: topic
            for name, topic in admin.list_topics(timeout=_TIMEOUT).topics.items()
            if not name.startswith("__")
        }
        partitions = [
            TopicPartition(name, number)
            for name, topic in topics.items()
            for number in topic.partitions
        ]
        wanted = {item: OffsetSpec.latest() for item in partitions}
        ends = {
            (item.topic, item.partition): answer.result(_TIMEOUT).offset
            for item, answer in (admin.list_offsets(wanted) if wanted else {}).items()
        }
        groups = admin.list_consumer_groups().result(_TIMEOUT).valid
        committed = [
            item
            for group in groups
            for answer in admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group.group_id)]
            ).values()
            for item in answer.result(_TIMEOUT).topic_partitions
            if (item.topic, item.partition) in ends
        ]
    return Traffic(
        # Kafka's protocol tells no release: that of `up` is known
        version=engine.details.get("version", ""),
        connections=None,
        destinations=len(topics),
        received=sum(ends.values()),
        delivered=sum(item.offset for item in committed),
        waiting=sum(
            ends[item.topic, item.partition] - item.offset for item in committed
        ),
    )


def create_topics(settings: Mapping[str, Any], topics: Iterable[str]) -> None:
    """Create topics of one partition, which keeps their messages in order.

    :param settings: of a client
    :raises confluent_kafka.KafkaException: if the broker refuses
    """
    from confluent_kafka import admin

    # the answers come as long as the client is there
    client = admin.AdminClient(dict(settings))
    new = [admin.NewTopic(topic, 1, 1) for topic in topics]
    for answer in (client.create_topics(new) if new else {}).values():
        answer.result(_TIMEOUT)


def delete_topics(settings: Mapping[str, Any], topics: Iterable[str]) -> None:
    """Delete topics with all their messages.

    :param settings: of a client
    :raises confluent_kafka.KafkaException: if the broker refuses
    """
    from confluent_kafka import admin

    client = admin.AdminClient(dict(settings))
    for answer in client.delete_topics(list(topics)).values():
        answer.result(_TIMEOUT)


def begin_at_the_start(
    settings: Mapping[str, Any], group: str, topics: Iterable[str]
) -> None:
    """Let a group of listeners begin with the oldest message, unless it has begun.

    :param settings: of a client
    :raises confluent_kafka.KafkaException: if the broker refuses
    """
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    wanted = [TopicPartition(topic, 0) for topic in topics]
    consumer = Consumer({**settings, "group.id": group})

    def begin() -> None:
        known = consumer.committed(wanted, timeout=_TIMEOUT)
        # a negative offset stands for none
        new = [TopicPartition(item.topic, 0, 0) for item in known if item.offset < 0]
        if new:
            consumer.commit(offsets=new, asynchronous=False)

    try:
        for passed in attempts(_TIMEOUT, _PAUSE):
            try:
                return begin()
            except KafkaException as error:
                if passed >= _TIMEOUT or not _is_passing(error):
                    raise
    finally:
        consumer.close()


def _is_passing(error: KafkaException) -> bool:
    """Whether a broker has yet to read its books on groups, after a start."""
    from confluent_kafka import KafkaError

    return error.args[0].code() in (
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    )


def _home(options: Options) -> Path | None:
    """The directory with the libraries, if it is there."""
    home = Path(options.kafka) if options.kafka else _cached()
    return home if _library(home) else None


def _cached() -> Path:
    return java.cache() / f"kafka-{VERSION}"


def _library(home: Path) -> re.Match[str] | None:
    """The broker's own library among all that it needs."""
    names = (path.name for path in sorted(home.glob("libs/kafka_2.*.jar")))
    return next(filter(None, map(_LIBRARY.fullmatch, names)), None)


def _version(home: Path) -> str:
    """The version of a release.

    :raises EngineError: it is too old
    """
    found = _library(home)
    assert found is not None
    if (int(found[2]), int(found[3])) < OLDEST:
        raise EngineError(
            f"{home} is {TITLE} {found[1]}, which wants ZooKeeper or migrates from it: "
            f"take {'.'.join(map(str, OLDEST))} or later"
        )
    return found[1]


def _new_id() -> str:
    """What KRaft wants to know a cluster by: 16 bytes in base64."""
    raw = _ID_PREFIX + secrets.token_bytes(16 - len(_ID_PREFIX))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _format(
    java_command: Iterable[str],
    directory: Path,
    environment: Mapping[str, str],
    cluster: str,
) -> None:
    """Make the storage of a new node; what was begun and not finished is redone."""
    arguments = ("format", "--cluster-id", cluster, "--config", _CONFIG)
    try:
        done = subprocess.run(
            [*java_command, "kafka.tools.StorageTool", *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_FORMAT_TIMEOUT,
            text=True,
        )
    except OSError as error:
        raise EngineError(f"{TITLE}'s storage cannot be formatted: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"{TITLE}'s storage in {directory / _DATA} was not formatted within "
            f"{_FORMAT_TIMEOUT:g} s"
        ) from error
    if done.returncode:
        raise EngineError(
            f"{TITLE}'s storage in {directory / _DATA} cannot be formatted:\n"
            + urls.redact(done.stdout.strip())
        )


def _settings(engine: state.Engine) -> dict[str, Any]:
    """What a client of ours has to be told."""
    security = urls.tls("kafka", engine.ca_file) or SECURITY
    return {
        "bootstrap.servers": f"{engine.host}:{engine.port}",
        "security.protocol": security["security_protocol"],
        "ssl.ca.location": engine.ca_file,
        "sasl.mechanism": "PLAIN",
        "sasl.username": engine.details["username"],
        "sasl.password": engine.details["password"],
        # whatever matters comes back as an exception
        "log_level": 0,
    }


def _admin(engine: state.Engine) -> Any:
    from confluent_kafka import admin

    return admin.AdminClient(_settings(engine))


@contextmanager
def _explained(engine: state.Engine) -> Iterator[None]:
    """Turn the client's exceptions into ours."""
    try:
        from confluent_kafka import KafkaException
    except ImportError as error:
        raise EngineError(f"cannot ask {TITLE}: {error}") from error
    try:
        yield
    except KafkaException as error:
        raise EngineError(
            f"{TITLE} at {engine.host}:{engine.port} fails: {error.args[0].str()}"
        ) from error
