# SPDX-License-Identifier: Apache-2.0
"""A process that serves and calls, on whichever oslo.messaging its Python has.

The test's end of it, `Peer`, needs the standard library only, and so does the other
end besides oslo.messaging: the same file runs on a release of today and on one with
the retired amqp1 driver. They exchange lines of JSON: commands on standard input;
answers, and what the servers are asked to do, on standard output.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Seconds that anything may take on a busy machine, where time is no matter.
PATIENCE = 60


class Failed(Exception):
    """What a client was asked to do has raised something over there.

    :param kinds: names of the classes of the exception, the most special first
    :param text: its text
    :param seconds: after which it was raised
    """

    def __init__(self, kinds: list[str], text: str, seconds: float) -> None:
        super().__init__(f"{kinds[0]} after {seconds:.1f} s: {text}")
        self.kinds = kinds
        self.text = text
        self.seconds = seconds


@dataclass(frozen=True)
class Request:
    """What a server was asked to do."""

    topic: str
    server: str
    method: str
    value: Any


class Peer:
    """The test's end of such a process.

    :param python: interpreter of an environment with oslo.messaging
    :param url: transport URL
    """

    def __init__(self, python: str, url: str) -> None:
        #: what its servers were asked, by topic
        self._requests: defaultdict[str, queue.Queue[Request]] = defaultdict(
            queue.Queue
        )
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._ids = itertools.count()
        self._process = subprocess.Popen(
            [python, __file__, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def release(self) -> str:
        """The version of its oslo.messaging."""
        return str(self._ask("release"))

    def serve(self, topic: str, server: str) -> None:
        """Start a server; it has asked for its addresses, not yet been granted them."""
        self._ask("serve", topic=topic, server=server)

    def call(
        self,
        topic: str,
        method: str,
        value: Any = None,
        *,
        server: str | None = None,
        timeout: float = PATIENCE,
        monitor: float | None = None,
    ) -> Any:
        """Make a call.

        :param monitor: seconds; fail when the server is silent for longer
        :raises Failed: with what the client over there has caught
        """
        return self.begin_call(
            topic, method, value, server=server, timeout=timeout, monitor=monitor
        )()

    def begin_call(
        self, topic: str, method: str, value: Any = None, **how: Any
    ) -> Callable[[], Any]:
        """Make a call without waiting.

        :returns: what waits for its result, as `call` does
        """
        return self._begin("call", topic=topic, method=method, value=value, **how)

    def cast(
        self,
        topic: str,
        method: str,
        value: Any,
        *,
        server: str | None = None,
        fanout: bool = False,
    ) -> None:
        """Cast to one server, or to all of them.

        :raises Failed: with what the client over there has caught
        """
        self._ask("cast", topic=topic, method=method, value=value, server=server,
                  fanout=fanout)  # fmt: skip

    def asked(self, topic: str) -> Request:
        """Wait for the next request that a server of the topic gets."""
        return self._requests[topic].get(timeout=PATIENCE)

    def pause(self) -> None:
        """Keep it from running: its sockets stay, nobody answers."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _ask(self, do: str, **arguments: Any) -> Any:
        return self._begin(do, **arguments)()

    def _begin(self, do: str, **arguments: Any) -> Callable[[], Any]:
        id, answer = next(self._ids), queue.Queue[dict[str, Any]]()
        self._answers[id] = answer
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": id, "do": do, **arguments}) + "\n")
        self._process.stdin.flush()

        def result() -> Any:
            found = answer.get(timeout=2 * PATIENCE)
            if "kinds" in found:
                raise Failed(found["kinds"], found["text"], found["seconds"])
            return found["value"]

        return result

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "id" in told:
                self._answers.pop(told["id"]).put(told)
            else:
                self._requests[told["topic"]].put(Request(**told))


# -- the other end -------------------------------------------------------------


class Trouble(Exception):
    """A remote exception that clients do not know."""


class Endpoint:
    """What a server offers."""

    def __init__(self, topic: str, name: str) -> None:
        self._topic = topic
        self._name = name

    def _tell(self, method: str, value: Any) -> None:
        tell(topic=self._topic, server=self._name, method=method, value=value)

    def echo(self, ctxt: dict[str, Any], value: Any) -> dict[str, Any]:
        self._tell("echo", value)
        return {"server": self._name, "value": value, "context": ctxt}

    def work(self, ctxt: dict[str, Any], value: float) -> float:
        """Be busy for some seconds."""
        self._tell("work", value)
        time.sleep(value)
        return value

    def fail(self, ctxt: dict[str, Any], value: str) -> None:
        raise ValueError(value)

    def fail_unusually(self, ctxt: dict[str, Any], value: str) -> None:
        raise Trouble(value)


_told = threading.Lock()


def tell(**message: Any) -> None:
    """Write a line to the test."""
    with _told:
        print(json.dumps(message), flush=True)


class Process:
    """What the process does, a method for each command."""

    def __init__(self, url: str) -> None:
        import oslo_messaging
        from oslo_config import cfg

        # the global one: options of metrics are registered nowhere else
        self._conf = cfg.CONF
        self._conf([], project="peer", default_config_files=[], default_config_dirs=[])
        self._oslo = oslo_messaging
        self._url = url
        self._clients = oslo_messaging.get_rpc_transport(self._conf, url)

    def obey(self, id: int, do: str, **arguments: Any) -> None:
        began = time.monotonic()
        try:
            tell(id=id, value=getattr(self, do)(**arguments))
        except Exception as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            # what a remote exception of an unknown class was, over there
            kinds += filter(None, [getattr(error, "exc_type", None)])
            seconds = time.monotonic() - began
            tell(id=id, kinds=kinds, text=str(error), seconds=seconds)

    def release(self) -> str:
        from importlib import metadata

        return metadata.version("oslo.messaging")

    def serve(self, topic: str, server: str) -> None:
        self._oslo.get_rpc_server(
            self._oslo.get_rpc_transport(self._conf, self._url),
            self._oslo.Target(topic=topic, server=server),
            [Endpoint(topic, server)],
            executor="threading",
        ).start()

    def call(
        self,
        topic: str,
        method: str,
        value: Any,
        server: str | None = None,
        timeout: float = PATIENCE,
        monitor: float | None = None,
    ) -> Any:
        client = self._oslo.get_rpc_client(
            self._clients,
            self._oslo.Target(topic=topic, server=server),
            timeout=timeout,
            call_monitor_timeout=monitor,
        )
        return client.call({"user": "ünal"}, method, value=value)

    def cast(
        self, topic: str, method: str, value: Any, server: str | None, fanout: bool
    ) -> None:
        target = self._oslo.Target(topic=topic, server=server, fanout=fanout)
        client = self._oslo.get_rpc_client(self._clients, target)
        client.cast({}, method, value=value)


def main() -> None:
    process = Process(sys.argv[1])
    for line in sys.stdin:
        command = json.loads(line)
        threading.Thread(target=process.obey, kwargs=command, daemon=True).start()
    # the test is over, or gone; the threads of the servers need not be waited for
    os._exit(0)


if __name__ == "__main__":
    main()
