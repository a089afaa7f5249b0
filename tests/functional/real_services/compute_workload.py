# SPDX-License-Identifier: Apache-2.0
"""Drive Nova, and what it needs, through their REST interfaces, as a user would."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from .rest import Json, Rest, RestError, delete, name_of, reach
from .waiting import NotYet, wait_for

#: Seconds for an instance to reach its next state.
STATE_TIMEOUT = 120.0


class Cloud:
    """A project of Keystone with a network, and instances on it.

    :param ports: of the services' APIs on this host
    :param password: that of the user ``admin``
    :param host: where instances and agents are
    """

    title = "nova"
    #: how many instances one pass boots at the same time
    INSTANCES = 10

    def __init__(self, ports: Mapping[str, int], password: str, host: str) -> None:
        self._host = host
        self._password = password
        self._headers: dict[str, str] = {}

        def rest(name: str, path: str, **headers: str) -> Rest:
            return Rest(f"http://127.0.0.1:{ports[name]}{path}", headers, self._headers)

        self._keystone = rest("keystone", "/v3")
        self._glance = rest("glance", "/v2")
        self._neutron = rest("neutron", "/v2.0")
        self.rest = rest("nova", "/v2.1", **{"OpenStack-API-Version": "compute 2.90"})
        self._cinder = rest("cinder", "/v3", **{"OpenStack-API-Version": "volume 3.70"})
        self._made: Json = {}
        self._seconds: dict[str, float] = {}

    @property
    def done(self) -> str:
        """What the last pass did, with the seconds of each step."""
        steps = ", ".join(
            f"{step} {took:.1f} s" for step, took in self._seconds.items()
        )
        return f"{self.INSTANCES} instances have come and gone: {steps}"

    def probe(self) -> None:
        """Raise NotYet unless everything that serves RPC says that it is up."""
        try:
            self._log_in()
            computes = self.rest.request("GET", "/os-services")["services"]
            agents = self._neutron.request("GET", "/agents")["agents"]
            volumes = self._cinder.request("GET", "/os-services")["services"]
            pools = self._cinder.request("GET", "/scheduler-stats/get_pools")["pools"]
        except (RestError, KeyError) as error:
            raise NotYet(str(error)) from None
        up = {row["binary"] for row in (*computes, *volumes) if row["state"] == "up"}
        up |= {row["binary"] for row in agents if row["alive"]}
        missing = {
            "nova-conductor",
            "nova-scheduler",
            "nova-compute",
            "neutron-dhcp-agent",
            "neutron-openvswitch-agent",
            "cinder-scheduler",
            "cinder-volume",
        } - up
        if missing or not pools:
            raise NotYet(f"not up: {missing}; {len(pools)} pools of volumes")

    def prepare(self) -> None:
        """Make what instances are booted from, and are connected to."""
        image = self._glance.request(
            "POST",
            "/images",
            {"name": "tiny", "disk_format": "raw", "container_format": "bare"},
        )["id"]
        self._glance.upload(f"/images/{image}/file", bytes(65536))
        flavor = self.rest.request(
            "POST",
            "/flavors",
            {"flavor": {"name": name_of("tiny"), "ram": 64, "vcpus": 1, "disk": 0}},
        )["flavor"]["id"]
        network = self._make_network("10.9.0.0/16")
        self._made = {"image": image, "flavor": flavor, "network": network}

    def exercise(self) -> None:
        """Boot instances, use one of them, its volume and a network; delete all."""
        self._seconds = {}
        with ThreadPoolExecutor(self.INSTANCES) as pool:
            with self._timed("boot"):
                servers = list(pool.map(lambda _: self._boot(), range(self.INSTANCES)))
            with self._timed("ports"):
                self._reach_ports(servers)
            with self._timed("use"):
                self._use(servers[0])
            with self._timed("volume"):
                self._use_volume(servers[0])
            with self._timed("network"):
                self._use_network()
            with self._timed("delete"):
                list(pool.map(self._delete_server, servers))

    def ask(self) -> None:
        """Boot an instance and delete it."""
        self._delete_server(self._boot())

    def _log_in(self) -> None:
        domain = {"id": "default"}
        user = {"name": "admin", "domain": domain, "password": self._password}
        answer = self._keystone.answer(
            "POST",
            "/auth/tokens",
            {
                "auth": {
                    "identity": {"methods": ["password"], "password": {"user": user}},
                    "scope": {"project": {"name": "admin", "domain": domain}},
                }
            },
        )
        self._headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds[step] = time.monotonic() - began

    def _boot(self) -> str:
        server = self.rest.request(
            "POST",
            "/servers",
            {
                "server": {
                    "name": name_of("server"),
                    "imageRef": self._made["image"],
                    "flavorRef": self._made["flavor"],
                    "networks": [{"uuid": self._made["network"]}],
                }
            },
        )["server"]["id"]
        self._reach_server(server, "ACTIVE")
        return server

    def _reach_server(self, server: str, state: str) -> None:
        def reached() -> None:
            found = self.rest.request("GET", f"/servers/{server}")["server"]
            if found["status"] == "ERROR":
                raise AssertionError(f"server {server}: {found.get('fault')}")
            task = found["OS-EXT-STS:task_state"]
            if found["status"] != state or task:
                raise NotYet(f"{found['status']}, {task}")

        wait_for(f"server {server} {state}", reached, STATE_TIMEOUT)

    def _reach_ports(self, servers: Sequence[str]) -> None:
        """Wait until the agent has said of every instance's port that it is up."""

        def up() -> None:
            rows = self._neutron.request("GET", "/ports")["ports"]
            found = {row["device_id"]: row["status"] for row in rows}
            states = Counter(found.get(server) for server in servers)
            if states != {"ACTIVE": len(servers)}:
                raise NotYet(str(states))

        wait_for("all ports ACTIVE", up, STATE_TIMEOUT)

    def _use(self, server: str) -> None:
        for action, state in (
            ({"os-stop": None}, "SHUTOFF"),
            ({"os-start": None}, "ACTIVE"),
            ({"reboot": {"type": "HARD"}}, "ACTIVE"),
        ):
            self.rest.request("POST", f"/servers/{server}/action", action)
            self._reach_server(server, state)
        for _ in range(10):
            self.rest.request(
                "POST",
                f"/servers/{server}/action",
                {"os-getConsoleOutput": {"length": 5}},
            )

    def _use_volume(self, server: str) -> None:
        volume = self._cinder.request(
            "POST", "/volumes", {"volume": {"size": 1, "name": name_of("volume")}}
        )["volume"]["id"]
        path = f"/volumes/{volume}"
        reach(self._cinder, path, "volume", "available")
        attachments = f"/servers/{server}/os-volume_attachments"
        self.rest.request(
            "POST", attachments, {"volumeAttachment": {"volumeId": volume}}
        )
        reach(self._cinder, path, "volume", "in-use")
        self.rest.request("DELETE", f"{attachments}/{volume}")
        reach(self._cinder, path, "volume", "available")
        delete(self._cinder, path, "volume")

    def _use_network(self) -> None:
        network = self._make_network("10.10.0.0/24")
        path = f"/networks/{network}/dhcp-agents"

        def scheduled() -> None:
            if not self._neutron.request("GET", path)["agents"]:
                raise NotYet("it is on none")

        wait_for("the network is on a DHCP agent", scheduled, STATE_TIMEOUT)
        self._neutron.request("DELETE", f"/networks/{network}")

    def _make_network(self, cidr: str) -> str:
        network = self._neutron.request(
            "POST", "/networks", {"network": {"name": name_of("network")}}
        )["network"]["id"]
        subnet = {"network_id": network, "ip_version": 4, "cidr": cidr}
        self._neutron.request("POST", "/subnets", {"subnet": subnet})
        return network

    def _delete_server(self, server: str) -> None:
        self.rest.request("DELETE", f"/servers/{server}")

        def gone() -> None:
            try:
                found = self.rest.request("GET", f"/servers/{server}")["server"]
            except RestError as error:
                if error.status == 404:
                    return
                raise
            raise NotYet(found["status"])

        wait_for(f"server {server} deleted", gone, STATE_TIMEOUT)
