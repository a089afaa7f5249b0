# SPDX-License-Identifier: Apache-2.0
"""`amqp://`: oslo.messaging over AMQP 1.0, through a router or a broker.

driver        what oslo.messaging calls
incoming      what a service gets: requests, notifications, their listeners
mailbox       what a listener receives, also while it moves to another host
uplink        one side of a transport: the bus that it uses, and its way to another
bus           the lasting side: connects, reconnects, and holds these together:
outbox          what is sent, and the replies
route           one address that we send to, and the messages that wait for it
answers         the replies of a server on their way
outgoing        a message that is sent, and where it is
waiting         the threads that wait for what becomes of it
subscription    the addresses that a listener receives from
duties          what is to be done later
outages         what the log says when a connection goes or comes
connection    one connection to one host, from its handshakes to its end
direct        its socket, used without giving the interpreter away
line          what is known of a connection that is up
failures      why there is none, in words
hosts         which host is tried next, and when
dialling      connecting to the host that is the first to open a connection
steps         what waits for a socket without blocking
security      TLS and SASL
addressing    targets to addresses
options       [oslo_messaging_amqp]
"""
