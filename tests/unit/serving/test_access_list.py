"""The list of who may ask: keys, tokens and their limits; edited by hand, damaged, hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmtool.serving.access_list import (
    MOST_TOKENS,
    AccessToken,
    Certificates,
    digest_of,
    parse,
    parse_tokens,
    read_access,
)

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
KEY = "k" * 16


def test_each_line_is_a_key_or_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the operators\n{'a' * 16}\n\n  {'b' * 20}  \ntoken ci {A} requests=60 streams=4 "
                    f"added=today\ntoken lab {B}\nmanager sha256:{'c' * 64}\n")
    access = read_access(path)
    assert access.manager == b"\xcc" * 32
    assert access.tokens == (
        AccessToken("key", digest_of(b"a" * 16)), AccessToken("key-2", digest_of(b"b" * 20)),
        AccessToken("ci", b"\xaa" * 32, requests=60, streams=4, added="today"), AccessToken("lab", b"\xbb" * 32))


def test_a_token_is_written_as_it_is_read() -> None:
    token = AccessToken("ci", b"\xaa" * 32, requests=1, tokens=999_999_999, streams=3, added="2026-11-26T10:00:00Z")
    assert parse_tokens(token.line().encode(), "x") == (token,)


@pytest.mark.parametrize(("text", "why"), [
    ("", "no API key"), ("# only a remark\n", "no API key"), ("short\n", "line 1: .* at least 16"),
    (f"{'a' * 16}\nshort\n", "line 2: .* at least 16"), ("two words are not a key\n", "one ASCII word"),
    ("ä" * 16, "ASCII"), (f"token ci {A}\n", "no API key"), (f"{KEY}\nmanager {A} x\n", "line 2"),
    (f"{KEY}\nmanager {A}\nmanager {B}\n", "line 3"), (f"{KEY}\nmanager sha256:{'A' * 64}\n", "lower case"),
    (f"{KEY}\ntoken ci {A[:-1]}\n", "64 hexadecimal"), (f"{KEY}\ntoken ci {KEY}\n", "64 hexadecimal"),
    (f"{KEY}\ntoken\n", "line 2"), (f"{KEY}\ntoken ci\n", "line 2: a token's line is"),
    (f"{KEY}\ntoken Ci {A}\n", "a token's name"), (f"{KEY}\ntoken ../x {A}\n", "a token's name"),
    (f"{KEY}\ntoken key {A}\n", "not 'key'"), (f"{KEY}\ntoken key-2 {A}\n", "not 'key'"),
    (f"{KEY}\ntoken ci {A} requests=0\n", "from 1"), (f"{KEY}\ntoken ci {A} requests=-1\n", "from 1"),
    (f"{KEY}\ntoken ci {A} requests=1e3\n", "from 1"), (f"{KEY}\ntoken ci {A} requests=9999999999\n", "from 1"),
    (f"{KEY}\ntoken ci {A} requests=1 requests=2\n", "each once"), (f"{KEY}\ntoken ci {A} request=1\n", "each once"),
    (f"{KEY}\ntoken ci {A} added=a added=b\n", "each once"), (f"{KEY}\ntoken ci {A} added=\x1b[31m\n", "each once"),
    (f"{KEY}\ntoken ci {A}\ntoken ci {B}\n", "name of ci is there twice"),
    (f"{KEY}\ntoken ci {A}\ntoken lab {A}\n", "digest of lab is there twice"), (f"{KEY}\n{KEY}\n", "twice"),
    (f"{KEY}\n" + "#" * (1 << 20), "more than 1 MiB"), (f"{KEY}\ntoken \x00 {A}\n", "a token's name"),
    (f"{KEY}\n" + "".join(f"token t{n} sha256:{n:064x}\n" for n in range(MOST_TOKENS)), "more than 1000"),
])
def test_a_wrong_list_is_refused_as_a_whole_and_names_the_line_not_its_content(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse(text.encode(), "x")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("text", [KEY, f"token ci {A}\n{KEY}", f"manager {A}", f"token ci {A}\0\n"])
def test_a_file_of_tokens_has_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        parse_tokens(text.encode(), "x")


def test_no_tokens_are_no_mistake() -> None:
    assert parse_tokens(b"# none yet\n\n", "x") == ()


def test_a_front_that_makes_its_key_is_given_none() -> None:
    own = parse(f"{KEY}\nown-key\nclient-ca QUJD\n".encode(), "x").certificates
    assert own == Certificates((), b"", (b"ABC",), own=True)


@pytest.mark.parametrize("text", ["own-key\ncertificate QUJD\ncertificate-key QUJD\n", "own-key\ncertificate QUJD\n",
                                  "own-key\ncertificate-key QUJD\n"])
def test_nobody_else_s_key_is_taken_beside_its_own(text: str) -> None:
    with pytest.raises(ValueError, match="a certificate has one key"):
        parse(f"{KEY}\n{text}".encode(), "x")
