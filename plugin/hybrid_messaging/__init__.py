# SPDX-License-Identifier: Apache-2.0
"""RPC over a direct transport, notifications over a queueing one, for OpenStack.

doc/source/architecture.rst shows the parts, and which may import which.
"""
