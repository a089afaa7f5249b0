# SPDX-License-Identifier: Apache-2.0
"""Replace files all or none, keep what was there before, and bring it back.

Each file is replaced by renaming a new one over it, so a reader sees the old
content or the new one. The backup beside it is a hard link to the file as it
was before the first replacement: it costs no space, and bringing it back by a
rename brings back every attribute. Its name carries a digest of what we have
written since, which tells whether somebody has edited the file afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.source import Source, read

_BACKUP = "before-hybrid"
_DIGEST_LENGTH = 16
_NEW = "hybrid-new"
_UNDO = "hybrid-undo"


class Replacement(NamedTuple):
    """A file as it was read, and what it is to contain."""

    source: Source
    data: bytes


@contextlib.contextmanager
def exclusive(paths: Iterable[Path]) -> Iterator[None]:
    """Hold the directories of some files against another run of this program.

    The lock is on the directory itself: it leaves nothing behind, ends with
    the process, and is the same for every user.

    :raises ServiceConfigError: another run holds one of them
    """
    with contextlib.ExitStack() as held:
        for directory in sorted({path.parent for path in paths}):
            try:
                handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
                held.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ServiceConfigError(
                    directory,
                    "another `hybrid-messaging configure` is at work here; "
                    "try again when it has finished",
                ) from None
            except OSError as error:
                raise ServiceConfigError(
                    directory, f"cannot be locked: {error.strerror}"
                ) from error
        yield


def backup_of(path: Path) -> Path | None:
    """What `path` was before we changed it first, None if we have not."""
    backups = _backups(path)
    return backups[-1] if backups else None


def edited_since(source: Source) -> bool:
    """Whether somebody else has changed a file after we have.

    A file whose original was copied back by hand counts as untouched.
    """
    backups = _backups(source.path)
    return (
        bool(backups)
        and _backup_name(source.path, source.data) not in backups
        and source.data != read(backups[-1]).data
    )


def replace(replacements: Sequence[Replacement]) -> None:
    """Write all files, or leave all as they are; the lock is held by the caller.

    :raises ServiceConfigError: one of them cannot be replaced; none has been
    """
    with contextlib.ExitStack() as cleanup:
        pairs: list[tuple[Path, Source]] = []
        outdated: list[Path] = []
        for source, data in replacements:
            with _explained(source.path):
                pairs.append((_prepare(source, data, cleanup), source))
        with contextlib.ExitStack() as on_failure:
            for source, data in replacements:
                with _explained(source.path):
                    outdated += _keep(source, data, on_failure)
            _swap(pairs)
            on_failure.pop_all()
        for backup in outdated:
            backup.unlink(missing_ok=True)


def restore(sources: Sequence[Source]) -> None:
    """Bring back all files as they were before we changed them first, or none.

    :raises ServiceConfigError: one of them was not changed by us, or has been
        edited since; all are as they were
    """
    originals = [_original(source) for source in sources]
    with contextlib.ExitStack() as cleanup:
        pairs = []
        for source, original in zip(sources, originals, strict=True):
            with _explained(source.path):
                _narrow(original, source)
                pairs.append((_link(original, source.path, _NEW, cleanup), source))
        _swap(pairs)
    for source in sources:
        for backup in _backups(source.path):
            backup.unlink(missing_ok=True)


def _original(source: Source) -> Path:
    original = backup_of(source.path)
    if original is None:
        raise ServiceConfigError(
            source.path,
            "there is nothing to restore: it has not been changed by "
            "`hybrid-messaging configure`, or was restored already",
        )
    if edited_since(source):
        raise ServiceConfigError(
            source.path,
            "has been edited since it was configured, and restoring it would lose "
            f"that: see `diff {original} {source.path}`, then either copy the "
            f"original back (`cp -p {original} {source.path}`) or keep the file, and "
            "remove the original",
        )
    return original


def _prepare(source: Source, data: bytes, cleanup: contextlib.ExitStack) -> Path:
    """Write the new file beside the old one, with its owner, mode and attributes."""
    path, status = source.path, source.status
    if not status.st_mode & 0o222 or not os.access(path, os.W_OK, effective_ids=True):
        raise ServiceConfigError(
            path,
            f"is read-only (mode {status.st_mode & 0o7777:o}) or belongs to somebody "
            "else; make it writable (chmod u+w) or run this as root",
        )
    _sweep(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.{_NEW}.", dir=path.parent)
    new = Path(name)
    cleanup.callback(new.unlink, missing_ok=True)
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
        _copy_attributes(path, handle)
        os.fsync(handle)
    return new


def _copy_attributes(path: Path, handle: int) -> None:
    """Access control lists, SELinux labels and the like."""
    try:
        names = os.listxattr(path)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return
        raise
    for name in names:
        value = os.getxattr(path, name)
        # a label that the directory has given already may not be ours to set
        if name not in os.listxattr(handle) or os.getxattr(handle, name) != value:
            os.setxattr(handle, name, value)


def _keep(source: Source, data: bytes, on_failure: contextlib.ExitStack) -> list[Path]:
    """Make the backup, or give it the name that goes with the new content.

    The backup of a file that has been edited since keeps its name: the edits
    are not in it, so restore() has to refuse from then on.

    :returns: backups to remove when the new content is in place
    """
    path = source.path
    backups = _backups(path)
    name = _backup_name(path, data)
    for backup in backups:
        _narrow(backup, source)
    if edited_since(source) or name in backups:
        return []
    os.link(backups[-1] if backups else path, name)
    on_failure.callback(name.unlink, missing_ok=True)
    return backups


def _narrow(backup: Path, source: Source) -> None:
    """Let nobody read a backup who may not read the file any more.

    Both have passwords in them; the file may have been closed since.
    """
    handle = os.open(backup, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode & 0o7777
        narrow = mode & source.status.st_mode
        if narrow != mode:
            os.fchmod(handle, narrow)
    finally:
        os.close(handle)


def _swap(pairs: Sequence[tuple[Path, Source]]) -> None:
    """Rename each new file over the old one; after a failure, all the old ones back."""
    with contextlib.ExitStack() as cleanup, contextlib.ExitStack() as on_failure:
        for new, source in pairs:
            path = source.path
            with _explained(path):
                if _version(path.stat()) != _version(source.status):
                    raise ServiceConfigError(
                        path, "somebody else has just changed it; run this again"
                    )
                undo = _link(path, path, _UNDO, cleanup)
                new.replace(path)
                on_failure.callback(undo.replace, path)
        for directory in {source.path.parent for _, source in pairs}:
            with _explained(directory):
                _sync(directory)
        on_failure.pop_all()


def _link(
    existing: Path, path: Path, purpose: str, cleanup: contextlib.ExitStack
) -> Path:
    link = path.with_name(f".{path.name}.{purpose}")
    link.unlink(missing_ok=True)
    os.link(existing, link)
    cleanup.callback(link.unlink, missing_ok=True)
    return link


def _sweep(path: Path) -> None:
    """Remove what a run left behind that was killed."""
    for item in path.parent.iterdir():
        if item.name.startswith((f".{path.name}.{_NEW}", f".{path.name}.{_UNDO}")):
            item.unlink()


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _backup_name(path: Path, written: bytes) -> Path:
    digest = hashlib.sha256(written).hexdigest()[:_DIGEST_LENGTH]
    return path.with_name(f"{path.name}.{_BACKUP}.{digest}")


def _backups(path: Path) -> list[Path]:
    """All names of the backup: more than one if a run was killed in between."""
    prefix = f"{path.name}.{_BACKUP}."
    length = len(prefix) + _DIGEST_LENGTH
    return sorted(
        item
        for item in path.parent.iterdir()
        if item.name.startswith(prefix)
        and len(item.name) == length
        and stat.S_ISREG(item.lstat().st_mode)
    )


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


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
_EXPLANATIONS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "it would become larger than this process may write (ulimit -f)",
    errno.EROFS: "its file system is read-only",
    errno.EBUSY: "it is a mount point of its own; change it where it comes from",
    errno.EACCES: "no permission to write in its directory; run this as root",
    errno.EPERM: "it or its directory is immutable, or not ours (see lsattr)",
}
