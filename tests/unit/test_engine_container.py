# SPDX-License-Identifier: Apache-2.0
"""Routers in container images: what Podman is asked to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_messaging.engines import (
    Certificates,
    EngineError,
    Options,
    container,
    kinds,
    router_program,
)

ROUTER = kinds.get("router")

#: Notes its arguments and what it reads; has the images in `images`.
PODMAN = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >>"$here/asked"
case "$1 $*" in
    image*) /bin/grep -qx "$3" "$here/images" ;;
    pull*)
        case $3 in
            *known*) echo "$3" >>"$here/images" ;;
            *) echo "$3: not today" >&2; exit 125 ;;
        esac ;;
    run*--version*) echo 3.5.1 ;;
    run*saslpasswd2*)
        /bin/cat >"$here/read"
        for word; do
            if [ "$before" = -f ]; then : >"$word"; fi
            before=$word
        done ;;
esac
"""


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a Podman that has the image `here/router`."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "podman").write_text(PODMAN.replace("$(dirname", "$(/usr/bin/dirname"))
    (directory / "podman").chmod(0o755)
    (directory / "images").write_text("here/router\n")
    monkeypatch.setenv("PATH", str(directory))
    return directory


def take(preferred: int | None) -> int:
    return preferred or 1000


def test_a_router_in_a_container_sees_what_it_needs(
    podman: Path, tmp_path: Path
) -> None:
    certificates = Certificates("/tls/ca.pem", "/tls/host.pem")
    options = Options(
        router="container:here/router", certificates=certificates, tls=True
    )
    directory = tmp_path / "router"
    directory.mkdir()
    assert ROUTER.missing(options) == []
    launch = ROUTER.prepare("router", directory, take, None, options)
    assert launch.command[:2] == ("podman", "run")
    shown = [word for word in launch.command if word.startswith("--volume=")]
    assert shown == [
        f"--volume={directory}:{directory}",
        "--volume=/tls/ca.pem:/tls/ca.pem:ro",
        "--volume=/tls/host.pem:/tls/host.pem:ro",
    ]
    assert launch.command[-4:] == (
        *("--entrypoint=skrouterd", "here/router"),
        *("-c", f"{directory}/router.conf"),
    )
    # the image's own Cyrus SASL has made the user, whose password nobody has seen
    password = launch.details.password
    assert (podman / "read").read_text() == password
    assert password not in (podman / "asked").read_text()


def test_what_a_container_needs_is_missed(
    podman: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lack,) = ROUTER.missing(Options(router="container:other/router"))
    assert lack.install == "podman pull other/router"
    (lack,) = ROUTER.missing(Options(router="container"))
    assert lack.what == f"the image {router_program.IMAGE}"
    options = Options(router="container:other/router")
    with pytest.raises(EngineError, match="lacks the image other/router: podman pull"):
        ROUTER.prepare("router", tmp_path, take, None, options)
    monkeypatch.setenv("PATH", "")
    (lack,) = ROUTER.missing(Options(router="container"))
    assert lack.what == "podman"
    with pytest.raises(EngineError, match="podman is not installed here"):
        container.pull("here/router", print)


def test_an_image_is_fetched_once(podman: Path) -> None:
    said: list[str] = []
    assert container.pull("known/router", said.append) == "known/router"
    assert said == ["pulling known/router with podman …"]
    assert container.pull("known/router", said.append) == "known/router"
    assert (podman / "asked").read_text().count("pull") == 1
    with pytest.raises(EngineError, match="cannot pull no/router"):
        container.pull("no/router", said.append)
