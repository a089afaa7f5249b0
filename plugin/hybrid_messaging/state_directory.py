# SPDX-License-Identifier: Apache-2.0
"""The directory in which `up` keeps its state: who may use it, its lock, its file."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from hybrid_messaging import json_files, locks, path_walk, whole_file
from hybrid_messaging.json_files import Damage, whole
from hybrid_messaging.path_walk import Step
from hybrid_messaging.state import State, decode, encode

STATE_FILE = "state.json"
LOCK_FILE = "lock"
#: What makes a directory a state directory.
FILES = (STATE_FILE, LOCK_FILE)

_FORMAT = 1
# a hundred times what the largest deployment writes
_LARGEST = 1 << 20


class StateError(RuntimeError):
    """A state directory that cannot be used as it is."""


def default_state_dir() -> Path:
    """Where `up` keeps its state unless told otherwise.

    The XDG base directory specification: ``$XDG_STATE_HOME``, by default
    ``~/.local/state``; a relative value is ignored.

    :raises StateError: there is neither
    """
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".local" / "state"
        except RuntimeError:
            raise StateError(
                "this user has no home directory: set HOME or XDG_STATE_HOME, or name"
                " a directory with --state-dir"
            ) from None
    return base / "hybrid-messaging"


def load(state_dir: Path) -> State | None:
    """Read what runs in a state directory.

    Names in the file lead to directories that are removed and to processes that are
    ended: it is believed only if it is ours, and nothing in it leads elsewhere.

    :returns: None if nothing has been started there
    :raises StateError: if the file cannot be read or is no state of ours
    """
    path = state_dir / STATE_FILE
    refuse_foreign(state_dir)
    try:
        data = json_files.read(path, _LARGEST, private=True)
        if isinstance(data, dict) and (written := data.pop("format", None)) != _FORMAT:
            json_files.inside("format", whole(), written)
            raise StateError(
                f"{path} was written by another release of hybrid-messaging (format"
                f" {written}, and this one reads {_FORMAT}): run `down` of the"
                " release that wrote it"
            )
        found = decode(data)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from error
    except Damage as damage:
        raise StateError(
            f"{path} is damaged ({damage}): end the engines that may still run (their "
            f"pids are in {state_dir}/*/pid), then remove {state_dir}"
        ) from damage
    for engine in found.engines:
        refuse_foreign_inside(state_dir / engine.name)
    return found


def refuse_foreign(state_dir: Path) -> None:
    """Make sure that nobody but us and root decides what a path leads to.

    That holds for each directory and each link on the way, so that nobody can put
    something else there while we are at work. What is not there is nobody's.

    :raises StateError: somebody else does
    """
    # in a container, "/" may belong to a user whom it does not know
    trusted = {0, os.geteuid(), Path("/").stat().st_uid}

    def judge(step: Step) -> None:
        path, mode = step.path, step.status.st_mode
        if step.status.st_uid not in trusted:
            link = stat.S_ISLNK(mode)
            raise _foreign(path, "is a symbolic link of" if link else "belongs to")
        if stat.S_ISDIR(mode) and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise StateError(
                f"every user can write to {path} (mode {mode & 4095:o}) and exchange"
                " its contents: run `chmod o-w` on it, or name another directory with"
                " --state-dir"
            )

    try:
        directory, name = path_walk.follow(state_dir, judge)
        with directory:
            if directory.status(name).st_uid != os.geteuid():
                raise _foreign(directory.path / name, "belongs to")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StateError(f"cannot read {state_dir}: {error.strerror}") from error


def _foreign(path: Path, how: str) -> StateError:
    return StateError(
        f"{path} {how} another user, who could exchange its contents: run this as that"
        " user, or name a directory with --state-dir that belongs to you and is below"
        " directories of yours or root's"
    )


def refuse_foreign_inside(directory: Path) -> None:
    """Make sure that a directory in a state directory is one, and is ours.

    :raises StateError: it belongs to another user, or is a symbolic link
    """
    try:
        status = directory.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StateError(f"cannot read {directory}: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        raise StateError(
            f"{directory} is a symbolic link, which `up` does not create: check where"
            " it leads, and remove it"
        )
    if status.st_uid != os.geteuid():
        raise StateError(
            f"{directory} belongs to another user, and `up` has not created it: check"
            " what it contains, and remove it"
        )


def save(state_dir: Path, state: State) -> None:
    """Write the state, whole or not at all, readable by its owner only.

    :raises StateError: if it cannot be written, or could not be read again; what
        was there before stays
    """
    path = state_dir / STATE_FILE
    try:
        data = {"format": _FORMAT, **encode(state)}
        whole_file.write(path, json.dumps(data, indent=2) + "\n")
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from error
    except Damage as damage:
        raise StateError(f"cannot write {path}: {damage}") from damage


def forget(state_dir: Path) -> None:
    """Remove the state, the lock, and the directory if nothing else is in it.

    For the holder of the lock; whoever waits for it notices.
    """
    unfinished = state_dir.glob(f".{STATE_FILE}{whole_file.UNFINISHED}*")
    for left in (*unfinished, *map(state_dir.joinpath, FILES)):
        left.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        state_dir.rmdir()


def prepare(state_dir: Path) -> None:
    """Create the state directory, for its owner only, or accept an old one.

    :raises StateError: if it belongs to somebody else or holds other things
    """
    try:
        _make(state_dir)
        names = {item.name for item in state_dir.iterdir()}
        if names and names.isdisjoint(FILES):
            raise StateError(
                f"{state_dir} contains other files: name an empty or new directory"
                " with --state-dir"
            )
        state_dir.chmod(0o700)
    except OSError as error:
        raise StateError(
            f"cannot use {state_dir} as state directory: {error.strerror}"
        ) from error


def _make(state_dir: Path) -> None:
    # before, since a link could have it made elsewhere
    refuse_foreign(state_dir)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_foreign(state_dir)


@contextlib.contextmanager
def lock(
    state_dir: Path, timeout: float, waiting: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the state directory against every other command that changes it.

    :param timeout: seconds to wait for another holder
    :param waiting: called once if there is another holder
    :raises StateError: if it still holds the lock after `timeout`
    """
    path = state_dir / LOCK_FILE

    def open_it() -> int:
        # a former holder may just have removed it
        _make(state_dir)
        return os.open(
            path,
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
            0o600,
        )

    def is_current(handle: int) -> bool:
        """Whether the former holder was not `down`, which removes the lock file."""
        try:
            return os.path.samestat(os.fstat(handle), path.stat())
        except FileNotFoundError:
            return False

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.exclusive(open_it, timeout, waiting, is_current))
        except BlockingIOError:
            raise StateError(
                f"another hybrid-messaging command is using {state_dir}: wait until it"
                " ends, and try again"
            ) from None
        except OSError as error:
            raise StateError(f"cannot lock {path}: {error.strerror}") from error
        yield
