# SPDX-License-Identifier: Apache-2.0
"""How several files are to change together, and what is told about it."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from hybrid_messaging import urls
from hybrid_messaging.service_configs import preview, replace, rewriting
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.rewriting import Target
from hybrid_messaging.service_configs.transports import Transports

TRANSPORTS = Transports(
    urls.parse("amqp://router/"), urls.parse("rabbit://u:hush@broker/common")
)


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "nova.conf", tmp_path / "nova_cell1.conf"
    for path, vhost in zip(paths, ("", "nova_cell1"), strict=True):
        path.write_text(f"[DEFAULT]\ntransport_url = rabbit://u:p@old/{vhost}\n")
    return paths


def plan(*targets: Target | Path, keep_vhosts: bool = False) -> list[rewriting.Rewrite]:
    named = [item if isinstance(item, Target) else Target(item) for item in targets]
    return rewriting.plan(named, TRANSPORTS, keep_vhosts)


def warnings(*rewrites: rewriting.Rewrite) -> list[str]:
    return list(rewriting.warnings(rewrites[0], rewrites))


def test_cells_must_not_come_to_share_a_virtual_host(cells: tuple[Path, Path]) -> None:
    with pytest.raises(
        ServiceConfigError, match=r"'nova_cell1', and RPC of .* uses '/'"
    ):
        plan(*cells)


def test_cells_keep_their_virtual_hosts(cells: tuple[Path, Path]) -> None:
    main, cell = plan(*cells, keep_vhosts=True)
    assert str(main.rpc) == "amqp://router/"
    assert str(cell.rpc) == "amqp://router/nova_cell1"
    assert str(cell.notify).endswith("@broker/common")


def test_a_virtual_host_is_for_rpc_only(cells: tuple[Path, Path]) -> None:
    main, cell = plan(cells[0], Target(cells[1], "c/1"))
    assert str(cell.rpc) == "amqp://router/c%2F1"
    assert cell.notify.vhost == main.notify.vhost == "common"
    section = "oslo_messaging_notifications"
    assert (cell.after.value(section, "transport_url") or "").endswith("/common")


def test_a_file_given_twice_is_one(cells: tuple[Path, Path], tmp_path: Path) -> None:
    link = tmp_path / "link.conf"
    link.symlink_to(cells[0])
    assert [item.path for item in plan(cells[0], link)] == [cells[0]]
    with pytest.raises(ServiceConfigError, match="given twice"):
        plan(cells[0], Target(link, "other"))


def test_what_an_operator_should_know(tmp_path: Path) -> None:
    path = tmp_path / "ceilometer.conf"
    path.write_bytes(
        b"\xef\xbb\xbf[DEFAULT]\n# caf\xe9\ntransport_url = rabbit://broker/common\n"
        b"[notification]\nmessaging_urls = rabbit://x/\n"
    )
    fragments = tmp_path / "ceilometer.conf.d"
    fragments.mkdir()
    fragment = fragments / "1.conf"
    fragment.write_text("[oslo_messaging_notifications]\ndriver = noop\n")
    text = "\n".join(warnings(*plan(path)))
    for part in (
        "byte order mark",
        "line 2: is not UTF-8",
        f"{fragment}: overrides",
        "messaging_urls",
        "may exist that are not durable",
    ):
        assert part in text
    assert "overrides" not in "\n".join(warnings(*plan(path, fragment)))


def test_edits_since_the_last_time_are_mentioned(cells: tuple[Path, Path]) -> None:
    [item] = plan(cells[0])
    replace.replace([replace.Replacement(item.source, item.data)])
    [item] = plan(cells[0])
    assert not item.changes
    assert warnings(item) == []
    with cells[0].open("a") as file:
        file.write("# by hand\n")
    [text] = warnings(*plan(cells[0]))
    assert "edited since" in text and "before-hybrid" in text


def test_other_servers_need_no_warning(cells: tuple[Path, Path]) -> None:
    assert warnings(*plan(cells[0])) == []


def test_what_comes_next(cells: tuple[Path, Path]) -> None:
    steps = rewriting.next_steps(plan(*cells, keep_vhosts=True))
    text = "\n".join(steps)
    assert f"--config-file {cells[0]} --config-file {cells[1]} cell_v2 update" in text
    assert "restart all services of nova" in steps
    assert steps[-1] == f"hybrid-messaging check {cells[0]} {cells[1]}"


def test_a_compute_node_has_no_cells_to_change(tmp_path: Path) -> None:
    path = tmp_path / "nova-cpu.conf"
    path.write_text("[DEFAULT]\n")
    assert "cell" not in "\n".join(rewriting.next_steps(plan(path)))


def test_unreadable_files_get_no_cell_advice(cells: tuple[Path, Path]) -> None:
    cells[0].write_bytes(b"[DEFAULT]\n# \xe9\n")
    assert "cell_v2" not in "\n".join(rewriting.next_steps(plan(cells[0])))


def test_passwords_do_not_show_in_a_preview(tmp_path: Path) -> None:
    path = tmp_path / "cinder.conf"
    path.write_text(
        "[DEFAULT]\nmemcache_secret_key = first\n#password = second\n"
        "transport_url = rabbit://u:third@h,v:fo/ur@i/x\n"
        "  v:seventh@i\n[keystone_authtoken]\npassword: fifth\nconnection = mysql://u:sixth@h/\n"
    )
    [item] = plan(path)
    shown = preview.diff(item.before, item.after)
    assert "-transport_url" in shown and "+transport_url = amqp://router/" in shown
    for secret in (
        "first",
        "second",
        "third",
        "fo/ur",
        "fifth",
        "sixth",
        "seventh",
        "hush",
    ):
        assert secret not in shown


@pytest.mark.parametrize(
    "url", ["a:hidden@h", "rabbit:/a:hidden@h", "rabbit://a:hidden", "a:b@h,c:hidden"]
)
def test_a_mistyped_url_does_not_show_in_a_preview(tmp_path: Path, url: str) -> None:
    path = tmp_path / "cinder.conf"
    path.write_text(f"[DEFAULT]\n# transport_url = {url}\ntransport_url = {url}\n")
    [item] = plan(path)
    shown = preview.diff(item.before, item.after)
    assert shown.count("transport_url = ") == 4
    assert "hidden" not in shown


def test_a_preview_is_what_diff_would_say(tmp_path: Path) -> None:
    many = "".join(f"# line {number}\n" for number in range(30))
    path = tmp_path / "cinder.conf"
    path.write_text(
        f"[DEFAULT]\n{many}transport_url = rabbit://x/\n  more\n{many}"
        f"[oslo_messaging_notifications]\ndriver = noop\n{many}[a]"
    )
    [item] = plan(path)
    told = list(difflib.unified_diff(item.before.lines, item.after.lines, lineterm=""))
    shown = preview.diff(item.before, item.after).splitlines()
    heads = [line for line in told if line.startswith("@@")]
    assert [line for line in shown if line.startswith("@@")] == heads
    assert len(heads) == 3
    assert [line[0] for line in shown] == [line[0] for line in told]


def test_a_preview_compares_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That would take minutes for a large file whose lines repeat each other."""
    path = tmp_path / "cinder.conf"
    path.write_text("[DEFAULT]\ntransport_url = a://b/\n")
    [item] = plan(path)
    monkeypatch.delattr(difflib.SequenceMatcher, "find_longest_match")
    assert "-transport_url" in preview.diff(item.before, item.after)


