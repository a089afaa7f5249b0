# SPDX-License-Identifier: Apache-2.0
"""Benchmark: the same messages over several modes, side by side.

One process, the controller, brings up engines, starts worker processes and tells
them what to do. Producers call and notify, consumers serve and listen. All of them
count every message, so that in the end each is accounted for.
"""


class BenchError(RuntimeError):
    """A benchmark that cannot be run, or has not come to its end."""
