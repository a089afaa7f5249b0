# SPDX-License-Identifier: Apache-2.0
"""Replacing files: all or none, every attribute kept, and the way back."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_messaging.path_walk import Directory
from hybrid_messaging.service_configs import replace
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.source import read, read_to_change


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files in two directories."""
    paths = [tmp_path / "a" / "x.conf", tmp_path / "a" / "y.conf", tmp_path / "z.conf"]
    (tmp_path / "a").mkdir()
    for path in paths:
        path.write_text(f"old {path.name}")
    return paths


def write(*paths: Path, text: str = "new") -> None:
    replace.replace(
        [
            replace.Replacement(read(path), f"{text} {path.name}".encode())
            for path in paths
        ]
    )


def restore(*paths: Path) -> None:
    replace.restore([read(path) for path in paths])


def contents(paths: list[Path]) -> list[str]:
    return [path.read_text().split()[0] for path in paths]


def others(path: Path) -> list[str]:
    """What lies in a directory beside the files themselves, backups apart."""
    return [
        item.name
        for item in path.rglob("*")
        if item.is_file()
        and item.suffix != ".conf"
        and "before-hybrid" not in item.name
    ]


def test_all_files_are_replaced(files: list[Path], tmp_path: Path) -> None:
    write(*files)
    assert contents(files) == ["new"] * 3
    assert others(tmp_path) == []


def test_the_way_back_leads_to_before_the_first_time(
    files: list[Path], tmp_path: Path
) -> None:
    write(*files)
    write(*files, text="newer")
    write(*files[:2], text="newest")
    restore(*files)
    assert contents(files) == ["old"] * 3
    assert list(tmp_path.rglob("*before-hybrid*")) == []
    with pytest.raises(ServiceConfigError, match="nothing to restore"):
        restore(*files)


def test_the_original_comes_back_with_every_attribute(files: list[Path]) -> None:
    path = files[0]
    path.chmod(0o640)
    os.utime(path, ns=(1, 2))
    before = path.stat()
    write(path)
    restore(path)
    after = path.stat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (
        before.st_ino,
        before.st_mode,
        2,
    )


def test_mode_and_extended_attributes_are_kept(files: list[Path]) -> None:
    path = files[0]
    path.chmod(0o2604)
    try:
        os.setxattr(path, "user.note", b"kept")
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("this file system has no extended attributes")
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o2604
    assert os.getxattr(path, "user.note") == b"kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_is_kept(files: list[Path]) -> None:
    os.chown(files[0], 12345, 54321)
    write(files[0])
    status = files[0].stat()
    assert (status.st_uid, status.st_gid) == (12345, 54321)


def test_a_symbolic_link_stays_one(files: list[Path], tmp_path: Path) -> None:
    link = tmp_path / "link.conf"
    link.symlink_to("a/x.conf")
    write(link)
    assert link.is_symlink()
    assert files[0].read_text().startswith("new")
    assert not list(tmp_path.glob("*before-hybrid*"))
    restore(link)
    assert link.is_symlink()
    assert files[0].read_text() == "old x.conf"


@pytest.mark.parametrize("failing", range(3))
@pytest.mark.parametrize("times", [0, 1])
def test_a_failure_half_way_changes_nothing(
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
    times: int,
) -> None:
    for _ in range(times):
        write(*files, text="former")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    genuine = Directory.rename

    def rename(self: Directory, name: str, other: str) -> None:
        if "hybrid-new" in name and self.path / other == files[failing]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        genuine(self, name, other)

    monkeypatch.setattr(Directory, "rename", rename)
    with pytest.raises(ServiceConfigError, match="Input/output error") as caught:
        write(*files)
    assert caught.value.path == str(files[failing])
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before

    monkeypatch.undo()
    write(*files)
    restore(*files)
    assert contents(files) == ["old"] * 3


