# SPDX-License-Identifier: Apache-2.0
"""How a router says that it is about to end, while all goes on.

AMQP 1.0 has no word for that. So the router attaches a link to an address that no
service has. A peer that moves to another router attaches its end, and leaves the link
until it closes its connection; one that does not move, or does not know what the link
means, detaches it.
"""

from __future__ import annotations

from hybrid_messaging.protocol.endpoint import Link

#: The target of the link.
ADDRESS = "hybrid-messaging.draining"
#: What peers that know it say they are, in their Open's properties.
PRODUCT = "hybrid-messaging"


def announces(link: Link) -> bool:
    """Whether a link that a peer has attached says that the peer is about to end."""
    return link.pn.remote_target.address == ADDRESS
