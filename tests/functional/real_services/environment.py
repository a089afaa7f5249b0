# SPDX-License-Identifier: Apache-2.0
"""The virtual environment of the real services: built once, then reused."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
#: Makes SQLite bear several services that write.
PLUGIN = HERE / "sqlite_writers"
PINS = HERE / "pins.txt"
#: On top of these.
COMPUTE_PINS = HERE / "pins-compute.txt"
CHECKOUT = HERE.parents[2]
#: What pip needs of the checkout; a copy of it is built, so that no build
#: leaves files in the work tree.
SOURCES = ("LICENSE", "README.rst", "files", "plugin", "pyproject.toml",
           "setup.cfg", "setup.py")  # fmt: skip
CACHE_VARIABLE = "HYBRID_REAL_SERVICES_CACHE"
#: Seconds that an environment is kept after its last use.
KEPT = 7 * 24 * 3600.0
PYTHON_VARIABLE = "HYBRID_REAL_SERVICES_PYTHON"
#: Whether services cannot run with this interpreter, and no other one is named.
TOO_OLD = sys.version_info < (3, 11) and PYTHON_VARIABLE not in os.environ

Report = Callable[[str], None]


class BuildError(Exception):
    """The environment could not be built; the message ends with pip's output."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that holds the services.

    :param root: its directory
    """

    root: Path

    def script(self, name: str) -> str:
        """Return the path of a program of the environment."""
        return str(self.root / "bin" / name)


def default_cache() -> Path:
    """Return the directory that environments are kept in."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hybrid-messaging" / "real-services"


def ensure(
    cache: Path,
    report: Report,
    pins: Sequence[Path] = (PINS,),
    python: str | None = None,
) -> Environment:
    """Return the environment of the pins; build it if there is none.

    :param cache: directory that holds environments, one for each set of pins
    :param report: takes lines that tell of progress
    :param pins: files with a line for each distribution
    :param python: interpreter of the environment
    :raises BuildError: if pip fails
    """
    python = python or os.environ.get(PYTHON_VARIABLE, sys.executable)
    root = cache / _key(python, pins)
    complete = root / "complete"
    cache.mkdir(parents=True, exist_ok=True)
    with locked(root.with_suffix(".lock"), report):
        if not complete.exists():
            # What an interrupted build left cannot be trusted.
            shutil.rmtree(root, ignore_errors=True)
            _build(python, root, pins, report)
        # also tells when it was used last
        complete.touch()
    _prune(cache, report)
    return Environment(root)


def install_checkout(environment: Environment, target: Path) -> None:
    """Install hybrid-messaging as it is checked out beside the environment.

    It goes into a directory of its own, for ``PYTHONPATH``, together with the
    plugin that the databases need: the environment stays as the pins describe
    it, and several checkouts can share it.

    :param environment: whose pip and setuptools to use
    :param target: the directory to fill
    :raises BuildError: if pip fails
    """
    source = target.with_name(target.name + ".source")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    (source / "checkout").mkdir(parents=True)
    for name in SOURCES:
        origin, copy = CHECKOUT / name, source / "checkout" / name
        if origin.is_dir():
            shutil.copytree(origin, copy, symlinks=True, ignore=ignore)
        else:
            shutil.copy2(origin, copy)
    shutil.copytree(PLUGIN, source / "plugin", ignore=ignore)
    _pip(environment, "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--target", str(target), str(source / "checkout"), str(source / "plugin"),
         )  # fmt: skip
    shutil.rmtree(source)


def _prune(cache: Path, report: Report) -> None:
    """Remove environments of former pins: those that nobody has used for long."""
    for complete in cache.glob("*/complete"):
        if time.time() - complete.stat().st_mtime > KEPT:
            report(f"removing {complete.parent}, which has not been used for long")
            complete.unlink(missing_ok=True)
            shutil.rmtree(complete.parent, ignore_errors=True)


def _key(python: str, pins: Sequence[Path]) -> str:
    version = subprocess.run(
        [python, "-V"], check=True, capture_output=True, text=True
    ).stdout.strip()
    texts = "".join(path.read_text() for path in pins)
    described = f"{version} {platform.machine()}\n{texts}"
    return hashlib.sha256(described.encode()).hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path, report: Report) -> Iterator[None]:
    """Hold a lock against other runs, on this machine and for this user."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another run that is at work on {path.parent}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(python: str, root: Path, pins: Sequence[Path], report: Report) -> None:
    began = time.monotonic()
    count = sum(path.read_text().count("==") for path in pins)
    report(f"building {root}: {count} distributions")
    subprocess.run([python, "-m", "venv", str(root)], check=True)
    fetched = 0
    reported = began

    def watch(line: str) -> None:
        nonlocal fetched, reported
        fetched += line.startswith("Collecting ")
        now = time.monotonic()
        if now - reported >= 5 or line.startswith("Installing collected"):
            reported = now
            step = line.partition(" (")[0].partition(":")[0].strip()[:60]
            report(f"[{fetched}/{count}] {now - began:.0f} s: {step}")

    _pip(Environment(root), "install", "--no-deps", "--progress-bar", "off",
         *(f"--requirement={path}" for path in pins), watch=watch)  # fmt: skip
    # what only this interpreter needs may be missing, and a service would say so
    _pip(Environment(root), "check")
    report(f"built in {time.monotonic() - began:.0f} s")


def _pip(
    environment: Environment, *arguments: str, watch: Report = lambda _: None
) -> None:
    command = [environment.script("python"), "-m", "pip", *arguments]
    output = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            output.append(line)
            watch(line)
    if pip.returncode:
        tail = "".join(output[-30:])
        raise BuildError(f"{' '.join(command)} exited {pip.returncode}:\n{tail}")
