# SPDX-License-Identifier: Apache-2.0
"""Programs of container images, run by Podman as if they were the host's.

A container has the host's network and, of the host's files, those that it is shown,
under their own names. Who is root in it is nobody else than who runs it, so that it
can read what is private.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from hybrid_messaging.engines import EngineError, Missing, Progress, processes

PODMAN = "podman"

_TIMEOUT = 30.0


def missing(image: str) -> list[Missing]:
    """What this machine lacks to run programs of an image."""
    if shutil.which(PODMAN) is None:
        return [Missing(PODMAN, f"install the package {PODMAN}")]
    if not _exists(image):
        return [Missing(f"the image {image}", f"{PODMAN} pull {image}")]
    return []


def pull(image: str, progress: Progress) -> str:
    """Fetch an image, unless it is there.

    :returns: its name
    :raises EngineError: Podman is not installed, or fails
    """
    lacking = missing(image)
    if lacking and lacking[0].what == PODMAN:
        raise EngineError(f"{PODMAN} is not installed here: {lacking[0].install}")
    if lacking:
        progress(f"pulling {image} with {PODMAN} …")
        done = subprocess.run(
            [PODMAN, "pull", "--quiet", image],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise EngineError(f"{PODMAN} cannot pull {image}: {done.stderr.strip()}")
    return image


def command(
    image: str, program: str, directory: Path | None = None, files: Iterable[str] = ()
) -> tuple[str, ...]:
    """What runs a program of an image in the foreground; its arguments may follow.

    :param directory: shown to it, and its working directory
    :param files: paths that it may read besides
    """
    shown = []
    if directory is not None:
        shown = [f"--volume={directory}:{directory}", f"--workdir={directory}"]
    shown += [f"--volume={path}:{path}:ro" for path in sorted(set(files))]
    return (
        PODMAN,
        "run",
        "--rm",
        "--interactive",
        # an engine's start has no time for that; see `missing`
        "--pull=never",
        "--network=host",
        "--user=0:0",
        # SELinux would want the host's files labelled anew
        "--security-opt=label=disable",
        # its output is ours; nothing has to be kept a second time
        "--log-driver=none",
        # by which it is ended if whoever runs it has been killed
        f"--env={processes.MARK}",
        *shown,
        f"--entrypoint={program}",
        image,
    )


def _exists(image: str) -> bool:
    try:
        asked = subprocess.run(
            [PODMAN, "image", "exists", image],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
