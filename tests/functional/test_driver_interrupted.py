# SPDX-License-Identifier: Apache-2.0
"""Code that interrupts the driver, and sends: nothing waits for itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.functional.conftest import ALL_BUSES
from tests.functional.rpc import Rpc
from tests.functional.worker import ROOT

import hybrid_messaging.drivers
from hybrid_messaging.drivers import errors, turns

BUSES = ALL_BUSES

DRIVERS = str(Path(hybrid_messaging.drivers.__file__).parent)


def run(scene: str, rpc: Rpc) -> Any:
    """What a scene of tests/functional/interrupted.py tells."""
    rpc.server()
    surroundings = {**os.environ, "WORKER_URL": rpc.url}
    surroundings.pop("COVERAGE_PROCESS_CONFIG", None)
    ended = subprocess.run(
        [sys.executable, "-m", "tests.functional.interrupted", scene, rpc.topic],
        cwd=ROOT,
        env=surroundings,
        stdout=subprocess.PIPE,
        text=True,
        timeout=200,  # it lasts seconds, or for ever
        check=True,
    )
    return json.loads(ended.stdout)


@pytest.mark.parametrize("scene", ["threads", "greenlets"])
def test_what_interrupts_the_driver_sends_or_is_refused(rpc: Rpc, scene: str) -> None:
    for told in run(scene, rpc):
        # where it interrupts is up to chance; see below for every line
        assert set(told) - {"refused", "sent"} == {"interrupted", "afterwards"}, told
        assert told.keys() & {"refused", "sent"}, told


def test_handlers_that_fail_or_close_the_transport_end_the_call_and_no_more(
    rpc: Rpc,
) -> None:
    assert run("careless", rpc) == ["Reentered", "Reentered", "BusLost"]


class Interruptions:
    """Calls something in front of one line of the drivers, the next one each time."""

    def __init__(self, interrupt: Any) -> None:
        self._interrupt = interrupt
        self._lines = 0
        self.at = 0

    def __enter__(self) -> None:
        self._lines = 0
        sys.settrace(self._called)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        self.at += 1

    @property
    def over(self) -> bool:
        """There was no such line the last time."""
        return self._lines < self.at

    def _called(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename.startswith(DRIVERS):
            return self._passed
        return None

    def _passed(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            if self._lines == self.at:
                self._interrupt()
            self._lines += 1
        return self._passed


@pytest.mark.parametrize("lone", [True, False], ids=["lone", "one of several"])
def test_every_line_may_be_interrupted(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch, lone: bool
) -> None:
    monkeypatch.setattr(turns, "LONE_SENDINGS", 0 if lone else 1 << 30)
    rpc.server()
    client = rpc.client()
    assert client.call({}, "name") == "one"
    refused: list[int] = []
    sent: list[int] = []
    others: list[BaseException] = []

    def interrupt() -> None:
        try:
            client.cast({}, "echo", value="interrupting")
        except errors.Reentered:
            refused.append(interruptions.at)
        else:
            sent.append(interruptions.at)

    interruptions = Interruptions(interrupt)

    def call() -> None:
        try:
            while not interruptions.over:
                with interruptions:
                    assert client.call({}, "name") == "one"
        except BaseException as error:
            others.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), f"line {interruptions.at} waits for itself"
    assert others == []
    assert refused and sent
