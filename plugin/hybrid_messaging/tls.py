# SPDX-License-Identifier: Apache-2.0
"""TLS as every client and server of ours speaks it: 1.2 or newer, names by RFC 9525."""

from __future__ import annotations

import ssl
from pathlib import Path

#: The oldest version.
OLDEST = ssl.TLSVersion.TLSv1_2
#: The versions as qpid-proton and routers list them.
VERSIONS = "TLSv1.2 TLSv1.3"


def since(oldest: str) -> str:
    """Those of `VERSIONS` from one on.

    :param oldest: its name, as Python has it (`TLSv1_2`)
    """
    first = oldest.replace("_", ".")
    return " ".join(version for version in VERSIONS.split() if version >= first)


def client(authorities: str | None = None) -> ssl.SSLContext:
    """What a client asks of its peer.

    A server proves its name or address with a subjectAltName. A common name counts
    for nothing, whether there are others or not (RFC 9525, section 2).

    :param authorities: file or directory of the certificates to trust, in PEM; those
        of the system if there is none
    :raises OSError: they cannot be read
    """
    if authorities and Path(authorities).is_dir():
        context = ssl.create_default_context(capath=authorities)
    else:
        context = ssl.create_default_context(cafile=authorities or None)
    context.minimum_version = OLDEST
    context.hostname_checks_common_name = False
    return context
