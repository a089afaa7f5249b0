# SPDX-License-Identifier: Apache-2.0
"""Engines in Java: which runtime is taken, and how libraries come into the cache."""

from __future__ import annotations

from collections.abc import Callable
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


def test_maven_is_missing(make_java: MakeJava, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"Maven is not .* install maven"):
        java.fetch_with_maven("Kafka", tmp_path / "pom.xml", tmp_path / "k", print)


def test_what_maven_complains_of_is_shown(make_java: MakeJava, tmp_path: Path) -> None:
    maven = make_java("path", "17").with_name("mvn")
    maven.write_text("#!/bin/sh\necho '[ERROR] no such artifact'; exit 1\n")
    maven.chmod(0o755)
    build_file = tmp_path / "pom.xml"
    build_file.touch()
    target = tmp_path / "cache" / "kafka"
    with pytest.raises(EngineError, match=r"(?s)could not fetch Kafka.*no such art"):
        java.fetch_with_maven("Kafka", build_file, target, print)
    assert list(target.parent.iterdir()) == []
