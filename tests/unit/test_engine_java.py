# SPDX-License-Identifier: Apache-2.0
"""Engines in Java: which runtime is taken, and how libraries come into the cache."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybrid_messaging.engines import EngineError, java

MakeJava = Callable[[str, str], Path]


@pytest.fixture
def make_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJava:
    """Puts runtimes where a distribution, `JAVA_HOME` and `PATH` have them."""
    monkeypatch.setattr(java, "RUNTIMES", tmp_path / "jvm")
    monkeypatch.setenv("PATH", str(tmp_path / "path" / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    def make(place: str, version: str) -> Path:
        program = tmp_path / place / "bin" / "java"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        program.chmod(0o755)
        return program

    return make


def test_the_first_runtime_that_is_new_enough(
    make_java: MakeJava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert java.runtime(17) is None
    make_java("path", "11.0.2")
    make_java("jvm/a", "1.8.0_412")
    assert java.runtime(17) is None
    packaged = make_java("jvm/b", "21")
    assert java.runtime(17) == packaged
    own = make_java("own", "17.0.15")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "own"))
    assert java.runtime(17) == own
    make_java("own", "no version at all")
    assert java.runtime(17) == packaged


@pytest.mark.parametrize(
    ("manager", "package"),
    [("apt-get", "openjdk-17-jre-headless"), ("dnf", "java-17-openjdk-headless")],
)
def test_the_command_that_installs_a_runtime(
    make_java: MakeJava, tmp_path: Path, manager: str, package: str
) -> None:
    program = make_java("path", "11")
    program.with_name(manager).symlink_to(program)
    (lack,) = java.missing_runtime(17)
    assert lack.what == "Java 17 or later"
    assert lack.install == f"sudo {manager} install {package}"
    make_java("jvm/b", "17")
    assert java.missing_runtime(17) == []


def test_the_cache_is_where_users_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert java.cache() == tmp_path / "hybrid-messaging"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert java.cache() == tmp_path / ".cache" / "hybrid-messaging"


# -- release archives -----------------------------------------------------------


class Site:
    """A web server with a release archive and its checksum."""

    def __init__(self, root: Path, port: int) -> None:
        self.archive = root / "kafka.tgz"
        self.checksum = root / "kafka.tgz.sha512"
        self.url = f"http://127.0.0.1:{port}/kafka.tgz"

    def publish(self, names: dict[str, bytes]) -> None:
        with tarfile.open(self.archive, "w:gz") as content:
            for name, data in names.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                content.addfile(member, io.BytesIO(data))
        digest = hashlib.sha512(self.archive.read_bytes()).hexdigest()
        self.checksum.write_text(f"{digest}  kafka.tgz\n")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    root = tmp_path / "site"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=root)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Site(root, server.server_address[1])
        made.publish(
            {
                "kafka/libs/kafka_2.13-4.1.1.jar": b"kafka",
                "kafka/libs/../../../escaped.jar": b"wicked",
                "kafka/libs/notes.txt": b"notes",
                "kafka/bin/kafka.jar": b"another",
            }
        )
        yield made
        server.shutdown()


def fetch(site: Site, target: Path) -> list[str]:
    told: list[str] = []
    assert java.fetch_archive("Kafka 4.1.1", site.url, target, told.append) == target
    return told


def test_only_the_libraries_are_kept(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "kafka-4.1.1"
    told = fetch(site, target)
    assert told[0].startswith("fetching Kafka 4.1.1, ")
    assert told[-1] == "100 % of Kafka 4.1.1"
    files = {str(path.relative_to(target)) for path in target.rglob("*.*")}
    assert files == {"libs/kafka_2.13-4.1.1.jar"}
    assert [path.name for path in target.parent.iterdir()] == ["kafka-4.1.1"]
    # whoever has it already keeps it
    (target / "libs" / "mine.jar").touch()
    assert fetch(site, target) == []
    assert (target / "libs" / "mine.jar").exists()


def test_a_checksum_as_gpg_prints_it(site: Site, tmp_path: Path) -> None:
    digest = site.checksum.read_text().split()[0].upper()
    groups = [digest[start : start + 8] for start in range(0, 128, 8)]
    lines = "\n           ".join(" ".join(groups[i : i + 4]) for i in range(0, 16, 4))
    site.checksum.write_text(f"kafka.tgz: {lines}\n")
    fetch(site, tmp_path / "kafka")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda site: site.archive.write_bytes(b"x"), "does not match its checksum"),
        (
            lambda site: site.checksum.write_text("0" * 128),
            "does not match its checksum",
        ),
        (lambda site: site.checksum.write_text("<html>"), "contains no checksum"),
        (lambda site: site.checksum.unlink(), ": HTTP Error 404"),
        (lambda site: site.archive.unlink(), ": HTTP Error 404"),
    ],
    ids=["damaged", "other checksum", "no checksum", "no file", "no archive"],
)
def test_nothing_is_kept_of_what_is_not_right(
    site: Site, tmp_path: Path, spoil: Callable[[Site], None], message: str
) -> None:
    spoil(site)
    target = tmp_path / "cache" / "kafka"
    with pytest.raises(EngineError, match=message):
        fetch(site, target)
    assert list(target.parent.iterdir()) == []


def test_what_is_no_archive_although_its_checksum_is_right(
    site: Site, tmp_path: Path
) -> None:
    site.archive.write_bytes(b"no archive")
    site.checksum.write_text(hashlib.sha512(b"no archive").hexdigest())
    with pytest.raises(EngineError, match="cannot download"):
        fetch(site, tmp_path / "kafka")


# -- Maven ------------------------------------------------------------------------


def test_what_is_there_is_not_fetched_again(
    make_java: MakeJava, tmp_path: Path
) -> None:
    assert java.fetch_with_maven("Kafka", tmp_path, tmp_path, print) == tmp_path


def test_what_maven_complains_of_is_shown(make_java: MakeJava, tmp_path: Path) -> None:
    maven = make_java("path", "17").with_name("mvn")
    maven.write_text("#!/bin/sh\necho '[ERROR] no such artifact'; exit 1\n")
    maven.chmod(0o755)
    build_file = tmp_path / "pom.xml"
    build_file.touch()
    target = tmp_path / "cache" / "kafka"
    with pytest.raises(EngineError, match=r"(?s)could not download Kafka.*no such art"):
        java.fetch_with_maven("Kafka", build_file, target, print)
    assert list(target.parent.iterdir()) == []
