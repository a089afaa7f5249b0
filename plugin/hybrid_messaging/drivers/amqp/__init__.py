# SPDX-License-Identifier: Apache-2.0
"""`amqp://`: oslo.messaging over AMQP 1.0, through a router or a broker.

driver        what oslo.messaging calls
incoming      what a service gets: requests, notifications, their listeners
bus           the lasting side: reconnects, routes, subscriptions, calls
route         one address that we send to, and the messages on their way there
subscription  the addresses that a listener receives from
connection    one connection to one host, from its handshakes to its end
hosts         which host and address is tried next, and when
security      TLS and SASL
addressing    targets to addresses
options       [oslo_messaging_amqp]
"""
