# SPDX-License-Identifier: Apache-2.0
"""The files: who can read them."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from hybrid_messaging.service_configs import preview, replace
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.problem import Problem
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import Routes


def unreadable(error: ServiceConfigError) -> Problem:
    """What is wrong with a service whose files it cannot read."""
    return found(
        "unreadable",
        f"the service cannot read its configuration: {error.reason}",
        "correct it, then run the check again",
        error.path if error.line is None else f"{error.path}, line {error.line}",
    )


def private(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Files with passwords, and their backups, are not for every user."""
    for document in config.documents:
        if not any(
            preview.shown(option.key, option.value) != option.value
            for option in document.options
        ):
            continue
        path = Path(os.path.realpath(document.path))
        for file in filter(None, (path, replace.backup_of(path))):
            if _is_readable_by_all(file):
                yield found(
                    "readable-by-all",
                    f"every user of this host can read {file}, which contains"
                    " passwords",
                    f"chmod o= {shlex.quote(str(file))}, if the service's user can"
                    " still read it then",
                    document.path,
                )


def _is_readable_by_all(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & stat.S_IROTH) and all(
            directory.stat().st_mode & stat.S_IXOTH for directory in file.parents
        )
    except OSError:
        return False  # it is gone by now
