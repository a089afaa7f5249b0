# SPDX-License-Identifier: Apache-2.0
"""The editor of files: it reads what oslo.config reads, and keeps the rest."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from oslo_config import cfg

from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError

NOTIFY = "oslo_messaging_notifications"


def edited(text: str | bytes, *options: tuple[str, str, str]) -> bytes:
    document = Document(text.encode() if isinstance(text, str) else text, "x.conf")
    for option in options:
        document.set(*option)
    return document.dump()


# -- what a file says ------------------------------------------------------


def upstream(path: Path) -> dict[str, dict[str, list[str]]] | None:
    """All sections as oslo.config's own parser reads them; None if it refuses."""
    sections: dict[str, dict[str, list[str]]] = {}
    parser = cfg.ConfigParser(str(path), {})
    parser._add_normalized(sections)
    try:
        parser.parse()
    except cfg.ParseError:
        return None
    return {name: options for name, options in sections.items() if options}


def ours(path: Path) -> dict[str, dict[str, list[str]]] | None:
    try:
        document = Document(path.read_bytes(), path)
    except ServiceConfigError:
        return None
    sections: dict[str, dict[str, list[str]]] = {}
    for option in document.options:
        name = option.section if option.section == "DEFAULT" else option.section.lower()
        sections.setdefault(name, {}).setdefault(option.key, []).append(option.value)
    return sections


#: Everything that the grammar gives a meaning, and neighbours of it.
PIECES = [
    *("[DEFAULT]", "[a]", "[A]", "[default]", "[", "]", "[]", "[a] ", "[ a ]", "[a]b]"),
    *("k = v", "k=v", "k:v", "k = a:b", "k : a=b", "k", "k =", "=v", " = v", "$"),
    *(" more", "\tmore", "  # no comment", "#c", "; c", "#k = v", "'q'", 'k = "q"'),
    *("k = 'a", "k = '", "\v", "\f", "\x85", "\u2028", "\u3000x", "é", "k = $$x", " "),
    *("\n", "\n", "\n", "\r\n", "\r", "\n\n"),
]


#: Lines that are right at most places; of anything else, few files are read at all.
LINES = [
    *("[DEFAULT]", "[a]", "[A]", "k = v", "k:v", "k = 'a", "k = '", "k = 'q'", "k ="),
    *(" more", "\tmore  ", "# c", "#k = v", "", "l = a:b", "k : a=b", "k = \"q'"),
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(LINES), max_size=12).map(
        lambda lines: "\n".join(["[a]", "k = 1", *lines, ""])
    ),
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grammar") / "x.conf"


@settings(max_examples=300)
@given(TEXTS)
@example("[DEFAULT]\nk = 'v\nl = 'v'\nm = v\n  more\n")
@example("[DEFAULT]\nk = v\n# c\n more\n")
@example("[DEFAULT]\n[a]\n more\n")
@example("[a]\nk = v\n\x85\n more")
def test_it_reads_what_oslo_config_reads(scratch: Path, text: str) -> None:
    scratch.write_bytes(text.encode())
    assert ours(scratch) == upstream(scratch)


@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(
    TEXTS,
    st.sampled_from(["DEFAULT", "a", "new"]),
    st.sampled_from(["k", "transport_url"]),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1),
)
def test_setting_an_option_changes_that_option_only(
    scratch: Path, text: str, section: str, key: str, value: str
) -> None:
    scratch.write_bytes(text.encode())
    before = upstream(scratch)
    if before is None or (value[0] == value[-1] and value[0] in "'\""):
        return
    document = Document(text.encode(), scratch)
    document.set(section, key, value)
    scratch.write_bytes(document.dump())
    after = upstream(scratch)

    values = before.setdefault(section, {}).setdefault(key, [])
    values[-1:] = [value]
    assert after == before


@given(st.binary(max_size=200))
def test_bytes_are_given_back_as_they_were(data: bytes) -> None:
    try:
        document = Document(data, "x.conf")
    except ServiceConfigError:
        return
    assert document.dump() == data


# -- how it is edited ------------------------------------------------------


def test_only_the_value_of_the_last_assignment_is_replaced() -> None:
    text = (
        "[DEFAULT]\n# first\ntransport_url=rabbit://old\n"
        "transport_url  :   rabbit://a,\n    rabbit://b  \nx = 1\n\n\n[b]\ny=2\n"
    )
    assert edited(text, ("DEFAULT", "transport_url", "amqp://h/")).decode() == (
        "[DEFAULT]\n# first\ntransport_url=rabbit://old\n"
        "transport_url  :   amqp://h/\nx = 1\n\n\n[b]\ny=2\n"
    )


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("k =", "k = v"),
        ("k=", "k=v"),
        ("k =   ", "k =   v"),
        ("k: old", "k: v"),
        ("k = 'old'", "k = v"),
        ("k =old", "k =v"),
        ('k = "v"', 'k = "v"'),
    ],
)
def test_the_style_of_a_line_is_kept(line: str, result: str) -> None:
    assert edited(f"[a]\n{line}\n", ("a", "k", "v")).decode() == f"[a]\n{result}\n"


def test_a_new_option_goes_after_its_commented_out_default() -> None:
    text = (
        "[DEFAULT]\na = 1\n\n# The URL\n#transport_url = rabbit://\n\n# next\n#z = 1\n"
    )
    assert edited(text, ("DEFAULT", "transport_url", "amqp://h/")).decode() == (
        "[DEFAULT]\na = 1\n\n# The URL\n#transport_url = rabbit://\n"
        "transport_url = amqp://h/\n\n# next\n#z = 1\n"
    )


