# SPDX-License-Identifier: Apache-2.0
"""Paths, followed name by name: where the system would go, and no further."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from hybrid_messaging import path_walk


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few directories and links, in one of which we are."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "a" / "b" / "file").touch()
    for name, target in {
        "file-in-a": "a/file",
        "a/up": "..",
        "a/b/top": "/",
        "here": ".",
        "far": str(tmp_path / "a" / "b"),
        "chain": "here/far/../up/far",
        "loop": "loop",
        "dangling": "nowhere/at/all",
    }.items():
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path / "a")
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        "file",
        "b/file",
        "b/../file",
        "../a/./b//file",
        "../file-in-a",
        "up/far/file",
        "../chain/../up/chain/file",
        "../../../../../../../..",
        "b/top/",
        "b/top/etc/..",
        "/",
        ".",
        "b/..",
    ],
)
def test_a_path_leads_where_the_system_goes(tree: Path, path: str) -> None:
    directory, name = path_walk.follow(path)
    with directory:
        assert os.path.samestat(directory.status(name), Path(path).stat())
        assert (directory.path / name).samefile(path)
        assert not (directory.path / name).is_symlink()


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("../loop", errno.ELOOP),
        ("../dangling", errno.ENOENT),
        ("nowhere/file", errno.ENOENT),
        ("file/file", errno.ENOTDIR),
        ("file/..", errno.ENOTDIR),
        ("x" * 300, errno.ENAMETOOLONG),
    ],
)
def test_a_path_that_leads_nowhere(tree: Path, path: str, number: int) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError) as caught:
        path_walk.follow(path)
    assert caught.value.errno == number
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_the_judge_sees_each_step_before_the_next(tree: Path) -> None:
    seen: list[str] = []

    def judge(step: path_walk.Step) -> None:
        seen.append(step.path.name)
        if step.path.name == "far":
            raise PermissionError

    with pytest.raises(PermissionError):
        path_walk.follow("up/far/file", judge)
    assert seen[-4:] == [tree.name, "a", "up", "far"]


def test_no_method_follows_a_link(tree: Path) -> None:
    directory, _ = path_walk.follow(tree / "here" / "a")
    with directory:
        with pytest.raises(OSError, match="symbolic links"):
            directory.open("file-in-a", os.O_RDONLY)
        directory.link("file-in-a", "other")
        assert stat.S_ISLNK(directory.status("other").st_mode)


def test_an_open_directory_stays_the_same(tree: Path) -> None:
    directory, name = path_walk.follow("b/file")
    with directory:
        Path("b").rename("c")
        Path("b").mkdir()
        directory.link(name, "other")
        directory.rename("other", "another")
        assert directory.names() == ["another", "file", "top"]
        directory.unlink("another")
        directory.unlink("another")
    assert not list(Path("b").iterdir())
