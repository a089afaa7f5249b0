# SPDX-License-Identifier: Apache-2.0
"""`migrate+…://`: two buses as one, while services move from one to the other.

driver      what oslo.messaging calls
sending     how a request finds its bus
courses     which bus serves a target, as far as is known: a state machine
counts      how many requests go over either bus
buses       each bus as the parts above see it
queues      whether somebody consumes from a queue of RabbitMQ
listening   a listener on both buses
options     [oslo_messaging_migrate]
"""
