# SPDX-License-Identifier: Apache-2.0
"""Show how a file would change, without the passwords in it."""

from __future__ import annotations

import difflib
import re

from hybrid_messaging import urls
from hybrid_messaging.service_configs.document import Document

# of options whose values are nobody's business
_SECRET = re.compile(r"password|passwd|secret|token|credential|_key\b", re.IGNORECASE)
# of options whose values are URLs, or should be
_URL = re.compile(r"url|uri|connection|dsn", re.IGNORECASE)
_DIVIDERS = frozenset(":@%")
_OPTION = re.compile(
    r"(?P<head>[ +-][#;\s]*(?P<key>[^=:\s]+)\s*[=:]\s*)(?P<value>\S.*)"
)


def diff(before: Document, after: Document) -> str:
    """A unified diff between a file and its new content, passwords hidden.

    Whether a line differs is decided before its password is hidden: a changed
    password shows as a changed line. Nothing is compared, as that takes minutes for
    some large files: `after` knows how it has been edited.

    :param after: what was `before` until it was edited
    """
    old, new = before.lines, after.lines
    shown: list[str] = []
    for group in _Edited(after).get_grouped_opcodes():
        first, last = group[0], group[-1]
        shown.append(f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@")
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                shown += [_hide(f" {line}") for line in old[i1:i2]]
            else:
                shown += [_hide(f"-{line}") for line in old[i1:i2]]
                shown += [_hide(f"+{line}") for line in new[j1:j2]]
    head = [f"--- {after.path}", f"+++ {after.path}"] if shown else []
    return "".join(f"{line}\n" for line in (*head, *shown))


class _Edited(difflib.SequenceMatcher[str]):
    """What difflib would find out, as the document knows it."""

    def __init__(self, document: Document) -> None:
        super().__init__()
        self._document = document

    def get_opcodes(self) -> list[tuple[str, int, int, int, int]]:  # type: ignore[override]
        """See `difflib.SequenceMatcher`."""
        return self._document.opcodes()


def _range(start: int, stop: int) -> str:
    """Lines as the head of a hunk names them, counted from 1."""
    length = stop - start
    return f"{start + 1 if length else start},{length}"


def _hide(line: str) -> str:
    if line[1:2] in (" ", "\t"):
        # continues a value that may be a secret from its second line on
        indent = line[: len(line) - len(line[1:].lstrip())]
        return indent + urls.HIDDEN
    option = _OPTION.fullmatch(line)
    if option is None:
        return urls.redact(line)
    return option["head"] + shown(option["key"], option["value"])


def shown(key: str, value: str) -> str:
    """An option's value, without passwords.

    :param key: the option's name
    """
    if value and _SECRET.search(key):
        return urls.HIDDEN
    # nothing but a URL, or what was meant to be one, has these characters there
    if _URL.search(key) and not _DIVIDERS.isdisjoint(value):
        return urls.shown(value)
    return urls.redact(value)
