# SPDX-License-Identifier: Apache-2.0
"""Drive Ironic and Cinder through their REST interfaces, as a user would."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections import Counter
from typing import Any

from .waiting import NotYet, wait_for

#: Seconds for one request, above the services' rpc_response_timeout.
REQUEST_TIMEOUT = 50.0
#: Seconds for a resource to reach its next state.
STATE_TIMEOUT = 40.0
#: Cinder's noauth wants ids of this form.
PROJECT = "0123456789abcdef0123456789abcdef"

Json = dict[str, Any]

#: The notifications that one pass of both workloads sends, by event type. The
#: baremetal.node.provision_set.* come on top: Ironic merges a start and an end
#: when a fake driver is done before the request that started it.
NOTIFICATIONS = Counter(
    {
        "baremetal.node.create.start": 1,
        "baremetal.node.create.end": 1,
        "baremetal.node.delete.start": 1,
        "baremetal.node.delete.end": 1,
        "volume_type.create": 1,
        "volume.create.start": 1,
        "volume.create.end": 1,
        "volume.attach.start": 1,
        "volume.attach.end": 1,
        "snapshot.create.start": 1,
        "snapshot.create.end": 1,
        "snapshot.delete.start": 1,
        "snapshot.delete.end": 1,
        "volume.detach.start": 1,
        "volume.detach.end": 1,
        "volume.delete.start": 1,
        "volume.delete.end": 1,
        "volume_type.delete": 1,
    }
)

#: The methods that one pass calls, casts or sends to all, by the process that
#: serves them; the scheduler learns of capabilities by fanout.
METHODS = {
    "ironic-conductor": {
        "create_node",
        "do_provisioning_action",
        "validate_driver_interfaces",
        "do_node_deploy",
        "do_node_tear_down",
        "destroy_node",
    },
    "cinder-scheduler": {
        "update_service_capabilities",
        "create_volume",
        "create_snapshot",
    },
    "cinder-volume": {
        "create_volume",
        "attachment_update",
        "create_snapshot",
        "delete_snapshot",
        "attachment_delete",
        "delete_volume",
    },
}


class RestError(Exception):
    """A request was answered with an error, or not at all.

    :param status: the HTTP status, 0 without an answer
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Rest:
    """A JSON client of one service.

    :param url: what all paths are appended to
    :param headers: sent with every request
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.url = url
        self._headers = {"Content-Type": "application/json", **headers}

    def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """Return what the service answers.

        :raises RestError: for every answer but a successful one
        """
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers=self._headers,
        )
        asked = f"{method} {request.full_url}"
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            answer = error.read().decode(errors="replace")
            raise RestError(f"{asked}: {error.code} {answer}", error.code) from None
        except OSError as error:
            raise RestError(f"{asked}: {error}", 0) from None
        return json.loads(content) if content else {}


class Ironic:
    """Bare metal: calls to the conductor, versioned notifications.

    :param port: of ironic-api on this host
    """

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
            "POST", "/nodes", {"driver": "fake-hardware", "name": _name("node")}
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

    def ask(self) -> None:
        """Create a volume and delete it: casts to scheduler and volume service."""
        volume = self._create(
            "/volumes", "volume", {"size": 1, "name": _name("volume")}
        )
        self._reach(f"/volumes/{volume}", "volume", "available")
        self._delete(f"/volumes/{volume}", "volume")

    def exercise(self) -> None:
        """Create a volume, attach, snapshot, detach and delete it."""
        kind = self._create("/types", "volume_type", {"name": _name("type")})
        volume = self._create(
            "/volumes",
            "volume",
            {"size": 1, "name": _name("volume"), "volume_type": kind},
        )
        self._reach(f"/volumes/{volume}", "volume", "available")
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
        self._reach(f"/volumes/{volume}", "volume", "in-use")
        snapshot = self._create(
            "/snapshots",
            "snapshot",
            {"volume_id": volume, "name": _name("snapshot"), "force": True},
        )
        self._reach(f"/snapshots/{snapshot}", "snapshot", "available")
        self._delete(f"/snapshots/{snapshot}", "snapshot")
        self.rest.request("DELETE", f"/attachments/{attachment}")
        self._reach(f"/volumes/{volume}", "volume", "available")
        self._delete(f"/volumes/{volume}", "volume")
        self.rest.request("DELETE", f"/types/{kind}")

    def _create(self, path: str, kind: str, values: Json) -> str:
        return self.rest.request("POST", path, {kind: values})[kind]["id"]

    def _reach(self, path: str, kind: str, state: str) -> None:
        def reached() -> None:
            status = self.rest.request("GET", path)[kind]["status"]
            assert "error" not in status, f"{path}: {status}"
            if status != state:
                raise NotYet(status)

        wait_for(f"{path} {state}", reached, STATE_TIMEOUT)

    def _delete(self, path: str, kind: str) -> None:
        self.rest.request("DELETE", path)

        def gone() -> None:
            try:
                status = self.rest.request("GET", path)[kind]["status"]
            except RestError as error:
                if error.status == 404:
                    return
                raise
            assert "error" not in status, f"{path}: {status}"
            raise NotYet(status)

        wait_for(f"{path} deleted", gone, STATE_TIMEOUT)


def _name(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex[:8]}"
