# SPDX-License-Identifier: Apache-2.0
"""Smoke checks: prove on live transports that messages go where they should.

`table` lists the checks, `runner` makes them, `checks` holds them, one function
each. What they need to know about a kind of transport is in
`hybrid_messaging.servers`.
"""
