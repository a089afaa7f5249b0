# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a result of `bench run`: a report, or what is damaged in it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.test_fuzz_state import places
from tests.unit.test_bench_report import both, document, made, measurement

from hybrid_messaging.bench import BenchError, report, result, summary

SOUND = document(
    made(
        measurement("1-single", both(3, 2)),
        measurement("4-hybrid", both(4, 2)),
        measurement("4-hybrid", both(3, 2), "load", load=20),
        measurement("4-hybrid", {"call": 3}, "separation", load=0.0),
        measurement("1-single", both(3, 2), "trouble-rpc", load=60, gap=range(4, 8)),
    )
)
#: Of an example that takes a tenth of a second.
SLOW = settings(max_examples=max(settings.default.max_examples // 5, 1))
PLACES = list(places(SOUND))
NASTY = st.sampled_from(
    [
        *(None, True, [], {}, [[]], [{}], "", "x", "\ud800", "<b>", "2026-01-02"),
        *(0, -1, 1, 1e-300, 1e300, 10**400, 2**63, float("nan"), float("inf")),
        *("trouble-rpc", "trouble-", "peak", "call", "SElTVEZBQUFB", "A" * 100_000),
    ]
)
VALUE = NASTY | st.recursive(
    NASTY | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("result") / "result.json"


@st.composite
def changed(draw: st.DrawFn) -> str:
    """A result in which some values are others, or are gone."""
    document: Any = copy.deepcopy(SOUND)
    for _ in range(draw(st.integers(1, 3))):
        way = draw(st.sampled_from(PLACES))
        holder = document
        try:
            for key in way[:-1]:
                holder = holder[key]
            if way and draw(st.integers(0, 3)):
                holder[way[-1]] = draw(VALUE)
            elif way:
                del holder[way[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has taken it away
    return json.dumps(document)


@SLOW
@given(content=changed())
def test_a_result_is_rendered_or_damaged(path: Path, content: str) -> None:
    path.write_text(content)
    try:
        found = result.load(path)
    except BenchError as error:
        assert str(path) in str(error)
        assert str(error).isprintable()
        return
    page = report.render(result.combined({"one": found}))
    assert "<b>" not in page.replace("<li><b>", "")
    summary.to_csv(summary.rows(found))
    result.combined({"one": found, "two": found})


@given(content=st.binary() | st.text().map(str.encode))
def test_anything_is_no_result(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BenchError, match=r"result\.json"):
        result.load(path)
