# SPDX-License-Identifier: Apache-2.0
"""Show how a file would change, without the passwords in it."""

from __future__ import annotations

import difflib
import re

from hybrid_messaging import urls
from hybrid_messaging.service_configs.source import Source

#: Names of options whose values are nobody's business.
_SECRET = re.compile(r"password|passwd|secret|token|credential|_key\b", re.IGNORECASE)
_OPTION = re.compile(
    r"(?P<head>[ +-][#;\s]*(?P<key>[^=:\s]+)\s*[=:]\s*)(?P<value>\S.*)"
)


def diff(source: Source, data: bytes) -> str:
    """A unified diff between a file and its new content, passwords hidden.

    Whether a line differs is decided before its password is hidden: a changed
    password shows as a changed line.
    """
    old, new = (
        content.decode("utf-8", "replace").splitlines()
        for content in (source.data, data)
    )
    lines = difflib.unified_diff(
        old, new, str(source.path), str(source.path), lineterm=""
    )
    return "".join(f"{_hide(line)}\n" for line in lines)


def _hide(line: str) -> str:
    if line[1:2] in (" ", "\t"):
        # continues a value that may be a secret from its second line on
        indent = line[: len(line) - len(line[1:].lstrip())]
        return indent + urls.HIDDEN
    option = _OPTION.fullmatch(line)
    if option and _SECRET.search(option["key"]):
        return option["head"] + urls.HIDDEN
    return urls.redact(line)
