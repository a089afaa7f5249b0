# SPDX-License-Identifier: Apache-2.0
"""The buses under test: the engines of each mode, brought up for the time of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import amqp
import psutil

from hybrid_messaging import modes, state, state_directory, urls
from hybrid_messaging.bench import BenchError
from hybrid_messaging.bench.assignment import Assignment
from hybrid_messaging.bench.scenarios import Scenario
from hybrid_messaging.engines import EngineError, Options
from hybrid_messaging.engines.deployment import Deployment
from hybrid_messaging.servers import options as driver_options
from hybrid_messaging.servers.kafka import Kafka
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.servers.transport import TIMEOUT, ConnectError, Transport

#: Seconds to wait for another benchmark that uses the same directory.
LOCK_TIMEOUT = 1.0

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
        found = state_directory.load(self.state_dir)
        return found.engines if found else ()

    def engine(self, role: str) -> state.Engine:
        """The engine that carries the messages of a role.

        :raises BenchError: if we have not started it
        """
        for item in self.engines():
            if role in item.roles:
                return item
        raise BenchError(
            f"no engine for {role} was started by this run, so none can be restarted"
        )

    def restart(self, role: str) -> None:
        """End an engine in order, and start it again."""
        Deployment(self.state_dir).restart(self.engine(role).name)

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
                for report in Deployment(self.state_dir).reports() or ()
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
    with state_directory.lock(directory, LOCK_TIMEOUT), contextlib.ExitStack() as stack:
        stack.callback(state_directory.forget, directory)
        for mode in dict.fromkeys(item.mode for item in scenarios):
            deployment = Deployment(directory / mode, progress)
            deployment.down()
            stack.callback(deployment.down)
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
    deployment = Deployment(place, progress)
    mode = modes.get(scenario.mode)
    if not any(item.kind == "router" for item in mode.engines):
        options = replace(options, nodes=None)
    found = deployment.up(mode, given, options, repair=True).state
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
    for kafka, topics in _kafka_topics(assignments):
        try:
            kafka.make_topics(topics)
        except EngineError as error:
            raise BenchError(str(error)) from error


def clean_up(assignments: Iterable[Assignment], progress: Progress) -> None:
    """Remove the queues and exchanges of a measurement from brokers that keep them.

    Queues of replies and fanouts, whose names only oslo.messaging knows, expire.
    """
    assignments = list(assignments)
    for kafka, topics in _kafka_topics(assignments):
        try:
            kafka.delete_topics(topics)
        except EngineError as error:
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
        rabbit = _transport(text)
        if isinstance(rabbit, Rabbit):
            try:
                rabbit.delete(queues[text], exchanges[text])
            except (EngineError, amqp.AMQPError, OSError) as error:
                progress(
                    f"queues could not be removed: {urls.redact(str(error))}; "
                    f"remove {', '.join(sorted(queues[text]))}"
                )


def _kafka_topics(
    assignments: Iterable[Assignment],
) -> Iterator[tuple[Kafka, set[str]]]:
    """The topics of a measurement's notifications."""
    topics: dict[str, set[str]] = {}
    for item in assignments:
        if "notify" in item.roles:
            topics.setdefault(item.notify_url, set()).add(f"{item.notify_topic}.info")
    for text, names in topics.items():
        kafka = _transport(text)
        if isinstance(kafka, Kafka):
            yield kafka, names


def credit(text: str) -> int:
    """How many messages a server at a URL confirms before it begins them.

    Where there is no such option, it is what oslo.messaging's executor has threads for.
    """
    options = _transport(text).options
    return int(getattr(options, "rpc_server_credit", _EXECUTOR_POOL))


def _greet(text: str) -> str:
    """Connect to the first host of a URL that answers, and return what it is.

    :raises BenchError: if none can be used
    """
    transport = _transport(text)
    problems = []
    for host in transport.hosts:
        try:
            return transport.connect(host, TIMEOUT)
        except ConnectError as error:
            problems.append(f"{error}: {error.cure}")
    raise BenchError("; ".join(problems))


def _transport(text: str) -> Transport:
    """A URL's transport, its options at their defaults.

    :raises BenchError: if the URL has one that is unknown, or has a wrong value
    """
    try:
        return driver_options.transport(driver_options.defaults(), urls.parse(text))
    except ValueError as error:
        raise BenchError(f"{urls.shown(text)}: {error}") from error
