# SPDX-License-Identifier: Apache-2.0
"""AMQP 1.0 as driver and router both need it.

endpoint    one end of a connection, fed with bytes, without a socket
codec       messages to bytes and back
values      what is wanted of a peer's bytes, and past the rest
pieces      large messages on their way out, handed over in pieces
reassembly  messages of which not everything has arrived
desertion   how a router says that all listeners of an address have left
draining    how a router says that it is about to end
tls_domain  qpid-proton's TLS, with the versions that we speak
proton_c    qpid-proton's C functions, called quickly
"""
