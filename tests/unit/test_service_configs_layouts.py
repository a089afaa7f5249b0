# SPDX-License-Identifier: Apache-2.0
"""The trees that deployment tools leave on a host are found whole.

Each file below sets a transport. `main`: a service's own, `then`: read by its programs
afterwards, `perhaps`: nobody knows, `not`: none of a service. The files are those of
the tools' templates (kolla-ansible, openstack-ansible, openstack-helm, Puppet's modules
with RDO's packages, charms with Ubuntu's) and of DevStack, RHOSO and SUSE.
"""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path

import pytest

from hybrid_messaging import urls
from hybrid_messaging.service_configs import replace, rewriting, routes
from hybrid_messaging.service_configs.catalogue import SERVICES
from hybrid_messaging.service_configs.interpreter import Environment
from hybrid_messaging.service_configs.layers import overriding
from hybrid_messaging.service_configs.reading import ServiceConfig, load
from hybrid_messaging.service_configs.rewriting import Target
from hybrid_messaging.service_configs.rules import strays as rules
from hybrid_messaging.service_configs.services import discover, identify, together
from hybrid_messaging.service_configs.transports import Transports

TRANSPORTS = Transports(
    urls.parse("amqp://router/"), urls.parse("rabbit://u:p@broker/")
)
OLD = "[DEFAULT]\ntransport_url = rabbit://u:p@old/\n"

LAYOUTS = {
    "kolla-ansible": {
        "main": (
            "kolla/barbican-keystone-listener/barbican.conf",
            "kolla/ceilometer-notification/ceilometer.conf",
            "kolla/glance-api/glance-api.conf",
            "kolla/ironic-neutron-agent/neutron.conf",
            "kolla/magnum-conductor/magnum.conf",
            "kolla/neutron-ovn-vpn-agent/neutron.conf",
            "kolla/neutron-server/neutron.conf",
            "kolla/nova-compute/nova.conf",
            "kolla/trove-taskmanager/trove.conf",
            "kolla/venus-api/venus.conf",
        ),
        "then": (
            "kolla/ironic-neutron-agent/ironic_neutron_agent.ini",
            "kolla/neutron-ovn-vpn-agent/neutron_ovn_vpn_agent.ini",
            "kolla/neutron-server/ml2_conf.ini",
            "kolla/nova-compute/nova.conf.d/libvirt.conf",
            "kolla/trove-taskmanager/trove-guestagent.conf",
        ),
        "perhaps": ("kolla/neutron-server/eswitchd.conf",),
        "not": ("kolla/config/nova.conf", "kolla/config/nova/nova-compute.conf"),
    },
    "openstack-ansible": {
        "main": (
            "cinder/cinder.conf",
            "keystone/keystone.conf",
            "neutron/neutron.conf",
            "nova/nova.conf",
            "octavia/octavia.conf",
            "trove/trove.conf",
        ),
        "then": (
            "neutron/plugins/ml2/ml2_conf.ini",
            "neutron/plugins/ml2/openvswitch_agent.ini",
            "trove/trove-guestagent.conf",
        ),
        "perhaps": ("neutron/neutron_lbaas.conf",),
        "not": (),
    },
    "openstack-helm": {
        "main": ("heat/heat.conf", "neutron/neutron.conf", "nova/nova.conf"),
        "then": (
            "neutron/neutron.conf.d/10-mine.conf",
            "neutron/taas_plugin.ini",
            "neutron/l2gw_plugin.ini",
            "neutron/plugins/ml2/sriov_agent.ini",
            "neutron/ovn_metadata_agent.ini",
            "nova/nova.conf.d/10-mine.conf",
        ),
        "perhaps": ("heat/mine.conf",),
        "not": ("nova/nova.conf.bak",),
    },
    "puppet": {
        "main": (
            "aodh/aodh.conf",
            "ironic-inspector/inspector.conf",
            "neutron/neutron.conf",
            "nova/nova.conf",
            "trove/trove.conf",
        ),
        "then": (
            "neutron/conf.d/common/01-mine.conf",
            "neutron/conf.d/neutron-server/01-mine.conf",
            "neutron/plugins/networking-baremetal/ironic_neutron_agent.ini",
            "nova/nova-compute.conf",
            "trove/trove-conductor.conf",
            "trove/trove-guestagent.conf",
        ),
        "perhaps": ("neutron/conf.d/neutron-mine/x.conf",),
        "not": (),
    },
    "charms": {
        "main": (
            "ceilometer/ceilometer.conf",
            "designate/designate.conf",
            "neutron/neutron.conf",
            "nova/nova.conf",
        ),
        "then": ("neutron/dhcp_agent.ini", "nova/nova-compute.conf"),
        "perhaps": (),
        "not": (),
    },
    "devstack": {
        "main": ("nova/nova.conf", "nova/nova-cpu.conf", "nova/nova_cell1.conf"),
        "then": ("nova/nova.conf.d/x.conf",),
        "perhaps": (),
        "not": (),
    },
    "rhoso": {
        "main": ("nova/nova.conf.d/01-nova.conf", "nova/nova.conf.d/02-mine.conf"),
        "then": (),
        "perhaps": (),
        "not": (),
    },
    "suse": {
        "main": ("nova/nova.conf",),
        "then": ("nova/nova.conf.d/100-nova.conf", "nova/nova-api.conf.d/500-x.conf"),
        "perhaps": (),
        "not": (),
    },
}


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, list[Path]]:
    files = LAYOUTS[request.param]
    below = tmp_path / "venv/etc" if request.param == "openstack-ansible" else tmp_path
    for name in (name for names in files.values() for name in names):
        (below / name).parent.mkdir(parents=True, exist_ok=True)
        (below / name).write_text(OLD)
    if below != tmp_path:  # /etc/nova leads into the environment of the release
        for directory in below.iterdir():
            (tmp_path / directory.name).symlink_to(directory)
    return {kind: [tmp_path / name for name in names] for kind, names in files.items()}


