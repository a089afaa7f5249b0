# SPDX-License-Identifier: Apache-2.0
"""Maven's own client, which fetches the libraries of engines in Java.

Unlike other clients it ignores the proxies of the environment (``https_proxy``,
``no_proxy`` and their like), so they are handed to it in a file of settings. Proxies
of the user's own ``~/.m2/settings.xml`` come before them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from hybrid_messaging.engines import EngineError

_TIMEOUT = 900.0
#: Copies what a build file names, and whatever that needs to run.
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: Below it is only how to run Maven once more, for its authors.
_REASON_ENDS = re.compile(r"( -> \[Help \d+\])?\n\[ERROR\] *\n.*", re.DOTALL)
_LINES = 8


def copy_dependencies(title: str, build_file: Path, libraries: Path) -> None:
    """Fetch what a build file names as its dependencies, and all that they need.

    :param title: what they are, for whoever waits
    :param build_file: in a directory that may be written to
    :param libraries: the directory that takes the ``.jar`` files
    :raises EngineError: Maven is not installed, takes too long, or fails
    """
    program = shutil.which("mvn")
    if program is None:
        manager = "apt-get" if shutil.which("apt-get") else "dnf"
        raise EngineError(
            f"Maven is not installed here: sudo {manager} install maven, or choose "
            "another --source"
        )
    # others cannot look into it: a proxy may have a password
    with tempfile.TemporaryDirectory() as place:
        settings = _proxy_settings(Path(place))
        try:
            done = subprocess.run(
                [
                    *(program, "--batch-mode", "--quiet", "--strict-checksums"),
                    *settings,
                    *("--file", build_file, _COPY),
                    *("-DincludeScope=runtime", f"-DoutputDirectory={libraries}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                f"Maven did not finish downloading {title} within {_TIMEOUT:.0f}"
                " seconds: try again, or choose another --source"
            ) from error
    if done.returncode:
        raise EngineError(
            f"Maven could not download {title}:\n{_reason(done.stdout)}\nIf the"
            " network is down, try again when it is up"
        )


def _proxy_settings(directory: Path) -> list[str | Path]:
    """Arguments that have Maven use the proxies of the environment, if it has any.

    :param directory: takes the file that they name
    """
    environment = urllib.request.getproxies()
    direct = "|".join(_direct(environment.get("no", "")))
    root = ElementTree.Element("settings")
    proxies = ElementTree.SubElement(root, "proxies")
    for scheme in ("https", "http"):
        url = environment.get(scheme)
        if url:
            proxy = ElementTree.SubElement(proxies, "proxy")
            for name, value in {**_proxy(scheme, url), "nonProxyHosts": direct}.items():
                if value:
                    ElementTree.SubElement(proxy, name).text = value
    if not len(proxies):
        return []
    file = directory / "settings.xml"
    ElementTree.ElementTree(root).write(file)
    return ["--global-settings", file]


def _proxy(scheme: str, url: str) -> dict[str, str]:
    """A proxy for one scheme of URLs, as Maven's settings name its parts."""
    try:
        found = urlsplit(url if "://" in url else f"http://{url}")
        host, port = found.hostname, found.port or 80
    except ValueError:
        host = None
    if not host:
        raise EngineError(
            f"{scheme}_proxy is not the URL of a proxy, such as http://192.0.2.1:3128:"
            " correct or unset it"
        )
    return {
        "id": f"environment-{scheme}",
        "protocol": scheme,
        "host": host,
        "port": str(port),
        "username": unquote(found.username or ""),
        "password": unquote(found.password or ""),
    }


def _direct(hosts: str) -> list[str]:
    """What ``no_proxy`` says, as Maven says it: there, no name is that of a domain."""
    names = [name.strip().lstrip(".") for name in hosts.split(",")]
    return [
        pattern
        for name in names
        if name
        for pattern in ([name] if "*" in name else [name, f"*.{name}"])
    ]


def _reason(text: str) -> str:
    """Why Maven failed, out of all that it says."""
    text = _REASON_ENDS.sub("", _COLOUR.sub("", text).strip())
    return "\n".join(text.splitlines()[-_LINES:])
