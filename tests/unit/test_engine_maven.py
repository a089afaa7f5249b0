# SPDX-License-Identifier: Apache-2.0
"""Maven: what it is run with, and what is shown of its failures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from hybrid_messaging.engines import EngineError, maven

_FAILURE = """\
\x1b[0m\x1b[0m[ERROR] Plugin maven-dependency-plugin could not be resolved -> [Help 1]
[ERROR]
[ERROR] To see the full stack trace of the errors, re-run Maven with the -e switch.
\x1b[0m\x1b[0m
"""


@pytest.fixture
def mvn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maven that keeps its arguments and the settings that it was given."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    program = tmp_path / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f"cd {tmp_path}\n"
        'echo "$*" >arguments\n'
        "while [ $# != 0 ]; do\n"
        '    if [ "$1" = --global-settings ]; then\n'
        '        cp "$2" settings; ls -ld "${2%/*}" >mode\n'
        "    fi\n"
        "    shift\n"
        "done\n"
        "if [ -e failure ]; then cat failure; exit 1; fi\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def _fetch(tmp_path: Path) -> None:
    maven.copy_dependencies("Artemis", tmp_path / "pom.xml", tmp_path / "libs")


def _proxies(tmp_path: Path) -> list[dict[str, str | None]]:
    root = ElementTree.fromstring((tmp_path / "settings").read_text())
    return [{item.tag: item.text for item in proxy} for proxy in root.iter("proxy")]


def test_the_proxies_of_the_environment_reach_maven(
    mvn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://me:h%40sh@proxy.example:3128")
    monkeypatch.setenv("http_proxy", "192.0.2.1:8080")
    monkeypatch.setenv("no_proxy", "127.0.0.1, .example.org")
    _fetch(tmp_path)
    direct = "127.0.0.1|*.127.0.0.1|example.org|*.example.org"
    assert _proxies(tmp_path) == [
        {
            "id": "environment-https",
            "protocol": "https",
            "host": "proxy.example",
            "port": "3128",
            "username": "me",
            "password": "h@sh",
            "nonProxyHosts": direct,
        },
        {
            "id": "environment-http",
            "protocol": "http",
            "host": "192.0.2.1",
            "port": "8080",
            "nonProxyHosts": direct,
        },
    ]
    assert "h@sh" not in (tmp_path / "arguments").read_text()
    assert (tmp_path / "mode").read_text().startswith("drwx------")


def test_settings_of_the_installation_stay_without_proxies(
    mvn: Path, tmp_path: Path
) -> None:
    _fetch(tmp_path)
    assert "--global-settings" not in (tmp_path / "arguments").read_text()


@pytest.mark.parametrize("url", ["http://proxy:port", "http://[::1", "http://:hush@"])
def test_what_is_no_proxy_is_named_without_its_password(
    mvn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("https_proxy", url)
    with pytest.raises(EngineError, match="https_proxy is not the URL") as caught:
        _fetch(tmp_path)
    assert "hush" not in str(caught.value)


def test_a_maven_that_is_not_there(
    mvn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mvn.unlink()
    monkeypatch.setenv("PATH", str(mvn.parent))
    with pytest.raises(EngineError, match=r"Maven is not .* install maven"):
        _fetch(tmp_path)


def test_of_a_failure_the_reason_is_shown(mvn: Path, tmp_path: Path) -> None:
    (tmp_path / "failure").write_text(_FAILURE)
    with pytest.raises(EngineError) as caught:
        _fetch(tmp_path)
    assert str(caught.value) == (
        "Maven could not download Artemis:\n"
        "[ERROR] Plugin maven-dependency-plugin could not be resolved\n"
        "If the network is down, try again when it is up"
    )


def test_a_maven_that_hangs_is_ended(
    mvn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mvn.write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(maven, "_TIMEOUT", 0.1)
    with pytest.raises(EngineError, match="did not finish downloading Artemis"):
        _fetch(tmp_path)
