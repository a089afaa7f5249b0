# SPDX-License-Identifier: Apache-2.0
"""Which Python a service has, and what there is in it.

openstack-ansible gives each service and release of its own a virtual environment, Kolla
each container one, DevStack all services one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hybrid_messaging.service_configs import interpreter
from hybrid_messaging.service_configs.interpreter import Environment
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
        if environment is None:
            python = self._python or Path(sys.executable)
        else:
            python = environment / "bin/python"
        if python not in self._known:
            self._tell(f"asking {python} what services can import")
            self._known[python] = interpreter.ask(python, _user(environment))
        return self._known[python]

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


def _age(directory: Path) -> float:
    return directory.lstat().st_mtime


def _is_usable(environment: Path) -> bool:
    """Whether there is a Python that we can run without trusting another user."""
    try:
        owner = (environment / "pyvenv.cfg").stat().st_uid
    except OSError:
        return False
    trusted = os.geteuid() == 0 or owner in (0, os.geteuid())
    return trusted and os.access(environment / "bin/python", os.X_OK)


def _user(environment: Path | None) -> os.stat_result | None:
    """As whom root runs what another user can change; None: as itself."""
    if environment is None or os.geteuid() != 0:
        return None
    owner = (environment / "pyvenv.cfg").stat()
    return owner if owner.st_uid != 0 else None
