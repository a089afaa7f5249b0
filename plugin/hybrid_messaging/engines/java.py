# SPDX-License-Identifier: Apache-2.0
"""What engines in Java need: a runtime, and their libraries, fetched once.

Libraries are kept outside of checkouts and state directories, in
``$XDG_CACHE_HOME/hybrid-messaging``. They appear there whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePath

from hybrid_messaging.engines import EngineError, Missing, Progress, maven

#: Where distributions put the runtimes that are not on PATH.
RUNTIMES = Path("/usr/lib/jvm")

_PACKAGES = {
    "apt-get": "openjdk-{version}-jre-headless",
    "dnf": "java-{version}-openjdk-headless",
}
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
_VERSION_TIMEOUT = 30.0
_HTTP_TIMEOUT = 60.0
_CHUNK = 1 << 20
# a line of progress each
_PARTS = 10


def cache() -> Path:
    """Where libraries are kept, as the XDG base directory specification has it."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path.home() / ".cache"
    return base / "hybrid-messaging"


def runtime(minimum: int) -> Path | None:
    """Find a Java that is new enough.

    `JAVA_HOME` comes first, then ``PATH``, then the distribution's others.

    :param minimum: its major version
    """
    home = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    candidates = [Path(home) / "bin" / "java"] if home else []
    candidates += [Path(on_path)] if on_path else []
    candidates += sorted(RUNTIMES.glob("*/bin/java"))
    return next((item for item in candidates if _version(item) >= minimum), None)


def missing_runtime(minimum: int) -> list[Missing]:
    """What to install for `runtime` to find one."""
    if runtime(minimum):
        return []
    manager = "apt-get" if shutil.which("apt-get") else "dnf"
    package = _PACKAGES[manager].format(version=minimum)
    return [
        Missing(f"Java {minimum} or later", f"sudo {manager} install {package}"),
    ]


def fetch_with_maven(
    title: str, build_file: Path, directory: Path, progress: Progress
) -> Path:
    """Fetch what a build file names as its dependencies, by Maven's own client.

    :param title: what it is, for whoever waits
    :param directory: takes the ``.jar`` files in ``libs``
    :returns: the directory; one that is there already is left as it is
    :raises EngineError: Maven is not installed, or fails
    """
    if directory.exists():
        return directory
    with _new(directory) as new:
        progress(f"fetching {title} with Maven …")
        # it may write beside its build file, and ours may be read-only
        shutil.copy(build_file, new / "pom.xml")
        maven.copy_dependencies(title, new / "pom.xml", new / "libs")
    return directory


def fetch_archive(title: str, url: str, directory: Path, progress: Progress) -> Path:
    """Fetch a release archive, and compare it with its checksum.

    The checksum is the file ``.sha512`` beside it, over the same TLS connection's
    authority.

    :param title: what it is, for whoever waits
    :param url: of a ``.tgz`` with the libraries in a directory ``libs``
    :param directory: takes the ``.jar`` files in ``libs``
    :returns: the directory; one that is there already is left as it is
    :raises EngineError: it cannot be fetched, or is not what it should be
    """
    if directory.exists():
        return directory
    with _new(directory) as new:
        archive = new / "archive.tgz"
        try:
            wanted = _checksum(_read(f"{url}.sha512"), url)
            found = _download(title, url, archive, progress)
            if found != wanted:
                raise EngineError(
                    f"{url} does not match its checksum in {url}.sha512: try again,"
                    " and do not use the file if it still differs"
                )
            _unpack(archive, new / "libs")
        except (OSError, EOFError, tarfile.TarError) as error:
            raise EngineError(
                f"cannot download {url}: {error}; if the network is down, try again"
                " when it is up, or choose another --source"
            ) from error
        archive.unlink()
    return directory


def _version(program: Path) -> int:
    """The major version of a Java, 0 for what is none."""
    try:
        done = subprocess.run(
            [program, "-version"],
            capture_output=True,
            timeout=_VERSION_TIMEOUT,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _VERSION.search(done.stderr)
    return int(found[1]) if found else 0


@contextlib.contextmanager
def _new(directory: Path) -> Iterator[Path]:
    """A directory that takes its name once the block has filled it."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{directory.name}.", dir=directory.parent
        ) as place:
            new = Path(place) / "new"
            new.mkdir()
            yield new
            # whoever was faster has made the same
            if not directory.exists():
                new.rename(directory)
    except OSError as error:
        raise EngineError(f"cannot write to {directory.parent}: {error}") from error


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT) as response:  # noqa: S310
        return str(response.read(_CHUNK).decode("ascii", "replace"))


def _checksum(text: str, url: str) -> str:
    """The digest in a checksum file, as sha512sum or as gpg writes it."""
    *_, printed = text.partition(":") if ":" in text else ("", text.split()[0])
    digest = "".join(printed.split()).lower()
    if not re.fullmatch("[0-9a-f]{128}", digest):
        raise EngineError(f"{url}.sha512 contains no checksum")
    return digest


def _download(title: str, url: str, target: Path, progress: Progress) -> str:
    """Fetch a file, and return its checksum."""
    digest = hashlib.sha512()
    with (
        urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT) as response,  # noqa: S310
        target.open("wb") as file,
    ):
        total = int(response.headers.get("Content-Length") or 0)
        told = done = 0
        progress(f"fetching {title}, {total / 1e6:.0f} MB …")
        while chunk := response.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
            done += len(chunk)
            part = done * _PARTS // total if total else 0
            if part > told:
                told = part
                progress(f"{done * 100 // total:3} % of {title}")
    return digest.hexdigest()


def _unpack(archive: Path, libs: Path) -> None:
    """Take the libraries out of an archive, and nothing else."""
    libs.mkdir()
    with tarfile.open(archive) as content:
        for member in content:
            path = PurePath(member.name)
            if path.parent.name == "libs" and path.suffix == ".jar":
                source = content.extractfile(member)
                if source is not None:
                    with source, (libs / path.name).open("wb") as target:
                        shutil.copyfileobj(source, target)
