# SPDX-License-Identifier: Apache-2.0
"""Passwords of transport URLs are never shown, however these are typed."""

from __future__ import annotations

import contextlib
import string
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from hybrid_messaging import urls

#: Stands in every password.
SECRET = "S3CR3T"
_NOISE = st.text("aZ9:/?#[]@%,;&=+ \t\n\r'\"\\\x1béπ", max_size=6)
# with both an @ and a comma, it may be a host and another user, as it stands
PASSWORD = st.builds(
    lambda before, after: before + SECRET + after, _NOISE, _NOISE
).filter(lambda password: not {"@", ","} <= set(password))
USER = st.sampled_from(["a", "", "a.b", "a@realm", "a%40b", "[a", "ü"])
HOST = st.sampled_from(
    ["h", "h:5672", "[::1]:5672", "h:70000", "h:port", "", "h..x", ":"]
)
SCHEME = st.sampled_from(["rabbit://", "amqp://", "zmq+sentinel://", "A1+-.://"])
MISTYPED = SCHEME | st.sampled_from(
    ["", "rabbit:", "rabbit:/", "rabbit:///", "rabbit//", "rabbit ://", "://", "9://"]
)
PATH = st.sampled_from(["", "/", "//", "/v", "/v%2F", "?x=1", "/?ssl=1#x", " "])


@st.composite
def mistyped(draw: st.DrawFn) -> str:
    """What somebody has written for a transport URL with passwords."""
    hosts = [
        f"{draw(USER)}:{draw(PASSWORD)}@{draw(HOST)}"
        for _ in range(draw(st.integers(1, 3)))
    ]
    if draw(st.booleans()):
        # the host has been forgotten
        hosts.append(
            f"{draw(USER)}:{SECRET}{draw(st.sampled_from(['', '!', '%40h', '#', '/']))}"
        )
    url = draw(MISTYPED) + ",".join(hosts) + draw(PATH)
    return draw(st.sampled_from([url, quote(url), quote(url, safe=":/"), url.upper()]))


def hidden(text: str) -> bool:
    return SECRET not in text


#: Whose host and path are parts of a password, as that is not encoded.
CUT_OFF = st.builds(
    f"{{}}a:{{}}{{}}{SECRET}@h{{}}".format,
    SCHEME,
    st.sampled_from(["1", ""]),
    st.sampled_from(["/", "?x=", "/?idle_timeout=", "/v?x=1&y="]),
    PATH,
)


@given(url=mistyped() | CUT_OFF)
def test_a_mistyped_url_shows_no_password(url: str) -> None:
    assert hidden(urls.shown(url))
    try:
        urls.parse(url)
    except urls.UrlError as error:
        assert hidden(str(error))


@given(url=CUT_OFF)
def test_a_mistyped_url_that_is_encoded_anew_shows_no_password(url: str) -> None:
    with contextlib.suppress(urls.UrlError):
        again = str(urls.parse(url))
        assert hidden(urls.shown(again))
        assert hidden(urls.redact(f"connecting to {again}: no answer"))


@given(
    scheme=SCHEME,
    users=st.lists(st.tuples(USER, PASSWORD), min_size=1, max_size=3),
    around=st.tuples(*[st.sampled_from(["", "'", '"', "(", ">", ", ", "see "])] * 2),
)
def test_a_url_in_a_text_shows_no_password(
    scheme: str, users: list[tuple[str, str]], around: tuple[str, str]
) -> None:
    hosts = tuple(urls.Host("h", 1, user, password) for user, password in users)
    url = str(urls.TransportURL(scheme.removesuffix("://"), hosts))
    assert hidden(urls.redact(f"{around[0]}{url}{around[1]}"))
    assert hidden(urls.shown(url))


@given(
    prefix=st.sampled_from(["", "rabbit:", "rabbit:/", "rabbit://", "url=", "'"]),
    users=st.lists(st.tuples(USER, PASSWORD), min_size=1, max_size=3),
)
def test_a_mistyped_url_in_a_text_shows_no_password(
    prefix: str, users: list[tuple[str, str]]
) -> None:
    """Where it has nothing in it that would end it, or begin another URL."""
    listed = ",".join(f"{user}:{password}@h" for user, password in users)
    word = prefix + "".join(listed.split()).replace("://", ":/")
    assert hidden(urls.redact(f"before {word} after"))


@given(text=st.text() | st.text(string.printable) | mistyped())
def test_any_text_is_redacted_and_parsed_or_refused(text: str) -> None:
    urls.redact(text)
    try:
        found = urls.parse(text)
    except urls.UrlError:
        return
    urls.parse(str(found))
