# SPDX-License-Identifier: Apache-2.0
"""Which Python a service has, and what there is in it.

openstack-ansible gives each service and release of its own a virtual environment, Kolla
each container one, DevStack all services one.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from hybrid_messaging import path_walk
from hybrid_messaging.path_walk import Step
from hybrid_messaging.service_configs import interpreter
from hybrid_messaging.service_configs.interpreter import Environment, InterpreterError
from hybrid_messaging.service_configs.services import identify

_OWN = "openstack/venvs"
_SHARED = ("var/lib/kolla/venv", "opt/stack/data/venv")


class Environments:
    """What services can import; each interpreter is asked once.

    :param python: that of all services; None: look for those of this machine's
    :param tell: is told what is being waited for
    :param root: where this machine's directories begin
    """

    def __init__(
        self,
        python: Path | None = None,
        tell: Callable[[str], None] = lambda line: None,
        root: Path = Path("/"),
    ) -> None:
        self._python = python
        self._tell = tell
        self._root = root
        self._known: dict[Path, Environment] = {}

    def of(self, files: Sequence[Path]) -> Environment:
        """What the service that reads these files can import.

        :raises InterpreterError: its interpreter cannot be asked
        """
        environment = None if self._python else self._find(files[0])
        is_guess = False
        if environment is not None:
            python = environment / "bin/python"
        elif self._python is not None:
            python = self._python
        else:
            python, is_guess = Path(sys.executable), not _is_here(files[0])
        if python not in self._known:
            self._tell(f"asking {python} what services can import")
            try:
                user = _user(environment)
            except OSError as error:  # it has just been changed
                raise InterpreterError(f"cannot run {python}: {error}") from error
            self._known[python] = interpreter.ask(python, user)
        return dataclasses.replace(self._known[python], is_guess=is_guess)

    def _find(self, file: Path) -> Path | None:
        """The virtual environment of the service that reads a file of this machine."""
        own = self._root / _OWN
        real = Path(os.path.realpath(file))
        candidates: list[Path] = []
        if real.is_relative_to(own):  # as /etc/nova leads there
            candidates.append(own / real.relative_to(own).parts[0])
        if file.absolute().is_relative_to(self._root / "etc"):
            name = identify(file).name
            candidates += sorted(own.glob(f"{name}-[0-9]*"), key=_age, reverse=True)
            candidates += [self._root / place for place in _SHARED]
        return next((each for each in candidates if _is_usable(each)), None)


def _is_here(file: Path) -> bool:
    """Whether the service that reads a file is installed beside this program."""
    try:
        metadata.distribution(identify(file).name)
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return True


def _age(directory: Path) -> float:
    return directory.lstat().st_mtime


def _is_usable(environment: Path) -> bool:
    """Whether there is a Python that we can run without trusting another user."""
    if not os.access(environment / "bin/python", os.X_OK):
        return False
    try:
        foreign = _foreign(environment)
    except OSError:
        return False
    # root can become one other user, but not several
    return len(foreign) <= (os.geteuid() == 0)


def _user(environment: Path | None) -> os.stat_result | None:
    """As whom root runs what another user can change; None: as itself."""
    if environment is None:
        return None
    return next(iter(_foreign(environment).values()), None)


def _foreign(environment: Path) -> dict[int, os.stat_result]:
    """Who else can change what the Python of an environment runs.

    Judged are all directories, symbolic links and files on the way to the interpreter,
    to its configuration, and to its packages.

    :returns: by user id, the first thing on the way that the user owns
    :raises OSError: something is missing, or any user can change it
    """
    # in a container, "/" may belong to a user whom it does not know
    trusted = {0, os.geteuid(), Path("/").stat().st_uid}
    found: dict[int, os.stat_result] = {}

    def judge(step: Step) -> None:
        mode = step.status.st_mode
        sticky = stat.S_ISDIR(mode) and mode & stat.S_ISVTX
        if mode & stat.S_IWOTH and not stat.S_ISLNK(mode) and not sticky:
            raise PermissionError(f"every user can change {step.path}")
        if step.status.st_uid not in trusted:
            found.setdefault(step.status.st_uid, step.status)

    packages = environment.glob("lib*/python*/site-packages")
    for path in (environment / "bin/python", environment / "pyvenv.cfg", *packages):
        directory, _ = path_walk.follow(path, judge)
        directory.close()
    return found
