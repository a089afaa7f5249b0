# SPDX-License-Identifier: Apache-2.0
"""Which program is the router, what it needs of this machine, and how it is run.

A *choice* is what ``--router`` takes: `EMBEDDED`, one of `NATIVE`, the path of one of
these, ``container`` or ``container:IMAGE``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from hybrid_messaging.engines import EngineError, Missing, container

#: Our own router, in Python: for one host.
EMBEDDED = "embedded"
#: The routers that are looked for on PATH, the living project first.
NATIVE = ("skrouterd", "qdrouterd")
#: The oldest that have been seen to do what the driver needs, by major and minor.
OLDEST = {"skrouterd": (3, 0), "qdrouterd": (1, 19)}
#: skupper-router from an image, `IMAGE` or that of ``container:IMAGE``.
CONTAINER = "container"
IMAGE = "quay.io/skupper/skupper-router:3.5.1"

_VERSION = re.compile(r"(\d+)\.(\d+)[\w.]*")
_VERSION_TIMEOUT = 30.0


def default() -> str:
    """What is chosen where nobody does: what ``PATH`` has, else our own."""
    return next(filter(shutil.which, NATIVE), EMBEDDED)


def missing(choice: str) -> list[Missing]:
    """What this machine lacks to run a router."""
    found = image(choice)
    if found is not None:
        return container.missing(found) or _outdated(choice)
    if choice == EMBEDDED:
        return []
    if shutil.which(choice) is None:
        return [
            Missing(
                choice,
                "build or install it"
                " (https://github.com/skupperproject/skupper-router), or use --router"
                f" {EMBEDDED}",
            )
        ]
    return _outdated(choice)


def command(choice: str, directory: Path, files: Iterable[str]) -> tuple[str, ...]:
    """What runs a router in the foreground; the path of its configuration follows.

    :param directory: where its configuration is
    :param files: what it reads besides
    :raises EngineError: this machine lacks something
    """
    for lack in missing(choice):
        raise EngineError(f"this machine lacks {lack.what}: {lack.install}")
    if choice == EMBEDDED:
        return (sys.executable, "-m", "hybrid_messaging.router", "--config")
    return (*_native(choice, directory, files), "-c")


def image(choice: str) -> str | None:
    """The image that a choice names; None if it is no container."""
    name, _, given = choice.partition(":")
    return (given or IMAGE) if name == CONTAINER else None


def _native(
    choice: str, directory: Path | None = None, files: Iterable[str] = ()
) -> tuple[str, ...]:
    """What runs a router that is not our own; its arguments follow."""
    found = image(choice)
    if found is not None:
        return container.command(found, NATIVE[0], directory, files)
    return (str(Path(shutil.which(choice) or choice).absolute()),)


def _outdated(choice: str) -> list[Missing]:
    """What to have instead of a router that says that it is too old."""
    found = image(choice)
    name = NATIVE[0] if found else Path(choice).name
    if name not in OLDEST:
        return []
    try:
        told = subprocess.run(
            [*_native(choice), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT,
            text=True,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    version = _VERSION.search(told)
    if version is None or (int(version[1]), int(version[2])) >= OLDEST[name]:
        return []
    return [
        Missing(
            f"{name} {'.'.join(map(str, OLDEST[name]))} or later:"
            f" {found or shutil.which(choice)} is {version[0]}, which has not been"
            " tested with the amqp driver",
            f"install a newer one, or use --router {EMBEDDED}",
        )
    ]
