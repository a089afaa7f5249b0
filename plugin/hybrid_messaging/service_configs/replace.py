# SPDX-License-Identifier: Apache-2.0
"""Replace files all or none, keep what was there before, and bring it back.

Each file is replaced by renaming a new one over it, so a reader sees the old
content or the new one. The backup beside it is a hard link to the file as it
was before the first replacement: it costs no space, and bringing it back by a
rename brings back every attribute. Its name carries a digest of what we have
written since, which tells whether somebody has edited the file afterwards.

All of that happens in a directory that is held open, and in which the file is that was
read: others who own a directory above it cannot lead us elsewhere meanwhile.

A run that is killed has replaced some files and not others. The next one finds the
first unchanged and replaces the rest. What it left beside the files is removed by
whoever next locks the directory: nobody else can be using it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_messaging import locks, path_walk
from hybrid_messaging.path_walk import Directory, Step
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.source import Source, read_in

_BACKUP = "before-hybrid"
_DIGEST_LENGTH = 16
_NEW = "hybrid-new"
_UNDO = "hybrid-undo"


class Replacement(NamedTuple):
    """A file as it was read, and what it is to contain."""

    source: Source
    data: bytes


class _Target(NamedTuple):
    """A file to replace, by its name in the open directory that it was found in."""

    directory: Directory
    name: str
    source: Source

    @property
    def path(self) -> Path:
        return self.source.path


@contextlib.contextmanager
def exclusive(paths: Iterable[Path]) -> Iterator[None]:
    """Hold the directories of some files against another run of this program.

    The lock is on the directory itself: it leaves nothing behind, ends with
    the process, and is the same for every user. What a run left there that was
    killed is removed.

    :param paths: without symbolic links
    :raises ServiceConfigError: another run holds one of them
    """
    with contextlib.ExitStack() as held:
        for path in {path.parent: path for path in sorted(paths)}.values():
            try:
                with _directory_of(path)[0] as directory:
                    held.enter_context(locks.exclusive(directory.open_itself))
                    _sweep(directory)
            except BlockingIOError:
                raise ServiceConfigError(
                    path.parent,
                    "another `hybrid-messaging configure` is running here, or another"
                    " program has locked the directory (see `lslocks`); try again"
                    " later",
                ) from None
            except OSError as error:
                raise ServiceConfigError(
                    path.parent, f"cannot be locked: {error.strerror}"
                ) from error
        yield


def backup_of(path: Path) -> Path | None:
    """What `path` was before we changed it first, None if we have not."""
    directory, name = path_walk.follow(path)
    with directory:
        backups = _backups(directory, name)
        return directory.path / backups[-1] if backups else None


def edited_since(source: Source) -> bool:
    """Whether somebody else has changed a file after we have.

    A file whose original was copied back by hand counts as untouched.
    """
    directory, name = path_walk.follow(source.path)
    with directory:
        return _edited(_Target(directory, name, source))


def _edited(target: _Target) -> bool:
    backups = _backups(target.directory, target.name)
    return (
        bool(backups)
        and _backup_name(target.name, target.source.data) not in backups
        and target.source.data != read_in(target.directory, backups[-1]).data
    )


def replace(replacements: Sequence[Replacement]) -> None:
    """Write all files, or leave all as they are; the lock is held by the caller.

    :raises ServiceConfigError: one of them cannot be replaced; none has been
    """
    with contextlib.ExitStack() as cleanup:
        pairs: list[tuple[str, _Target]] = []
        outdated: list[tuple[_Target, str]] = []
        for source, data in replacements:
            with _explained(source.path):
                target = _open(source, cleanup)
                pairs.append((_prepare(target, data, cleanup), target))
        with contextlib.ExitStack() as on_failure:
            for (_, target), (_, data) in zip(pairs, replacements, strict=True):
                with _explained(target.path):
                    backups = _keep(target, data, on_failure)
                    outdated += [(target, backup) for backup in backups]
            _swap(pairs)
            on_failure.pop_all()
        for target, backup in outdated:
            target.directory.unlink(backup)


def restore(sources: Sequence[Source]) -> None:
    """Bring back all files as they were before we changed them first, or none.

    :raises ServiceConfigError: one of them was not changed by us, or has been
        edited since; all are as they were
    """
    with contextlib.ExitStack() as cleanup:
        originals = []
        for source in sources:
            with _explained(source.path):
                target = _open(source, cleanup)
                originals.append((_original(target), target))
        pairs = []
        for original, target in originals:
            with _explained(target.path):
                _narrow(original, target)
                pairs.append((_link(target, original, _NEW, cleanup), target))
        _swap(pairs)
        for _, target in pairs:
            for backup in _backups(target.directory, target.name):
                target.directory.unlink(backup)


def _directory_of(path: Path) -> tuple[Directory, str]:
    """Open the directory of a file whose path had no symbolic links.

    :raises ServiceConfigError: it has one now
    """

    def judge(step: Step) -> None:
        if stat.S_ISLNK(step.status.st_mode):
            raise _changed(path)

    return path_walk.follow(path, judge)


def _open(source: Source, cleanup: contextlib.ExitStack) -> _Target:
    """Hold the directory of a file, in which that file must still be."""
    directory, name = _directory_of(source.path)
    target = _Target(cleanup.enter_context(directory), name, source)
    _see_unchanged(target)
    return target


def _see_unchanged(target: _Target) -> None:
    now = target.directory.status(target.name)
    if _version(now) != _version(target.source.status):
        raise _changed(target.path)


def _changed(path: Path) -> ServiceConfigError:
    return ServiceConfigError(
        path, "another program has just changed it; run this again"
    )


def _original(target: _Target) -> str:
    path, backups = target.path, _backups(target.directory, target.name)
    if not backups:
        raise ServiceConfigError(
            path,
            "there is nothing to restore: `hybrid-messaging configure` has not changed"
            " it, or it has already been restored",
        )
    if _edited(target):
        original = path.with_name(backups[-1])
        raise ServiceConfigError(
            path,
            "has been edited since it was configured, and restoring it would undo"
            f" that: compare with `diff {original} {path}`, then either copy the"
            f" original back (`cp -p {original} {path}`) or keep the file, and remove"
            " the original",
        )
    return backups[-1]


def _prepare(target: _Target, data: bytes, cleanup: contextlib.ExitStack) -> str:
    """Write the new file beside the old one, with its owner, mode and attributes."""
    directory, name, (path, _, status) = target
    if not status.st_mode & 0o222:
        raise ServiceConfigError(
            path,
            f"is read-only (mode {status.st_mode & 0o7777:o}); make it writable (chmod "
            "u+w)",
        )
    if not os.access(
        name,
        os.W_OK,
        dir_fd=directory.handle,
        effective_ids=True,
        follow_symlinks=False,
    ):
        try:
            os.close(directory.open(name, os.O_WRONLY | os.O_NOFOLLOW))
        except PermissionError as error:
            raise ServiceConfigError(
                path,
                f"cannot be written by this user (mode {status.st_mode & 0o7777:o}); "
                "run this as root, or as its owner",
            ) from error
    new = f".{name}.{_NEW}"
    # of a run that was killed, if the caller could not remove it
    directory.unlink(new)
    handle = directory.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    cleanup.callback(directory.unlink, new)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        try:
            os.fchown(handle, status.st_uid, status.st_gid)
        except PermissionError as error:
            raise ServiceConfigError(
                path, "belongs to another user or group; run this as root"
            ) from error
        os.fchmod(handle, status.st_mode & 0o7777)
        _copy_attributes(target, handle)
        os.fsync(handle)
    return new


def _copy_attributes(target: _Target, handle: int) -> None:
    """Access control lists, SELinux labels and the like."""
    old = target.directory.open(target.name, os.O_RDONLY)
    try:
        names = os.listxattr(old)
        for name in names:
            value = os.getxattr(old, name)
            # a label that the directory has given already may not be ours to set
            if name not in os.listxattr(handle) or os.getxattr(handle, name) != value:
                os.setxattr(handle, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
    finally:
        os.close(old)


def _keep(target: _Target, data: bytes, on_failure: contextlib.ExitStack) -> list[str]:
    """Make the backup, or give it the name that goes with the new content.

    The backup of a file that has been edited since keeps its name: the edits
    are not in it, so restore() has to refuse from then on.

    :returns: backups to remove when the new content is in place
    """
    directory = target.directory
    backups = _backups(directory, target.name)
    name = _backup_name(target.name, data)
    for backup in backups:
        _narrow(backup, target)
    if _edited(target) or name in backups:
        return []
    directory.link(backups[-1] if backups else target.name, name)
    on_failure.callback(directory.unlink, name)
    return backups


def _narrow(backup: str, target: _Target) -> None:
    """Let nobody read a backup who may not read the file any more.

    Both have passwords in them; the file may have been closed since. One that has other
    names than ours is somebody else's, put there by the directory's owner.
    """
    ours = len(_backups(target.directory, target.name))
    handle = target.directory.open(backup, os.O_RDONLY)
    try:
        status = os.fstat(handle)
        mode = status.st_mode & 0o7777
        narrow = mode & target.source.status.st_mode
        if narrow != mode and status.st_nlink <= ours:
            os.fchmod(handle, narrow)
    finally:
        os.close(handle)


def _swap(pairs: Sequence[tuple[str, _Target]]) -> None:
    """Rename each new file over the old one; after a failure, all the old ones back."""
    with contextlib.ExitStack() as cleanup, contextlib.ExitStack() as on_failure:
        for new, target in pairs:
            with _explained(target.path):
                _see_unchanged(target)
                undo = _link(target, target.name, _UNDO, cleanup)
                target.directory.rename(new, target.name)
                on_failure.callback(target.directory.rename, undo, target.name)
        for directory in {
            item.directory.path: item.directory for _, item in pairs
        }.values():
            with _explained(directory.path):
                _sync(directory)
        on_failure.pop_all()


def _link(
    target: _Target, existing: str, purpose: str, cleanup: contextlib.ExitStack
) -> str:
    link = f".{target.name}.{purpose}"
    target.directory.unlink(link)
    target.directory.link(existing, link)
    cleanup.callback(target.directory.unlink, link)
    return link


def _sweep(directory: Directory) -> None:
    """Remove what a run left behind that was killed, also beside other files.

    Each is a further name of a file that is there, or a copy that nobody has used.
    """
    for name in directory.names():
        if name.startswith(".") and name.endswith((f".{_NEW}", f".{_UNDO}")):
            # it hinders nobody; what cannot be replaced either is explained later
            with contextlib.suppress(OSError):
                directory.unlink(name)


def _sync(directory: Directory) -> None:
    handle = directory.open_itself()
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _backup_name(name: str, written: bytes) -> str:
    digest = hashlib.sha256(written).hexdigest()[:_DIGEST_LENGTH]
    return f"{name}.{_BACKUP}.{digest}"


def _backups(directory: Directory, name: str) -> list[str]:
    """All names of the backup: more than one if a run was killed in between."""
    prefix = f"{name}.{_BACKUP}."
    length = len(prefix) + _DIGEST_LENGTH
    return [
        item
        for item in directory.names()
        if item.startswith(prefix)
        and len(item) == length
        and stat.S_ISREG(directory.status(item).st_mode)
    ]


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the system says into a sentence about the file."""
    try:
        yield
    except OSError as error:
        raise ServiceConfigError(
            path,
            f"cannot be replaced: {_EXPLANATIONS.get(error.errno or 0, error.strerror)}"
            "; nothing changed",
        ) from error


_FULL = "the disk is full; make room in its file system"
_ELSEWHERE = (
    "change it at its source, such as the values of a chart (`hybrid-messaging urls"
    " --for openstack-helm`)"
)
_EXPLANATIONS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (
        "it would exceed the largest file that this process may write (ulimit -f)"
    ),
    errno.EROFS: f"its file system is read-only; {_ELSEWHERE}",
    errno.EBUSY: f"it is a mount point; {_ELSEWHERE}",
    errno.EACCES: "no permission to write in its directory; run this as root",
    errno.EPERM: (
        "it or its directory is immutable, or belongs to another user (see lsattr)"
    ),
}
