# SPDX-License-Identifier: Apache-2.0
"""The buses under test: the engines of each mode, brought up for the time of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import amqp
import oslo_messaging.opts
import psutil
from oslo_config import cfg

from hybrid_messaging import modes, state, urls
from hybrid_messaging.bench import BenchError
from hybrid_messaging.bench.assignment import Assignment
from hybrid_messaging.bench.scenarios import Scenario
from hybrid_messaging.drivers import opts as driver_opts
from hybrid_messaging.engines import Options, deployment, kafka
from hybrid_messaging.service_configs import connecting, reading, transports

#: Seconds to wait for another benchmark that uses the same directory.
LOCK_TIMEOUT = 1.0
#: Seconds for each step of a connection that removes queues.
CONNECT_TIMEOUT = 5.0

#: Default of `executor_thread_pool_size`.
_EXECUTOR_POOL = 64

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Bus:
    """What carries the messages of a scenario; its URLs contain passwords.

    :param state_dir: where its engines are; they may be restarted
    """

    rpc_url: str
    notify_url: str
    state_dir: Path

    def engines(self) -> tuple[state.Engine, ...]:
        """The engines that we have started, with their present processes."""
        found = state.load(self.state_dir)
        return found.engines if found else ()

    def engine(self, role: str) -> state.Engine:
        """The engine that carries the messages of a role.

        :raises BenchError: if we have not started it
        """
        for item in self.engines():
            if role in item.roles:
                return item
        raise BenchError(f"there is no engine for {role} that could be restarted")

    def restart(self, role: str) -> None:
        """End an engine in order, and start it again."""
        deployment.restart(self.state_dir, self.engine(role).name, lambda line: None)

    def kill(self, role: str) -> None:
        """End an engine with SIGKILL, as a crash would; `bring_up` starts it again."""
        process = psutil.Process(self.engine(role).pid)
        process.kill()
        process.wait()

    def versions(self) -> dict[str, str]:
        """What each server says that it is.

        :raises BenchError: if a server that the user has given cannot be used
        """
        served = {role for item in self.engines() for role in item.roles}
        given = {"rpc": self.rpc_url, "notify": self.notify_url}
        return {
            **{role: _greet(url) for role, url in given.items() if role not in served},
            **{
                report.engine.name: report.traffic.version
                for report in deployment.reports(self.state_dir) or ()
                if report.traffic
            },
        }


@contextlib.contextmanager
def brought_up(
    scenarios: Sequence[Scenario],
    directory: Path,
    given: Mapping[str, str],
    options: Options,
    progress: Progress,
) -> Iterator[dict[str, Bus]]:
    """Have the engines of all scenarios run; each mode has its own.

    What an earlier run that was killed has left is removed first.

    :param directory: where they keep their state, one benchmark at a time
    :param given: transport URLs by role, for modes that take any
    :returns: buses by scenario
    :raises StateError: if another benchmark uses the directory
    :raises EngineError: if an engine does not start
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with state.lock(directory, LOCK_TIMEOUT), contextlib.ExitStack() as stack:
        stack.callback(state.forget, directory)
        for mode in dict.fromkeys(item.mode for item in scenarios):
            deployment.down(directory / mode, progress)
            stack.callback(deployment.down, directory / mode, progress)
        yield {
            item.name: bring_up(item, directory, given, options, progress)
            for item in scenarios
        }


def bring_up(
    scenario: Scenario,
    directory: Path,
    given: Mapping[str, str],
    options: Options,
    progress: Progress,
) -> Bus:
    """Have the engines of a scenario run: start those that do not.

    :param directory: where the engines of each mode keep their state
    :param given: transport URLs by role, for modes that take any
    :raises EngineError: if an engine does not start
    """
    place = directory / scenario.mode
    found = deployment.up(
        place, modes.get(scenario.mode), given, options, progress, repair=True
    ).state
    return Bus(
        scenario.url("rpc", found.rpc_url),
        scenario.url("notify", found.notify_url),
        place,
    )


def prepare(assignments: Iterable[Assignment]) -> None:
    """Make what brokers have to have before a measurement.

    Kafka's listeners begin with what comes after they have joined, which takes
    longer than it takes them to say that they listen.

    :raises BenchError: if a broker refuses
    """
    for text, topics in _kafka_topics(assignments).items():
        with _kafka(text) as (settings, group):
            kafka.create_topics(settings, topics)
            kafka.begin_at_the_start(settings, group, topics)