def test_a_password_alone_shows_as_a_change(tmp_path: Path) -> None:
    path = tmp_path / "cinder.conf"
    path.write_text("[DEFAULT]\n")
    [item] = plan(path)
    path.write_bytes(item.data.replace(b"hush", b"other"))
    [item] = plan(path)
    shown = preview.diff(item.before, item.after).splitlines()
    assert [line[0] for line in shown if "u:***@broker" in line] == ["-", "+"]


def test_a_proxy_of_swift_without_its_middleware_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "proxy-server.conf"
    path.write_text("[DEFAULT]\n")
    with pytest.raises(ServiceConfigError, match=r"it has no \[filter:ceilometer\]"):
        plan(path)


def test_a_proxy_of_swift_may_call_its_middleware_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "proxy-server.conf"
    filter_ = "[filter:meter]\nuse = egg:ceilometermiddleware#swift\nurl = "
    path.write_text(f"{filter_}rabbit://old/\n")
    [rewrite] = plan(path)
    assert rewrite.data.decode() == f"{filter_}{rewrite.notify}\n"


def test_a_proxy_of_swift_may_stay_where_queues_are_not_durable(tmp_path: Path) -> None:
    path = tmp_path / "proxy-server.conf"
    path.write_text("[filter:ceilometer]\nurl = rabbit://broker/common\n")
    assert "stay on the RabbitMQ" in "".join(warnings(*plan(path)))


