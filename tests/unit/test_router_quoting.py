# SPDX-License-Identifier: Apache-2.0
"""Texts of peers in the log: one line, readable, short."""

from __future__ import annotations

import pytest

from hybrid_messaging.router.quoting import LIMIT, quote


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("", ""),
        ("nova-compute 5 (Zürich)", "nova-compute 5 (Zürich)"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x7f", "\\x1b[31mred\\x7f"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        ("\ud800", "\\ud800"),
        ("x" * LIMIT, "x" * LIMIT),
        ("x" * (LIMIT + 1), "x" * (LIMIT - 1) + "…"),
        ("x" * 1_000_000, "x" * (LIMIT - 1) + "…"),
    ],
)
def test_what_is_shown(said: str, shown: str) -> None:
    assert quote(said) == shown
    assert len(quote("\n" * 1_000_000)) <= 10 * LIMIT
