# SPDX-License-Identifier: Apache-2.0
"""The checks: each a function of a `Context` that returns a `Success`.

A check raises `Failure` where it knows what is wrong, `Skip` where it cannot be
made; any other exception is a failure, too, with the exception as its cause.
"""
