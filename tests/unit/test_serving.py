# SPDX-License-Identifier: Apache-2.0
"""The servers that files and URLs name, for `status`."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_messaging import serving, urls
from hybrid_messaging.serving import Server

MOVING = urls.moving(urls.parse("amqp://u:p@new/"), "rabbit://u:p@old/v")


def shown(servers: list[Server]) -> list[tuple[str, list[str]]]:
    return [(str(server.url), server.roles) for server in servers]


@pytest.mark.parametrize(
    ("rpc", "beside"),
    [
        (str(MOVING), ""),
        (
            "migrate+amqp://u:p@new/",
            "[oslo_messaging_migrate]\nfrom_url = rabbit://u:p@old/v",
        ),
    ],
)
def test_a_service_that_moves_uses_two_buses(
    tmp_path: Path, rpc: str, beside: str
) -> None:
    path = tmp_path / "cinder.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {rpc}\n[oslo_messaging_notifications]\n"
        f"transport_url = rabbit://u:p@old/v\n{beside}"
    )
    assert shown(serving.servers(serving.in_files([path]))) == [
        ("amqp://u:p@new/", ["rpc"]),
        ("rabbit://u:p@old/", ["rpc (old)", "notify"]),
    ]


def test_so_does_a_url_of_its_own() -> None:
    assert shown(serving.servers(serving.in_url("rpc", str(MOVING)))) == [
        ("amqp://u:p@new/", ["rpc"]),
        ("rabbit://u:p@old/", ["rpc (old)"]),
    ]
