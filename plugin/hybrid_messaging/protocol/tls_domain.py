# SPDX-License-Identifier: Apache-2.0
"""TLS in qpid-proton."""

from __future__ import annotations

import cproton
import proton

from hybrid_messaging import tls


def make(mode: int, versions: str = tls.VERSIONS) -> proton.SSLDomain:
    """What connections have in common.

    :param mode: `proton.SSLDomain.MODE_CLIENT` or `MODE_SERVER`
    :param versions: of TLS, separated by blanks
    :raises proton.SSLException: OpenSSL does not know them
    """
    domain = proton.SSLDomain(mode)
    # python-qpid-proton has no method for it
    domain._check(cproton.pn_ssl_domain_set_protocols(domain._domain, versions))
    return domain
