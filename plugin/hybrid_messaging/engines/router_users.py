# SPDX-License-Identifier: Apache-2.0
"""Who may use a router: a user and a password in the files of Cyrus SASL."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hybrid_messaging import whole_file
from hybrid_messaging.engines import (
    EngineError,
    Missing,
    container,
    router_program,
    templates,
)

_NAME = "router-sasl"
_SASLPASSWD = "saslpasswd2"
_TIMEOUT = 30.0


def missing(choice: str) -> list[Missing]:
    """What this machine lacks to make users of a router.

    :param choice: as `router_program` has it
    """
    if router_program.image(choice) is not None or _find() is not None:
        return []
    return [Missing(_SASLPASSWD, _install())]


def write(choice: str, directory: Path, username: str, password: str | None) -> str:
    """Make the one user of a router, with the Cyrus SASL that the router has.

    :param choice: as `router_program` has it
    :param username: ``name@realm``
    :returns: the name of the SASL configuration in `directory`
    :raises EngineError: that is no user, or cannot be made
    """
    name, at, realm = username.partition("@")
    if not (name and at and realm and password):
        raise EngineError(
            "a router's user needs a password and a realm (name@realm), so that it"
            " does not depend on the name of the host"
        )
    users = directory / f"{_NAME}.users"
    users.unlink(missing_ok=True)
    program = _program(choice, directory)
    try:
        subprocess.run(
            [*program, "-c", "-p", "-f", users, "-u", realm, name],
            input=password,
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
    whole_file.write(
        directory / f"{_NAME}.conf", templates.render("router-sasl.conf", users=users)
    )
    return _NAME


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
