# SPDX-License-Identifier: Apache-2.0
"""Runs the functional suite that oslo.messaging ships, in a process of its own.

    python -m tests.functional.oslo_suite threads|eventlet [TEST...]

The environment names the transports, as the suite wants it: RPC_TRANSPORT_URL and
NOTIFY_TRANSPORT_URL. The last line on standard output is JSON: how many tests ran,
how many were skipped, and which of them failed, why.

Four things about the suite are changed, none of them in what it tests:

* Importing it patches the process with eventlet. With `threads`, it does not, and
  servers that the suite starts with the executor for eventlet get that for threads.
* The server of oslo.metrics that it starts listens on a fixed port of all
  interfaces, and on a fixed socket. Both are replaced by own ones, so that two
  runs, or a run and a service of the machine, can be there at the same time. What
  it has counted is read once it has been told, not after a fixed time.
* It skips two tests on the amqp:// of old: one for an error of qpidd, and one since
  no driver but rabbit:// told of undeliverable messages. Here, they run.
* It waits for notifications as long as an idle machine needs: half a second for one,
  two seconds for a batch of a hundred. Here, a busy machine has five times as long.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

import eventlet
import psutil

SUITE = "oslo_messaging.tests.functional.test_functional"
MODES = ("threads", "eventlet")

#: Seconds that the server of oslo.metrics may take.
METRICS_TIMEOUT = 60.0
#: How many times as long as the suite would, it waits for notifications.
PATIENCE = 5
#: The last thing that a client counts of a call.
_COUNTED = "client_invocation_end_total{"


def use_threads() -> None:
    """Have the suite run in threads."""
    eventlet.monkey_patch = lambda *_, **__: None
    from oslo_messaging.server import MessageHandlingServer

    original = MessageHandlingServer.__init__

    def init(
        self: Any, transport: Any, dispatcher: Any, executor: str | None = None
    ) -> None:
        original(self, transport, dispatcher, "threading")

    MessageHandlingServer.__init__ = init


def move_metrics(directory: Path) -> None:
    """Have the suite's server of oslo.metrics listen elsewhere.

    :param directory: for its socket
    """
    import requests
    from oslo_messaging._metrics import client
    from oslo_messaging.tests.utils import BaseTestCase
    from tests.functional.routers import HOST, free_port

    socket, port = str(directory / "metrics.sock"), free_port()
    os.environ |= {
        "OS_OSLO_METRICS__METRICS_SOCKET_FILE": socket,
        "OS_OSLO_METRICS__PROMETHEUS_HOST": HOST,
        "OS_OSLO_METRICS__PROMETHEUS_PORT": str(port),
        # it is started as "python3"
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    config, get = BaseTestCase.config, requests.get

    def config_elsewhere(self: Any, **settings: Any) -> None:
        if "metrics_socket_file" in settings:
            settings["metrics_socket_file"] = socket
            # release 16.0 goes by the options of the first test in the process
            client.METRICS_COLLECTOR = None
        config(self, **settings)

    def get_elsewhere(url: str, **how: Any) -> requests.Response:
        url = url.replace("localhost:3000", f"{HOST}:{port}")
        deadline = time.monotonic() + METRICS_TIMEOUT
        while True:
            try:
                response = get(url, **how)
            except requests.ConnectionError:
                if time.monotonic() > deadline:
                    raise
            else:
                if _COUNTED in response.text:
                    return response
                if time.monotonic() > deadline:
                    raise AssertionError(f"nothing was counted:\n{response.text}")
            time.sleep(0.2)

    BaseTestCase.config = config_elsewhere
    requests.get = get_elsewhere


def end_metrics() -> None:
    """End what is left of the suite's server of oslo.metrics.

    It is told to end, but not waited for. If the file of its socket is gone by the
    time that it wants to remove it, it fails to stop its thread and stays for ever,
    and whoever reads our output waits as long.
    """
    for server in psutil.Process().children():
        server.kill()


def skip_nothing() -> None:
    """Have tests run that the suite would skip."""
    from oslo_messaging.tests.functional.utils import SkipIfNoTransportURL

    def refuse(self: Any, reason: str) -> None:
        print(f"not skipped: {self.id()}: {reason}", file=sys.stderr)

    SkipIfNoTransportURL.skipTest = refuse


def be_patient() -> None:
    """Have the suite wait longer for notifications, one at a time and in batches."""
    from oslo_messaging.tests.functional import utils

    def init(self: Any, *given: Any, **named: Any) -> None:
        original(self, *given, **named)
        get = self.events.get
        self.events.get = lambda timeout: get(timeout=timeout * PATIENCE)

    def init_batch(self: Any, *given: Any, batch_timeout: float, **named: Any) -> None:
        original_batch(self, *given, batch_timeout=batch_timeout * PATIENCE, **named)

    original = utils.NotificationFixture.__init__
    original_batch = utils.BatchNotificationFixture.__init__
    utils.NotificationFixture.__init__ = init
    utils.BatchNotificationFixture.__init__ = init_batch


def run(tests: list[str]) -> dict[str, Any]:
    """Run these tests of the suite; return what was found."""
    suite = unittest.defaultTestLoader.loadTestsFromNames(tests)
    result = unittest.TextTestRunner(sys.stderr, verbosity=2).run(suite)
    failed = {test.id(): why for test, why in [*result.failures, *result.errors]}
    return {"run": result.testsRun, "skipped": len(result.skipped), "failed": failed}


def main() -> None:
    mode, *tests = sys.argv[1:]
    if mode not in MODES:
        sys.exit(f"{mode}: choose one of {', '.join(MODES)}")
    if mode == "threads":
        use_threads()
    skip_nothing()
    be_patient()
    with tempfile.TemporaryDirectory(prefix="oslo-suite-") as directory:
        move_metrics(Path(directory))
        found = run(tests or [SUITE])
        end_metrics()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