def clean_up(assignments: Iterable[Assignment], progress: Progress) -> None:
    """Remove the queues and exchanges of a measurement from brokers that keep them.

    Queues of replies and fanouts, whose names only oslo.messaging knows, expire.
    """
    assignments = list(assignments)
    for text, topics in _kafka_topics(assignments).items():
        try:
            with _kafka(text) as (settings, _):
                kafka.delete_topics(settings, topics)
        except BenchError as error:
            progress(f"topics could not be removed: {error}")
    queues: dict[str, set[str]] = {}
    exchanges: dict[str, set[str]] = {}
    for item in assignments:
        if "rpc" in item.roles:
            servers = (f"{item.topic}.{name}" for name in item.servers or [item.name])
            queues.setdefault(item.rpc_url, set()).update([item.topic, *servers])
            exchanges.setdefault(item.rpc_url, set()).update(
                {f"{item.topic}-rpc", f"{item.topic}_fanout"}
            )
        if "notify" in item.roles:
            queues.setdefault(item.notify_url, set()).add(f"{item.notify_topic}.info")
            exchanges.setdefault(item.notify_url, set()).add(item.notify_topic)
    for text in queues:
        url = urls.parse(text)
        if transports.is_rabbit(url):
            try:
                _remove(url, queues[text], exchanges[text])
            except (connecting.ConnectError, amqp.AMQPError, OSError) as error:
                progress(
                    f"queues could not be removed: {urls.redact(str(error))}; "
                    f"remove {', '.join(sorted(queues[text]))}"
                )


def _remove(url: urls.TransportURL, queues: set[str], exchanges: set[str]) -> None:
    host = next(iter(url.hosts), urls.Host("localhost"))
    with connecting.rabbit_connection(
        url, host, _options(url), CONNECT_TIMEOUT
    ) as connection:
        channel = connection.channel()
        # neither complains about what is not there
        for queue in queues:
            channel.queue_delete(queue)
        for exchange in exchanges:
            channel.exchange_delete(exchange)


def _kafka_topics(assignments: Iterable[Assignment]) -> dict[str, set[str]]:
    """The topics of a measurement's notifications, by URL."""
    topics: dict[str, set[str]] = {}
    for item in assignments:
        if "notify" in item.roles and transports.is_kafka(urls.parse(item.notify_url)):
            topics.setdefault(item.notify_url, set()).add(f"{item.notify_topic}.info")
    return topics


@contextlib.contextmanager
def _kafka(text: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The settings of a client and its group, whose exceptions are turned into ours."""
    from confluent_kafka import KafkaException

    url = urls.parse(text)
    options = _options(url)
    try:
        yield (
            connecting.kafka_settings(url, url.hosts, options),
            options.consumer_group,
        )
    except KafkaException as error:
        raise BenchError(f"{urls.redact(text)}: {error.args[0].str()}") from error


def credit(text: str) -> int:
    """How many messages a server at a URL confirms before it begins them.

    Where there is no such option, it is what oslo.messaging's executor has threads for.
    """
    options = _options(urls.parse(text))
    return int(getattr(options, "rpc_server_credit", _EXECUTOR_POOL))


def _greet(text: str) -> str:
    """Connect to the first host of a URL that answers, and return what it is.

    :raises BenchError: if none can be used
    """
    url = urls.parse(text)
    problems = []
    for host in url.hosts or (urls.Host("localhost"),):
        try:
            return connecting.connect(url, host, _options(url), CONNECT_TIMEOUT)
        except connecting.ConnectError as error:
            problems.append(f"{error}: {error.cure}")
    raise BenchError("; ".join(problems))


def _options(url: urls.TransportURL) -> Any:
    """The options of a URL's driver, with their defaults.

    :raises BenchError: if the URL has one that is unknown, or has a wrong value
    """
    conf = cfg.ConfigOpts()
    for name, options in oslo_messaging.opts.list_opts() + driver_opts.list_opts():
        conf.register_opts(options, group=name)
    conf(args=[], default_config_files=[], default_config_dirs=[], use_env=False)
    try:
        return reading.driver_options(conf, url)
    except ValueError as error:
        raise BenchError(f"{urls.redact(str(url))}: {error}") from error
