"""The files that a spec names for the server: what would end it at its start is known while planning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from vmtool.launch.facts import read_file_problems
from vmtool.spec.vllm import Vllm

KEYS = Path("/etc/vmtool/keys")
KEY = "a-key-of-more-than-16-bytes"


def problems(text: str | None) -> dict[str, str]:
    reader = Recorded({"texts": {} if text is None else {str(KEYS): text}})
    return read_file_problems(reader, Vllm(api_key_file=KEYS))


@pytest.mark.parametrize("text", [KEY, f"{KEY}\n", f"# of the lab\n\n{KEY}\r\n{KEY}2\n"])
def test_keys(text: str) -> None:
    assert problems(text) == {}


@pytest.mark.parametrize(("text", "message"), [
    (None, "no file to be read"), ("", "no API key in it"), ("# nothing\n", "no API key in it"),
    (f"{KEY}\nhunter2\n", "line 2: a key must be one ASCII word of at least 16"), (f"{KEY} {KEY}\n", "line 1: a key"),
    ("root:x:0:0:root of hunter2:/root:/bin/bash\n", "line 1: a key must"), ("\u0663" * 20, "line 1: a key must"),
    (f"{KEY}\n" * 50_000, "more than 1 MiB"),
])
def test_what_is_no_file_of_keys_is_refused_before_anything_is_made(text: str | None, message: str) -> None:
    """And never shown: it may be a secret that only stands in the wrong place."""
    [(key, why)] = problems(text).items()
    assert key == "api_key_file" and re.search(message, why) and str(KEYS) in why
    assert "hunter2" not in why


def test_files_of_options_are_known_by_their_keys() -> None:
    reader = Recorded({"outputs": {"find -L /x -maxdepth 0 -printf '%y %m'": {"out": "c 666"}}})
    assert read_file_problems(reader, Vllm(files={"chat-template": Path("/x")})) == {
        "files.chat-template": "/x is neither a file nor a directory"}
