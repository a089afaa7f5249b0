# SPDX-License-Identifier: Apache-2.0
"""Read a configuration file as it is, or say plainly why that cannot be done."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hybrid_messaging import path_walk
from hybrid_messaging.path_walk import Directory, Step
from hybrid_messaging.service_configs.errors import ServiceConfigError


class Source(NamedTuple):
    """A file's content, where it really is, and its state when it was read."""

    path: Path
    data: bytes
    status: os.stat_result


#: Bytes that a configuration file may have; the longest samples have half a million.
LARGEST = 2 << 20


def read(path: str | os.PathLike[str]) -> Source:
    """Read a regular file, following symbolic links.

    :raises ServiceConfigError: it is none, cannot be read, or is too large
    """
    return _read(path, lambda step: None)


def read_to_change(path: str | os.PathLike[str]) -> Source:
    """Read a file that is to be replaced where its symbolic links lead.

    Who owns a link decides where it leads: it may lead to files of root because root
    has made it, or to files of its owner.

    :raises ServiceConfigError: see `read`; or a link belongs to somebody else
    """
    steps: list[Step] = []
    source = _read(path, steps.append)
    trusted = {0, os.geteuid(), source.status.st_uid}
    for link, status in steps:
        if stat.S_ISLNK(status.st_mode) and status.st_uid not in trusted:
            raise ServiceConfigError(
                path,
                f"{link} is a symbolic link that belongs to another user than the file"
                f" it leads to, {source.path}; if that is intended, name {source.path}"
                " itself",
            )
    return source


def _read(path: str | os.PathLike[str], judge: Callable[[Step], None]) -> Source:
    try:
        directory, name = path_walk.follow(path, judge)
        with directory:
            return read_in(directory, name, path)
    except OSError as error:
        raise ServiceConfigError(path, _reason(path, error)) from error


def read_in(
    directory: Directory, name: str, shown: str | os.PathLike[str] | None = None
) -> Source:
    """Read a regular file in an open directory.

    :param shown: its path in errors, if not where it really is
    :raises ServiceConfigError: it is none, or is too large
    :raises OSError: it cannot be read
    """
    real = directory.path / name
    path = real if shown is None else shown
    handle = directory.open(name, os.O_RDONLY)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a file"
            raise ServiceConfigError(path, f"is {kind}; name a configuration file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(LARGEST + 1)
    finally:
        os.close(handle)
    if len(data) > LARGEST:
        raise ServiceConfigError(
            path,
            f"has {status.st_size / 1000000.0:.0f} MB, and configuration files may"
            f" have up to {LARGEST >> 20} MB; check that it is the right file",
        )
    return Source(real, data, status)


def _reason(path: str | os.PathLike[str], error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link that leads back to itself"
    if error.errno == errno.ENOENT and Path(path).is_symlink():
        return f"is a symbolic link to {Path(path).readlink()}, which does not exist"
    if isinstance(error, PermissionError):
        return "no permission to read it; run this as root or as its owner"
    return f"cannot be read: {error.strerror}"
