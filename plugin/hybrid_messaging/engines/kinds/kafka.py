# SPDX-License-Identifier: Apache-2.0
"""A private Kafka: one node, broker and controller in one (KRaft), no ZooKeeper.

No distribution packages it. Its libraries are fetched from Apache or with Maven
into a cache, or belong to a release that the user has unpacked; started is the
broker's main class, without the scripts of the release.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from hybrid_messaging import resources, state, urls, whole_file
from hybrid_messaging.engines import (
    HOST,
    EngineError,
    Launch,
    Missing,
    Options,
    Progress,
    Traffic,
    java,
    kafka_admin,
    ports,
    templates,
)
from hybrid_messaging.engines.kinds import Kind, Preparation, login

TITLE = "Kafka"
#: What is fetched; the build file has it, too.
VERSION = "4.1.1"
#: The first without ZooKeeper.
OLDEST = (4, 0)
JAVA = 17
BUILD_FILE = resources.FILES / "kafka.pom.xml"
ARCHIVE = f"https://archive.apache.org/dist/kafka/{VERSION}/kafka_2.13-{VERSION}.tgz"

HEAP = "512m"

#: What services publish to unless they are told otherwise, and with which
#: priorities (`oslo_messaging.notify.notifier`).
TOPIC = "notifications"
PRIORITIES = ("audit", "debug", "info", "warn", "error", "critical", "sample")
#: The group that listens for services: the driver's default.
GROUP = "oslo_messaging_consumer"

_CONFIG = "kafka.properties"
_DATA = "data"
_FORMAT_TIMEOUT = 120.0
_READY_TIMEOUT = 2.0
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


def fetch_from_apache(progress: Progress) -> Path:
    """Fetch the release archive."""
    return java.fetch_archive(f"{TITLE} {VERSION}", ARCHIVE, _cached(), progress)


def fetch_with_maven(progress: Progress) -> Path:
    """Fetch the libraries, by the build file."""
    return java.fetch_with_maven(f"{TITLE} {VERSION}", BUILD_FILE, _cached(), progress)


class Kafka(Kind):
    """A Kafka of one node."""

    title = TITLE
    start_timeout = 120.0
    stop_timeout = 60.0
    sources: ClassVar = {"apache": fetch_from_apache, "maven": fetch_with_maven}

    def missing(self, options: Options) -> list[Missing]:
        lacking = java.missing_runtime(JAVA)
        if _home(options) is None:
            lacking.append(
                Missing(f"{TITLE} {VERSION}", "hybrid-messaging fetch kafka"),
            )
        if importlib.util.find_spec("confluent_kafka") is None:
            pip = f"{sys.executable} -m pip install"
            lacking.append(
                Missing("confluent-kafka", f"{pip} 'hybrid-messaging[kafka]'")
            )
        return lacking

    def describe(self, options: Options) -> str:
        return str(_home(options) or f"version {VERSION}")

    def configure(self, engine: Preparation) -> Launch:
        directory, options = engine.directory, engine.options
        take_port = engine.take_port
        before = engine.before(state.KafkaDetails)
        if before is not None:
            options = replace(options, kafka=options.kafka or before.kafka)
        home, runtime = _home(options), java.runtime(JAVA)
        lacking = self.missing(options)
        certificates = options.certificates
        if lacking or home is None or runtime is None:
            raise EngineError(
                f"{TITLE} cannot be started here: "
                + "; ".join(
                    f"{lack.what} is missing: {lack.install}" for lack in lacking
                )
            )
        version = _version(home)
        port = engine.take_main_port()
        details = state.KafkaDetails(
            kafka=options.kafka,
            version=version,
            controller_port=take_port(before.controller_port if before else None),
            cluster=before.cluster if before else kafka_admin.new_cluster_id(),
            **login(options, before),
        )
        # clients connect to the address that the broker tells them
        found_at = options.advertised or options.host
        whole_file.write(
            directory / _CONFIG,
            templates.render(
                _CONFIG,
                listener=urls.Host(options.host, port),
                advertised=urls.Host(found_at, port),
                controller=urls.Host(HOST, details.controller_port),
                username=details.username,
                password=details.password,
                certificates=certificates and certificates.seen_from(directory),
                data=_DATA,
            ),
        )
        program = (str(runtime), *_JVM)
        libraries = ("-cp", f"{home.absolute()}/libs/*")
        # Java reads file names in the encoding of the locale
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        if not (directory / _DATA / "meta.properties").exists():
            _format((*program, *libraries), directory, environment, details.cluster)
        return Launch(
            command=(*program, _LOG_LEVEL, *libraries, "kafka.Kafka", _CONFIG),
            port=port,
            url=urls.build(
                "kafka",
                [(found_at, port)],
                details.username,
                details.password,
                query=urls.tls("kafka", options.ca_file) or kafka_admin.SECURITY,
            ),
            environment=environment,
            details=details,
        )

    def is_ready(self, engine: state.Engine) -> bool:
        # without anybody there, the client would wait for its whole timeout
        if not ports.answers(engine.host, engine.port):
            return False
        try:
            with kafka_admin.explained(engine):
                found = kafka_admin.client(engine).list_topics(timeout=_READY_TIMEOUT)
        except EngineError:
            return False
        details = engine.details_as(state.KafkaDetails)
        return bool(found.cluster_id == details.cluster)

    def set_up(self, engine: state.Engine) -> None:
        """Make the topics of notifications, with a place to begin for their listeners.

        A listener begins where its group has stopped, and a group that is new begins
        with what is published from then on: what waits for it would be skipped.
        """
        topics = [f"{TOPIC}.{priority}" for priority in PRIORITIES]
        settings = kafka_admin.settings(engine)
        with kafka_admin.explained(engine):
            found = kafka_admin.client(engine).list_topics(timeout=kafka_admin.TIMEOUT)
            new = [topic for topic in topics if topic not in found.topics]
            kafka_admin.create_topics(settings, new)
            kafka_admin.begin_at_the_start(settings, GROUP, topics)

    def traffic(self, engine: state.Engine) -> Traffic:
        """Ask it for its counters, which begin with its data."""
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        with kafka_admin.explained(engine):
            admin = kafka_admin.client(engine)
            found = admin.list_topics(timeout=kafka_admin.TIMEOUT).topics
            topics = {
                name: topic
                for name, topic in found.items()
                if not name.startswith("__")
            }
            partitions = [
                TopicPartition(name, number)
                for name, topic in topics.items()
                for number in topic.partitions
            ]
            wanted = {item: OffsetSpec.latest() for item in partitions}
            answers = admin.list_offsets(wanted) if wanted else {}
            ends = {
                (item.topic, item.partition): answer.result(kafka_admin.TIMEOUT).offset
                for item, answer in answers.items()
            }
            groups = admin.list_consumer_groups().result(kafka_admin.TIMEOUT).valid
            committed = [
                item
                for group in groups
                for answer in admin.list_consumer_group_offsets(
                    [ConsumerGroupTopicPartitions(group.group_id)]
                ).values()
                for item in answer.result(kafka_admin.TIMEOUT).topic_partitions
                if (item.topic, item.partition) in ends
            ]
        details = engine.details
        return Traffic(
            # Kafka's protocol tells no release: that of `up` is known
            version=details.version if isinstance(details, state.KafkaDetails) else "",
            connections=None,
            destinations=len(topics),
            received=sum(ends.values()),
            delivered=sum(item.offset for item in committed),
            waiting=sum(
                ends[item.topic, item.partition] - item.offset for item in committed
            ),
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
            f"{home} is {TITLE} {found[1]}, which depends on ZooKeeper or migrates"
            f" from it: use {'.'.join(map(str, OLDEST))} or later"
        )
    return found[1]


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
