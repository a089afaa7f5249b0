# SPDX-License-Identifier: Apache-2.0
"""Clients that were held up hear what was said meanwhile before they judge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from tests.functional.conftest import ALL_BUSES, Bus
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.stopped import CALLS
from tests.functional.waiting import until
from tests.functional.worker import ROOT

BUSES = ALL_BUSES


class Answering(Service):
    """Knows when it has answered all."""

    def __init__(self) -> None:
        super().__init__(tell=self._told)
        self.ended = 0

    def _told(self, event: str, *_: Any) -> None:
        self.ended += event == "ends"


def outcomes(url: str, rpc: Rpc, scene: str, timeout: float) -> Any:
    """What becomes of the calls; None if this machine was too slow for them."""
    service = Answering()
    topic = f"{rpc.topic}-{timeout}"
    rpc.server(service, topic=topic, workers=CALLS)
    surroundings = {**os.environ, "WORKER_URL": url}
    surroundings.pop("COVERAGE_PROCESS_CONFIG", None)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.functional.stopped", scene, str(timeout), topic],
        cwd=ROOT,
        env=surroundings,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "calling\n"
            began = time.monotonic()
            if scene == "greenlets":
                assert client.stdout.readline() == "busy\n"
            until(lambda: len(service.seen) == CALLS, "all calls are at work")
            if scene == "threads":
                client.send_signal(signal.SIGSTOP)
            in_time = time.monotonic() < began + timeout * 0.8
            service.gate.set()
            until(lambda: service.ended == CALLS, "all calls are answered")
            time.sleep(max(0, began + timeout + 0.5 - time.monotonic()))
            client.send_signal(signal.SIGCONT)
            told = client.communicate(timeout=90)[0]
        finally:
            client.kill()
    return json.loads(told) if in_time else None


@pytest.mark.parametrize("scene", ["threads", "greenlets"])
def test_replies_that_have_come_count_though_the_time_is_up(
    bus: Bus, rpc: Rpc, scene: str
) -> None:
    for timeout in (1, 2, 4, 8):
        told = outcomes(bus.url(), rpc, scene, timeout)
        if told is not None:
            break
    assert told == {"True": CALLS}
