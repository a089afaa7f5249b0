# SPDX-License-Identifier: Apache-2.0
"""Follow a path name by name, so that nobody can exchange what has been looked at.

Whoever owns a directory of a path can put something else there between a look at the
path and its use. Here each name is looked up in the directory that was opened before
it, and what is judged is what has been opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import NamedTuple

# as many as Linux follows
_MOST_LINKS = 40
# neither a link is followed, nor a FIFO or a device opened
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Step(NamedTuple):
    """A directory, a symbolic link or a file on the way.

    `path` is its own, without symbolic links above it.
    """

    path: Path
    status: os.stat_result


class Directory:
    """An open directory: its names stay where they are, whatever is renamed above it.

    No method follows a symbolic link.

    :param handle: its descriptor, which it closes
    :param path: where it was found, without symbolic links
    """

    def __init__(self, handle: int, path: Path) -> None:
        self.handle = handle
        self.path = path

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        os.close(self.handle)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a file; a FIFO does not wait for its other end."""
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, mode, dir_fd=self.handle)

    def open_itself(self) -> int:
        """Open it anew, to list, lock or synchronise it: that takes more permission."""
        return self.open(".", os.O_RDONLY | os.O_DIRECTORY)

    def names(self) -> list[str]:
        """What is in it."""
        handle = self.open_itself()
        try:
            with os.scandir(handle) as entries:
                return sorted(entry.name for entry in entries)
        finally:
            os.close(handle)

    def status(self, name: str) -> os.stat_result:
        """The status of a file, or of the symbolic link itself."""
        return os.stat(name, dir_fd=self.handle, follow_symlinks=False)

    def link(self, existing: str, name: str) -> None:
        """Give a file another name."""
        os.link(
            existing,
            name,
            src_dir_fd=self.handle,
            dst_dir_fd=self.handle,
            follow_symlinks=False,
        )

    def rename(self, name: str, other: str) -> None:
        """Put a file in the place of another one."""
        os.rename(name, other, src_dir_fd=self.handle, dst_dir_fd=self.handle)

    def unlink(self, name: str) -> None:
        """Remove a file if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.handle)


def follow(
    path: str | os.PathLike[str], judge: Callable[[Step], None] = lambda step: None
) -> tuple[Directory, str]:
    """Follow a path to the directory that it ends in.

    :param judge: called with each step, in their order and before the next one is
        looked up; what it raises ends the walk
    :returns: the directory, and the last name, which is no symbolic link
    :raises OSError: the path does not lead to anything
    """
    names = _reversed_names(Path(path).absolute())
    with contextlib.ExitStack() as held:

        def look(name: str, above: int | None) -> int:
            handle = os.open(name, _LOOK, dir_fd=above)
            held.callback(os.close, handle)
            return handle

        passed = [(Path("/"), look("/", None))]
        links = 0
        while names:
            name = names.pop()
            above, handle = passed[-1]
            if name == "..":
                passed = passed[:-1] or passed
                continue
            handle = look(name, handle)
            step = Step(above / name, os.fstat(handle))
            judge(step)
            if stat.S_ISLNK(step.status.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = PurePath(os.readlink("", dir_fd=handle))
                names += _reversed_names(target)
                passed = passed[:1] if target.is_absolute() else passed
                continue
            if names and not stat.S_ISDIR(step.status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            passed.append((step.path, handle))
        above, handle = passed[-2:][0]
        return Directory(os.dup(handle), above), passed[-1][0].name or "."


def _reversed_names(path: PurePath) -> list[str]:
    names = path.parts[1:] if path.is_absolute() else path.parts
    return list(reversed(names))
