# SPDX-License-Identifier: Apache-2.0
"""Samples of the DevStack plugin: one for every mode."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.devstack.conftest import ROOT, Host

from hybrid_messaging import modes

SAMPLES = ROOT / "devstack"


def modes_of_devstack(host: Host) -> set[str]:
    """Those that the plugin names when it is asked for one that it has not."""
    said = host.refused(HYBRID="no-such-mode")
    named = re.search(r"choose one of (.*)", said)
    assert named
    return set(named[1].split(", "))


def sample(path: Path) -> dict[str, str]:
    """The variables of a sample local.conf."""
    _, _, localrc = path.read_text().partition("[[local|localrc]]\n")
    assert localrc, f"{path}: has no section of localrc"
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", localrc, re.MULTILINE))


def test_the_modes_are_of_the_table(host: Host) -> None:
    found = modes_of_devstack(host)
    assert found <= set(modes.load())
    assert {"qpid-hybrid", "rabbit", "external"} <= found


def test_every_mode_has_a_sample(host: Host) -> None:
    found = modes_of_devstack(host)
    samples = {
        path.name.removeprefix("local.conf.")
        for path in SAMPLES.glob("local.conf.*")
        if path.suffix not in (".controller", ".compute")
    }
    assert samples == found
    for mode in samples:
        assert sample(SAMPLES / f"local.conf.{mode}")["HYBRID"] == mode


@pytest.mark.parametrize(
    "path", sorted(SAMPLES.glob("local.conf.*")), ids=lambda path: path.name
)
def test_samples_can_be_stacked(host: Host, path: Path) -> None:
    found = sample(path)
    addresses = {"SERVICE_HOST", "HOST_IP", "MYSQL_HOST", "RABBIT_HOST"}
    ports = {name: v for name, v in host.local_conf.items() if name.endswith("_PORT")}
    host.local_conf = {
        **{name: value for name, value in found.items() if name not in addresses},
        **ports,
        "HYBRID_VERIFY": "False",
    }
    if "SERVICE_HOST" in found:
        host.local_conf["SERVICE_HOST"] = found["SERVICE_HOST"]
    host.stack()
    if path.suffix == ".compute":
        assert host.units() == []
    else:
        mode = modes.get(found["HYBRID"])
        for engine in ("router", "kafka", "broker", "redis"):
            assert host.runs(engine) is (
                engine in (mode.rpc_engine, mode.notify_engine)
            )
