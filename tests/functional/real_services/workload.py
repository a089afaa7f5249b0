# SPDX-License-Identifier: Apache-2.0
"""Drive Ironic and Cinder through their REST interfaces, as a user would."""

from __future__ import annotations

import uuid
from typing import Protocol

from .rest import STATE_TIMEOUT, Json, Rest, RestError, delete, name_of, reach
from .waiting import NotYet, wait_for

#: Cinder's noauth wants ids of this form.
PROJECT = "0123456789abcdef0123456789abcdef"


class Workload(Protocol):
    """What users do with a service.

    :param title: what the service is called
    :param rest: its interface
    :param done: what one pass does, for a person
    """

    title: str
    rest: Rest
    done: str

    def probe(self) -> None:
        """Raise NotYet unless the API reaches its servers by RPC."""

    def prepare(self) -> None:
        """Make what the service needs before it can be used; once."""

    def exercise(self) -> None:
        """Use everything once, and leave nothing behind."""

    def ask(self) -> None:
        """Use what a lone server serves, while it restarts."""


class Ironic:
    """Bare metal: calls to the conductor, versioned notifications.

    :param port: of ironic-api on this host
    """

    title = "ironic"
    done = "a node has come and gone"

    def __init__(self, port: int) -> None:
        self.rest = Rest(
            f"http://127.0.0.1:{port}/v1",
            {"X-OpenStack-Ironic-API-Version": "latest"},
        )

    def probe(self) -> None:
        """Raise NotYet unless the API reaches its conductor by RPC."""
        try:
            conductors = self.rest.request("GET", "/conductors")["conductors"]
            if not any(conductor["alive"] for conductor in conductors):
                raise NotYet("no conductor is alive")
            self.rest.request("GET", "/drivers/fake-hardware/properties")
        except RestError as error:
            raise NotYet(str(error)) from None

    def prepare(self) -> None:
        """Be as patient as Ironic's clients.

        A conductor that stops leaves Ironic's table of conductors. While that is
        empty, the API answers 503 on every bus, and clients try again.
        """
        self.rest.patience = STATE_TIMEOUT

    def ask(self) -> None:
        """Enrol a node, validate it and delete it: calls to the conductor."""
        path = self._enrol()
        self.rest.request("GET", f"{path}/validate")
        self.rest.request("DELETE", path)

    def exercise(self) -> None:
        """Enrol a node, deploy it, tear it down and delete it."""
        path = self._enrol()
        self._provision(path, "manage", "manageable")
        self._provision(path, "provide", "available")
        interfaces = self.rest.request("GET", f"{path}/validate")
        refused = {k: v for k, v in interfaces.items() if not v["result"]}
        assert not refused, refused
        self._provision(path, "active", "active")
        self._provision(path, "deleted", "available")
        self.rest.request("DELETE", path)

    def _enrol(self) -> str:
        node = self.rest.request(
            "POST", "/nodes", {"driver": "fake-hardware", "name": name_of("node")}
        )
        return f"/nodes/{node['uuid']}"

    def _provision(self, path: str, target: str, state: str) -> None:
        self.rest.request("PUT", f"{path}/states/provision", {"target": target})

        def reached() -> None:
            node = self.rest.request("GET", path)
            if node["last_error"]:
                raise AssertionError(f"{target}: {node['last_error']}")
            # The conductor holds the node for a moment after its last step.
            if node["provision_state"] != state or node["reservation"]:
                raise NotYet(f"{node['provision_state']}, {node['reservation']}")

        wait_for(f"node {state}", reached, STATE_TIMEOUT)


class Cinder:
    """Block storage: calls, casts and fanouts, plain notifications.

    :param port: of cinder-api on this host
    """

    title = "cinder"
    done = "a volume has come and gone"

    def __init__(self, port: int) -> None:
        self.rest = Rest(
            f"http://127.0.0.1:{port}/v3/{PROJECT}",
            {
                "X-Auth-Token": f"admin:{PROJECT}",
                "OpenStack-API-Version": "volume 3.70",
                # An attachment may be deleted by a service only, as Nova is one.
                "X-Service-Roles": "service",
            },
        )

    def probe(self) -> None:
        """Raise NotYet unless scheduler and volume service answer calls.

        The scheduler knows the pool only from a fanout that it was sent.
        """
        try:
            services = self.rest.request("GET", "/os-services")["services"]
            up = {s["binary"]: s["host"] for s in services if s["state"] == "up"}
            if len(up) != 2:
                raise NotYet(f"up: {up}")
            self.rest.request("GET", f"/capabilities/{up['cinder-volume']}")
            pools = self.rest.request("GET", "/scheduler-stats/get_pools")["pools"]
            if not pools:
                raise NotYet("the scheduler knows no pool")
        except RestError as error:
            raise NotYet(str(error)) from None

    def prepare(self) -> None:
        """Nothing is needed."""

    def ask(self) -> None:
        """Create a volume and delete it: casts to scheduler and volume service."""
        volume = self._create(
            "/volumes", "volume", {"size": 1, "name": name_of("volume")}
        )
        reach(self.rest, f"/volumes/{volume}", "volume", "available")
        delete(self.rest, f"/volumes/{volume}", "volume")

    def exercise(self) -> None:
        """Create a volume, attach, snapshot, detach and delete it."""
        kind = self._create("/types", "volume_type", {"name": name_of("type")})
        volume = self._create(
            "/volumes",
            "volume",
            {"size": 1, "name": name_of("volume"), "volume_type": kind},
        )
        reach(self.rest, f"/volumes/{volume}", "volume", "available")
        attachment = self._create(
            "/attachments",
            "attachment",
            {
                "volume_uuid": volume,
                "instance_uuid": str(uuid.uuid4()),
                "connector": {
                    "host": "compute-1",
                    "initiator": "iqn.1994-05.com.example:compute-1",
                    "ip": "127.0.0.1",
                    "mountpoint": "/dev/vdb",
                    "mode": "rw",
                },
            },
        )
        self.rest.request(
            "POST", f"/attachments/{attachment}/action", {"os-complete": None}
        )
        reach(self.rest, f"/volumes/{volume}", "volume", "in-use")
        snapshot = self._create(
            "/snapshots",
            "snapshot",
            {"volume_id": volume, "name": name_of("snapshot"), "force": True},
        )
        reach(self.rest, f"/snapshots/{snapshot}", "snapshot", "available")
        delete(self.rest, f"/snapshots/{snapshot}", "snapshot")
        self.rest.request("DELETE", f"/attachments/{attachment}")
        reach(self.rest, f"/volumes/{volume}", "volume", "available")
        delete(self.rest, f"/volumes/{volume}", "volume")
        self.rest.request("DELETE", f"/types/{kind}")

    def _create(self, path: str, kind: str, values: Json) -> str:
        return self.rest.request("POST", path, {kind: values})[kind]["id"]
