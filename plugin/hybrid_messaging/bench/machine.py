# SPDX-License-Identifier: Apache-2.0
"""What a result was measured with: the machine and the versions."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = (
    "hybrid-messaging",
    "oslo.messaging",
    "amqp",
    "kombu",
    "python-qpid-proton",
    "confluent-kafka",
    "pyzmq",
    "eventlet",
)


def machine() -> dict[str, Any]:
    """The machine: processors, memory, system, and how busy it was before."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "distribution": _distribution(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)),
        "memory": psutil.virtual_memory().total,
        "load_average": list(os.getloadavg()),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that carry messages."""
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
