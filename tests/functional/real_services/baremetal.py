# SPDX-License-Identifier: Apache-2.0
"""Ironic and Cinder, each without Keystone, and Ceilometer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .deployment import TEMPLATES, Deployment, options
from .processes import Command
from .workload import Cinder, Ironic, Workload

PROJECTS = ("ironic", "cinder", "ceilometer")


class BareMetal(Deployment):
    """See `Deployment`; Cinder alone knows two ways to run."""

    APIS = ("ironic", "cinder")
    SERVERS = {
        "ironic-conductor": "ironic.conductor_manager",
        "cinder-scheduler": "cinder-scheduler",
        "cinder-volume": "cinder-volume",
    }
    # the scheduler learns of capabilities by fanout
    METHODS = {
        "ironic-conductor": frozenset(
            {
                "create_node",
                "do_provisioning_action",
                "validate_driver_interfaces",
                "do_node_deploy",
                "do_node_tear_down",
                "destroy_node",
            }
        ),
        "cinder-scheduler": frozenset(
            {"update_service_capabilities", "create_volume", "create_snapshot"}
        ),
        "cinder-volume": frozenset(
            {
                "create_volume",
                "attachment_update",
                "create_snapshot",
                "delete_snapshot",
                "attachment_delete",
                "delete_volume",
            }
        ),
    }
    # The baremetal.node.provision_set.* come on top: Ironic merges a start and an end
    # when a fake driver is done before the request that started it.
    NOTIFICATIONS = Counter(
        {
            f"{event}.{phase}": 1
            for event in (
                "baremetal.node.create",
                "baremetal.node.delete",
                "volume.create",
                "volume.attach",
                "volume.detach",
                "volume.delete",
                "snapshot.create",
                "snapshot.delete",
            )
            for phase in ("start", "end")
        }
        | {"volume_type.create": 1, "volume_type.delete": 1}
    )
    EXCHANGES = frozenset({"ironic"})
    RESTARTED = ("ironic-conductor", "cinder-volume")

    @property
    def configs(self) -> list[Path]:
        return [self.config(project) for project in PROJECTS]

    def write(self, transport_url: str) -> None:
        for path in self.configs:
            template = TEMPLATES / "baremetal" / path.name
            self.render(path, template, transport_url=transport_url)
        pipeline = self.config("ceilometer", "event_pipeline.yaml")
        self.render(pipeline, TEMPLATES / pipeline.name)
        ironic, cinder = map(options, map(self.config, ("ironic", "cinder")))
        self.run_all(
            [["ironic-dbsync", *ironic, "create_schema"]],
            [["cinder-manage", *cinder, "db", "sync"]],
        )

    def commands(self) -> Sequence[Command]:
        ironic, cinder, ceilometer = self.configs
        return [
            self.command("ironic-conductor", ironic),
            self.command("ironic-api", ironic),
            self.command("cinder-scheduler", cinder),
            self.command("cinder-volume", cinder),
            # its own program ends in native threads; DevStack runs it by WSGI, too
            self.served("cinder", "cinder.wsgi.api", *options(cinder))
            if self.threading == "native"
            else self.command("cinder-api", cinder),
            self.command("ceilometer-agent-notification", ceilometer),
        ]

    def workloads(self) -> Sequence[Workload]:
        return [Ironic(self.ports["ironic"]), Cinder(self.ports["cinder"])]
