# SPDX-License-Identifier: Apache-2.0
"""What a router may answer through its management."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import proton
import pytest

from hybrid_messaging.engines import EngineError, amqp_connection, amqp_management
from hybrid_messaging.engines.amqp_management import Management

Asked = Callable[[Any], Management]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A management with the same answer to everything."""

    def asked(body: Any) -> Management:
        class Requests:
            remote_properties: dict[str, str] = {}

            def __init__(self, *where: object) -> None:
                pass

            def call(self, request: proton.Message) -> proton.Message:
                return proton.Message(properties={"statusCode": 200}, body=body)

        monkeypatch.setattr(amqp_connection, "Requests", Requests)
        return Management("router", 5672)

    return asked


def rows(names: list[str], *found: list[Any]) -> dict[str, Any]:
    return {"attributeNames": names, "results": list(found)}


def test_what_is_asked_for(asked: Asked) -> None:
    management = asked(rows(["id", "mode", "name"], ["a", "edge", "M0x"]))
    assert management.router()["mode"] == "edge"
    assert management.nodes() == ["a"]
    assert [row["name"] for row in management.addresses()] == ["x"]


@pytest.mark.parametrize("ask", ["router", "metrics"])
def test_a_router_that_says_nothing_of_itself(asked: Asked, ask: str) -> None:
    with pytest.raises(EngineError, match="router:5672 reports no"):
        getattr(asked(rows(["id"])), ask)()


@pytest.mark.parametrize("ask", ["router", "nodes", "addresses"])
@pytest.mark.parametrize(
    "body",
    [
        rows(["x"], ["y"]),
        rows(["id", "name"], []),
        {},
        {"attributeNames": 1, "results": [[1]]},
        {"attributeNames": ["id"], "results": 1},
        {"attributeNames": ["id"], "results": [1]},
    ],
    ids=["other keys", "no values", "empty", "no names", "no rows", "no row"],
)
def test_odd_answers(asked: Asked, ask: str, body: Any) -> None:
    with pytest.raises(
        EngineError, match=r"router:5672 (reports no|sends an unexpected answer)"
    ):
        getattr(asked(body), ask)()


def test_rows_without_end(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amqp_management, "_MOST_ROWS", 1000)
    page = rows(["id"], *([str(number)] for number in range(500)))
    with pytest.raises(EngineError, match="does not finish its list"):
        asked(page).nodes()


def test_where_a_router_cannot_listen(asked: Asked) -> None:
    lines = [
        ["SERVER", "info", "Listening on 192.0.2.1:5681"],
        [
            "SERVER",
            "error",
            "Listener error on 192.0.2.1:5683: Address already in use - listen on"
            " 192.0.2.1:5683 (proton:io)",
        ],
        ["FLOW_LOG", "info", "logText=LOG_SERVER: Listener error on 192.0.2.1:5683: x"],
        ["SERVER", "error", "Listener error on [::1]:5683: no such device"],
        ["SERVER"],
        1,
    ]
    assert asked(lines).deaf() == [
        "192.0.2.1:5683: Address already in use",
        "[::1]:5683: no such device",
    ]


@pytest.mark.parametrize("body", [{}, None, 1, [], [[1, 2, 3]]])
def test_a_router_that_keeps_no_log(asked: Asked, body: Any) -> None:
    assert asked(body).deaf() == []
