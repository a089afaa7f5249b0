# SPDX-License-Identifier: Apache-2.0
"""The example of the documentation for those who make their first call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.functional.routers import Router
from tests.functional.waiting import until

EXAMPLE = Path(__file__).parents[2] / "doc" / "source" / "examples" / "hello.py"
#: Seconds for a process that imports oslo.messaging on a busy machine.
PATIENCE = 60


def test_the_example_serves_and_calls(bus: Router, tmp_path: Path) -> None:
    output = tmp_path / "server.log"
    with output.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, EXAMPLE, "serve", bus.url()], stdout=log, stderr=log
        )
    try:
        until(lambda: "serving" in output.read_text(), "it serves", PATIENCE)
        called = subprocess.run(
            [sys.executable, EXAMPLE, "call", bus.url()],
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
        assert called.stdout == "Hello, world!\n"
    finally:
        server.kill()
        server.wait()
