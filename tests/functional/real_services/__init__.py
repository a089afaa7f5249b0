# SPDX-License-Identifier: Apache-2.0
"""OpenStack services, unmodified, on a hybrid message bus.

README.rst tells how to run this rig by hand and what it proves.
"""
