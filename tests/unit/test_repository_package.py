# SPDX-License-Identifier: Apache-2.0
"""What gets installed is whole: from a wheel, and from a checkout in editable mode."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What a build reads. It takes place in a copy, since it leaves files about.
SOURCES = ("LICENSE", "README.rst", "files", "plugin", "pyproject.toml", "setup.cfg",
           "setup.py")  # fmt: skip
#: Loads the mode table, which is one of the files that both halves share, and
#: tells where it was found.
LOAD = """
import site, sys
site.addsitedir(sys.argv[1])
from hybrid_messaging import modes
assert modes.get("qpid-hybrid").rpc == "amqp"
print(modes.TABLE)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, copy / name)
    return copy


def pip(*arguments: str | Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def load(site: Path) -> Path:
    """Load the mode table from what is installed in a directory, and only there."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOAD, str(site)],
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(done.stdout.strip())


def files_below(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", directory, checkout)
    (path,) = directory.glob("*.whl")
    return path


def test_the_wheel_holds_all_modules_and_all_shared_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            name.partition("/")[2]
            for name in archive.namelist()
            if name.startswith("hybrid_messaging/")
        }
    modules = {
        name
        for name in files_below(ROOT / "plugin/hybrid_messaging")
        if not name.startswith("files/")
    }
    assert packed == modules | {f"files/{name}" for name in files_below(ROOT / "files")}


def test_an_installed_wheel_finds_the_shared_files(wheel: Path, tmp_path: Path) -> None:
    pip("install", "--no-deps", "--target", tmp_path, wheel)
    assert load(tmp_path) == tmp_path / "hybrid_messaging/files/modes"
    assert (tmp_path / "bin/hybrid-messaging").exists()


def test_an_editable_install_uses_the_files_of_the_checkout(
    checkout: Path, tmp_path: Path
) -> None:
    pip("install", "--no-deps", "--no-build-isolation", "--target", tmp_path,
        "--editable", checkout)  # fmt: skip
    assert load(tmp_path).resolve() == checkout / "files/modes"


def test_shared_files_are_reached_through_a_relative_link() -> None:
    link = ROOT / "plugin/hybrid_messaging/files"
    assert link.readlink() == Path("../../files")
