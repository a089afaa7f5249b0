# SPDX-License-Identifier: Apache-2.0
"""What oslo.messaging's servers make of a request that is not to be executed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCENE = """
import sys
executor = sys.argv[1]
if executor == "eventlet":
    import eventlet
    eventlet.monkey_patch()
import logging, threading
import oslo_messaging
from oslo_config import cfg
from hybrid_messaging.drivers import oslo
from hybrid_messaging.drivers.listeners import NotExecuted

logging.basicConfig(level=logging.INFO)
executed = []
done = threading.Event()

class Endpoint:
    def note(self, ctxt, number):
        executed.append(number)

class Request(oslo.RpcIncomingMessage):
    def __init__(self, number):
        super().__init__({}, {"method": "note", "args": {"number": number}})
        self.number = number
    def acknowledge(self):
        if self.number % 2:
            raise NotExecuted
    def requeue(self):
        pass
    def heartbeat(self):
        pass
    def reply(self, reply=None, failure=None):
        if self.number == 8:
            done.set()

class Listener(oslo.Listener):
    def start(self, callback):
        for number in range(9):
            callback([Request(number)])
    def cleanup(self):
        pass

cfg.CONF([], project="test", default_config_files=[], default_config_dirs=[])
transport = oslo_messaging.get_rpc_transport(cfg.CONF, "fake://")
transport._driver.listen = lambda *_: Listener(1, None)
server = oslo_messaging.get_rpc_server(
    transport, oslo_messaging.Target(topic="t", server="s"), [Endpoint()],
    executor=executor,
)
server.start(override_pool_size=1)
assert done.wait(60)
server.stop()
server.wait()
print(executed)
"""


@pytest.mark.parametrize("executor", ["threading", "eventlet"])
def test_it_is_passed_over_without_a_word(executor: str) -> None:
    """With both executors, whose threads go on with the next request."""
    surroundings = {**os.environ, "PYTHONWARNINGS": "ignore"}
    # coverage does not see green threads change
    surroundings.pop("COVERAGE_PROCESS_CONFIG", None)
    done = subprocess.run(
        [sys.executable, "-c", SCENE, executor],
        env=surroundings,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == "[0, 2, 4, 6, 8]"
    assert "acknowledge" not in done.stderr
    assert "Traceback" not in done.stderr
