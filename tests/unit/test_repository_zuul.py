# SPDX-License-Identifier: Apache-2.0
"""The jobs of Zuul: what they name exists, and few of them hold up a change."""

from __future__ import annotations

import configparser
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BASE = "hybrid-messaging-devstack"
PIPELINES = ("check", "gate", "experimental", "periodic", "periodic-weekly")
#: The environment of tox that jobs of openstack-zuul-jobs have by themselves.
UPSTREAM_ENVIRONMENT = re.compile(r"openstack-tox-(py\d+|docs|functional)\Z")


@functools.cache
def items() -> dict[str, list[dict[str, Any]]]:
    """What .zuul.yaml holds, by kind."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in yaml.safe_load((ROOT / ".zuul.yaml").read_text()):
        ((kind, item),) = entry.items()
        found.setdefault(kind, []).append(item)
    return found


JOBS: dict[str, dict[str, Any]] = {job["name"]: job for job in items()["job"]}


def pipeline(name: str) -> list[str]:
    """The jobs that run for a change of ours."""
    (project,) = items()["project"]
    templates = {item["name"]: item for item in items()["project-template"]}
    stanzas = [project, *(templates[each] for each in project["templates"])]
    return [job for stanza in stanzas for job in stanza.get(name, {}).get("jobs", [])]


def lineage(name: str) -> Iterator[dict[str, Any]]:
    """A job of this repository and those that it comes from."""
    while name in JOBS:
        yield JOBS[name]
        name = JOBS[name]["parent"]


def variable(name: str, key: str) -> Any:
    """A variable of a job, its own or inherited from another one here."""
    found = (job["vars"][key] for job in lineage(name) if key in job.get("vars", {}))
    return next(found, None)


def stacks(name: str) -> bool:
    """Whether a job runs DevStack."""
    return variable(name, "devstack_plugins") is not None


def test_jobs_have_names_of_their_own() -> None:
    assert len(JOBS) == len(items()["job"])


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_name_jobs_that_exist(name: str) -> None:
    jobs = pipeline(name)
    assert jobs
    assert set(jobs) <= JOBS.keys()
    assert len(set(jobs)) == len(jobs)
    assert not any(JOBS[job].get("abstract") for job in jobs)


def test_each_job_runs_somewhere() -> None:
    running = set(itertools.chain.from_iterable(map(pipeline, PIPELINES)))
    abstract = {name for name, job in JOBS.items() if job.get("abstract")}
    assert running == JOBS.keys() - abstract


def test_few_jobs_stack_for_each_change() -> None:
    """They take two hours each; what gate runs, check has run before."""
    checked = {name for name in pipeline("check") if stacks(name)}
    gating = {name for name in pipeline("gate") if stacks(name)}
    assert len(checked) <= 3
    assert len(gating) <= 2
    assert set(pipeline("gate")) <= set(pipeline("check"))
    kinds = {name: variable(name, "devstack_localrc") for name in checked}
    assert any(kind["HYBRID"].endswith("-kafka") for kind in kinds.values())
    assert any("group-vars" in JOBS[name] for name in checked)


def test_what_does_not_vote_does_not_gate() -> None:
    silent = {name for name, job in JOBS.items() if job.get("voting") is False}
    assert not silent & set(pipeline("gate"))
    benchmarks = {name for name in JOBS if "bench" in name}
    assert benchmarks
    assert benchmarks <= silent
    assert not benchmarks & set(pipeline("check"))


def test_every_mode_has_a_job() -> None:
    """Samples of local.conf and modes are compared in tests/devstack."""
    names = {
        path.name.rpartition(".")[2] for path in ROOT.glob("devstack/local.conf.*")
    }
    # external needs servers that no job has
    modes = names - {"controller", "compute", "external"}
    jobs = {
        name: job["vars"]["devstack_localrc"]["HYBRID"]
        for name, job in JOBS.items()
        if job["parent"] == BASE
    }
    assert jobs == {f"{BASE}-{mode}": mode for mode in modes}


@pytest.mark.parametrize("name", filter(stacks, JOBS))
def test_jobs_that_stack_bring_this_repository_and_keep_what_it_configured(
    name: str,
) -> None:
    required = [job.get("required-projects", []) for job in lineage(name)]
    assert "x/hybrid-messaging" in itertools.chain.from_iterable(required)
    copied = variable(name, "zuul_copy_output")
    assert any(path.endswith("router.conf") for path in copied)
    # nobody is to read these in the logs of a job
    assert not any(
        path.endswith(("tls", ".key", "hybrid-messaging")) for path in copied
    )


def test_all_nodes_of_a_job_have_its_mode() -> None:
    """Zuul gives the second node no variable of the first."""
    several = [name for name, job in JOBS.items() if "group-vars" in job]
    assert several
    for name in several:
        mode = variable(name, "devstack_localrc")["HYBRID"]
        localrc = JOBS[name]["group-vars"]["subnode"]["devstack_localrc"]
        assert localrc["HYBRID"] == mode


def expanded(text: str) -> Iterator[str]:
    """A name of tox with its alternatives in braces."""
    parts = [part.split(",") for part in re.split(r"[{}]", text)]
    return map("".join, itertools.product(*parts))


@functools.cache
def environments() -> set[str]:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    listed = re.findall(r"(?:[^,{]|\{[^}]*\})+", tox["tox"]["env_list"])
    sections = [name.partition(":")[2] for name in tox.sections()]
    names = [name.strip() for name in (*listed, *sections)]
    return set(itertools.chain.from_iterable(map(expanded, names)))


def test_braces_are_expanded() -> None:
    assert list(expanded("py3{10,11}")) == ["py310", "py311"]
    assert {"lint", "docs", "py311", "py314", "functional"} <= environments()


def environment(name: str) -> str:
    """The environment of tox that a job runs."""
    own: str | None = variable(name, "tox_envlist")
    if own is None:
        *_, oldest = lineage(name)
        upstream = UPSTREAM_ENVIRONMENT.match(oldest["parent"])
        assert upstream, f"{name} runs no environment of tox"
        own = upstream[1]
    return own


@pytest.mark.parametrize(
    "name", [name for name in JOBS if not stacks(name) and "run" not in JOBS[name]]
)
def test_jobs_run_environments_of_tox_on_packages_that_exist(name: str) -> None:
    assert environment(name) in environments()
    text = (ROOT / "bindep.txt").read_text()
    profiles = set(re.findall(r"\w+", " ".join(re.findall(r"\[(.*)\]", text))))
    wanted = set((variable(name, "bindep_profile") or "").split())
    assert {word for word in wanted if not re.match(r"py\d+\Z", word)} <= profiles
    if environment(name) == "functional":
        assert {"engines", "java", "redis"} <= wanted


def test_playbooks_exist_and_are_used() -> None:
    named = {
        job[step]
        for job in JOBS.values()
        for step in ("pre-run", "run", "post-run")
        if step in job
    }
    there = {str(path.relative_to(ROOT)) for path in ROOT.glob("playbooks/*.yaml")}
    assert named == there
