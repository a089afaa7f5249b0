# SPDX-License-Identifier: Apache-2.0
"""Several hosts as one deployment: rendered from one topology file, and checked.

`topology` is what such a file says, and `reading` reads it. `mesh` decides which
routers are linked. `credentials` makes passwords and identifiers once. `routers`,
`redis`, `rabbitmq`, `kafka` and `proxies` each say what the hosts of one role need;
`units` puts it under systemd, `transports` builds the URLs of services, and `rendering`
joins all of that to a tree of files, which `tree` compares with a directory and writes.
`inventory` lists the hosts for Ansible.

`checking` asks the servers of a topology whether they are one cluster: `router_checks`,
`redis_checks`, `rabbitmq_checks` and `kafka_checks` for one role each;
`certificate_checks` looks at the certificates that they show, `clock_checks` at the
time that they say. `findings` is what they find.
"""

from __future__ import annotations


class ClusterError(Exception):
    """A cluster that cannot be rendered or checked; the text says what to do."""
