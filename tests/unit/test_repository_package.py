# SPDX-License-Identifier: Apache-2.0
"""What is built and installed is whole: distributions, and editable installations."""

from __future__ import annotations

import configparser
import email
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ROOT / "files"
#: Loads the mode table, which is one of the files that both halves share, and
#: tells where it was found.
LOAD = """
import site, sys
site.addsitedir(sys.argv[1])
from hybrid_messaging import modes
assert modes.get("qpid-hybrid").rpc == "amqp"
print(modes.TABLE)
"""


def git(*arguments: str) -> list[str]:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def work_tree() -> list[str]:
    """The files of the work tree, committed or not, without what git ignores."""
    names = git("ls-files", "--cached", "--others", "--exclude-standard")
    return [name for name in names if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the work tree, since builds leave files about."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in work_tree():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name, follow_symlinks=False)
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
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sdist")
    build = "import sys; from setuptools import build_meta as backend\n"
    build += "backend.build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, directory],
        cwd=checkout,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    (path,) = directory.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", directory, sdist)
    (path,) = directory.glob("*.whl")
    return path


def test_the_sdist_holds_all_that_the_repository_holds(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        packed = {
            member.name.partition("/")[2]
            for member in archive.getmembers()
            if member.isfile() and ".egg-info/" not in member.name
        }
    link = "plugin/hybrid_messaging/files"
    followed = {f"{link}/{name}" for name in files_below(FILES)}
    assert packed == {*work_tree(), *followed, "PKG-INFO"} - {link}


def test_metadata_says_whose_this_is_and_where_to_look(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata: Message = email.message_from_bytes(archive.read(name))
    assert metadata["Author"]
    links = {link.partition(",")[0] for link in metadata.get_all("Project-URL", [])}
    assert {"Homepage", "Documentation", "Changelog"} <= links
    assert metadata["License-File"] == "LICENSE"


def requirements(lines: str) -> set[str]:
    """The lines that are neither blank nor comments."""
    return {line for line in lines.splitlines() if line and not line.startswith("#")}


def test_the_lower_constraints_are_the_oldest_releases_that_are_taken() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    taken = requirements(setup["options"]["install_requires"])
    taken |= requirements(setup["options.extras_require"]["kafka"])
    constraints = requirements((ROOT / "lower-constraints.txt").read_text())
    assert constraints == {line.replace(">=", "==") for line in taken}


def test_the_version_is_that_of_a_tag_or_says_that_there_is_none() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    version = setup["metadata"]["version"]
    assert version.endswith(".dev0") or version in git("tag", "--points-at", "HEAD")


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
    assert packed == modules | {f"files/{name}" for name in files_below(FILES)}


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
