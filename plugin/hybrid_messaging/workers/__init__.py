# SPDX-License-Identifier: Apache-2.0
"""Processes of our own that do what they are told: of smoke checks, of benchmarks.

Both ends write lines of JSON. The worker reads its assignment from its standard input,
then commands, and writes events to its standard output. When its input ends, so does
it: that is how it learns that it is no longer needed, or that the process that wanted
it is gone.

`loop` runs in a worker. `process` is a worker as its parent sees it, and `fork_server`
makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
"""What a worker reports: `event`, and values."""

Report = Callable[[Event], None]
"""Takes the events of a worker."""
