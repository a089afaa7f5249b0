# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made by the openssl command, valid for a day."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

#: What openssl req -x509 makes are certificates of authorities, all of them.
USAGE = "digitalSignature,keyCertSign,cRLSign"


class Certificate(NamedTuple):
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of its own."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._own = self._request(name, ["-x509", "-days", "1"])
        #: what peers have to trust
        self.certificate = self._own.certificate

    def issue(self, name: str, host: str = "") -> Certificate:
        """Make a certificate.

        :param name: its common name
        :param host: the host name that it is for, if it is a server's
        """
        extensions = ["-addext", f"subjectAltName=DNS:{host}"] if host else []
        signer = ["-CA", str(self._own.certificate), "-CAkey", str(self._own.key)]
        return self._request(name, ["-x509", "-days", "1", *signer, *extensions])

    def _request(self, name: str, options: list[str]) -> Certificate:
        made = Certificate(
            self._directory / f"{name}.pem", self._directory / f"{name}.key"
        )
        # Python wants it from 3.13 on
        options = [*options, "-addext", f"keyUsage=critical,{USAGE}"]
        subprocess.run(
            [
                *("openssl", "req", "-new", "-nodes", "-subj", f"/CN={name}"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-keyout", str(made.key), "-out", str(made.certificate)),
                *options,
            ],
            check=True,
            capture_output=True,
        )
        return made
