# SPDX-License-Identifier: Apache-2.0
"""Settings of deployment tools with which services use two transports.

A tool writes services' files each time that it runs, from its own variables. One module
for each tool says what these have to be, as its templates read them, and what to do
about a URL that the templates cannot express. `tools` asks them, `parts` has what they
share, and `rendered` recognises files that a tool has written.

Adding a tool is adding a module with `VARIABLES` and `parts`, and its name here.
"""

from __future__ import annotations

#: In the order in which people see them.
NAMES = (
    "kolla-ansible",
    "openstack-ansible",
    "openstack-helm",
    "puppet",
    "charms",
    "devstack",
)
