# SPDX-License-Identifier: Apache-2.0
"""Charms: a relation makes the URL; flags of some charms come after it in the file.

The relation `amqp` gives RPC and notifications one RabbitMQ, user and virtual host. No
charm has an option for others. The option `config-flags` adds lines to
[DEFAULT]. In the files of some charms they stand below the URL of the relation, and of
several lines the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from hybrid_messaging import urls
from hybrid_messaging.service_configs.deployment_tools.parts import Part, yaml
from hybrid_messaging.service_configs.transports import Transports

VARIABLES = "config-flags of the charms that have it"
#: Charms whose flags stand below the URL, and whose peers in RPC are among them.
_CHARMS = ("cinder", "nova-cloud-controller", "nova-compute")


def parts(transports: Transports) -> Iterator[Part]:
    """What goes into its files; see `deployment_tools`."""
    # with a colon before the first =, it is read as YAML, so that = and , are no end
    flags = "{" + f"transport_url: {json.dumps(str(transports.rpc))}" + "}"
    yield Part(
        "hybrid-messaging.yaml",
        yaml({charm: {"config-flags": flags} for charm in _CHARMS}),
        (
            "For each of these: juju config APPLICATION --file hybrid-messaging.yaml."
            " This replaces the flags that an application already has: add those here.",
            "Update Nova's cell mappings on the controller with nova-manage cell_v2"
            " update_cell --cell_uuid UUID, unless a relation changes, which does the"
            " same.",
            "Notifications stay on the RabbitMQ of the relation amqp, because no charm"
            f" has an option for {urls.shown(str(transports.notify))}.",
            "RPC of the other charms stays there as well: they have no such flags, or"
            " write the relation's URL below them. This works for a service that calls"
            " only itself. Neutron's agents are such charms, so leave neutron-api as"
            " it is.",
        ),
    )
