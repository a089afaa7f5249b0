# SPDX-License-Identifier: Apache-2.0
"""JSON files are read within bounds, and what does not fit is named with its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hybrid_messaging import json_files
from hybrid_messaging.json_files import (
    Damage,
    flag,
    items,
    mapping,
    maybe,
    number,
    one_of,
    record,
    row,
    text,
    whole,
    words,
)


class Size(NamedTuple):
    size: int


SHAPE = record(
    {
        "name": text(),
        "lines": words,
        "many": items(maybe(whole())),
        "pair": row(number(), flag),
        "by_name": mapping(record({"size": whole()}, make=Size)),
        "kind": one_of(("a", "b"), "kind"),
    }
)
SOUND: dict[str, Any] = {
    "name": "n",
    "lines": "one\ntwo\x1b",
    "many": [1, None],
    "pair": [1.5, True],
    "by_name": {"x": {"size": 1}},
    "kind": "a",
}


def test_what_fits_is_returned_as_it_is_used() -> None:
    assert SHAPE(SOUND) == {
        **SOUND,
        "many": (1, None),
        "pair": (1.5, True),
        "by_name": {"x": Size(1)},
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": 1}, "name is not a valid string"),
        ({"name": "\x1b[31m"}, "name has control characters"),
        ({"lines": "\ud800"}, "lines has characters that are not valid Unicode"),
        ({"many": {}}, "many is not a list"),
        ({"many": [1, 1.5]}, "many[1] is not a whole number"),
        ({"many": [True]}, "many[0] is not a number"),
        ({"many": [-1]}, "many[0] is out of range"),
        ({"pair": [1]}, "pair is not a list of 2"),
        ({"pair": [float("nan"), True]}, "pair[0] is out of range"),
        ({"pair": [10**400, True]}, "pair[0] is out of range"),
        ({"pair": [1, 1]}, "pair[1] is neither true nor false"),
        ({"by_name": {"\x07": {"size": -1}}}, r"by_name['\x07'].size is out of range"),
        ({"kind": "c"}, "kind is not a valid kind"),
        ({"kind": []}, "kind is not a valid kind"),
        ({"more": 1}, "['more'] is unknown"),
    ],
)
def test_damage_has_a_place(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(Damage) as caught:
        SHAPE({**SOUND, **change})
    assert str(caught.value) == problem


def test_what_is_missing_is_named() -> None:
    with pytest.raises(Damage, match=r"^name is missing$"):
        SHAPE({})
    with pytest.raises(Damage, match=r"^it is not an object$"):
        SHAPE([])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not valid JSON from line 1 on"),
        (b'{\n"a": }', "not valid JSON from line 2 on"),
        (b"\xff", "not valid JSON"),
        (b"NaN", "not valid JSON"),
        (b"[" * 200_000, "not valid JSON"),
        (b"9" * 5000, "not valid JSON"),
        (b" " * (1 << 20) + b"1", "larger than 1 MB"),
    ],
)
def test_what_is_no_json(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(Damage, match=problem):
        json_files.read(path, 1 << 20)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(Damage, match="not a file"):
            json_files.read(path, 100)


def test_a_private_file_is_ours_and_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("1")
    link.symlink_to(path)
    assert json_files.read(link, 100) == json_files.read(path, 100, private=True) == 1
    with pytest.raises(Damage, match="symbolic link"):
        json_files.read(link, 100, private=True)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(Damage, match="another user"):
        json_files.read(path, 100, private=True)
