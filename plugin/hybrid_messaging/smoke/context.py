# SPDX-License-Identifier: Apache-2.0
"""What a check has to work with."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oslo_messaging

from hybrid_messaging import state, state_directory
from hybrid_messaging.engines.deployment import Deployment
from hybrid_messaging.smoke import bus, endpoint
from hybrid_messaging.smoke.outcome import Skip
from hybrid_messaging.smoke.records import Records
from hybrid_messaging.smoke.run import Run
from hybrid_messaging.smoke.servers import Servers

#: Seconds that a call may take, where nothing is wrong but the machine is busy.
CALL_TIMEOUT = 30.0


class Context:
    """The transports, clients and servers of one run.

    :param run: what all of its processes know
    :param state_dir: where `up` keeps what it has started
    :param records: what the libraries log meanwhile
    :param progress: takes a line for whoever waits
    """

    def __init__(
        self,
        run: Run,
        state_dir: Path,
        records: Records,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.run = run
        self.records = records
        self.conf = run.conf()
        self.servers = Servers(run)
        self._state_dir = state_dir
        self._progress = progress
        self._closers = contextlib.ExitStack()
        self._rpc: oslo_messaging.Transport | None = None

    @property
    def running(self) -> state.State | None:
        """What `up` has started, as it is now: a restart may change it."""
        return state_directory.load(self._state_dir)

    @property
    def rpc(self) -> bus.Bus:
        """The transport of RPC."""
        return bus.make("rpc", self.run.rpc_url, self.conf, self.running)

    @property
    def notify(self) -> bus.Bus:
        """The transport of notifications."""
        return bus.make("notify", self.run.notify_url, self.conf, self.running)

    def client(self, **options: Any) -> oslo_messaging.RPCClient:
        """A client of the run's servers.

        :param options: as `RPCClient.prepare` takes them
        """
        if self._rpc is None:
            self._rpc = oslo_messaging.get_rpc_transport(
                self.conf,
                url=self.run.rpc_url,
                allowed_remote_exmods=[endpoint.__name__],
            )
            self._closers.callback(self._rpc.cleanup)
        client = oslo_messaging.get_rpc_client(
            self._rpc, self.run.rpc_target(), timeout=CALL_TIMEOUT
        )
        return client.prepare(**options)

    def renew(self) -> None:
        """Have further clients be new to the bus, and know nothing."""
        self._rpc = None

    def restart(self, which: bus.Bus) -> None:
        """Restart a server that `up` has started.

        :raises Skip: it has not
        :raises EngineError: it does not come back
        """
        if which.transport.engine is None:
            raise Skip(
                f"{which.transport.title} at {which} was not started by"
                " `hybrid-messaging up`, so this command cannot restart it"
            )
        deployment = Deployment(self._state_dir, self._progress)
        deployment.restart(which.transport.engine.name)

    def token(self) -> str:
        """What a message is recognised by."""
        return secrets.token_hex(8)

    def close(self) -> None:
        """Close the transports; their drivers may take long."""
        self._closers.close()
