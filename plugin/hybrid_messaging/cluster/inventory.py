# SPDX-License-Identifier: Apache-2.0
"""The hosts of a cluster for Ansible, and what its playbook has to know of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

import yaml

from hybrid_messaging.cluster.topology import Topology
from hybrid_messaging.cluster.tree import File

FILE = "inventory.yaml"
GROUP = "hybrid_messaging"

_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Rendered by hybrid-messaging: changes are lost when the cluster is rendered again.
"""


def file(topology: Topology, names: Iterable[str]) -> File:
    """The inventory.

    :param names: of all that any host may run, which are those of folders and units
    """
    group = {
        "vars": {
            "hybrid_messaging_directory": topology.directory,
            "hybrid_messaging_state": topology.state,
            "hybrid_messaging_user": topology.user,
            # what a host may still have of roles that it had before
            "hybrid_messaging_servers": list(names),
        },
        "hosts": {host.name: {"ansible_host": host.address} for host in topology.hosts},
    }
    text = yaml.safe_dump({GROUP: group}, sort_keys=False)
    return File(PurePosixPath(FILE), (_HEAD + text).encode(), private=False)
