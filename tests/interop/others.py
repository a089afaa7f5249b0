# SPDX-License-Identifier: Apache-2.0
"""The other implementations: fetched once, into the user's cache.

Run as ``python -m tests.interop.others``, it fetches all of them, so that tests
find them there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.functional.real_services import environment

AMQP1_PINS = Path(__file__).with_name("amqp1_14_9_pins.txt")
#: The Pythons that the pins can be installed for.
AMQP1_PYTHONS = ("3.11", "3.12", "3.13")
RHEA = "rhea@3.0.5"
#: Seconds that npm may take.
NPM_TIMEOUT = 200


class NotHere(Exception):
    """This machine lacks what an implementation runs on."""


def amqp1_python() -> str:
    """The interpreter of an environment with oslo.messaging 14.9.0 and its driver."""
    built = environment.ensure(
        _cache() / "amqp1", _say, [AMQP1_PINS], _python_for_pins()
    )
    return built.script("python")


def rhea_modules() -> Path:
    """The folder with rhea, for Node.js."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise NotHere("node and npm are not installed")
    place = _cache() / RHEA.replace("@", "-")
    place.mkdir(parents=True, exist_ok=True)
    with environment.locked(place / "lock", _say):
        if not (place / "complete").exists():
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--prefix", place, RHEA],
                check=True,
                timeout=NPM_TIMEOUT,
            )
            (place / "complete").touch()
    return place / "node_modules"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hybrid-messaging"


def _python_for_pins() -> str:
    if f"{sys.version_info.major}.{sys.version_info.minor}" in AMQP1_PYTHONS:
        return sys.executable
    for version in AMQP1_PYTHONS:
        if found := shutil.which(f"python{version}"):
            return found
    raise NotHere(
        f"oslo.messaging 14.9.0 needs one of Python {', '.join(AMQP1_PYTHONS)}"
    )


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    for fetch in (amqp1_python, rhea_modules):
        try:
            fetch()
        except NotHere as lack:
            _say(str(lack))
