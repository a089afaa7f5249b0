# SPDX-License-Identifier: Apache-2.0
"""A small AMQP 1.0 router for one host, for development and for gate jobs.

`config` reads its configuration, `server` waits for the sockets, `connection`
speaks with one peer, `links` are that peer's producers and consumers,
`addresses` decide which consumer gets a message, `management` answers questions
about all of it, `security` sets up TLS and SASL.
"""

import importlib.metadata

#: What peers learn about us in Open's properties. Clients of Qpid's broker look
#: at the product to choose between its address syntax and that of routers.
PRODUCT = "hybrid-messaging-router"
VERSION = importlib.metadata.version("hybrid-messaging")
