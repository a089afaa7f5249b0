# SPDX-License-Identifier: Apache-2.0
"""Real proxies of `zmq` for tests, and a bus that consists of one, with keys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.functional.matchmakers import START_TIMEOUT, Redis
from tests.functional.waiting import until

from hybrid_messaging.drivers.zmq import key_directory

#: What the bus of the tests is called that has its messages go through a proxy.
KIND = "zmq-proxy"
_COMMAND = "import sys; from hybrid_messaging.cli.app import main; sys.exit(main())"


class Proxy:
    """A `zmq-proxy` process.

    :param url: transport URL
    :param log: takes what it says
    """

    def __init__(self, url: str, log: Path) -> None:
        self._url = url
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Proxy:
        """Start it and wait until it is in the matchmaker."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, "zmq-proxy"],
                env={**os.environ, "HYBRID_RPC_URL": self._url},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._passes_on, "the proxy forwards", START_TIMEOUT)
        return self

    def stop(self) -> None:
        """End it in order."""
        assert self._end(signal.SIGTERM) in (0, 128 + signal.SIGTERM), self.said()

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Keep it from running: its sockets stay, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return self.said().partition(" forwards for ")[0].splitlines()[-1]

    def _passes_on(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.said()
        return " forwards for " in self.said()

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
        return self._process.wait(30)


class ProxiedRedis(Redis):
    """A Redis server and a proxy, with CURVE keys."""

    kind = KIND

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._keys = directory / "keys"
        key_directory.make(self._keys, "all")
        self._proxy = Proxy(self.url(), directory / "proxy.log")

    def start(self) -> ProxiedRedis:
        super().start()
        try:
            self._proxy.start()
        except BaseException:
            self._proxy.kill()
            super().stop()
            raise
        return self

    def stop(self) -> None:
        try:
            self._proxy.stop()
        finally:
            super().stop()

    def url(
        self,
        vhost: str = "",
        username: str | None = None,
        password: str | None = None,
        **query: object,
    ) -> str:
        proxied = {"zmq_key_directory": self._keys, "use_router_proxy": True}
        return super().url(vhost, username, password, **(proxied | query))
