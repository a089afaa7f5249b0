# SPDX-License-Identifier: Apache-2.0
"""Services are found by their layout and told apart by their files' names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.layers import overriding
from hybrid_messaging.service_configs.services import discover, identify
from hybrid_messaging.service_configs.source import LARGEST, read, read_to_change


@pytest.mark.parametrize(
    ("path", "name", "rpc"),
    [
        ("/etc/nova/nova.conf", "nova", True),
        ("nova_cell7.conf", "nova", True),
        ("/etc/nova/nova-cpu.conf", "nova", True),
        ("/etc/kolla/keystone/keystone.conf", "keystone", False),
        ("/etc/glance/glance-api.conf", "glance", False),
        ("/etc/glance/glance-api.conf.d/50-bus.conf", "glance", False),
        ("/etc/ironic-inspector/inspector.conf", "ironic-inspector", True),
        ("/etc/mine/mine.conf", "mine", True),
    ],
)
def test_a_file_tells_its_service(path: str, name: str, rpc: bool) -> None:
    service = identify(path)
    assert (service.name, service.rpc) == (name, rpc)


def create(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("[DEFAULT]\ntransport_url = rabbit://\n")
    return [root / name for name in names]


def test_layouts_of_packages_devstack_kolla_and_tripleo(tmp_path: Path) -> None:
    expected = create(
        tmp_path,
        "cinder/cinder.conf",
        "ironic-inspector/inspector.conf",
        "kolla/ironic-neutron-agent/neutron.conf",
        "kolla/nova-conductor/nova.conf",
        "neutron/etc/neutron/neutron.conf",
        "nova/nova-cpu.conf",
        "nova/nova.conf",
        "nova/nova_cell1.conf",
    )
    create(
        tmp_path,
        "backup/nova.conf",
        "kolla/config/nova.conf",
        "nova/nova-compute.conf",
        "nova/nova.conf.orig",
        "nova/policy.yaml",
    )
    assert sorted(discover(tmp_path)) == sorted(expected)


def test_a_cell_without_a_conductor_is_left_out(tmp_path: Path) -> None:
    """As DevStack leaves it on compute nodes."""
    names = ("nova", "nova_cell1", "nova_cell2", "nova_cell3")
    used, left, new, damaged = create(
        tmp_path, *(f"nova/{name}.conf" for name in names)
    )
    left.write_text(
        "[DEFAULT]\nvif_plugging_timeout = 300\n[neutron]\nusername = nova\n"
    )
    # of a conductor that has not yet been told where messages go
    new.write_text("[database]\nconnection = sqlite://\n")
    damaged.write_text("[database\n")
    assert discover(tmp_path) == [used, new, damaged]


def test_fragments_that_override_are_told_apart(tmp_path: Path) -> None:
    main, fragment = create(tmp_path, "nova/nova.conf", "nova/nova.conf.d/50-bus.conf")
    other = tmp_path / "nova/nova.conf.d/60-debug.conf"
    other.write_text("[DEFAULT]\ndebug = true\n")
    assert discover(tmp_path) == [main]
    assert overriding(main, identify(main)) == {fragment: True}


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    for name, target in (("nova", "gone"), ("cinder", "cinder.conf")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.conf").symlink_to(target)
    found = discover(tmp_path)
    assert [path.name for path in found] == ["cinder.conf", "nova.conf"]
    for path in found:
        with pytest.raises(ServiceConfigError):
            read(path)


def test_nothing_found_is_said(tmp_path: Path) -> None:
    with pytest.raises(ServiceConfigError, match="no OpenStack service"):
        discover(tmp_path)
    with pytest.raises(ServiceConfigError, match="is not a directory"):
        discover(tmp_path / "none")


def test_a_closed_directory_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path, "nova/nova.conf")
    monkeypatch.setattr(os, "access", lambda *args, **more: False)
    with pytest.raises(ServiceConfigError, match="run this as root") as caught:
        discover(tmp_path)
    assert caught.value.path == str(tmp_path / "nova")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    loop = tmp_path / "loop.conf"
    loop.symlink_to("loop.conf")
    dangling = tmp_path / "dangling.conf"
    dangling.symlink_to("/nonexistent/x.conf")
    fifo = tmp_path / "fifo.conf"
    os.mkfifo(fifo)
    for path, reason in (
        (tmp_path, "is a directory"),
        (fifo, "is not a file"),
        (loop, "leads back to itself"),
        (dangling, "link to /nonexistent/x.conf, which does not exist"),
        (tmp_path / "none.conf", "No such file"),
        (Path("/dev/null"), "is not a file"),
    ):
        with pytest.raises(ServiceConfigError, match=reason) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_what_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = create(tmp_path, "x.conf")

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(ServiceConfigError, match="no permission to read it"):
            read(path)


def test_a_proxy_of_swift_takes_part_with_its_middleware(tmp_path: Path) -> None:
    proxy, main = create(tmp_path, "swift/proxy-server.conf", "nova/nova.conf")
    assert discover(tmp_path) == [main]
    for text in (
        "[filter:ceilometer]\nurl = rabbit://b/\n",
        "[filter:meter]\nuse = egg:ceilometermiddleware#swift\n",
    ):
        proxy.write_text(text)
        assert sorted(discover(tmp_path)) == sorted([main, proxy])
    # what cannot be read is for its reader to tell
    proxy.write_bytes(b"\0")
    assert sorted(discover(tmp_path)) == sorted([main, proxy])


def test_a_file_has_a_limit(tmp_path: Path) -> None:
    [path] = create(tmp_path, "x.conf")
    path.write_bytes(b"#" * LARGEST)
    assert len(read(path).data) == LARGEST
    path.write_bytes(b"#" * 77_000_000)
    with pytest.raises(ServiceConfigError, match=r"has 77 MB, .* up to 2 MB"):
        read(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    ("owner_of_link", "owner_of_file", "taken"),
    [(0, 0, True), (0, 1, True), (1, 1, True), (1, 0, False), (1, 2, False)],
)
def test_a_link_leads_where_its_owner_may_write(
    tmp_path: Path, owner_of_link: int, owner_of_file: int, taken: bool
) -> None:
    (tmp_path / "there").mkdir()
    [path] = create(tmp_path / "there", "x.conf")
    os.chown(path, owner_of_file, -1)
    # on the way to the file, and seen from another link
    (tmp_path / "way").symlink_to("./there/../there")
    link = tmp_path / "link.conf"
    link.symlink_to(tmp_path / "way" / "x.conf")
    for odd in (link, tmp_path / "way"):
        os.lchown(link, 0, -1)
        os.lchown(tmp_path / "way", 0, -1)
        os.lchown(odd, owner_of_link, -1)
        if taken:
            assert read_to_change(link).path == path
        else:
            with pytest.raises(ServiceConfigError, match=rf"{odd} is a symbolic link"):
                read_to_change(link)
        # to look is no harm
        assert read(link).path == path
