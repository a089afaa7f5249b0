# SPDX-License-Identifier: Apache-2.0
"""Nova with a cell, and what it needs: Keystone, Placement, Glance, Neutron, Cinder.

Laid out as by DevStack: the conductor of all cells is in the root virtual host, the
cell's conductor and its compute service are in one of their own. There is nothing to
boot instances on: the driver is Nova's fake one, and Neutron's agents have no devices.
"""

from __future__ import annotations

import grp
import os
import pwd
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hybrid_messaging import urls

from .compute_workload import Cloud
from .deployment import STAND_INS, TEMPLATES, Deployment, options
from .environment import COMPUTE_PINS, PINS
from .processes import Command
from .workload import Workload

HOST = "compute-1"
PASSWORD = "services"
CELL = "nova_cell1"


class Compute(Deployment):
    """See `Deployment`; Nova and Cinder know two ways to run."""

    PINS = (PINS, COMPUTE_PINS)
    APIS = ("keystone", "placement", "glance", "neutron", "nova", "cinder")
    SERVERS = {
        "nova-conductor": "nova/conductor",
        "nova-conductor-cell": "nova_cell1/nova/conductor",
        "nova-scheduler": "nova/scheduler",
        "nova-compute": "nova/compute",
        "neutron-rpc-server": "q-plugin",
        "neutron-dhcp-agent": "dhcp_agent",
        "neutron-l2-agent": "q-agent-notifier",
        "cinder-scheduler": "cinder-scheduler",
        "cinder-volume": "cinder-volume",
    }
    METHODS = {
        "nova-conductor": frozenset({"schedule_and_build_instances"}),
        "nova-scheduler": frozenset({"select_destinations"}),
        "nova-compute": frozenset(
            {
                "build_and_run_instance",
                "stop_instance",
                "start_instance",
                "reboot_instance",
                "get_console_output",
                "reserve_block_device_name",
                "attach_volume",
                "detach_volume",
                "terminate_instance",
            }
        ),
        "neutron-rpc-server": frozenset(
            {"report_state", "get_devices_details_list", "update_device_list"}
        ),
        "neutron-dhcp-agent": frozenset({"port_create_end"}),
        "neutron-l2-agent": frozenset({"port_update"}),
        "cinder-scheduler": frozenset({"create_volume"}),
        "cinder-volume": frozenset({"create_volume", "delete_volume"}),
    }
    NOTIFICATIONS = Counter(
        {
            f"{event}.{phase}": count
            for event, count in (
                ("compute.instance.create", Cloud.INSTANCES),
                ("compute.instance.delete", Cloud.INSTANCES),
                ("volume.create", 1),
                ("volume.delete", 1),
                ("network.create", 1),
                ("network.delete", 1),
            )
            for phase in ("start", "end")
        }
    )
    EXCHANGES = frozenset({"nova", "neutron", "glance", "keystone"})
    RESTARTED = ("nova-conductor", "nova-conductor-cell")

    @property
    def configs(self) -> list[Path]:
        return [
            self.config("keystone"),
            self.config("glance", "glance-api.conf"),
            self.config("neutron"),
            self.config("nova"),
            self.config("nova", f"{CELL}.conf"),
            self.config("nova", "nova-cpu.conf"),
            self.config("cinder"),
            self.config("ceilometer"),
        ]

    def write(self, transport_url: str) -> None:
        bus = urls.parse(transport_url)
        cell = replace(bus, vhost=CELL)
        self._render("keystone.conf", "keystone", bus)
        self._render("placement.conf", "placement", bus)
        self._render("glance-api.conf", "glance", bus)
        self._render("neutron.conf", "neutron", bus)
        self._render("cinder.conf", "cinder", bus)
        self._render("ceilometer.conf", "ceilometer", bus)
        self._render("nova.conf", "nova", bus, "nova_cell0", "nova_api")
        self._render(f"{CELL}.conf", "nova", cell, CELL, "nova_api")
        # a compute service has no databases
        self._render("nova-cpu.conf", "nova", cell, "", "")
        pipeline = self.config("ceilometer", "event_pipeline.yaml")
        self.render(pipeline, TEMPLATES / pipeline.name)
        for directory in ("images", "staging", "tasks"):
            (self._state("glance") / directory).mkdir()
        # the fake driver makes no node of its own
        (self._state("nova") / "compute_id").write_text(f"{uuid.uuid4()}\n")
        self._fill_databases()

    def configured(self) -> None:
        # as ``configure`` advises: the cell's RPC URL is in Nova's database as well
        command = self._nova("cell_v2", "list_cells", "--verbose")
        rows = [line.split("|") for line in self.run(*command).splitlines()]
        (cell,) = (row[2].strip() for row in rows if len(row) > 2 and "cell1" in row[1])
        self.run_all(
            [self._nova("cell_v2", "update_cell", "--cell_uuid", cell)],
            # not before: it would leave queues that are not durable
            [self._bootstrap()],
        )

    def ready(self) -> None:
        # an operator does, too, when a compute service is new
        self.run(*self._nova("cell_v2", "discover_hosts"))

    def commands(self) -> Sequence[Command]:
        keystone, glance, neutron, nova, cell, cpu, cinder, ceilometer = self.configs
        l2_agent = [
            self.environment.script("python"),
            str(STAND_INS / "l2_agent.py"),
        ]
        paste = self.environment.root / "etc/nova/api-paste.ini"
        in_cell = self.command("nova-conductor", cell)
        return [
            self.served(
                "keystone", "keystone.wsgi.api", OS_KEYSTONE_CONFIG_FILES=str(keystone)
            ),
            self.served(
                "placement",
                "placement.wsgi.api",
                OS_PLACEMENT_CONFIG_DIR=str(self.config("placement").parent),
            ),
            self.served(
                "glance",
                "glance.wsgi.api",
                OS_GLANCE_CONFIG_DIR=str(glance.parent),
                OS_GLANCE_CONFIG_FILES=glance.name,
            ),
            self.served(
                "neutron",
                "neutron.wsgi.api",
                OS_NEUTRON_CONFIG_DIR=str(neutron.parent),
                OS_NEUTRON_CONFIG_FILES=neutron.name,
            ),
            self.served(
                "nova",
                "nova.wsgi.osapi_compute",
                OS_NOVA_CONFIG_DIR=str(nova.parent),
                OS_NOVA_CONFIG_FILES=f"{paste};{nova.name}",
            ),
            self.served("cinder", "cinder.wsgi.api", *options(cinder)),
            self.command("nova-conductor", nova),
            Command("nova-conductor-cell", in_cell.arguments, in_cell.variables),
            self.command("nova-scheduler", nova),
            self.command("nova-compute", cpu),
            self.command("neutron-rpc-server", neutron),
            self.command("neutron-periodic-workers", neutron),
            self.command("neutron-dhcp-agent", neutron),
            Command("neutron-l2-agent", [*l2_agent, *options(neutron)]),
            self.command("cinder-scheduler", cinder),
            self.command("cinder-volume", cinder),
            self.command("ceilometer-agent-notification", ceilometer),
        ]

    def workloads(self) -> Sequence[Workload]:
        return [Cloud(self.ports, PASSWORD, HOST)]

    @property
    def _keystone(self) -> str:
        return f"http://127.0.0.1:{self.ports['keystone']}/v3"

    def _credentials(self) -> str:
        return "\n".join(
            (
                f"auth_url = {self._keystone}",
                "auth_type = password",
                "username = admin",
                f"password = {PASSWORD}",
                "project_name = admin",
                "user_domain_id = default",
                "project_domain_id = default",
                "region_name = region",
            )
        )

    def _state(self, project: str) -> Path:
        return self.directory / "state" / project

    def _url(self, database: str) -> str:
        return f"sqlite:///{self.directory}/state/{database}.sqlite"

    def _render(
        self,
        name: str,
        project: str,
        bus: urls.TransportURL,
        database: str | None = None,
        api_database: str = "",
    ) -> None:
        template = "nova.conf" if project == "nova" else name
        self.render(
            self.config(project, name),
            TEMPLATES / "compute" / template,
            transport_url=bus,
            host=HOST,
            database=self._database(project if database is None else database),
            api_database=self._database(api_database),
            credentials=self._credentials(),
            token="\n".join(
                (
                    f"www_authenticate_uri = {self._keystone}",
                    # the only user is the services', too
                    "service_token_roles = admin",
                    "service_token_roles_required = true",
                    self._credentials(),
                )
            ),
        )

    def _database(self, name: str) -> str:
        if not name:
            return ""
        return (
            f"connection = {self._url(name)}\n"
            "connection_parameters = timeout=60&plugin=writers"
        )

    def _nova(self, *command: str) -> list[str]:
        files = options(self.config("nova"), self.config("nova", f"{CELL}.conf"))
        return ["nova-manage", *files, *command]

    def _bootstrap(self) -> list[str]:
        """Keystone's first user; it notifies of it."""
        endpoints = [
            f"--bootstrap-{kind}-url={self._keystone}"
            for kind in ("admin", "internal", "public")
        ]
        return [
            *("keystone-manage", *options(self.config("keystone")), "bootstrap"),
            *("--bootstrap-password", PASSWORD, "--bootstrap-region-id", "region"),
            *endpoints,
        ]

    def _fill_databases(self) -> None:
        keystone, glance, _, nova, cell, _, cinder, _ = map(options, self.configs)
        manage = ["keystone-manage", *keystone]
        user = ["--keystone-user", pwd.getpwuid(os.geteuid()).pw_name,
                "--keystone-group", grp.getgrgid(os.getegid()).gr_name]  # fmt: skip
        self.run_all(
            [
                [*manage, "db_sync"],
                [*manage, "fernet_setup", *user],
                [*manage, "credential_setup", *user],
            ],
            [
                ["nova-manage", *nova, "api_db", "sync"],
                ["nova-manage", *nova, "cell_v2", "map_cell0",
                 "--database_connection", self._url("nova_cell0")],
                ["nova-manage", *nova, "db", "sync", "--local_cell"],
                ["nova-manage", *nova, *cell, "db", "sync", "--local_cell"],
                self._nova("cell_v2", "create_cell", "--name", "cell1"),
            ],
            [["glance-manage", *glance, "db_sync"]],
            [["cinder-manage", *cinder, "db", "sync"]],
            [["python", str(STAND_INS / "neutron_schema.py"), self._url("neutron")]],
        )  # fmt: skip
