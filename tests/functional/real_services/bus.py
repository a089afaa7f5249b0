# SPDX-License-Identifier: Apache-2.0
"""The message bus of a mode, brought up and asked by hybrid-messaging itself."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from hybrid_messaging import state, state_directory
from hybrid_messaging.engines import rabbitmq_management
from hybrid_messaging.engines.amqp_management import Management
from hybrid_messaging.engines.deployment import Deployment
from hybrid_messaging.engines.kinds import redis

from . import evidence
from .environment import Report

PROGRAM = Path(sysconfig.get_path("scripts")) / "hybrid-messaging"
RPC_PREFIX = "openstack.org/om/rpc/"


def _consumed(engine: state.Engine) -> set[str]:
    # of a queue that has just been declared, RabbitMQ says nothing yet
    found = rabbitmq_management.queues(engine)
    consumed = {queue["name"] for queue in found if queue.get("consumers", 1)}
    rpc = evidence.not_for_notifications(consumed)
    return set(rpc)


def _subscribed(engine: state.Engine) -> set[str]:
    with Management(engine.host, engine.port) as management:
        rows = management.addresses()
    return {
        row["name"]
        for row in rows
        if row["name"].startswith(RPC_PREFIX) and row["subscriberCount"]
    }


#: By engine, how it says where servers of RPC listen.
SERVED: dict[str, Callable[[state.Engine], set[str]]] = {
    "rabbitmq": _consumed,
    "router": _subscribed,
    "redis": lambda engine: set(redis.topics(engine)),
}


class Bus:
    """The engines of one mode.

    :param mode: its name in the mode table
    :param state_dir: for ``--state-dir``
    :param report: takes lines that tell of progress
    """

    def __init__(self, mode: str, state_dir: Path, report: Report) -> None:
        self._mode = mode
        self._state_dir = state_dir
        self._state_option = ("--state-dir", str(state_dir))
        self._report = report

    def up(self, notify_url: str = "") -> None:
        """Start the engines and wait until they are ready.

        :param notify_url: a broker that has notifications already, if there is one
        """
        variables = {"HYBRID_NOTIFY_URL": notify_url} if notify_url else {}
        self._run("up", *self._state_option, self._mode, **variables)

    def configure(self, files: Sequence[Path]) -> None:
        """Let the services of these config files use the bus."""
        # each cell of Nova has a virtual host of its own
        options = ("--keep-vhosts", *self._state_option)
        self._run("configure", *options, *map(str, files))

    def move_to(self, rpc_url: str, files: Sequence[Path]) -> None:
        """Let the services of these config files use another bus for RPC."""
        variables = {"HYBRID_RPC_URL": rpc_url, "HYBRID_NOTIFY_URL": self.single_url}
        self._run("configure", *map(str, files), **variables)

    def check(self, files: Sequence[Path], python: str, path: Path) -> None:
        """Let the config files be checked in the services' environment.

        :param files: the config files
        :param python: the services' interpreter
        :param path: what is on its search path besides
        :raises RuntimeError: if there is any problem
        """
        variables = {"PYTHONPATH": str(path)}
        self._run("check", "--python", python, *map(str, files), **variables)

    def restart_rpc(self) -> None:
        """Stop what carries RPC, and start it again with the same address."""
        name = self._engine("rpc").name
        Deployment(self._state_dir, self._report).restart(name)

    def down(self) -> None:
        """Stop the engines; nothing of them may be left."""
        self._run("down", *self._state_option)
        if self._state_dir.exists():
            left = [str(path) for path in self._state_dir.rglob("*")]
            raise AssertionError(f"down has left {self._state_dir}: {left}")

    @property
    def single_url(self) -> str:
        """The notification broker, as services would use it for everything.

        A service that is still configured so would leave queues there.
        """
        return self._state().notify_url

    @property
    def rpc_url(self) -> str:
        """What carries RPC."""
        return self._state().rpc_url

    def kind(self, role: str) -> str:
        """Return the kind of the engine that carries ``rpc`` or ``notify``."""
        return self._engine(role).kind

    def rpc_deliveries(self) -> Counter[str]:
        """Return how many requests the router has delivered to each address."""
        engine = self._engine("rpc")
        with Management(engine.host, engine.port) as management:
            return Counter(
                {
                    row["name"]: row["deliveriesEgress"]
                    for row in management.addresses()
                    if row["name"].startswith(RPC_PREFIX)
                }
            )

    def rpc_topics(self) -> list[str]:
        """Return the topics for which the matchmaker has servers."""
        return redis.topics(self._engine("rpc"))

    def served(self) -> set[str]:
        """Return where the servers of RPC listen, by names that have their topics."""
        return SERVED[self.kind("rpc")](self._engine("rpc"))

    def queues(self) -> list[str]:
        """Return the queues of the notification broker."""
        return [
            row["name"] for row in rabbitmq_management.queues(self._engine("notify"))
        ]

    def exchanges(self) -> list[str]:
        """Return the exchanges of the notification broker."""
        return [
            row["name"] for row in rabbitmq_management.exchanges(self._engine("notify"))
        ]

    def _state(self) -> state.State:
        found = state_directory.load(self._state_dir)
        assert found is not None, f"nothing is up in {self._state_dir}"
        return found

    def _engine(self, role: str) -> state.Engine:
        return next(e for e in self._state().engines if role in e.roles)

    def _run(self, command: str, *arguments: str, **variables: str) -> None:
        """Run a command; what it says to a person is progress here."""
        with subprocess.Popen(
            [PROGRAM, command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # eventlet deprecates itself in every process that has it
            env={**os.environ, "PYTHONWARNINGS": "ignore", **variables},
            text=True,
        ) as running:
            assert running.stdout is not None and running.stderr is not None
            for line in running.stderr:
                self._report(f"{command}: {line.rstrip()}")
            answer = running.stdout.read()
        if running.returncode:
            raise RuntimeError(
                f"hybrid-messaging {command} exited {running.returncode}:\n{answer}"
            )
