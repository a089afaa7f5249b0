# SPDX-License-Identifier: Apache-2.0
"""AMQP 1.0 as both ends of a connection need it: what the driver and the router share."""