def test_a_new_option_goes_after_the_last_one_of_its_section() -> None:
    text = "[A]\nx = 1\n  2\n\n# about b\n[b]\ny = 2\n"
    assert edited(text, ("a", "k", "v")).decode() == (
        "[A]\nx = 1\n  2\nk = v\n\n# about b\n[b]\ny = 2\n"
    )


def test_a_section_may_be_there_twice() -> None:
    text = "[a]\nk = 1\n[b]\n[a]\nk = 2\n"
    document = Document(text.encode(), "x.conf")
    assert document.values("a", "k") == ["1", "2"]
    document.set("a", "k", "3")
    assert document.dump() == b"[a]\nk = 1\n[b]\n[a]\nk = 3\n"
    assert document.values("a", "k") == ["1", "3"]


def test_a_new_section_goes_to_the_end() -> None:
    assert edited("[a]\nx = 1\n", ("b", "k", "v")) == b"[a]\nx = 1\n\n[b]\nk = v\n"
    assert edited("", ("b", "k", "v")) == b"[b]\nk = v\n"
    assert edited("[a]\n\n", ("b", "k", "v")) == b"[a]\n\n[b]\nk = v\n"


def test_default_is_the_only_section_with_case() -> None:
    assert Document(b"[default]\nk = v\n", "x").value("DEFAULT", "k") is None
    assert Document(b"[OSLO_x]\nk = v\n", "x").value("oslo_X", "k") == "v"


def test_a_file_without_a_newline_at_its_end_stays_one() -> None:
    assert edited("[a]\nk = 1", ("a", "k", "2")) == b"[a]\nk = 2"
    assert edited("[a]\nk = 1", ("a", "l", "2")) == b"[a]\nk = 1\nl = 2"
    assert edited("[a]\nk = 1", ("b", "l", "2")) == b"[a]\nk = 1\n\n[b]\nl = 2"
    assert edited("[a]", ("a", "l", "2")) == b"[a]\nl = 2"
    assert edited("[a]\n[b]", ("a", "l", "2")) == b"[a]\nl = 2\n[b]"


@pytest.mark.parametrize("newline", ["\r\n", "\r", "\n"])
def test_new_lines_end_as_the_others_do(newline: str) -> None:
    text = newline.join(["[a]", "k = 1", ""])
    expected = newline.join(["[a]", "k = 2", "l = 3", "", "[b]", "m = 4", ""])
    options = [("a", "k", "2"), ("a", "l", "3"), ("b", "m", "4")]
    assert edited(text, *options) == expected.encode()


def test_bytes_of_other_encodings_survive() -> None:
    text = b"\xef\xbb\xbf# caf\xe9\n[a]\nk = \xff1 # \xfe\nl = 2\n"
    assert edited(text, ("a", "l", "3")) == text.replace(b"l = 2", b"l = 3")
    document = Document(text, "x.conf")
    assert document.has_bom
    assert document.first_line_not_utf8 == 1
    assert Document("# café\n".encode(), "x").first_line_not_utf8 is None
    for byte in (b"\x80", b"\xff"):
        assert Document(b"# a\n# " + byte, "x").first_line_not_utf8 == 2


@pytest.mark.parametrize(
    "text", ["", "[a]\nk = 1\n", "[a]\nx = 1\nl = 1\n  2\n# c\n\n[b]\ny = 1\n", "[a]\n"]
)
def test_changes_are_those_that_difflib_finds(text: str) -> None:
    document = Document(text.encode(), "x.conf")
    before = document.lines
    for key in ("k", "l"):
        document.set("a", key, "new")
    found = difflib.SequenceMatcher(None, before, document.lines).get_opcodes()
    assert document.opcodes() == found


def test_the_same_value_changes_no_byte() -> None:
    text = "[a]\nk:'v'\n"
    assert edited(text, ("a", "k", "v")).decode() == text


@pytest.mark.parametrize("value", [" v", "v ", "'v'", "a\nb"])
def test_what_would_be_read_differently_is_not_written(value: str) -> None:
    with pytest.raises(ValueError):
        edited("[a]\n", ("a", "k", value))


# -- what it refuses -------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[DEFAULT]\nk = v\n\nsecret word\n", 4, "neither an option"),
        ("[DEFAULT]\n\n  more\n", 3, "none precedes it"),
        ("[DEFAULT]\n# c\n\tmore\n", 3, "none precedes it"),
        ("k = v\n[DEFAULT]\n", 1, "precedes the first section"),
        ("[DEFAULT\n", 1, "must end with `]`"),
        ("[DEFAULT] # here\n", 1, "must end with `]`"),
        ("[]\n", 1, "no name"),
        ("[DEFAULT]\n= secret\n", 2, "has no option name"),
        ("[DEFAULT]\nk = \0\n", 2, "not a text file"),
        ("\x7fELF\0", 1, "not a text file"),
        ("\n\0", 2, "not a text file"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(
    text: str, line: int, reason: str
) -> None:
    with pytest.raises(ServiceConfigError, match=reason) as caught:
        Document(text.encode(), "/etc/x.conf")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"/etc/x.conf, line {line}: ")
    assert "secret" not in str(caught.value)
