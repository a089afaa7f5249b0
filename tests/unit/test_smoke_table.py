# SPDX-License-Identifier: Apache-2.0
"""The table of checks is sound, and gives what is asked for."""

from __future__ import annotations

import pytest

from hybrid_messaging import servers, urls
from hybrid_messaging.drivers import opts
from hybrid_messaging.servers.transport import Transport
from hybrid_messaging.smoke.table import CHECKS, select

NAMES = [check.name for check in CHECKS]


def test_every_check_is_there_once() -> None:
    assert len(set(NAMES)) == len(NAMES)
    functions = [check.function for check in CHECKS]
    assert len(set(functions)) == len(functions)


@pytest.mark.parametrize("check", CHECKS, ids=NAMES)
def test_a_check_comes_after_those_that_it_needs(check) -> None:
    assert set(check.needs) <= set(NAMES[: NAMES.index(check.name)])
    assert check.role in ("rpc", "notify")
    assert check.look_at


def transport(scheme: str) -> Transport:
    return servers.get(urls.parse(f"{scheme}://"))


@pytest.mark.parametrize("scheme", servers.SCHEMES)
def test_hints_are_about_checks_that_exist(scheme: str) -> None:
    assert set(transport(scheme).look_at) <= set(NAMES)


def test_kinds_are_found_by_the_first_part_of_a_scheme() -> None:
    assert type(transport("kombu+memory")) is type(transport("rabbit"))


def test_all_checks_are_selected_by_default() -> None:
    assert select([]) == list(CHECKS)


def test_selected_checks_bring_those_that_they_need() -> None:
    names = [check.name for check in select(["separation", "nobody"])]
    assert names == [
        "rpc-connect",
        "notify-connect",
        "servers",
        "call",
        "nobody",
        "notify-stored",
        "separation",
    ]


def test_checks_are_left_out_unless_others_need_them() -> None:
    names = [check.name for check in select([], without=["separation", "call"])]
    assert names == [name for name in NAMES if name != "separation"]
    with pytest.raises(ValueError, match="no check 'pigeon'"):
        select([], without=["pigeon"])


def test_an_unknown_check_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no check 'pigeon'.*rpc-connect, notify"):
        select(["pigeon"])


def test_nobody_may_take_as_long_as_drivers_wait_by_default() -> None:
    """Services' own configuration decides how long that is."""
    (nobody,) = (check for check in CHECKS if check.name == "nobody")
    for group, options in opts.list_opts():
        for option in options:
            if option.name == "restart_timeout":
                assert nobody.deadline > option.default + 10, group