# -- virtual hosts -----------------------------------------------------------


def test_virtual_hosts_are_kept_only_if_that_is_asked_for(
    cells: tuple[Path, Path],
) -> None:
    [cell] = rewriting.plan([Target(cells[1])], TRANSPORTS)
    assert cell.rpc and cell.rpc.vhost is None
    # one that is named comes first
    [cell] = plan(Target(cells[1], "named"), keep_vhosts=True)
    assert cell.rpc and cell.rpc.vhost == "named"
    # the default one, spelled out
    cells[1].write_text("[DEFAULT]\ntransport_url = rabbit://u:p@old/%2F\n")
    [cell] = plan(cells[1], keep_vhosts=True)
    assert cell.rpc and cell.rpc.vhost is None


def test_the_virtual_host_of_the_new_transport_is_used(
    cells: tuple[Path, Path],
) -> None:
    transports = Transports(urls.parse("amqp://router/own"), TRANSPORTS.notify)
    [main] = rewriting.plan([Target(cells[0])], transports)
    assert str(main.rpc) == "amqp://router/own"


def test_who_names_one_virtual_host_for_two_files_gets_it(
    cells: tuple[Path, Path],
) -> None:
    main, cell = plan(Target(cells[0], "same"), Target(cells[1], "same"))
    assert str(main.rpc) == str(cell.rpc) == "amqp://router/same"


def test_files_without_a_transport_or_without_rpc_need_not_be_kept_apart(
    cells: tuple[Path, Path], tmp_path: Path
) -> None:
    cells[0].write_text("[DEFAULT]\n")
    assert len(plan(*cells)) == 2
    keystones = []
    for vhost in ("a", "b"):
        (tmp_path / vhost).mkdir()
        keystones.append(tmp_path / vhost / "keystone.conf")
        keystones[-1].write_text(f"[DEFAULT]\ntransport_url = rabbit://old/{vhost}\n")
    assert [item.rpc for item in plan(*keystones)] == [None, None]


@pytest.mark.parametrize(
    ("former", "notify", "stays"),
    [
        ("rabbit://broker/common", "rabbit://broker/common", True),
        ("rabbit://broker/", "rabbit://broker/%2F", True),
        ("rabbit://broker/%2F", "rabbit://broker/", True),
        ("rabbit://broker/common", "rabbit://broker/other", False),
        ("rabbit://broker/common", "rabbit://elsewhere/common", False),
        ("amqp://broker/common", "amqp://broker/common", False),
    ],
)
def test_whether_notifications_stay_where_they_were(
    tmp_path: Path, former: str, notify: str, stays: bool
) -> None:
    path = tmp_path / "cinder.conf"
    path.write_text(f"[DEFAULT]\ntransport_url = {former}\n")
    transports = Transports(TRANSPORTS.rpc, urls.parse(notify))
    rewrites = rewriting.plan([Target(path)], transports)
    assert ("stay on the RabbitMQ" in "".join(warnings(*rewrites))) is stays


# -- what follows ------------------------------------------------------------


def test_only_services_whose_files_change_are_restarted(tmp_path: Path) -> None:
    done, new = tmp_path / "keystone.conf", tmp_path / "cinder.conf"
    for path in (done, new):
        path.write_text("[DEFAULT]\n")
    [item] = plan(done)
    replace.replace([replace.Replacement(item.source, item.data)])
    steps = rewriting.next_steps(plan(done, new))
    assert steps[0] == "restart all services of cinder"
    assert rewriting.next_steps(plan(done)) == []


def test_only_files_of_nova_say_where_cells_are(
    cells: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def outdated(files: list[rewriting.cells.NovaFile]) -> list[object]:
        seen.extend(file.path for file in files)
        return []

    monkeypatch.setattr(rewriting.cells, "outdated", outdated)
    cinder = tmp_path / "cinder.conf"
    cinder.write_text("[DEFAULT]\n")
    rewriting.next_steps(plan(cinder, cells[0]))
    assert seen == [cells[0]]


def test_cells_are_updated_from_their_own_files(cells: tuple[Path, Path]) -> None:
    advice = "\n".join(rewriting.next_steps(plan(*cells, keep_vhosts=True)))
    assert advice.count("update_cell") == 1
    assert f"--config-file {cells[1]} cell_v2 update_cell" in advice
    advice = "\n".join(rewriting.next_steps(plan(cells[0])))
    assert f"nova-manage --config-file {cells[0]} cell_v2 update_cell" in advice
