# SPDX-License-Identifier: Apache-2.0
"""Samples and jobs of the DevStack plugin: one of each for every mode."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.devstack.conftest import ROOT, Host

from hybrid_messaging import modes

SAMPLES = ROOT / "devstack"
BASE = "hybrid-messaging-devstack"


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


def zuul() -> dict[str, list[dict[str, Any]]]:
    """The items of .zuul.yaml by kind."""
    items: dict[str, list[dict[str, Any]]] = {}
    for entry in yaml.safe_load((ROOT / ".zuul.yaml").read_text()):
        ((kind, item),) = entry.items()
        items.setdefault(kind, []).append(item)
    return items


def test_the_modes_are_of_the_table(host: Host) -> None:
    found = modes_of_devstack(host)
    assert found <= set(modes.load())
    assert {"qpid-hybrid", "rabbit", "external"} <= found


def test_every_mode_has_a_sample_and_a_job(host: Host) -> None:
    found = modes_of_devstack(host)
    samples = {
        path.name.removeprefix("local.conf.")
        for path in SAMPLES.glob("local.conf.*")
        if path.suffix not in (".controller", ".compute")
    }
    assert samples == found
    for mode in samples:
        assert sample(SAMPLES / f"local.conf.{mode}")["HYBRID"] == mode
    # external needs servers that no job has
    jobs = {
        job["name"]: job["vars"]["devstack_localrc"]["HYBRID"]
        for job in zuul()["job"]
        if job.get("parent") == BASE
    }
    assert jobs == {f"{BASE}-{mode}": mode for mode in found - {"external"}}
    # and some run a mode in another way
    variants = {job["name"] for job in zuul()["job"] if job.get("parent") in jobs}
    (template,) = zuul()["project-template"]
    for pipeline in ("check", "gate"):
        assert set(template[pipeline]["jobs"]) == jobs.keys() | variants


def test_jobs_lead_to_what_is_there() -> None:
    names = {job["name"] for job in zuul()["job"]}
    (project,) = zuul()["project"]
    assert set(project["check"]["jobs"]) <= names
    assert "[testenv:{lint,docs,unit,devstack," in (ROOT / "tox.ini").read_text()
    for job in zuul()["job"]:
        for playbook in (job.get("pre-run"),):
            assert playbook is None or (ROOT / playbook).is_file()


def test_all_nodes_of_a_job_have_its_mode() -> None:
    """Zuul gives the second node no variable of the first."""
    jobs = {job["name"]: job for job in zuul()["job"]}
    several = [job for job in jobs.values() if "group-vars" in job]
    assert several
    for job in several:
        mode = jobs[job["parent"]]["vars"]["devstack_localrc"]["HYBRID"]
        assert job["group-vars"]["subnode"]["devstack_localrc"]["HYBRID"] == mode


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
