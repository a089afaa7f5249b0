# SPDX-License-Identifier: Apache-2.0
"""What peers say, as it may stand in a log."""

from __future__ import annotations

#: Characters of a peer's text that a log line shows.
LIMIT = 200


def quote(text: str) -> str:
    """A peer's text on one line, without control characters, and not too long."""
    cut = text if len(text) <= LIMIT else text[: LIMIT - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in cut
    )
