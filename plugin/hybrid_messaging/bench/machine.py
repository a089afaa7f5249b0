# SPDX-License-Identifier: Apache-2.0
"""What a result was measured with: the machine and the versions."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

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


@dataclass(frozen=True)
class Machine:
    """A machine, and how busy it was before.

    :param memory: bytes
    :param load_average: of 1, 5 and 15 minutes
    """

    host: str
    system: str
    distribution: str
    processor: str
    cpus: int | None
    usable_cpus: int
    memory: int
    load_average: Sequence[float]


@dataclass(frozen=True)
class Host(Machine):
    """A machine that runs workers, and its versions."""

    versions: Mapping[str, str]


def machine() -> Machine:
    """This machine."""
    return Machine(
        host=platform.node(),
        system=f"{platform.system()} {platform.release()}",
        distribution=_distribution(),
        processor=_processor(),
        cpus=os.cpu_count(),
        usable_cpus=len(os.sched_getaffinity(0)),
        memory=psutil.virtual_memory().total,
        load_average=os.getloadavg(),
    )


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
