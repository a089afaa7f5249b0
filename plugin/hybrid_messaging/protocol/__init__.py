# SPDX-License-Identifier: Apache-2.0
"""AMQP 1.0 as driver and router both need it."""