def judged(files: list[Path]) -> tuple[ServiceConfig, routes.Routes]:
    config = load(files)
    return config, routes.of(config, Environment({}, {}), None)


def test_all_is_found_and_told_apart(
    layout: dict[str, list[Path]], tmp_path: Path
) -> None:
    mains = discover(tmp_path)
    assert sorted(mains) == sorted(layout["main"])
    found = {}
    for path in mains:
        found.update(overriding(path, identify(path)))
    assert sorted(path for path in found if found[path]) == sorted(layout["then"])
    assert sorted(path for path in found if not found[path]) == layout["perhaps"]


def test_what_is_surely_read_is_rewritten_and_the_rest_named(
    layout: dict[str, list[Path]], tmp_path: Path
) -> None:
    targets = [Target(path) for path in (*layout["main"], *layout["then"])]
    plan = rewriting.plan(targets, TRANSPORTS)
    said = "\n".join(line for item in plan for line in rewriting.warnings(item, plan))
    assert [path for path in layout["perhaps"] if f"{path}: may over" not in said] == []
    assert " overrides " not in said
    replace.replace([replace.Replacement(item.source, item.data) for item in plan])
    problems = [
        problem
        for files in together(discover(tmp_path))
        for problem in rules.not_overridden(*judged(files))
    ]
    assert sorted({problem.where for problem in problems}) == [
        f"{path}, line 2" for path in layout["perhaps"]
    ]
    assert {problem.code for problem in problems} <= {"overridden"}
    for path in (*layout["perhaps"], *layout["not"]):
        assert path.read_text() == OLD
        assert not os.path.lexists(f"{path}.before-hybrid")


#: What the page says that `configure` and `check` do with files of each kind.
SAID = {
    "main": ("rewrites", "reads"),
    "then": ("rewrites", "reports"),
    "perhaps": ("names in a warning", "warns"),
    "not": ("leaves alone", "ignores"),
}
PAGE = Path(__file__).parents[2] / "doc" / "source" / "deployment-tools.rst"
MAIN = "|".join(fnmatch.translate(name) for each in SERVICES for name in each.files)
#: Words of the page as regular expressions, escaped as `re.escape` does.
WORDS = {
    r"\*\*": ".+",
    r"\*": "[^/]+",
    r"SERVICE\.conf": f"({MAIN})",
    "CONTAINER": "(?!config/)[^/]+",
    "DIRECTORY": "[^/]+",
}
ON_THE_PAGE = [
    "kolla-ansible",
    "openstack-ansible",
    "openstack-helm",
    "puppet",
    "charms",
    "devstack",
]


def said_of(tool: str) -> list[tuple[str, str, str]]:
    """Files as a regular expression, and what both commands do, row by row."""
    page = PAGE.read_text().partition("Files of each tool\n")[2]
    section = re.search(
        rf"^{tool}\n-+\n(.*?)\n[^\n]+\n[-=]{{4}}", page, re.M | re.S | re.I
    )
    assert section, tool
    cells = r"^   \* - (``.*?)\n     - (.*?)\n     - (.*?)$"
    found = []
    for files, *both in re.findall(cells, section[1], re.M | re.S):
        for name in re.findall("``([^`]+/[^`]+)``", files):
            pattern = re.escape(name)
            for word, expression in WORDS.items():
                pattern = pattern.replace(word, expression)
            found.append((pattern, *both))
    return found


@pytest.mark.parametrize("tool", ON_THE_PAGE)
def test_the_page_says_what_is_done_with_each_file(tool: str) -> None:
    table = said_of(tool)
    used = set()
    for kind, names in LAYOUTS[tool].items():
        for name in names:
            pattern, *both = next(row for row in table if re.fullmatch(row[0], name))
            used.add(pattern)
            for text, expected in zip(both, SAID[kind], strict=True):
                assert text.startswith(expected), name
    assert {row[0] for row in table} == used, "rows without a file in the test"