def test_a_failing_restore_changes_nothing(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(*files)
    before = sorted(tmp_path.rglob("*"))
    genuine = Directory.rename

    def rename(self: Directory, name: str, other: str) -> None:
        if "hybrid-new" in name and self.path / other == files[2]:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        genuine(self, name, other)

    monkeypatch.setattr(Directory, "rename", rename)
    with pytest.raises(ServiceConfigError, match="file system is read-only"):
        restore(*files)
    assert contents(files) == ["new"] * 3
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.undo()
    restore(*files)
    assert contents(files) == ["old"] * 3


class Killed(BaseException):
    """A process ends here: nothing that it would do afterwards happens."""


@contextlib.contextmanager
def killed_after(steps: int) -> Iterator[None]:
    """End what runs after so many steps in directories; it cannot clean up either."""
    left = steps

    def counting(genuine: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return genuine(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "link", "rename", "unlink"):
            patch.setattr(Directory, name, counting(getattr(Directory, name)))
        yield


def configure(paths: list[Path]) -> None:
    """Do as `configure` does: replace the files that are to change."""
    with replace.exclusive(paths):
        write(*(path for path in paths if not path.read_text().startswith("new")))


def bring_back(paths: list[Path]) -> None:
    """Do as `configure --restore` does."""
    with replace.exclusive(paths):
        restore(*paths)


Run = Callable[[list[Path]], None]


@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize("killed", [configure, bring_back])
def test_a_run_that_is_killed_anywhere_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: Run, former: bool
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)

    def killed_at(steps: int, number: int) -> list[Path] | None:
        """Files as such a run leaves them; None if it ends before."""
        directory = tmp_path / f"{steps}-{number}"
        paths = [directory / "a" / "x.conf", directory / "a" / "y.conf"]
        paths.append(directory / "z.conf")
        (directory / "a").mkdir(parents=True)
        for path in paths:
            path.write_text("old")
        if former or killed is bring_back:
            write(*paths, text="former")
        with contextlib.suppress(Killed), killed_after(steps):
            killed(paths)
            return None
        return paths

    points, left_over = 0, 0
    while paths := killed_at(points, 0):
        assert set(contents(paths)) <= {"old", "former", "new"}
        left_over += bool(others(paths[-1].parent))
        configure(paths)
        assert contents(paths) == ["new"] * 3
        assert others(paths[-1].parent) == []
        bring_back(paths)
        assert contents(paths) == ["old"] * 3
        back = killed_at(points, 1)
        assert back is not None
        with contextlib.suppress(ServiceConfigError):
            bring_back(back)
        assert others(back[-1].parent) == []
        configure(back)
        bring_back(back)
        assert contents(back) == ["old"] * 3
        assert not list(back[-1].parent.rglob("*before-hybrid*"))
        points += 1
    assert points > 20
    assert left_over > 5


def test_what_another_run_is_using_is_not_removed(files: list[Path]) -> None:
    in_use = files[0].with_name(".y.conf.hybrid-new")
    with replace.exclusive([files[0]]):
        in_use.touch()
        with (
            pytest.raises(ServiceConfigError, match="another `hybrid-messaging"),
            replace.exclusive([files[1]]),
        ):
            raise AssertionError("not to be reached")
        assert in_use.exists()
    with replace.exclusive([files[0]]):
        assert not in_use.exists()


def test_files_edited_since_are_not_restored(files: list[Path]) -> None:
    write(*files)
    files[1].write_text("by hand")
    with pytest.raises(ServiceConfigError, match="edited since") as caught:
        restore(*files)
    assert caught.value.path == str(files[1])
    original = replace.backup_of(files[1])
    assert original is not None
    assert f"cp -p {original} {files[1]}" in str(caught.value)
    assert contents(files) == ["new", "by", "new"]


def test_edits_between_two_runs_are_not_lost_either(files: list[Path]) -> None:
    path = files[0]
    write(path)
    path.write_text("by hand")
    assert replace.edited_since(read(path))
    write(path, text="newer")
    with pytest.raises(ServiceConfigError, match="edited since"):
        restore(path)
    original = replace.backup_of(path)
    assert original is not None and original.read_text() == "old x.conf"


def test_an_original_copied_back_by_hand_starts_anew(files: list[Path]) -> None:
    path = files[0]
    write(path)
    path.write_text("old x.conf")
    assert not replace.edited_since(read(path))
    write(path, text="newer")
    restore(path)
    assert path.read_text() == "old x.conf"


def test_two_at_once_are_one_too_many(files: list[Path], tmp_path: Path) -> None:
    with (
        replace.exclusive([files[0]]),
        pytest.raises(ServiceConfigError, match="another `hybrid-messaging") as caught,
        replace.exclusive([files[2], files[1]]),
    ):
        raise AssertionError("not to be reached")
    assert caught.value.path == str(tmp_path / "a")
    with replace.exclusive(files):
        pass


def test_somebody_elses_change_meanwhile_is_kept(files: list[Path]) -> None:
    sources = [read(path) for path in files]
    files[1].write_text("meanwhile")
    with pytest.raises(ServiceConfigError, match="another program"):
        replace.replace([replace.Replacement(source, b"new") for source in sources])
    assert contents(files) == ["old", "meanwhile", "old"]


def test_a_read_only_file_is_refused(files: list[Path]) -> None:
    files[1].chmod(0o444)
    with pytest.raises(ServiceConfigError, match=r"read-only \(mode 444\)"):
        write(*files)
    assert contents(files) == ["old"] * 3


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A file of root's that everybody may see, and we are another program."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another program")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        path = directory / "x.conf"
        path.write_text("old")
        yield path


@contextlib.contextmanager
def somebody_else() -> Iterator[None]:
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize(
    ("mode", "directory_mode", "reason"),
    [
        (0o644, 0o777, "cannot be written by this user"),
        (0o666, 0o755, "no permission to write in its directory"),
        (0o666, 0o777, "another user or group"),
    ],
)
def test_a_lack_of_permission_is_said(
    theirs: Path, mode: int, directory_mode: int, reason: str
) -> None:
    theirs.chmod(mode)
    theirs.parent.chmod(directory_mode)
    with somebody_else(), pytest.raises(ServiceConfigError, match=reason):
        write(theirs)
    assert list(theirs.parent.iterdir()) == [theirs]
    assert theirs.read_text() == "old"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", small]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        path = small / "x.conf"
        path.write_text("old")
        with pytest.raises(ServiceConfigError, match="the disk is full"):
            replace.replace([replace.Replacement(read(path), b"x" * 100_000)])
        assert path.read_text() == "old"
        assert list(small.iterdir()) == [path]
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
def test_a_read_only_file_system_is_said(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "none", place], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        path = place / "x.conf"
        path.write_text("old")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        with pytest.raises(ServiceConfigError, match="read-only"):
            write(path)
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_backup_is_closed_with_its_file(files: list[Path]) -> None:
    path = files[0]
    path.chmod(0o644)
    write(path)
    backup = replace.backup_of(path)
    assert backup is not None and backup.stat().st_mode & 0o777 == 0o644
    path.chmod(0o640)
    write(path, text="newer")
    backup = replace.backup_of(path)
    assert backup is not None and backup.stat().st_mode & 0o777 == 0o640
    path.chmod(0o600)
    restore(path)
    assert path.read_text() == "old x.conf"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_is_no_backup(files: list[Path], tmp_path: Path) -> None:
    """Whoever owns the directory may have put it there."""
    files[0].with_name(f"x.conf.before-hybrid.{'0' * 16}").symlink_to(files[2])
    assert replace.backup_of(files[0]) is None


def test_a_file_with_another_name_elsewhere_is_not_closed(files: list[Path]) -> None:
    """Its owner has not given the owner of the directory a say in its mode."""
    path, elsewhere = files[0], files[2]
    elsewhere.chmod(0o644)
    path.chmod(0o600)
    path.with_name(f"x.conf.before-hybrid.{'0' * 16}").hardlink_to(elsewhere)
    write(path)
    assert elsewhere.stat().st_mode & 0o777 == 0o644


# -- directories that are exchanged meanwhile ----------------------------------

_SYSTEM_CALLS = (
    "access",
    "fchmod",
    "fchown",
    "fstat",
    "link",
    "open",
    "rename",
    "scandir",
    "stat",
    "unlink",
)


class Exchange:
    """A directory of another user, which that user exchanges for a link.

    The link leads to a directory of root's that has a file of the same name.
    """

    def __init__(self, tmp_path: Path) -> None:
        self.theirs, self._aside = tmp_path / "theirs", tmp_path / "aside"
        self.precious = tmp_path / "precious"
        for directory in (self.theirs, self.precious):
            (directory / "etc").mkdir(parents=True)
            (directory / "etc" / "x.conf").write_text(f"old {directory.name}")
        self._link = tmp_path / "link"
        self._link.symlink_to(self.precious)
        for path in (self.theirs, *self.theirs.rglob("*"), self._link):
            os.chown(path, 12345, 12345, follow_symlinks=False)
        self.path = self.theirs / "etc" / "x.conf"
        self.away = False
        self._before = self._precious()

    def _precious(self) -> dict[Path, tuple[int, int, bytes]]:
        return {
            path: (path.stat().st_ino, path.stat().st_mode, path.read_bytes())
            for path in self.precious.rglob("*.conf*")
        }

    def swap(self) -> None:
        """Put the link there, or the directory back."""
        if self.away:
            self.theirs.rename(self._link)
            self._aside.rename(self.theirs)
        else:
            self.theirs.rename(self._aside)
            self._link.rename(self.theirs)
        self.away = not self.away

    def configure(self) -> bool:
        """Do as `configure` does; tell whether it was refused."""
        try:
            source = read_to_change(self.path)
            with replace.exclusive([source.path]):
                source = read_to_change(self.path)
                replace.replace([replace.Replacement(source, b"with a password")])
        except ServiceConfigError:
            return True
        return False

    def see_unharmed(self) -> None:
        """The file of root's is as it was, and alone."""
        assert self._precious() == self._before
        assert len(list((self.precious / "etc").iterdir())) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_that_is_exchanged_between_any_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Exchange(tmp_path)
    calls: list[str] = []
    swap_after: int | None = None

    def counting(name: str, genuine: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            calls.append(name)
            if len(calls) == swap_after:
                exchange.swap()
            return genuine(*arguments, **options)

        return call

    monkeypatch.setattr(os, "fsync", lambda handle: None)  # takes longest
    for name in _SYSTEM_CALLS:
        monkeypatch.setattr(os, name, counting(name, getattr(os, name)))
    assert not exchange.configure()
    outcomes = set()
    for step in range(1, len(calls) + 1):
        calls.clear()
        swap_after = step
        outcomes.add(exchange.configure())
        swap_after = None
        assert exchange.away
        exchange.see_unharmed()
        exchange.swap()
    assert outcomes == {True, False}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_that_is_exchanged_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    exchange, over = Exchange(tmp_path), threading.Event()

    def swap() -> None:
        while not over.is_set():
            exchange.swap()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(50):
            exchange.configure()
    finally:
        over.set()
        thread.join(60)
    exchange.see_unharmed()
