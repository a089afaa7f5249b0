# SPDX-License-Identifier: Apache-2.0
"""What commands print, without anything that a terminal would obey.

Names and values come from files, servers and peers that anybody may have written. In
one place, on their way out, their control characters become visible.
"""

from __future__ import annotations

import re
from typing import Any, TextIO, cast

# but line feed and tab; then what turns the direction of text, and what stands for
# bytes that are no UTF-8, which could not be printed at all
_OBEYED = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
#: For encodings without them.
_PLAIN = str.maketrans({"→": "->", "…": "..."})


def visible(stream: TextIO) -> TextIO:
    """A stream to which control characters go as ``\\u001b``."""
    return cast(TextIO, _Visible(stream))


def control(stream: TextIO, sequence: str) -> None:
    """Write something for the terminal to obey.

    :param stream: one of `visible`, or any other
    """
    (stream.obeyed if isinstance(stream, _Visible) else stream).write(sequence)


class _Visible:
    def __init__(self, stream: TextIO) -> None:
        self.obeyed = stream

    def write(self, text: str) -> int:
        text = _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        return self.obeyed.write(_encodable(text, self.obeyed.encoding or "utf-8"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.obeyed, name)


def _encodable(text: str, encoding: str) -> str:
    """A text in characters that an encoding has, as in a locale without UTF-8."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return text
