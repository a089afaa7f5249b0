# SPDX-License-Identifier: Apache-2.0
"""The oslo.messaging drivers: all that a service imports of this package."""
