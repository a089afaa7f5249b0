# SPDX-License-Identifier: Apache-2.0
"""Read a configuration file as it is, or say plainly why that cannot be done."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from hybrid_messaging.service_configs.errors import ServiceConfigError


class Source(NamedTuple):
    """A file's content, where it really is, and its state when it was read."""

    path: Path
    data: bytes
    status: os.stat_result


def read(path: str | os.PathLike[str]) -> Source:
    """Read a regular file, following symbolic links.

    :raises ServiceConfigError: it is none, or cannot be read
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
        status = real.stat()
        # Opening a FIFO would wait for its writer.
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a file"
            raise ServiceConfigError(path, f"is {kind}; name a configuration file")
        return Source(real, real.read_bytes(), status)
    except OSError as error:
        raise ServiceConfigError(path, _reason(path, error)) from error


def _reason(path: str | os.PathLike[str], error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link that leads back to itself"
    if error.errno == errno.ENOENT and Path(path).is_symlink():
        return f"is a symbolic link to {Path(path).readlink()}, which does not exist"
    if isinstance(error, PermissionError):
        return "no permission to read it; run this as root or as its owner"
    return f"cannot be read: {error.strerror}"
