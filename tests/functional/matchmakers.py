# SPDX-License-Identifier: Apache-2.0
"""Real Redis servers for tests: started on free ports, killed, paused, restarted."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import redis
from tests.functional.routers import HOST, free_port
from tests.functional.waiting import until

from hybrid_messaging import urls

#: What buses of the tests that are none of the routers are called.
KIND = "redis"
START_TIMEOUT = 30.0


class Redis:
    """A Redis server, as the matchmaker of `zmq`.

    :param directory: for its configuration and log, exists
    :param settings: lines of its configuration
    """

    kind = KIND
    program = "redis-server"
    scheme = "zmq"
    defaults: list[str] = ['save ""']

    def __init__(self, directory: Path, *settings: str, port: int = 0) -> None:
        self.port = port or free_port()
        self._log = directory / f"{self.program}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._config = directory / f"{self.program}.conf"
        lines = [f"bind {HOST}", f"port {self.port}", f"dir {directory}", *settings]
        self._config.write_text("\n".join([*lines, *self.defaults, ""]))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Redis:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.program, self._config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._answers, f"{self.program} answers", START_TIMEOUT)
        return self

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Keep it from running: its sockets stay, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def url(
        self,
        vhost: str = "",
        username: str | None = None,
        password: str | None = None,
        **query: object,
    ) -> str:
        """The transport URL that has this server as its matchmaker."""
        return urls.build(
            self.scheme,
            [(HOST, self.port)],
            username,
            password,
            vhost or None,
            {"rpc_zmq_bind_address": HOST}
            | {key: str(value) for key, value in query.items()},
        )

    def client(self, **how: object) -> redis.Redis:
        """A connection to it."""
        return redis.Redis(host=HOST, port=self.port, decode_responses=True, **how)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(
                f"{self.program} ended with {self._process.returncode}:\n"
                + self._log.read_text(errors="replace")[-4000:]
            )
        try:
            with self.client() as client:
                client.ping()
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
        self._process.wait(30)


class Sentinel(Redis):
    """A Redis Sentinel, which says where the master is."""

    program = "redis-sentinel"
    scheme = "zmq+sentinel"
    defaults = []
