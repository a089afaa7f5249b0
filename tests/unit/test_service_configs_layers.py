# SPDX-License-Identifier: Apache-2.0
"""The files that programs read besides a service's main one, in all layouts."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from hybrid_messaging.service_configs.catalogue import SERVICES
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.layers import overriding
from hybrid_messaging.service_configs.services import discover, identify, together

OLD = "[DEFAULT]\ntransport_url = rabbit://old/\n"


def create(root: Path, *names: str, text: str = OLD) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return [root / name for name in names]


@pytest.mark.parametrize(
    ("main", "other", "certain"),
    [
        # oslo.config's own defaults
        ("nova/nova.conf", "nova/nova.conf.d/50-bus.conf", True),
        ("nova/nova.conf", "nova/nova-compute.conf", True),
        ("nova/nova.conf", "nova/nova-compute.conf.d/1.conf", True),
        ("nova/nova.conf", "nova-compute.conf", True),
        ("glance/glance-api.conf", "glance/glance-api.conf.d/1.conf", True),
        # SUSE
        ("nova/nova.conf", "nova/nova-api.conf.d/500-x.conf", True),
        # RDO
        ("neutron/neutron.conf", "neutron/conf.d/common/x.conf", True),
        ("neutron/neutron.conf", "neutron/conf.d/neutron-server/x.conf", True),
        # agents
        ("neutron/neutron.conf", "neutron/dhcp_agent.ini", True),
        ("neutron/neutron.conf", "neutron/plugins/ml2/ml2_conf.ini", True),
        (
            "kolla/neutron-ovn-vpn-agent/neutron.conf",
            "kolla/neutron-ovn-vpn-agent/neutron_ovn_vpn_agent.ini",
            True,
        ),
        (
            "kolla/ironic-neutron-agent/neutron.conf",
            "kolla/ironic-neutron-agent/ironic_neutron_agent.ini",
            True,
        ),
        ("trove/trove.conf", "trove/trove-guestagent.conf", True),
        # nobody knows
        ("neutron/neutron.conf", "neutron/mine.ini", False),
        ("neutron/neutron.conf", "neutron/plugins/mine/mine.conf", False),
        ("nova/nova.conf", "nova/old/nova.conf", False),
    ],
)
def test_files_that_decide_instead(
    tmp_path: Path, main: str, other: str, certain: bool
) -> None:
    first, second = create(tmp_path, main, other)
    assert discover(tmp_path) == [first]
    assert overriding(first, identify(first)) == {second: certain}
    if certain:
        assert identify(second).name == identify(first).name


@pytest.mark.parametrize(
    "other",
    ["var/lib/nova/.nova/nova.conf", "var/lib/nova/nova.conf", "root/.nova/nova.conf"],
)
def test_a_file_in_the_home_of_who_runs_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    def unknown(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    first, second = create(tmp_path, "etc/nova/nova.conf", other)
    assert discover(tmp_path / "etc") == [first]
    assert overriding(first, identify(first)) == {second: False}


def test_the_files_of_a_snap(tmp_path: Path) -> None:
    below = tmp_path / "var/snap/openstack-hypervisor/common/etc"
    main, other = create(below, "nova/nova.conf", "neutron/neutron.conf")
    assert sorted(discover(below)) == sorted([main, other])
    assert overriding(main, identify(main)) == {}


def test_files_that_say_nothing_of_transports(tmp_path: Path) -> None:
    [main] = create(tmp_path, "neutron/neutron.conf")
    create(
        tmp_path,
        "neutron/l3_agent.ini",
        "neutron/conf.d/common/x.conf",
        "neutron/mine.conf",
        text="[DEFAULT]\n# transport_url = rabbit://old/\ndebug = true\n",
    )
    create(tmp_path, "neutron/dnsmasq.conf", text="transport_url\n")
    create(tmp_path, "neutron/neutron.conf.orig", "neutron/notes.txt")
    assert overriding(main, identify(main)) == {}


def test_a_damaged_file_is_an_error_where_it_is_read(tmp_path: Path) -> None:
    [main] = create(tmp_path, "neutron/neutron.conf")
    [agent] = create(tmp_path, "neutron/dhcp_agent.ini", text="[x\ntransport_url = 1\n")
    with pytest.raises(ServiceConfigError) as caught:
        overriding(main, identify(main))
    assert caught.value.path == str(agent)


def test_other_mains_and_shared_directories_are_left_alone(tmp_path: Path) -> None:
    [main, *_] = create(
        tmp_path,
        "nova/nova.conf",
        "nova/nova-cpu.conf",
        "nova/nova_cell1.conf",
        "nova/nova_cell1.conf.d/1.conf",
    )
    assert overriding(main, identify(main)) == {}
    # a directory with the files of everybody
    [cinder, *_] = create(tmp_path, "all/cinder.conf", "all/other.conf")
    assert overriding(cinder, identify(cinder)) == {}


def test_one_file_by_two_names_is_one(tmp_path: Path) -> None:
    main, plugin = create(
        tmp_path, "neutron/neutron.conf", "neutron/plugins/ml2/ml2_conf.ini"
    )
    (tmp_path / "neutron/plugin.ini").symlink_to(plugin)
    assert overriding(main, identify(main)) == {plugin: True}


def test_a_directory_without_a_main_file(tmp_path: Path) -> None:
    """As on nodes of RHOSO."""
    fragments = create(
        tmp_path, "nova/nova.conf.d/01-nova.conf", "nova/nova.conf.d/02-mine.conf"
    )
    [cinder] = create(tmp_path, "cinder/cinder.conf")
    create(tmp_path, "heat/heat.conf.d/1.conf", text="[DEFAULT]\ndebug = true\n")
    found = discover(tmp_path)
    assert found == [cinder, *fragments]
    assert together(found) == [[cinder], fragments]


def test_the_catalogue_is_of_one_mind() -> None:
    names = [service.name for service in SERVICES]
    assert names == sorted(set(names))
    for service in SERVICES:
        for file in service.files:
            assert identify(file.replace("*", "1")) is service
        for program in service.programs:
            assert identify(f"{service.name}-{program}.conf") is service
        assert not (service.over_rpc and not service.rpc)
