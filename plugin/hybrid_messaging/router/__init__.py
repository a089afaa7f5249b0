# SPDX-License-Identifier: Apache-2.0
"""A small AMQP 1.0 router for one host, for development and for gate jobs.

From the bottom up: `config` reads its configuration, `security` sets up TLS and
SASL, `departures` remember when addresses lost their last consumer, `addresses`
decide which consumer gets a message, `budget` counts what waits
for or of a peer, `links` are a peer's producers and consumers, `connection` speaks
with one peer, `newcomers` have not opened theirs yet, `server` waits for the sockets,
`requests` reads questions about all of it, `management` answers them, `memory` is given
back, `program` makes it a process.
"""

import importlib.metadata

#: What peers learn about us in Open's properties. Clients of Qpid's broker look
#: at the product to choose between its address syntax and that of routers.
PRODUCT = "hybrid-messaging-router"
VERSION = importlib.metadata.version("hybrid-messaging")
