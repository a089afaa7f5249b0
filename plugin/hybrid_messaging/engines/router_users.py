# SPDX-License-Identifier: Apache-2.0
"""Who may use a router: a user and a password in the files of Cyrus SASL."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hybrid_messaging import state, whole_file
from hybrid_messaging.engines import (
    EngineError,
    Missing,
    container,
    router_program,
    templates,
)

_NAME = "router-sasl"
_SASLPASSWD = "saslpasswd2"
#: What saslpasswd2 does with a user.
_MAKE, _REMOVE = "-c", "-d"
_TIMEOUT = 30.0


def missing(choice: str) -> list[Missing]:
    """What this machine lacks to make users of a router.

    :param choice: as `router_program` has it
    """
    if router_program.image(choice) is not None or _find() is not None:
        return []
    return [Missing(_SASLPASSWD, _install())]


def write(choice: str, directory: Path, logins: Iterable[state.Login]) -> str:
    """Make the users of a router, and none besides.

    :param choice: as `router_program` has it
    :param logins: their names have a realm: ``name@realm``
    :returns: the name of the SASL configuration in `directory`
    :raises EngineError: one is no user, or cannot be made
    """
    with _replaced(directory) as users:
        users.unlink(missing_ok=True)
        for login in logins:
            _change(choice, directory, users, login, _MAKE)
    whole_file.write(
        directory / f"{_NAME}.conf",
        templates.render("router-sasl.conf", users=_file(directory)),
    )
    return _NAME


def add(choice: str, directory: Path, login: state.Login) -> None:
    """Make a user, or change its password; a router that runs lets it in at once.

    :raises EngineError: it is no user, or cannot be made
    """
    with _replaced(directory) as users:
        _change(choice, directory, users, login, _MAKE)


def remove(choice: str, directory: Path, login: state.Login) -> None:
    """Remove a user, if it is there; a router that runs lets it in no more.

    :raises EngineError: that cannot be done
    """
    with _replaced(directory) as users:
        _change(choice, directory, users, login, _REMOVE)


@contextlib.contextmanager
def _replaced(directory: Path) -> Iterator[Path]:
    """A copy of the users' file, which takes its place.

    A router may read it at any moment, and we may be ended at any moment.
    """
    users = _file(directory)
    changed = users.with_suffix(".new")
    if users.exists():
        shutil.copy2(users, changed)
    yield changed
    changed.replace(users)


def _change(
    choice: str, directory: Path, users: Path, login: state.Login, how: str
) -> None:
    name, at, realm = login.username.partition("@")
    if not (name and at and realm):
        raise EngineError(
            "a router's user needs a realm (name@realm), so that it does not depend on"
            " the name of the host"
        )
    program = _program(choice, directory)
    try:
        subprocess.run(
            [*program, how, "-p", "-f", users, "-u", realm, name],
            input=login.password,
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT,
        )
        # it makes it readable for the group as well
        users.chmod(0o600)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise EngineError(f"{program[0]} cannot write {users}: {reason}") from error


def _file(directory: Path) -> Path:
    return directory / f"{_NAME}.users"


def _program(choice: str, directory: Path) -> Sequence[str]:
    """What runs saslpasswd2; the formats of its files differ between systems."""
    image = router_program.image(choice)
    if image is not None:
        return container.command(image, _SASLPASSWD, directory)
    program = _find()
    if program is None:
        raise EngineError(
            f"{_SASLPASSWD}, which creates the router's users, is not installed here: "
            + _install()
        )
    return (program,)


def _find() -> str | None:
    # Debian has it where only root looks for programs
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
    return shutil.which(_SASLPASSWD, path=path)


def _install() -> str:
    if shutil.which("apt-get"):
        return "sudo apt-get install sasl2-bin"
    return "sudo dnf install cyrus-sasl"
