# SPDX-License-Identifier: Apache-2.0
"""TLS in qpid-proton."""

from __future__ import annotations

import cproton
import proton

from hybrid_messaging import tls


def make(mode: int) -> proton.SSLDomain:
    """What connections have in common, with the versions that all of ours speak.

    :param mode: `proton.SSLDomain.MODE_CLIENT` or `MODE_SERVER`
    :raises proton.SSLException: OpenSSL has none of the versions
    """
    domain = proton.SSLDomain(mode)
    # python-qpid-proton has no method for it
    domain._check(cproton.pn_ssl_domain_set_protocols(domain._domain, tls.VERSIONS))
    return domain
