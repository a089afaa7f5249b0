# SPDX-License-Identifier: Apache-2.0
"""Which versions of TLS a server takes, from a client that takes everything."""

from __future__ import annotations

import socket
import ssl
import warnings

#: The versions that servers of ours take, as Python names them.
SPOKEN = {"TLSv1.2", "TLSv1.3"}
#: What leaves OpenSSL no objection of its own to old versions.
ANYTHING = "ALL:@SECLEVEL=0"
TIMEOUT = 60.0


def anything(
    purpose: int = ssl.PROTOCOL_TLS_CLIENT, version: str | None = None
) -> ssl.SSLContext:
    """TLS of one version, if one is named, without any requirements."""
    context = ssl.SSLContext(purpose)
    if purpose == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(ANYTHING)
    if version is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            found = ssl.TLSVersion[version.replace(".", "_")]
            context.minimum_version = context.maximum_version = found
    return context


def taken(host: str, port: int) -> set[str]:
    """The versions, of those that Python can name, that a port takes."""
    found = set()
    for version in ("TLSv1", "TLSv1.1", *SPOKEN):
        with socket.create_connection((host, port), TIMEOUT) as plain:
            try:
                with anything(version=version).wrap_socket(plain) as spoken:
                    found.add(spoken.version() or "")
            except TimeoutError:
                raise
            except OSError:  # an alert, or the end of the connection
                continue
    return found
