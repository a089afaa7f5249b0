# SPDX-License-Identifier: Apache-2.0
"""A tree of files: compared with a directory, shown, and written.

Everything is known before the first file is touched. Each file is replaced whole, and
one that is as it should be is not touched at all.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hybrid_messaging import locks, whole_file
from hybrid_messaging.cluster import ClusterError

#: The subdirectories in which every file is ours: what is not rendered any more goes.
OWNED = ("hosts", "zones")
#: What stands for a secret in a difference.
HIDDEN = "***"

PRIVATE, PUBLIC = 0o600, 0o644

_LARGEST = 1 << 22
# seconds to wait for another process that renders there
_PATIENCE = 30.0


@dataclass(frozen=True, repr=False)
class File:
    """A file to be written.

    :param path: relative to the directory
    :param private: only its owner may read it
    :param opaque: its content says nothing to people
    """

    path: PurePosixPath
    data: bytes
    private: bool = True
    opaque: bool = False

    @property
    def mode(self) -> int:
        """Its permissions."""
        return PRIVATE if self.private else PUBLIC


@dataclass(frozen=True, repr=False)
class Change:
    """What a file is to become.

    :param before: its content, None if it is new
    :param after: what is to be written, None if it is to be removed
    """

    path: PurePosixPath
    before: bytes | None
    after: File | None

    @property
    def action(self) -> str:
        """What happens to the file, in one word."""
        if self.after is None:
            return "removed"
        if self.before is None:
            return "new"
        return "changed" if self.before != self.after.data else "permissions"

    def difference(self, secrets: Iterable[str]) -> str:
        """As a unified diff.

        Of a private file, only what happens to it: it may hold passwords that are no
        more known, or not yet. So may one that is removed.

        :param secrets: what is hidden wherever it stands
        """
        if self.after is None or self.after.private or self.after.opaque:
            return f"{self.path}: {self.action}\n"
        old, new = (
            (data or b"").decode("utf-8", "replace")
            for data in (self.before, self.after.data)
        )
        for secret in secrets:
            old, new = old.replace(secret, HIDDEN), new.replace(secret, HIDDEN)
        if old == new:
            return f"{self.path}: {self.action}\n"
        return "".join(
            difflib.unified_diff(
                old.splitlines(keepends=True),
                new.splitlines(keepends=True),
                f"{self.path}" if self.before is not None else "/dev/null",
                f"{self.path}",
                n=1,
            )
        )


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[None]:
    """Have a directory for oneself; it is made if it is not there.

    :raises ClusterError: it cannot be made or is not ours, or others may write there
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locks.exclusive(lambda: _open(directory), _PATIENCE):
            yield
    except BlockingIOError as error:
        raise ClusterError(
            f"{directory} is being rendered by another process: try again later"
        ) from error
    except OSError as error:
        raise ClusterError(
            f"{directory} cannot be used: {error.strerror}: name another directory"
        ) from error


def _open(directory: Path) -> int:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    status = os.fstat(handle)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(handle)
        raise ClusterError(
            f"{directory} belongs to another user, or others may write there: "
            "name another directory, or chmod go-w"
        )
    return handle


def existing(directory: Path) -> Iterator[PurePosixPath]:
    """The files that an earlier call may have written.

    :raises OSError: they cannot be listed
    """
    for owned in OWNED:
        for folder, folders, names in os.walk(directory / owned):
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            for name in (*names, *links):
                relative = (Path(folder) / name).relative_to(directory)
                yield PurePosixPath(*relative.parts)


def compare(directory: Path, files: Iterable[File]) -> list[Change]:
    """What is to be done with a directory, in the order in which it is to be done.

    :raises ClusterError: it cannot be read
    """
    wanted = {file.path: file for file in files}
    changes = []
    try:
        for file in wanted.values():
            before = _content(directory / file.path)
            if before != (file.data, file.mode):
                changes.append(Change(file.path, before and before[0], file))
        changes += [
            Change(path, (_content(directory / path) or (b"",))[0], None)
            for path in sorted(set(existing(directory)) - set(wanted))
        ]
    except OSError as error:
        raise _explained(directory, error) from error
    return changes


def write(directory: Path, changes: Iterable[Change]) -> None:
    """Do what `compare` has found.

    :raises ClusterError: a file cannot be written; those before it are
    """
    try:
        for change in changes:
            path = directory / change.path
            if change.after is None:
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, directory)
            else:
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                whole_file.write(path, change.after.data, change.after.mode)
    except OSError as error:
        raise _explained(directory, error) from error


def _content(path: Path) -> tuple[bytes, int] | None:
    """Content and permissions of a file; None if it is not there, or no file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        # a symbolic link, or a socket: replaced as if it were not there
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return None
        return file.read(_LARGEST), stat.S_IMODE(status.st_mode)


def _remove_empty(folder: Path, top: Path) -> None:
    while folder != top:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _explained(directory: Path, error: OSError) -> ClusterError:
    return ClusterError(
        f"{error.filename or directory}: {error.strerror}: make room or correct the "
        "permissions, and render again; what was rendered before stays complete"
    )
